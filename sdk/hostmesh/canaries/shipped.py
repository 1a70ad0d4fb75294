"""What comes with hostmesh: a corpus and calibrations, the JSON files beside this one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from hostmesh.canaries.comparison import Agreement
from hostmesh.canaries.corpus import Corpus
from hostmesh.canaries.evidence import Calibration, Warmth


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


@cache
def shipped_calibrations() -> Mapping[str, Calibration]:
    """Return the shipped calibrations by model id, read once: of engines that hold answers of llama.cpp against it.

    >>> list(shipped_calibrations())
    ['smollm2-135m-instruct']
    """
    document = json.loads(files("hostmesh.canaries").joinpath("calibrations.json").read_text(encoding="utf-8"))
    return MappingProxyType({model_id: _calibration(model_id, engines) for model_id, engines in document.items()})


def _calibration(model_id: str, engines: Mapping[str, Mapping[str, list[tuple[int, bool]]]]) -> Calibration:
    return Calibration(
        model_id=model_id,
        engines={
            engine: {
                Warmth(warmth): tuple(Agreement(characters=characters, parted=parted) for characters, parted in values)
                for warmth, values in strata.items()
            }
            for engine, strata in engines.items()
        },
    )
