"""The corpus that comes with hostmesh: ``corpus.json`` beside this file."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from hostmesh.canaries.corpus import Corpus


@cache
def shipped_corpus() -> Corpus:
    """Return the shipped corpus, read once.

    >>> len(shipped_corpus().templates) > 200
    True
    """
    document = json.loads(files("hostmesh.canaries").joinpath("corpus.json").read_text(encoding="utf-8"))
    return Corpus(
        templates=tuple(document["templates"]),
        readings=tuple(document["readings"]),
        follow_ups=tuple(document["follow_ups"]),
        passages=tuple(document["passages"]),
        closings=tuple(document["closings"]),
        slots={name: tuple(words) for name, words in document["slots"].items()},
    )
