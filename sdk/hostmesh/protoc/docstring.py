"""Comments of a .proto as docstrings. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

LINE_LENGTH = 120

_SENTENCE = re.compile(r".+?[.!?](?=\s+[^a-z]|$)")
_QUOTES = '"""'


def docstring(comment: str, summary: str, *, indent: int, more: Sequence[str] = ()) -> list[str]:
    """Return the lines of a docstring.

    Its first line is the comment's first paragraph or sentence, whichever fits, else ``summary``; the comment's further
    text follows as it stands, but for lines that are too long.

    Args:
        comment: as protoc gives it.
        summary: a sentence that says what it is, for want of a better one.
        indent: spaces before each line.
        more: paragraphs to add.

    Returns:
        The lines, quotes and indent included.
    """
    room = LINE_LENGTH - indent - 2 * len(_QUOTES)
    paragraphs = _paragraphs(comment)
    if paragraphs:
        head, listed = _split_list(paragraphs[0])
        first = " ".join(head)
        sentence = _SENTENCE.match(first)
        if len(first) < room and not (listed and first.endswith(":")):
            summary, paragraphs[0] = first.rstrip(":") or summary, listed
        elif sentence is not None and len(sentence[0]) < room:
            rest = first[sentence.end() :].strip()
            summary, paragraphs[0] = sentence[0], [rest, *listed] if rest else listed
        else:
            paragraphs[0] = [first, *listed]
    if summary[-1] not in ".!?":
        summary += "."
    paragraphs += [text.split("\n") for text in more]
    return _lines(summary[0].upper() + summary[1:], [lines for lines in paragraphs if lines], indent)


def _split_list(lines: list[str]) -> tuple[list[str], list[str]]:
    """Part the text at the start of a paragraph, whose lines may be joined, from a list or a drawing after it."""
    for index, line in enumerate(lines):
        if index and line.startswith((" ", "- ", "* ")):
            return lines[:index], lines[index:]
    return lines, []


def _paragraphs(comment: str) -> list[list[str]]:
    """Return the lines of a comment in groups, as empty lines part them."""
    text = "".join(each if each.isprintable() or each == "\n" else " " for each in comment.expandtabs(4))
    lines = textwrap.dedent("\n".join(line.rstrip() for line in text.split("\n"))).strip("\n").split("\n")
    groups: list[list[str]] = [[]]
    for line in lines:
        if line:
            groups[-1].append(line)
        elif groups[-1]:
            groups.append([])
    return [group for group in groups if group]


def _lines(summary: str, paragraphs: Sequence[Sequence[str]], indent: int) -> list[str]:
    body: list[str] = []
    for paragraph in paragraphs:
        body.append("")
        for line in paragraph:
            body += _wrapped(line, LINE_LENGTH - indent)
    text = "\n".join([summary, *body])
    # Three of these would end it; of one kind or the other makes no difference to a reader.
    text = text.replace(_QUOTES, "'''")
    prefix = "r" if "\\" in text else ""
    text = prefix + _QUOTES + text + ("\n" if body else "") + _QUOTES
    return [" " * indent + line if line else "" for line in text.split("\n")]


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    margin = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip(),
        width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
