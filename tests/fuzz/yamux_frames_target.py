"""Yamux fed raw bytes: any cut gives the same events, and what the session says of itself is true."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fuzz.target import Target, cut, promise
from tests.support.yamux_wire import ACK, DATA, FIN, PING, RST, SYN, WINDOW, Frame, FrameReader, go_away, ping, update
from tests.support.yamux_wire import data as data_frame

from hostmesh.errors import MalformedMessageError
from hostmesh.wire.yamux import (
    MAX_CONTROL_BYTES,
    DataReceived,
    Event,
    StreamEnded,
    StreamLimitError,
    StreamOpened,
    StreamReset,
    Yamux,
    YamuxLimits,
    YamuxStream,
)

LIMITS = YamuxLimits(max_inbound_streams=3, max_outbound_streams=3)


def new_session(choice: int) -> Yamux:
    """Return a session of chosen role, with own streams open as chosen."""
    yamux = Yamux(is_initiator=bool(choice & 1), limits=LIMITS)
    for number in range(choice >> 1 & 3):
        stream = yamux.open_stream()
        if choice & 8 << number:
            yamux.send(stream, b"x")
            yamux.close_write(stream)
    yamux.data_to_send()
    return yamux


def run(data: bytes) -> None:
    if not data:
        return
    choice, stream = data[0], data[1:]
    whole = play([stream], choice)
    for pieces in (cut(stream), cut(stream, salt=1)):
        events, error, output = play(pieces, choice)
        promise(error == whole[1], "any cut ends the same")
        promise(output == whole[2], "any cut is answered the same")
        promise(events == whole[0], "any cut gives the same events")


def play(pieces: list[bytes], choice: int) -> tuple[list[object], tuple[str, str] | None, bytes]:
    """Feed a session; return its events, the way it ended and what it answered."""
    yamux = new_session(choice)
    events: list[Event] = []
    ending: tuple[str, str] | None = None
    for piece in pieces:
        try:
            events += yamux.receive(piece)
        except MalformedMessageError as error:
            ending = (error.message, error.field)
            events += yamux.undelivered
            _check_dead(yamux, error)
            break
        check(yamux)
    output = yamux.data_to_send()
    promise(len(output) <= MAX_CONTROL_BYTES + 12, "answers are bounded")
    frames = list(FrameReader().feed(output))
    promise(ending is None or frames[-1] == Frame(3, 0, 0, 1), "a violation is answered with GoAway(1)")
    promise(all(frame.kind in (1, 2, 3) and frame.flags in (0, ACK, RST) for frame in frames), "only answers are sent")
    return joined(events), ending, output


def joined(events: list[Event]) -> list[object]:
    """Return the events with neighbouring data put together, and streams by their numbers."""
    out: list[object] = []
    for event in events:
        match event:
            case DataReceived(stream, piece):
                data = bytes(piece)
                promise(data, "no empty data is told")
                last = out[-1] if out else None
                if isinstance(last, tuple) and last[:2] == ("data", stream.id):
                    out[-1] = ("data", stream.id, last[2] + data)
                else:
                    out.append(("data", stream.id, data))
            case StreamOpened(stream) | StreamEnded(stream):
                out.append((type(event).__name__, stream.id))
            case StreamReset(stream, is_overflow):
                out.append(("reset", stream.id, is_overflow))
            case _:
                out.append((type(event).__name__, event[0].id if isinstance(event[0], YamuxStream) else event[0]))
    return out


def check(yamux: Yamux) -> None:
    """Check what a live session says of itself."""
    streams = yamux.streams
    promise(
        all(each.id == number and not each.is_over for number, each in streams.items()), "only live streams are kept"
    )
    promise(yamux.inbound_streams == sum(each.is_inbound for each in streams.values()), "inbound streams are counted")
    promise(0 <= yamux.inbound_streams <= LIMITS.max_inbound_streams, "inbound streams are bounded")
    promise(0 <= yamux.outbound_streams <= LIMITS.max_outbound_streams, "outbound streams are bounded")
    held = {*streams.values(), *yamux._lingering}
    promise(yamux.unread_bytes == sum(each.unread_bytes for each in held), "unread bytes are counted")
    promise(0 <= yamux.unread_bytes <= LIMITS.max_unread_bytes, "unread bytes are bounded")
    promise(len(yamux._partial) < 12, "less than a header is held")
    for each in streams.values():
        promise(each.receive_window >= 0, "a window is never overdrawn")
        promise(each.receive_window + each.unread_bytes <= each.window_bytes, "no more than the window is owed")


def _check_dead(yamux: Yamux, error: MalformedMessageError) -> None:
    try:
        yamux.receive(b"")
    except MalformedMessageError as again:
        promise(again is error, "a dead session raises its first error")
    else:
        promise(False, "a dead session raises")
    try:
        yamux.open_stream()
    except StreamLimitError:
        return
    promise(False, "a dead session opens no stream")


def seeds() -> Iterable[bytes]:
    talk = [
        data_frame(1, b"hello", SYN),
        update(3, 0, SYN),
        data_frame(3, b"abc"),
        update(3, 1000),
        update(3, 0, FIN),
        data_frame(1, b"bye", FIN),
        ping(7),
        ping(7, ACK),
        ping(1, 0),
        update(5, 0, SYN),
        update(7, 0, SYN),
        data_frame(7, b"refused"),
        update(5, 9, RST),
        data_frame(5, b"late"),
        update(9, 0, SYN | RST),
        data_frame(11, b"all at once", SYN | FIN),
        data_frame(11, b"", FIN),
        go_away(0),
    ]
    for choice in (0, 2, 6, 14):
        yield bytes((choice,)) + b"".join(talk)
    answers = [update(1, 262144, ACK), data_frame(1, b"first"), data_frame(3, b"", FIN), update(1, 0, FIN)]
    for choice in (3, 5, 7, 15, 63):
        yield bytes((choice,)) + b"".join(answers)
        yield bytes((choice,)) + update(1, 5, RST) + data_frame(1, b"late")
        yield bytes((choice,)) + data_frame(1, b"last", RST) + update(2, 0, SYN)
    for wrong in (
        Frame(DATA, SYN, 0, 0),
        Frame(DATA, 0, 1, 4, b"none"),
        Frame(DATA, 0, 2, 4, b"none"),
        Frame(DATA, SYN, 2, 4, b"evil"),
        Frame(DATA, SYN, 3, WINDOW + 1),
        Frame(1, 0, 5, 0xFFFFFFFF),
        Frame(PING, SYN, 1, 1),
        Frame(4, 0, 0, 0),
    ):
        for choice in (0, 3):
            yield bytes((choice,)) + wrong.pack()
    yield bytes((0,)) + b"\1" + bytes(11)
    yield bytes((0,)) + update(1, 0, SYN) + update(1, 0, SYN)
    yield bytes((0,)) + update(1, 0, SYN) + update(1, 0xFFFFFFFF)
    yield bytes((0,)) + update(1, 0, SYN | FIN) + data_frame(1, b"more")
    yield bytes((0,)) + update(1, 0, SYN)[:7]
    yield bytes((0,)) + Frame(DATA, SYN | FIN, 1, 200, bytes(150)).pack()


TARGET = Target(
    run=run,
    seeds=seeds,
    code=(
        *(f"hostmesh.wire.yamux:Yamux.{name}" for name in ("receive", "_parse", "_take_body", "_open_inbound", "_end")),
        *(f"hostmesh.wire.yamux_outgoing:YamuxOutgoing.{name}" for name in ("_answer", "_queue", "data_to_send")),
    ),
    max_bytes=4096,
)
