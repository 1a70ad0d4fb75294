"""JSON from strangers: strict, and never deeper than the stack.

``json.loads`` recurses in C and leans on the interpreter's recursion limit. That limit is the process's, and libraries
raise it (py_ecc, which eth-account imports, to 100,000): then 100,000 brackets end the process. So the depth is counted
before anything is parsed.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

MAX_DEPTH = 64
"""Deepest nesting that is read. Chosen here: no message of ours or of the OpenAI API comes near."""

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{\]}]', re.DOTALL)


def parse_json(text: str) -> object:
    r"""Return the value of a JSON text.

    Args:
        text: any length; the caller bounds it.

    Raises:
        ValueError: no JSON, NaN or Infinity in it, or nested deeper than :data:`MAX_DEPTH`.

    Cost: linear in the text, for any text.

    >>> parse_json('{"a": [1, "[["]}')
    {'a': [1, '[[']}
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: nested deeper than 64
    """
    depth = 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
                if depth > MAX_DEPTH:
                    raise ValueError(f"nested deeper than {MAX_DEPTH}")
            case "]" | "}":
                depth -= 1
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
