"""A Yamux session beside the model of it: every call goes to both, and both must say the same."""

from __future__ import annotations

from tests.support.yamux_model import EventTuple, Model, ModelStream, ViolationError, join_events, join_frames
from tests.support.yamux_wire import FrameReader, HeadReader, Onlooker

from hostmesh.errors import MalformedMessageError
from hostmesh.wire.yamux import (
    INITIAL_WINDOW_BYTES,
    DataReceived,
    Event,
    StreamLimitError,
    StreamReset,
    Yamux,
    YamuxLimits,
    YamuxStream,
)


def as_tuple(event: Event) -> EventTuple:
    """Return an event as the model writes it."""
    match event:
        case DataReceived(stream, data):
            assert data, "no empty data is told"
            return ("data", stream.id, bytes(data))
        case StreamReset(stream, is_overflow):
            return ("reset", stream.id, is_overflow)
    subject = event[0]
    return (type(event).__name__, subject.id if isinstance(subject, YamuxStream) else subject)


class Pair:
    """The session under test and its model.

    Args:
        is_initiator: whether it dialled.
        limits: of both.
    """

    def __init__(self, *, is_initiator: bool, limits: YamuxLimits) -> None:
        self.limits = limits
        self.yamux = Yamux(is_initiator=is_initiator, limits=limits)
        self.model = Model(
            dialled=is_initiator,
            max_inbound=limits.max_inbound_streams,
            max_outbound=limits.max_outbound_streams,
            max_window=limits.max_window_bytes,
            growth=limits.window_growth_bytes,
            max_unread=limits.max_unread_bytes,
        )
        self.onlooker = Onlooker(opens_odd=is_initiator, max_window=max(limits.max_window_bytes, INITIAL_WINDOW_BYTES))
        self._heard = HeadReader()
        self.streams: list[tuple[YamuxStream, ModelStream]] = []
        """All that ever were, in both worlds."""

    def open(self) -> tuple[YamuxStream, ModelStream] | None:
        """Open a stream; None where that is refused."""
        try:
            stream = self.yamux.open_stream()
        except StreamLimitError:
            assert not self.model.may_open(), "a stream may be opened"
            return None
        assert self.model.may_open(), "no stream may be opened"
        self.streams.append((stream, self.model.open()))
        assert stream.id == self.streams[-1][1].id
        return self.streams[-1]

    def send(self, index: int, data: bytes) -> int:
        """Send on a stream."""
        stream, model = self.streams[index]
        if model.no_more_out or model.is_reset:
            try:
                self.yamux.send(stream, data)
            except ValueError:
                return 0
            raise AssertionError("nothing can be sent on a closed stream")
        sent = self.yamux.send(stream, data)
        assert sent == self.model.send(model, data), "as much is taken as the peer granted"
        return sent

    def close_write(self, index: int) -> None:
        """Half-close a stream."""
        stream, model = self.streams[index]
        self.yamux.close_write(stream)
        self.model.close_write(model)

    def reset(self, index: int) -> None:
        """Reset a stream."""
        stream, model = self.streams[index]
        self.yamux.reset(stream)
        self.model.reset(model)

    def discard(self, index: int) -> None:
        """Read a stream no more."""
        stream, model = self.streams[index]
        self.yamux.discard(stream)
        self.model.discard(model)

    def consume(self, index: int, size: int) -> None:
        """Read from a stream."""
        stream, model = self.streams[index]
        assert self.yamux.consume(stream, size) == self.model.consume(model, size), "credit is granted when it is due"

    def ping(self, value: int) -> None:
        """Ask for a pong."""
        self.yamux.ping(value)
        self.model.ping(value)

    def go_away(self, code: int) -> None:
        """Say goodbye."""
        self.yamux.go_away(code)
        self.model.go_away(code)

    def shed(self) -> None:
        """Drop the fullest stream, as a driver asks for; nothing where nothing is unread."""
        events: list[Event] = []
        expected: list[EventTuple] = []
        self.yamux.shed(events)
        if self.model.unread:
            self.model.shed(expected)
        assert list(map(as_tuple, events)) == expected

    def take_output(self) -> bytes:
        """Return what the session has to send, which must be what the model says and no violation."""
        queued = self.yamux.queued_bytes
        data = self.yamux.data_to_send()
        assert queued == len(data), "the queue is counted"
        assert not self.yamux.queued_bytes
        reader = FrameReader()
        frames = list(reader.feed(data))
        assert reader.is_between_frames, "whole frames"
        for frame in frames:
            self.onlooker.sees_sent(frame)
        assert join_frames(frames) == self.model.take_output(), "what goes out is what the model says"
        return data

    def receive(self, piece: bytes) -> list[EventTuple] | None:
        """Take bytes; return the events, or None for a violation, after which the session is dead."""
        expected: list[EventTuple] | None
        try:
            expected = self.model.feed(piece)
        except ViolationError:
            expected = None
        for frame in self._heard.feed(piece):
            self.onlooker.sees_received(frame)
        try:
            events = self.yamux.receive(piece)
        except MalformedMessageError:
            assert expected is None, "a violation where there is none"
            before = [as_tuple(event) for event in self.yamux.undelivered]
            assert join_events(before) == join_events(self.model.undelivered), "what came before it is told"
            return None
        assert expected is not None, "a violation that was not seen"
        tuples = [as_tuple(event) for event in events]
        assert join_events(tuples) == join_events(expected), "the events are the model's"
        opened = [event.stream for event in events if type(event).__name__ == "StreamOpened"]
        known = {id(model) for _, model in self.streams}
        self.streams += zip(opened, [each for each in self.model.all if id(each) not in known], strict=True)
        return tuples

    def check(self) -> None:
        """Compare all that the session says of itself."""
        yamux, model = self.yamux, self.model
        assert {number: id(each) for number, each in yamux.streams.items()} == {
            model_stream.id: id(stream)
            for stream, model_stream in self.streams
            if model.live.get(model_stream.id) is model_stream
        }, "the live streams are the model's"
        assert yamux.inbound_streams == model.inbound()
        assert yamux.outbound_streams == len(model.live) - model.inbound()
        assert yamux.refused_streams == model.refused
        assert yamux.unread_bytes == model.unread <= self.limits.max_unread_bytes
        for stream, twin in self.streams:
            assert stream.unread_bytes == twin.unread
            assert stream.is_over == twin.is_over
            assert stream.send_window == twin.may_send
            if not twin.is_over:
                assert (stream.receive_window, stream.window_bytes) == (twin.may_receive, twin.window)
        assert yamux._growth_left == self.limits.window_growth_bytes - sum(
            each.window - INITIAL_WINDOW_BYTES for each in model.live.values()
        ), "the budget of the windows is kept"
        assert set(yamux._lingering) == {stream for stream, twin in self.streams if twin.is_over and twin.unread}
