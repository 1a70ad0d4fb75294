"""multistream-select, both sides: any cut of the bytes, one answer; lines and answers within their bounds."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fuzz.target import Target, cut, promise

from hostmesh.errors import MalformedMessageError, ProtocolNotSupportedError
from hostmesh.wire.multistream import (
    GREETING,
    MAX_LINE_BYTES,
    MAX_NEGOTIATION_BYTES,
    MAX_PROPOSALS,
    Proposer,
    Responder,
    parse_proposal,
    proposal,
)

LONG = "/" + "x" * 200
SERVED = ("/a", LONG, "/ends-in-\ufffd")
NEVER_MORE_BYTES = MAX_LINE_BYTES + 1


def run(data: bytes) -> None:
    if not data:
        return
    role, stream = data[0], data[1:]
    if role & 1:
        protocol_id = SERVED[(role >> 1) % len(SERVED)]
        observe = [propose(pieces, protocol_id) for pieces in ([stream], cut(stream), cut(stream, salt=1))]
    else:
        supports = (SERVED.__contains__, lambda name: name.startswith("/"))[role >> 1 & 1]
        observe = [respond(pieces, supports) for pieces in ([stream], cut(stream), cut(stream, salt=1))]
        fast = parse_proposal(stream)
        if fast is not None and supports(fast[0]):
            promise(observe[0][0] == ("agreed", fast[0], stream[fast[1] :]), "the fast way agrees with the slow one")
    promise(observe[0] == observe[1] == observe[2], "any cut gives the same")


def propose(pieces: list[bytes], protocol_id: str) -> tuple[object, ...]:
    proposer = Proposer(protocol_id)
    rest: bytes | None = None
    for index, piece in enumerate(pieces):
        try:
            rest = proposer.receive(piece)
        except (MalformedMessageError, ProtocolNotSupportedError) as error:
            return (type(error), str(error))
        if rest is not None:
            return ("agreed", rest + b"".join(pieces[index + 1 :]))
        held = proposer._lines
        promise(held is None or len(held._buffer) <= NEVER_MORE_BYTES, "less than a line is held")
    return ("waits",)


def respond(pieces: list[bytes], supports: object) -> tuple[object, bytes]:
    responder = Responder(supports)  # type: ignore[arg-type]
    output = b""
    ending: object = "waits"
    for index, piece in enumerate(pieces):
        try:
            selected = responder.receive(piece)
        except MalformedMessageError as error:
            ending = (type(error), str(error))
            output += responder.data_to_send()
            break
        output += responder.data_to_send()
        if selected is not None:
            promise(selected == responder.selected and supports(selected), "only what is served is agreed on")  # type: ignore[operator]
            ending = ("agreed", selected, responder.rest + b"".join(pieces[index + 1 :]))
            break
        assert responder._lines is not None
        promise(len(responder._lines._buffer) <= NEVER_MORE_BYTES, "less than a line is held")
    most = len(GREETING) + 4 * MAX_PROPOSALS + MAX_LINE_BYTES + 2
    promise(len(output) <= most, "answers are bounded")
    promise(not output or output.startswith(GREETING), "the greeting comes first")
    return ending, output


def line(text: bytes) -> bytes:
    size = len(text) + 1
    prefix = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return prefix + text + b"\n"


def seeds() -> Iterable[bytes]:
    for role in (0, 2):
        yield bytes((role,)) + proposal("/a") + b"first bytes"
        yield bytes((role,)) + proposal(LONG) + b"rest"
        yield bytes((role,)) + GREETING + line(b"/b") + line(b"/c") + line(b"/a")
        yield bytes((role,)) + GREETING + line(b"/\xff\xfe") + line(b"/a\nb")
        yield bytes((role,)) + GREETING + line(b"z" * 1500)
        yield bytes((role,)) + GREETING + line(b"/n") * (MAX_PROPOSALS + 1)
        yield (
            bytes((role,))
            + GREETING
            + line(b"z" * (MAX_LINE_BYTES - 1)) * (MAX_NEGOTIATION_BYTES // MAX_LINE_BYTES + 1)
        )
    for index, protocol_id in enumerate(SERVED):
        role = bytes((1 + 2 * index,))
        yield role + proposal(protocol_id) + b"reply"
        yield role + GREETING + line(b"na")
        yield role + GREETING + line(b"/other")
        yield role + line(b"/multistream/2.0.0")
    for head in (0, 1):
        for tail in ("00", "80", "8000", "8001", "8180", "ff08", "0161", "8008"):
            yield bytes((head,)) + GREETING + bytes.fromhex(tail)
    yield bytes((0,)) + GREETING
    yield bytes((0,)) + b"\x13/multistream/1.0.0\n\x00"


TARGET = Target(run=run, seeds=seeds, code=("hostmesh.wire.multistream",), max_bytes=10240)
