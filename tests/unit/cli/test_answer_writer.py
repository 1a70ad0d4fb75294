"""How an answer is written while it streams."""

from __future__ import annotations

import pytest

from hostmesh.cli.answer import AnswerWriter
from hostmesh.errors import DeadlineExceededError


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["one ", "two"], "one two\n"),
        (["one\n"], "one\n"),
        (["a\x1b[2J", "\tb\r", "\u202e<script>"], "a\\x1b[2J\tb\\r\\u202e<script>\n"),
        (["", ""], ""),
        ([], ""),
    ],
)
def test_pieces_are_harmless_and_end_with_their_line(
    pieces: list[str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with AnswerWriter() as writer:
        for piece in pieces:
            writer.show(piece)
    assert capsys.readouterr() == (shown, "")


def test_an_error_in_the_middle_starts_on_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with AnswerWriter() as writer:
            writer.show("half an ans")
            raise DeadlineExceededError("too late")

    with pytest.raises(DeadlineExceededError):
        fail()
    assert capsys.readouterr().out == "half an ans\n"


def test_quiet_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with AnswerWriter(is_quiet=True) as writer:
        writer.show("x")
    assert capsys.readouterr().out == ""
