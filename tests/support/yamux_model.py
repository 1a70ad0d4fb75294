"""What one side of Yamux must do, the plain way: slow, one frame after another, no shortcut of ours.

It takes the same calls as the session under test, and says which events come out and which frames go out. Its windows
are counted from the frames alone. Where the specification leaves room, it follows what ``hostmesh.wire.yamux`` states
in its docstring: credit at half a window, windows that double while there is a budget, the fullest stream shed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.yamux_wire import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW, WINDOW_UPDATE, Frame

EventTuple = tuple[object, ...]


class ViolationError(Exception):
    """The peer broke the protocol."""


@dataclass(eq=False)
class ModelStream:
    """One stream."""

    id: int
    is_inbound: bool
    told: bool = False
    """Whether our first frame of it was queued."""
    may_send: int = WINDOW
    may_receive: int = WINDOW
    window: int = WINDOW
    unread: int = 0
    no_more_out: bool = False
    no_more_in: bool = False
    is_reset: bool = False
    nobody_reads: bool = False

    @property
    def is_over(self) -> bool:
        return self.is_reset or (self.no_more_in and self.no_more_out)


@dataclass
class Model:
    """One side.

    Args:
        dialled: whether it opens odd ids.
    """

    dialled: bool
    max_inbound: int
    max_outbound: int
    max_window: int
    growth: int
    max_unread: int
    output: list[Frame] = field(default_factory=list)
    all: list[ModelStream] = field(default_factory=list)
    live: dict[int, ModelStream] = field(default_factory=dict)
    highest: int = 0
    peer_is_gone: bool = False
    refused: int = 0
    answers: int = 0
    """Bytes of what the peer caused and did not take yet."""
    is_dead: bool = False
    undelivered: list[EventTuple] = field(default_factory=list)
    """What the last piece said before it broke the protocol."""
    _head: bytes = b""
    _body: tuple[ModelStream | None, int, int] | None = None

    def __post_init__(self) -> None:
        self.next_id = 1 if self.dialled else 2

    # --- this side ---

    @property
    def unread(self) -> int:
        return sum(stream.unread for stream in self.all)

    def inbound(self) -> int:
        return sum(stream.is_inbound for stream in self.live.values())

    def may_open(self) -> bool:
        outbound = len(self.live) - self.inbound()
        can = not self.is_dead and not self.peer_is_gone and self.next_id < 2**32
        return can and outbound < self.max_outbound

    def open(self) -> ModelStream:
        stream = self._add(self.next_id, is_inbound=False)
        self.next_id += 2
        return stream

    def send(self, stream: ModelStream, data: bytes) -> int:
        taken = data[: stream.may_send]
        stream.may_send -= len(taken)
        if taken:
            self._say(stream, DATA, 0, len(taken), taken)
        return len(taken)

    def close_write(self, stream: ModelStream) -> None:
        if stream.no_more_out or stream.is_reset:
            return
        self._say(stream, WINDOW_UPDATE, FIN, 0)
        self.answers += 12 * stream.is_inbound
        stream.no_more_out = True
        self._settle(stream)

    def reset(self, stream: ModelStream) -> None:
        if not stream.is_over and (stream.told or stream.is_inbound):
            self._say(stream, WINDOW_UPDATE, RST, 0)
            self.answers += 12
        self._drop(stream)

    def discard(self, stream: ModelStream) -> None:
        stream.unread = 0
        stream.nobody_reads = True

    def consume(self, stream: ModelStream, size: int) -> bool:
        stream.unread -= min(size, stream.unread)
        if stream.no_more_in or stream.is_reset:
            return False
        owed = stream.window - stream.may_receive - stream.unread
        if owed < stream.window / 2:
            return False
        budget = self.growth - sum(each.window - WINDOW for each in self.live.values())
        stream.window += max(0, min(stream.window, self.max_window - stream.window, budget))
        credit = stream.window - stream.may_receive - stream.unread
        stream.may_receive += credit
        self._say(stream, WINDOW_UPDATE, 0, credit)
        self.answers += 12
        return True

    def ping(self, value: int) -> None:
        self.output.append(Frame(PING, SYN, 0, value))

    def go_away(self, code: int) -> None:
        self.output.append(Frame(GO_AWAY, 0, 0, code))

    def take_output(self) -> list[Frame]:
        """Return what was said, neighbouring data of a stream joined."""
        output, self.output, self.answers = self.output, [], 0
        return join_frames(output)

    # --- the other side ---

    def feed(self, piece: bytes) -> list[EventTuple]:
        """Take bytes; return what they mean.

        Raises:
            ViolationError: they break the protocol; GoAway is in the output.
        """
        events: list[EventTuple] = []
        try:
            while piece:
                if self._body is not None:
                    piece = self._take_body(piece, events)
                    continue
                missing = 12 - len(self._head)
                self._head, piece = self._head + piece[:missing], piece[missing:]
                if len(self._head) == 12:
                    head, self._head = self._head, b""
                    self._take_head(head, events)
            self._check_answers()
        except ViolationError:
            self.is_dead = True
            self.undelivered = events
            self.go_away(1)
            raise
        return events

    def _check_answers(self) -> None:
        if self.answers > 256 * 1024:
            raise ViolationError

    def _take_head(self, head: bytes, events: list[EventTuple]) -> None:
        version, kind = head[:2]
        flags, stream_id, length = (int.from_bytes(head[a:b], "big") for a, b in ((2, 4), (4, 8), (8, 12)))
        if version or kind > GO_AWAY or (kind >= PING) == bool(stream_id):
            raise ViolationError
        if kind == PING:
            if flags & SYN:
                self.output.append(Frame(PING, ACK, 0, length))
                self.answers += 12
            elif flags & ACK:
                events.append(("Pong", length))
            return
        if kind == GO_AWAY:
            self.peer_is_gone = True
            events.append(("GoneAway", length))
            return
        stream = self._find(flags, stream_id, events)
        if kind == DATA and length:
            if stream is not None and (stream.no_more_in or length > stream.may_receive):
                raise ViolationError
            if stream is not None:
                stream.may_receive -= length
            self._body = stream, length, flags
            return
        if stream is None:
            return
        if kind == WINDOW_UPDATE and length and not flags & RST:
            stream.may_send += length
            if stream.may_send >= 2**32:
                raise ViolationError
            events.append(("WindowOpened", stream.id))
        self._take_end(stream, flags, events)

    def _find(self, flags: int, stream_id: int, events: list[EventTuple]) -> ModelStream | None:
        is_own = (stream_id % 2 == 1) == self.dialled
        if not flags & SYN:
            if stream_id not in self.live and stream_id > (self.next_id - 2 if is_own else self.highest):
                raise ViolationError
            return self.live.get(stream_id)
        if is_own or stream_id in self.live:
            raise ViolationError
        self.highest = max(self.highest, stream_id)
        if flags & RST:
            return None
        if self.inbound() >= self.max_inbound:
            self.refused += 1
            self.output.append(Frame(WINDOW_UPDATE, RST, stream_id, 0))
            self.answers += 12
            return None
        events.append(("StreamOpened", stream_id))
        return self._add(stream_id, is_inbound=True)

    def _take_body(self, piece: bytes, events: list[EventTuple]) -> bytes:
        assert self._body is not None
        stream, left, flags = self._body
        taken, rest = piece[:left], piece[left:]
        if stream is not None and not stream.nobody_reads:
            stream.unread += len(taken)
            events.append(("data", stream.id, taken))
            if self.unread > self.max_unread:
                self.shed(events)
        self._body = (stream, left - len(taken), flags) if left > len(taken) else None
        if self._body is None and stream is not None and not stream.is_reset:
            self._take_end(stream, flags, events)
        return rest

    def _take_end(self, stream: ModelStream, flags: int, events: list[EventTuple]) -> None:
        if flags & RST:
            stream.is_reset = True
            self._settle(stream)
            events.append(("reset", stream.id, False))
        elif flags & FIN and not stream.no_more_in:
            stream.no_more_in = True
            events.append(("StreamEnded", stream.id))
            self._settle(stream)

    def shed(self, events: list[EventTuple]) -> None:
        # Of equals, one that is still live; the order of opening decides the rest.
        fullest = max([*self.live.values(), *self.all], key=lambda each: each.unread)
        self.reset(fullest)
        events.append(("reset", fullest.id, True))

    def _add(self, stream_id: int, *, is_inbound: bool) -> ModelStream:
        stream = self.live[stream_id] = ModelStream(stream_id, is_inbound)
        self.all.append(stream)
        return stream

    def _drop(self, stream: ModelStream) -> None:
        stream.is_reset = True
        self.discard(stream)
        self._settle(stream)

    def _settle(self, stream: ModelStream) -> None:
        if stream.is_over and self.live.get(stream.id) is stream:
            del self.live[stream.id]

    def _say(self, stream: ModelStream, kind: int, flags: int, length: int, body: bytes = b"") -> None:
        if not stream.told:
            flags |= ACK if stream.is_inbound else SYN
            stream.told = True
        self.output.append(Frame(kind, flags, stream.id, length, body))


def join_frames(frames: list[Frame]) -> list[Frame]:
    """Return the frames with neighbouring data of one stream in one frame: its size is the sender's choice."""
    out: list[Frame] = []
    for frame in frames:
        last = out[-1] if out else None
        if last and frame.kind == last.kind == DATA and frame.stream_id == last.stream_id and not frame.flags:
            body = last.body + frame.body
            out[-1] = Frame(DATA, last.flags, last.stream_id, len(body), body)
        else:
            out.append(frame)
    return out


def join_events(events: list[EventTuple]) -> list[EventTuple]:
    """Return the events with neighbouring data of one stream put together."""
    out: list[EventTuple] = []
    for event in events:
        if out and event[0] == "data" and out[-1][:2] == event[:2]:
            out[-1] = (*event[:2], out[-1][2] + event[2])  # type: ignore[operator]
        else:
            out.append(event)
    return out
