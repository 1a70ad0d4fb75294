"""multistream-select: any cut gives the same, on both sides, for what is lawful and what is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import MalformedMessageError, ProtocolNotSupportedError
from hostmesh.wire.multistream import GREETING, MAX_PROPOSALS, Proposer, Responder, parse_proposal, proposal

names = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40).map(lambda text: "/" + text)
long_names = st.integers(100, 1022).map(lambda size: "/" + "n" * size)
cuts = st.lists(st.integers(0, 60), max_size=20)


def line(text: bytes) -> bytes:
    """Write a line apart from the code under test."""
    size = len(text) + 1
    return (bytes((size,)) if size < 128 else bytes((size % 128 + 128, size // 128))) + text + b"\n"


said_lines = st.lists(
    st.sampled_from([GREETING, line(b"na"), line(b"/a"), line(b"/b"), b"\x00", b"\x81\x00", b"\x80"])
    | names.map(lambda name: line(name.encode()))
    | st.binary(max_size=10),
    max_size=20,
).map(b"".join)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    out = []
    for size in sizes:
        out.append(data[:size])
        data = data[size:]
    return [*out, data]


def respond(parts: list[bytes], supports: set[str]) -> object:
    responder = Responder(supports.__contains__)
    said = b""
    for index, part in enumerate(parts):
        try:
            selected = responder.receive(part)
        except MalformedMessageError as error:
            return str(error), said + responder.data_to_send()
        said += responder.data_to_send()
        if selected is not None:
            return selected, responder.rest + b"".join(parts[index + 1 :]), said
    return "waits", said


def propose(parts: list[bytes], name: str) -> object:
    proposer = Proposer(name)
    for index, part in enumerate(parts):
        try:
            rest = proposer.receive(part)
        except (MalformedMessageError, ProtocolNotSupportedError) as error:
            return type(error), str(error)
        if rest is not None:
            return rest + b"".join(parts[index + 1 :])
    return "waits"


@given(
    refused=st.lists(names | long_names, max_size=MAX_PROPOSALS - 1),
    name=names | long_names,
    behind=st.binary(max_size=50),
    sizes=cuts,
)
def test_any_cut_of_a_conversation_agrees(refused: list[str], name: str, behind: bytes, sizes: list[int]) -> None:
    while sum(map(len, refused)) + len(name) > 6000:
        refused = refused[1:]
    refused = [each for each in refused if each != name]
    stream = GREETING + b"".join(line(each.encode()) for each in (*refused, name)) + behind
    expected = (name, behind, GREETING + line(b"na") * len(refused) + line(name.encode()))
    assert respond(pieces(stream, sizes), {name}) == expected
    assert propose(pieces(GREETING + line(name.encode()) + behind, sizes), name) == behind


@given(stream=said_lines | st.binary(max_size=100), sizes=cuts)
def test_any_cut_of_anything_gives_the_same(stream: bytes, sizes: list[int]) -> None:
    for start in (b"", GREETING):
        data = start + stream
        assert respond(pieces(data, sizes), {"/a"}) == respond([data], {"/a"})
        assert propose(pieces(data, sizes), "/a") == propose([data], "/a")


@given(name=names | long_names, behind=st.binary(max_size=50))
def test_the_fast_way_reads_what_the_responder_reads(name: str, behind: bytes) -> None:
    said = proposal(name) + behind
    fast = parse_proposal(said)
    if fast is None:
        assert len(name.encode()) > 126
        return
    assert (fast[0], said[fast[1] :]) == (name, behind)
    assert respond([said], {name}) == (name, behind, proposal(name))
