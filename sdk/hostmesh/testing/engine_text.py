"""What a fake engine says: text and vectors that follow from the work alone. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re

from hostmesh.jobs.engine import ChatWork

MAX_TOKEN_CHARS = 200
"""A longer word is several tokens."""
_TOKEN = re.compile(rf"\s{{0,{MAX_TOKEN_CHARS}}}\S{{1,{MAX_TOKEN_CHARS}}}|\s{{1,{MAX_TOKEN_CHARS}}}")
_VOCABULARY = (
    "a peer finds host that answers and each word comes from its prompt so the same question has one answer while no "
    "clock nor chance takes part in what is said here by any node on this network at all"
)
_WORDS = tuple(_VOCABULARY.split())
_LEAST_WORDS, _MOST_WORDS = 8, 71


def split_tokens(text: str) -> list[str]:
    """Return the tokens of a text; joined, they are the text.

    >>> split_tokens("why is it so?")
    ['why', ' is', ' it', ' so?']
    """
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """Return how many tokens a text has."""
    return len(split_tokens(text))


def answer_text(work: ChatWork) -> str:
    """Return 8 to 71 words that follow from model, messages and ``seed``.

    Neither ``max_output_tokens`` nor ``stop`` changes them: an answer that is cut is the start of the whole one.
    """
    asked = [work.model_id, work.parameters.get("seed"), [[each.role.value, each.content] for each in work.messages]]
    seed = json.dumps(asked).encode("ascii")
    drawn = hashlib.shake_256(seed).digest(1 + _MOST_WORDS)
    length = _LEAST_WORDS + drawn[0] % (_MOST_WORDS - _LEAST_WORDS + 1)
    return " ".join(_WORDS[byte % len(_WORDS)] for byte in drawn[1 : 1 + length])


def vector_of(model_id: str, text: str, dimensions: int) -> tuple[float, ...]:
    """Return a vector of length 1 that follows from model and text.

    >>> vector_of("m", "text", 3) == vector_of("m", "text", 3) != vector_of("m", "texts", 3)
    True
    """
    drawn = hashlib.shake_256(json.dumps([model_id, text]).encode("ascii")).digest(2 * dimensions)
    # Odd numbers, so that none is 0 and the length never is.
    raw = [2 * int.from_bytes(drawn[at : at + 2], "big") - 65_535 for at in range(0, 2 * dimensions, 2)]
    length = math.sqrt(sum(number * number for number in raw))
    return tuple(number / length for number in raw)
