"""multistream-select against lines written by hand, and against a proposer that waits for every line."""

from __future__ import annotations

import pytest

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

LONG = "/" + "x" * 126
"""With its newline 128 bytes: a length of two bytes."""
LONGEST = "/" + "x" * (MAX_LINE_BYTES - 2)


def line(text: str | bytes) -> bytes:
    """Write a line apart from the code under test."""
    raw = (text.encode() if isinstance(text, str) else text) + b"\n"
    size = len(raw)
    return (bytes((size,)) if size < 128 else bytes((size % 128 + 128, size // 128))) + raw


def serving(*names: str) -> Responder:
    return Responder(set(names).__contains__)


# --- golden lines ---


def test_a_proposal_in_bytes() -> None:
    assert proposal("/job/1.0.0").hex() == (
        "13" + b"/multistream/1.0.0\n".hex() + "0b" + b"/job/1.0.0\n".hex()
    )  # 19 and 11 bytes follow


@pytest.mark.parametrize(
    ("size", "prefix"), [(1, "02"), (126, "7f"), (127, "8001"), (128, "8101"), (255, "8002"), (1023, "8008")]
)
def test_lengths_of_one_and_two_bytes(size: int, prefix: str) -> None:
    name = "/" + "x" * (size - 1)
    said = proposal(name)[len(GREETING) :]
    assert said[: len(prefix) // 2].hex() == prefix
    assert said == line(name)
    assert serving(name).receive(proposal(name)) == name
    assert Proposer(name).receive(GREETING + line(name) + b"rest") == b"rest"


@pytest.mark.parametrize("name", ["/" + "x" * 1023, "/a\nb", "/\u00e9" * 400])
def test_a_protocol_that_no_line_holds_is_our_mistake(name: str) -> None:
    with pytest.raises(ValueError, match=r"1,023 bytes"):
        proposal(name)


# --- the responder ---


def test_agrees_in_one_pass_and_keeps_the_first_bytes() -> None:
    responder = serving("/a", "/b")
    assert responder.receive(proposal("/b") + b"first bytes") == "/b"
    assert responder.selected == "/b"
    assert responder.rest == b"first bytes"
    assert responder.data_to_send() == GREETING + line("/b")
    assert responder.data_to_send() == b""


class LineByLine:
    """A proposer as the stock ones: greeting, its answer, a protocol, its answer, and so on."""

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.heard: list[bytes] = []

    def says(self, text: str) -> bytes:
        """Say a line, byte by byte, and return the answer."""
        for byte in line(text):
            self.responder.receive(bytes((byte,)))
        return self.responder.data_to_send()


def test_a_proposer_that_waits_for_every_line() -> None:
    peer = LineByLine(serving("/c"))
    assert peer.says("/multistream/1.0.0") == GREETING
    assert not peer.responder.was_answered
    assert peer.says("/a") == line("na")
    assert peer.responder.was_answered
    assert peer.says("/b") == line("na")
    assert peer.responder.selected is None
    assert peer.says("/c") == line("/c")
    assert peer.responder.selected == "/c"
    assert peer.responder.rest == b""


def test_proposals_that_come_together_are_answered_together() -> None:
    responder = serving("/c")
    assert responder.receive(GREETING + line("/a") + line("/b") + line("/c") + b"rest") == "/c"
    assert responder.data_to_send() == GREETING + line("na") * 2 + line("/c")
    assert responder.rest == b"rest"


@pytest.mark.parametrize("step", [1, 2, 7, 19, 21])
def test_the_responder_takes_any_split(step: int) -> None:
    said = GREETING + line("/no") + line(LONG) + b"rest"
    responder = serving(LONG)
    for start in range(0, len(said), step):
        if responder.receive(said[start : start + step]) is not None:
            break
    assert responder.selected == LONG
    assert responder.rest + said[start + step :] == b"rest"
    assert responder.data_to_send() == GREETING + line("na") + line(LONG)


def test_sixteen_proposals_are_answered_and_the_next_is_too_many() -> None:
    responder = serving("/last")
    assert responder.receive(GREETING + line("/n") * (MAX_PROPOSALS - 1)) is None
    assert responder.receive(line("/last")) == "/last"
    responder = serving("/last")
    responder.receive(GREETING + line("/n") * MAX_PROPOSALS)
    with pytest.raises(MalformedMessageError, match="too many"):
        responder.receive(line("/last"))


def test_too_much_talk_before_an_agreement_is_refused() -> None:
    big = line("/" + "x" * (MAX_LINE_BYTES - 2))
    fits = (MAX_NEGOTIATION_BYTES - len(GREETING)) // len(big)
    responder = serving("/a")
    assert responder.receive(GREETING + big * fits) is None
    with pytest.raises(MalformedMessageError, match="too much"):
        responder.receive(big)


def test_the_budget_is_used_to_its_last_byte() -> None:
    left = MAX_NEGOTIATION_BYTES - len(GREETING)
    talk = b""
    while left - len(talk) > 1800:
        talk += line("/" + "x" * 900)
    rest = left - len(talk)
    first = rest // 2
    name = "/" + "y" * (rest - first - 4)
    talk += line("/" + "x" * (first - 4))
    assert len(GREETING + talk + line(name)) == MAX_NEGOTIATION_BYTES
    assert serving(name).receive(GREETING + talk + line(name)) == name
    with pytest.raises(MalformedMessageError, match="too much"):
        serving(name + "y").receive(GREETING + talk + line(name + "y"))


def test_names_that_are_no_utf_8_are_refused_as_unknown() -> None:
    responder = serving("/a")
    assert responder.receive(GREETING + line(b"/\xff\xfe")) is None
    assert responder.data_to_send() == GREETING + line("na")


NONSENSE: dict[str, bytes] = {
    "no greeting": line("/a"),
    "another greeting": line("/multistream/2.0.0"),
    "an empty line": GREETING + b"\x00",
    "a line without its newline": GREETING + b"\x03/ab",
    "a line with two newlines": GREETING + line("/a\nb"),
    "a newline before its time": GREETING + line("\n"),
    "a line over the limit": GREETING + b"\x81\x08",
    "a length of three bytes": GREETING + b"\x80\x80\x01",
    "a length that is not the shortest": GREETING + b"\x82\x00/\n",
    "an http request": b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n",
    "a TLS hello": bytes.fromhex("1603010200010001fc0303") + bytes(range(32)),
}


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_refused_by_both_sides(said: bytes, step: int) -> None:
    for side in (Proposer("/a"), Responder(lambda _: True)):
        with pytest.raises(MalformedMessageError):
            feed(side, said, step)


def feed(side: Proposer | Responder, said: bytes, step: int) -> None:
    for start in range(0, len(said), step):
        side.receive(said[start : start + step])


def test_a_length_over_the_limit_is_refused_before_its_bytes() -> None:
    for side in (Proposer("/a"), serving("/a")):
        with pytest.raises(MalformedMessageError, match="too long"):
            side.receive(b"\xff\xff")


def test_the_longest_line_is_taken() -> None:
    assert serving(LONGEST).receive(proposal(LONGEST)) == LONGEST


# --- the proposer ---


def test_the_usual_answer_in_one_piece() -> None:
    proposer = Proposer("/a")
    assert proposer.receive(GREETING + line("/a") + b"reply") == b"reply"
    assert Proposer("/a").receive(GREETING + line("/a")) == b""


@pytest.mark.parametrize("step", [1, 3, 19, 20, 24])
def test_the_proposer_takes_any_split(step: int) -> None:
    said = GREETING + line("/a") + b"reply"
    proposer = Proposer("/a")
    for start in range(0, len(said), step):
        rest = proposer.receive(said[start : start + step])
        if rest is not None:
            break
    assert rest is not None
    assert rest + said[start + step :] == b"reply"


def test_no_is_told_with_what_was_needed() -> None:
    with pytest.raises(ProtocolNotSupportedError, match="does not speak /a") as caught:
        Proposer("/a").receive(GREETING + line("na"))
    assert caught.value.needed == "/a"
    assert caught.value.remedy


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(MalformedMessageError, match="nobody named"):
        Proposer("/a").receive(GREETING + line("/ab"))


def test_a_proposer_and_a_responder_agree() -> None:
    proposer, responder = Proposer("/a"), serving("/a")
    responder.receive(proposal("/a") + b"question")
    assert responder.rest == b"question"
    assert proposer.receive(responder.data_to_send() + b"answer") == b"answer"


# --- the fast way ---


@pytest.mark.parametrize("name", ["/a", "/" + "x" * 125])
def test_a_proposal_is_read_where_it_lies(name: str) -> None:
    said = proposal(name)
    assert parse_proposal(said) == (name, len(said))
    assert parse_proposal(said + b"rest") == (name, len(said))
    for size in range(len(said)):
        assert parse_proposal(said[:size]) is None


@pytest.mark.parametrize("said", [proposal(LONG), line("/a"), GREETING + b"\x00", GREETING + b"\x03/ab", b""])
def test_anything_else_is_left_to_the_responder(said: bytes) -> None:
    assert parse_proposal(said) is None


def test_a_line_with_two_newlines_is_read_by_neither_way() -> None:
    said = GREETING + b"\x04/a\n\n"
    assert parse_proposal(said) is None
    with pytest.raises(MalformedMessageError):
        Responder(lambda name: True).receive(said)
