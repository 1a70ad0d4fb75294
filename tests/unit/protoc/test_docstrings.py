"""Comments of a .proto become docstrings that are well formed, whatever stands in them."""

from __future__ import annotations

import ast
import textwrap

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.protoc.docstring import docstring

LONG = "Word " * 30


def text_of(comment: str, *, more: tuple[str, ...] = ()) -> str:
    lines = docstring(comment, "Call Get.", indent=4, more=more)
    assert all(len(line) <= 120 for line in lines if "  " not in line.strip())
    assert all(line == line.rstrip() for line in lines)
    value = ast.literal_eval("\n".join(lines).strip())
    assert isinstance(value, str)
    first, *rest = value.split("\n")
    return "\n".join([first, textwrap.dedent("\n".join(rest))]).strip()


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("", "Call Get."),
        ("\n \n", "Call Get."),
        (" Says hello.\n", "Says hello."),
        (" says hello\n", "Says hello."),
        (" Says hello. To you,\n and me.\n", "Says hello. To you, and me."),
        (" Says hello.\n\n To you.\n", "Says hello.\n\nTo you."),
        (" Says hello:\n   - to you\n\n   - to me\n", "Call Get.\n\nSays hello:\n  - to you\n\n  - to me"),
        (" Says hello.\n - To you.\n", "Says hello.\n\n- To you."),
        (" Says this:\n", "Says this."),
        (f" Says hello. {LONG}\n", f"Says hello.\n\n{textwrap.fill(LONG, 116)}"),
        (f" {LONG}\n", f"Call Get.\n\n{textwrap.fill(LONG, 116)}"),
        (r" A path, C:\new" + "\n", r"A path, C:\new."),
        (' Ends with """\n', "Ends with '''."),
        (" Ends with \\\n\n and \\\n", "Ends with \\.\n\nand \\"),
        (" A bell\a and\ttab\n", "A bell  and    tab."),
    ],
)
def test_comments(comment: str, expected: str) -> None:
    assert text_of(comment) == expected


def test_further_paragraphs_follow_the_comment() -> None:
    assert text_of("", more=("See other.",)) == "Call Get.\n\nSee other."
    assert text_of(" Says hello.\n", more=("Args:\n    rpc: calls.",)) == "Says hello.\n\nArgs:\n    rpc: calls."


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=400))
@example('"')
@example("\\")
@example(":")
@example("0:")
@example('""""')
@example("\x85")
def test_any_comment_gives_a_docstring_with_its_words(comment: str) -> None:
    text = text_of(comment)
    assert text
    # Spaces, line ends and the punctuation of the first line may differ, and its first letter is a capital.
    assert letters(comment)[1:] in letters(text)


def letters(text: str) -> str:
    return "".join(each for each in text if each.isalnum())
