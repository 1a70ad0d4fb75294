"""Yamux from both ends: bytes choose what our side does and which frames come, lawful or not; a model watches."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fuzz.target import BrokenPromiseError, Choices, Target
from tests.support.yamux_pair import Pair
from tests.support.yamux_wire import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW, WINDOW_UPDATE, Frame

from hostmesh.wire.yamux import YamuxLimits

LIMITS = (
    YamuxLimits(),
    YamuxLimits(max_inbound_streams=2, max_outbound_streams=2, max_unread_bytes=1000),
    YamuxLimits(max_window_bytes=4 * WINDOW, window_growth_bytes=2 * WINDOW, max_unread_bytes=3 * WINDOW),
)
MAX_MOVED_BYTES = 4 * WINDOW
"""Of one input, each way: what moves more is slow, and finds no more."""
FILLER = bytes(range(251)) * 2100
SIZES = (0, 1, 100, 4096, 4097, 65507, 65508, WINDOW // 2, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW)
FLAGS = (0, 0, 0, SYN, SYN, FIN, RST, SYN | FIN, ACK, ACK | FIN, SYN | RST, FIN | RST)


def run(data: bytes) -> None:
    choices = Choices(data)
    choice = choices.byte()
    pair = Pair(is_initiator=bool(choice & 1), limits=LIMITS[(choice >> 1) % len(LIMITS)])
    if choice & 128:
        # The last stream id but one.
        pair.yamux._next_id = pair.model.next_id = 0xFFFFFFFE - (choice & 1)
    try:
        steps = sent = received = 0
        while choices and steps < 400:
            steps += 1
            operation = choices.byte()
            if operation & 128:
                piece = _incoming(choices, operation)
                received += len(piece)
                if received > MAX_MOVED_BYTES or pair.receive(piece) is None:
                    break
            else:
                sent += _act(pair, choices, operation)
                if sent > MAX_MOVED_BYTES:
                    break
            pair.check()
        pair.take_output()
    except AssertionError as error:
        raise BrokenPromiseError(str(error)) from error


def _act(pair: Pair, choices: Choices, operation: int) -> int:
    """Do what the bytes choose, and return how much was sent."""
    index = operation >> 4 & 7
    kind = operation & 15
    if kind == 0:
        pair.open()
    elif kind == 1:
        pair.take_output()
    elif kind == 2:
        pair.ping(choices.number(4))
    elif kind == 3 and index == 7:
        pair.go_away(choices.byte())
    elif kind == 4:
        pair.shed()
    elif index < len(pair.streams):
        if kind <= 8:
            return pair.send(index, FILLER[: _size(choices)])
        if kind <= 11:
            pair.consume(index, _size(choices))
        elif kind == 12:
            pair.discard(index)
        elif kind == 13:
            pair.reset(index)
        else:
            pair.close_write(index)
    return 0


def _size(choices: Choices) -> int:
    choice = choices.byte()
    return SIZES[choice >> 4 if choice >> 4 < len(SIZES) else 2] + (choice & 15)


def _incoming(choices: Choices, operation: int) -> bytes:
    """Return a frame, most often a lawful one, or a part of it; the next call may bring its rest."""
    kind = (DATA, DATA, DATA, DATA, WINDOW_UPDATE, WINDOW_UPDATE, PING, GO_AWAY)[operation & 7]
    stream_id = operation >> 3 & 15
    flags = FLAGS[choices.byte() % len(FLAGS)]
    if kind >= PING:
        frame = Frame(kind, flags & 3, 0 if stream_id else 1, choices.number(4)).pack()
        return frame * (8 << (stream_id - 5)) if stream_id > 12 else frame
    if kind == WINDOW_UPDATE:
        credit = choices.number(4) if choices.byte() == 255 else _size(choices)
        return Frame(kind, flags, stream_id, credit).pack()
    size = _size(choices)
    frame = Frame(DATA, flags, stream_id, size, FILLER[:size]).pack()
    cut = choices.byte()
    if cut == 255:
        return choices.take(20)
    if cut == 254:
        return frame[: choices.number(3)]
    return frame


def seeds() -> Iterable[bytes]:
    open_, flush = 0, 1
    for choice in range(6):
        talk = [
            *(open_, 5, 0x23, flush, 0x15, 0x31, open_, 0x15, 0x90, flush, 0x0E, 0x1D, flush),
            # SYN with data, an end, credit, a ping, a pong, a reset.
            *(128 | 1 << 3, 3, 0x25, 0, 128 | 2 << 3, 3, 0x25, 0, 9, 0x21, 128 | 1 << 3, 5, 0x20, 0),
            *(
                128 | 4 | 1 << 3,
                0,
                0,
                0x70,
                128 | 4 | 2 << 3,
                6,
                0,
                0,
                128 | 6,
                3,
                0,
                0,
                0,
                1,
                128 | 6 | 8,
                3,
                0,
                0,
                0,
                1,
            ),
            *(128 | 6 | 8, 8, 0, 0, 0, 1, 2, 0, 0, 0, 9, flush, 4, 128 | 7 | 8, 0, 0, 0, 0, 0, open_),
        ]
        yield bytes((choice, *talk))
        for stream_id in (1, 2):
            incoming = 128 | stream_id << 3
            yield bytes(
                (choice, incoming, 3, 0x75, 0, 9, 0x90, flush, incoming, 0, 0x75, 0, 9, 0xB0, incoming, 0, 0x90, 0)
            )
            yield bytes((choice, incoming, 7, 0x25, 0, 14, 9, 0x25, 9, 0x25, 12, flush, incoming, 0, 0x21, 0))
            yield bytes(
                (choice, incoming, 7, 0x80, 0, 14, incoming + 16, 3, 0x85, 0, 4, incoming + 32, 3, 0x85, 0, flush)
            )
            yield bytes((choice, incoming, 3, 0x25, 254, 0, 0, 40, 5, 0x20, flush, 128, 0, 0x40, 254, 0, 0, 70))
            yield bytes((choice, incoming, 3, 0xA1, 0))
            yield bytes((choice, incoming | 4, 3, 255, 255, 255, 255, 255, incoming | 4, 0, 255, 255, 255, 255, 255))
            yield bytes((choice, incoming, 3, 0x25, 0, incoming, 3, 0x25, 0))
            yield bytes((choice, *(incoming | 4, 3, 0, 0, incoming | 4, 6, 0, 0) * 3, 1))
        yield bytes((choice | 128, open_, 5, 0x20, flush, open_, open_, 0x1D, 0x0D, open_, flush))
        # Ended by both sides with bytes unread, then the fullest is shed; reading the rest of one.
        for way in (9, 12, 4, 13):
            yield bytes(
                (choice, 128 | 1 << 3, 7, 0x25, 0, 14, 128 | 3 << 3, 7, 0x2F, 0, 0x1E, way, 0x29, 4, 9, 0x25, flush)
            )
            yield bytes(
                (choice, 128 | 2 << 3, 7, 0x25, 0, 14, 128 | 4 << 3, 7, 0x2F, 0, 0x1E, way, 0x29, 4, 9, 0x25, flush)
            )
        # Long sends: small pieces behind one another, and more than a frame.
        yield bytes(
            (choice, *(open_, open_), *(5, 0x31, 5, 0x31, 0x15, 0x20) * 3, *(5, 0x31) * 20, flush, 0x15, 0x90, flush)
        )
        # A window that grows, and one that may not.
        for stream_id in (1, 2):
            grow = (128 | stream_id << 3, 0, 0x70, 0, 9, 0xB0)
            yield bytes((choice, 128 | stream_id << 3, 3, 0x70, 0, 9, 0xB0, flush, *grow * 6, flush))
    # Floods of pings, unread and read.
    flood = (128 | 15 << 3 | 6, 3, 0, 0, 0, 1)
    yield bytes((0, *flood * 3, flush))
    yield bytes((0, *(*flood, flush) * 3))
    yield bytes((0, 0x73, 5, 0, 5, 0x21, 0x0D, 1))


TARGET = Target(
    run=run,
    seeds=seeds,
    code=("hostmesh.wire.yamux", "hostmesh.wire.yamux_outgoing", "hostmesh.wire.yamux_stream"),
    max_bytes=2048,
)
