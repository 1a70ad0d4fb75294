"""Two sides of Yamux, everything that they can do in any interleaving, and bytes that arrive when they like.

Each side stands beside a model (:mod:`tests.support.yamux_pair`), which says what events must come and which frames
must go out, and an onlooker counts the windows from the raw frames. This machine adds what only two sides can show:
what one says, the other hears, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.yamux_model import EventTuple
from tests.support.yamux_pair import Pair
from tests.support.yamux_wire import WINDOW

from hostmesh.wire.yamux import YamuxLimits

TEXT = bytes(index * index % 251 for index in range(3 * WINDOW))
LIMITS = (
    YamuxLimits(
        max_inbound_streams=3, max_outbound_streams=4, max_window_bytes=4 * WINDOW, window_growth_bytes=5 * WINDOW
    ),
    YamuxLimits(max_inbound_streams=8, max_outbound_streams=8, max_unread_bytes=3 * WINDOW),
    YamuxLimits(max_inbound_streams=2, max_outbound_streams=2, max_window_bytes=WINDOW),
)


@dataclass
class Direction:
    """One way of one stream: what went in and what came out."""

    sent: bytearray = field(default_factory=bytearray)
    heard: bytearray = field(default_factory=bytearray)
    has_ended: bool = False


@dataclass
class Side:
    """One end of the connection."""

    pair: Pair
    wire: bytearray = field(default_factory=bytearray)
    """What it sent and the other side did not receive yet."""
    out: dict[int, Direction] = field(default_factory=dict)
    """By stream: what this side says."""
    pings: list[int] = field(default_factory=list)
    pongs: list[int] = field(default_factory=list)


sides = st.sampled_from([0, 1])
places = st.integers(0, 30)
sizes = st.one_of(st.integers(1, 5000), st.sampled_from([1, 4096, 4097, 65507, 65508, WINDOW // 2, WINDOW, 3 * WINDOW]))


class TwoSides(RuleBasedStateMachine):
    """The rules are what a node does; the invariants are what must hold whatever it does."""

    @initialize(left=st.sampled_from(LIMITS), right=st.sampled_from(LIMITS))
    def connect(self, left: YamuxLimits, right: YamuxLimits) -> None:
        self.sides = [
            Side(Pair(is_initiator=True, limits=left)),
            Side(Pair(is_initiator=False, limits=right)),
        ]

    def stream(self, side: int, place: int) -> int | None:
        count = len(self.sides[side].pair.streams)
        return place % count if count else None

    @rule(side=sides)
    def open(self, side: int) -> None:
        self.sides[side].pair.open()

    @rule(side=sides, place=places, size=sizes)
    def send(self, side: int, place: int, size: int) -> None:
        index = self.stream(side, place)
        if index is None:
            return
        us = self.sides[side]
        way = us.out.setdefault(us.pair.streams[index][0].id, Direction())
        start = len(way.sent) % WINDOW
        text = TEXT[start : start + size]
        way.sent += text[: us.pair.send(index, text)]

    @rule(side=sides, place=places)
    def close_write(self, side: int, place: int) -> None:
        if (index := self.stream(side, place)) is not None:
            self.sides[side].pair.close_write(index)

    @rule(side=sides, place=places, size=sizes)
    def consume(self, side: int, place: int, size: int) -> None:
        if (index := self.stream(side, place)) is not None:
            self.sides[side].pair.consume(index, size)

    @rule(side=sides)
    def consume_everything(self, side: int) -> None:
        pair = self.sides[side].pair
        for index, (stream, _) in enumerate(pair.streams):
            pair.consume(index, stream.unread_bytes)

    @rule(side=sides, place=places)
    def reset(self, side: int, place: int) -> None:
        if (index := self.stream(side, place)) is not None:
            self.sides[side].pair.reset(index)

    @rule(side=sides, place=places)
    def discard(self, side: int, place: int) -> None:
        if (index := self.stream(side, place)) is not None:
            self.sides[side].pair.discard(index)

    @rule(side=sides)
    def shed(self, side: int) -> None:
        self.sides[side].pair.shed()

    @rule(side=sides, value=st.integers(0, 2**32 - 1))
    def ping(self, side: int, value: int) -> None:
        self.sides[side].pair.ping(value)
        self.sides[side].pings.append(value)

    @rule(side=sides)
    def go_away(self, side: int) -> None:
        self.sides[side].pair.go_away(0)

    @rule(side=sides)
    def flush(self, side: int) -> None:
        us = self.sides[side]
        us.wire += us.pair.take_output()

    @rule(side=sides, size=st.one_of(sizes, st.integers(1, 40)))
    def arrive(self, side: int, size: int) -> None:
        us, them = self.sides[side], self.sides[1 - side]
        piece = bytes(us.wire[:size])
        del us.wire[:size]
        events = them.pair.receive(piece)
        assert events is not None, "one of ours breaks the protocol to another of ours"
        for event in events:
            self._hear(us, them, event)

    @rule(side=sides)
    def flush_and_arrive(self, side: int) -> None:
        self.flush(side)
        self.arrive(side, len(self.sides[side].wire) or 1)

    def _hear(self, us: Side, them: Side, event: EventTuple) -> None:
        match event:
            case ("data", int() as stream_id, bytes() as data):
                way = us.out[stream_id]
                assert not way.has_ended, "bytes after the end"
                way.heard += data
                assert way.sent.startswith(way.heard), "what is heard was said, in that order"
            case ("StreamEnded", int() as stream_id):
                way = us.out.setdefault(stream_id, Direction())
                reader = next(twin for stream, twin in them.pair.streams if stream.id == stream_id)
                assert reader.nobody_reads or way.heard == way.sent, "all was heard before the end"
                way.has_ended = True
            case ("Pong", int() as value):
                them.pongs.append(value)

    @invariant()
    def says_the_truth(self) -> None:
        for side in getattr(self, "sides", ()):
            side.pair.check()
            assert side.pongs == side.pings[: len(side.pongs)], "pings are answered in their order"

    def teardown(self) -> None:
        """Let everything arrive; then nobody owes anything, and once all is closed nothing is kept."""
        if not hasattr(self, "sides"):
            return
        self._settle()
        for us, them in (self.sides, self.sides[::-1]):
            assert us.pongs == us.pings
            for stream, _ in us.pair.streams:
                far = [twin for other, twin in them.pair.streams if other.id == stream.id]
                assert len(far) <= 1
                # A stream that nobody reset and everybody reads has lost nothing.
                if far and not far[0].is_reset and not stream.is_reset and not far[0].nobody_reads:
                    way = us.out.get(stream.id, Direction())
                    assert way.heard == way.sent
                    assert way.has_ended == stream.is_write_closed
        for _ in range(2):
            # Twice: a stream without a byte is told to the other side only now.
            for side in self.sides:
                for index in range(len(side.pair.streams)):
                    side.pair.close_write(index)
            self._settle()
        for side in self.sides:
            for index, (stream, _) in enumerate(side.pair.streams):
                side.pair.consume(index, stream.unread_bytes)
            assert side.pair.yamux.streams == {}
            assert side.pair.yamux.unread_bytes == side.pair.yamux.queued_bytes == 0
            assert side.pair.yamux.inbound_streams == side.pair.yamux.outbound_streams == 0
            assert not side.pair.yamux._lingering

    def _settle(self) -> None:
        for _ in range(100):
            moved = False
            for side in (0, 1):
                self.flush(side)
                if self.sides[side].wire:
                    moved = True
                    self.arrive(side, len(self.sides[side].wire))
            self.says_the_truth()
            if not moved:
                return
        raise AssertionError("the two sides talk for ever")


TwoSides.TestCase.settings = settings(stateful_step_count=60)
TestTwoSides = TwoSides.TestCase
