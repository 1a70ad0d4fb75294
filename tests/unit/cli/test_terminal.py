"""Nothing from outside makes a terminal act. Truth: which characters act, from the Unicode categories and ECMA-48."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.cli.terminal import MAX_FIELD_CHARS, escape, field

HOSTILE = {
    "OSC title": "\x1b]0;pwned\x07",
    "OSC clipboard": "\x1b]52;c;cm0gLXJm\x1b\\",
    "CSI clear": "\x1b[2J\x1b[1;31m",
    "C1 CSI": "\x9b2J",
    "carriage return": "good\rbad ",
    "backspaces": "a\b\b\bz",
    "bidi override": "user\u202etxt.exe\u202c",
    "bidi isolate": "\u2066a\u2069",
    "marks": "\u200e\u200f\u061c",
    "zero width": "pay\u200bpal\ufeff",
    "tag characters": "\U000e0041\U000e007f",
    "line separators": "a\u2028b\u2029c",
    "lone surrogate": "\ud83d",
    "null and delete": "\x00\x7f",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_acts_on_a_terminal_is_escaped(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert shown != text
    lost = [character for character in text if character not in shown and f"{ord(character):x}" not in shown.lower()]
    assert set(lost) <= {"\r"}, "every character that was taken out can be read in what is shown"


def test_ordinary_text_stays() -> None:
    for text in ("plain", "Grüße, 世界 — ∑ 🙂", "<script>alert(1)</script>", r"C:\temp", ""):
        assert escape(text) == text


def test_an_answer_keeps_its_lines_but_no_carriage_returns() -> None:
    assert escape("a\n\tb\r\nc", keep_layout=True) == "a\n\tb\\r\nc"
    assert escape("a\n\tb") == "a\\n\\tb"


@given(st.text(st.characters(codec=None)))
def test_no_text_at_all_leaves_an_acting_character(text: str) -> None:
    for shown, kept in ((escape(text), ""), (escape(text, keep_layout=True), "\n\t")):
        acting = {c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
        assert acting <= set(kept)
        assert escape(shown, keep_layout=True) == shown


@given(st.text(st.characters(codec=None)))
def test_pieces_are_escaped_as_the_whole_is(text: str) -> None:
    """An answer comes in pieces, cut anywhere."""
    assert "".join(map(escape, text)) == escape(text)


@given(st.text(st.characters(codec=None), max_size=600), st.integers(min_value=2, max_value=300))
def test_a_field_is_one_bounded_line(text: str, most: int) -> None:
    shown = field(text, max_chars=most)
    assert len(shown) <= most
    assert "\n" not in shown
    assert shown == escape(text) or shown.endswith("…")


def test_a_field_has_a_default_bound() -> None:
    assert len(field("\x1b" * 10_000)) == MAX_FIELD_CHARS
