"""Text from a peer or a model, made safe to look at. Pure.

A terminal obeys what it is sent: an escape sequence can rewrite the title, the clipboard or lines above, a carriage
return hides what stands before it, a bidi mark shows words in another order than they have. Whatever comes from
outside goes through :func:`escape` before it reaches a terminal or a log; ``--json`` carries it unchanged.

Source: Unicode Standard Annex 9 (bidi) and 44 (general categories); ECMA-48 (control functions).
"""

from __future__ import annotations

import unicodedata

_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LAYOUT = "\n\t"
MAX_FIELD_CHARS = 200
"""Longest text of one field on one line. Chosen here: an error of a peer may be long, a line should not be."""


def escape(text: str, *, keep_layout: bool = False) -> str:
    r"""Return the text with every character that acts instead of showing replaced by its Python escape.

    Args:
        text: anything.
        keep_layout: leave line feeds and tabs, for a model's answer; without it the result is one line.

    Returns:
        Text without control characters, format characters (bidi marks, zero-width characters), surrogates and line or
        paragraph separators. Escaping twice changes nothing more.

    >>> escape("\x1b]0;title\x07 ok\r")
    '\\x1b]0;title\\x07 ok\\r'
    >>> escape("a\nb", keep_layout=True)
    'a\nb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character) not in _ESCAPED_CATEGORIES or (keep_layout and character in _LAYOUT)
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def field(text: str, *, max_chars: int = MAX_FIELD_CHARS) -> str:
    """Return the text on one line: escaped, and cut with an ellipsis when it is long.

    >>> field("x" * 9, max_chars=5)
    'xxxx…'
    """
    safe = escape(text[: max_chars + 1])
    return safe if len(safe) <= max_chars else safe[: max_chars - 1] + "…"
