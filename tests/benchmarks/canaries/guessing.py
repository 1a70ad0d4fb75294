"""A host that tries to recognise canaries: one simple classifier for each thing that could give them away.

The host runs the plan's code itself, and so has as much labelled traffic of each kind of user as it likes: a
classifier is trained on users that are not those it is measured on. It is the log-likelihood ratio over ten bins (of
equal counts in the training set), the best there is for one number so coarsely seen; *all* adds those of all features
that are there when the job comes, as if they were independent; *while: all* those that come while it is answered, on
which a host can still act; *afterwards: all* those that it learns when the answer is complete. What is measured is the
area under the ROC curve (AUC): the chance that a canary looks more like one than a user's job does; 0.5 = it tells
nothing. Its error counts clients, not jobs, since the jobs of one client hang together: N. Obuchowski, "Nonparametric
Analysis of Clustered ROC Curve Data", 1997.

What a host gains by it is said in other words, too: it runs the true model on the quarter of the jobs that look most
like canaries, and the *gain* is the part of the canaries that is in that quarter.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tests.benchmarks.canaries.kinds import Kind
from tests.benchmarks.canaries.traffic import Arrival, User

BINS = 10
HONEST_PART = 0.25
"""Of the jobs, those on which the host that guesses runs the true model."""
WHILE = "while:"
"""Begins the names of what a host learns after a job's arrival, while it answers."""
AFTERWARDS = "afterwards:"
"""And of what it learns when the answer is complete."""
ALL = "all"
ALL_WHILE = f"{WHILE} all, with those known at arrival"
ALL_AFTERWARDS = f"{AFTERWARDS} all, with those above"
_SHINGLE_WORDS = 6
_RECENT_S = 10.0

Score = Callable[[dict[str, float]], float]
"""How much a job with these features looks like a canary."""


class Memory:
    """What the host remembers of one client, and what it makes of the next job."""

    def __init__(self) -> None:
        self._times_s: list[float] = []
        self._last_gap = math.inf
        self._texts: Counter[str] = Counter()
        self._shingles: set[tuple[str, ...]] = set()
        self._settings: Counter[object] = Counter()
        self._limits: Counter[object] = Counter()
        self._prefixes: set[tuple[tuple[str, str], ...]] = set()

    def look(self, arrival: Arrival) -> dict[str, float]:
        """Return the features of a job that has just come, then remember it."""
        text = arrival.messages[-1][1]
        words = text.lower().split()
        shingles = {tuple(words[at : at + _SHINGLE_WORDS]) for at in range(len(words) - _SHINGLE_WORDS + 1)}
        cached = max(
            (size for size in range(len(arrival.messages), 0, -1) if arrival.messages[:size] in self._prefixes),
            default=0,
        )
        total = sum(len(content) for _, content in arrival.messages)
        settings = (arrival.max_output_tokens, arrival.parameters)
        gap = arrival.at_s - self._times_s[-1] if self._times_s else math.inf
        recent = len(self._times_s) - bisect_left(self._times_s, arrival.at_s - _RECENT_S)
        features = {
            "repetition: the text": float(self._texts[text]),
            "repetition: runs of six words": len(shingles & self._shingles) / max(len(shingles), 1),
            "length: last message": float(len(text.encode())),
            "length: whole input": float(total),
            "length: messages": float(len(arrival.messages)),
            "timing: since the last job": gap,
            "timing: since the second last job": gap + self._last_gap,
            "timing: the gap before the last one": self._last_gap,
            "timing: jobs in the last 10 s": float(recent),
            "timing: since the last answer": arrival.since_end_s,
            "timing: jobs under way": float(arrival.running),
            "settings: token limit": float(arrival.max_output_tokens or 0),
            "settings: deadline": arrival.timeout_s or 0.0,
            "settings: temperature": float(dict(arrival.parameters).get("temperature", -1.0)),  # type: ignore[arg-type]
            "settings: how often seen before": float(self._settings[settings]),
            "settings: token limit seen before": float(self._limits[arrival.max_output_tokens]),
            "settings: seed": float(arrival.seed),
            "cache: messages in it": float(cached),
            "cache: part of the input in it": sum(len(c) for _, c in arrival.messages[:cached]) / max(total, 1),
        }
        self._times_s.append(arrival.at_s)
        self._last_gap = gap
        self._texts[text] += 1
        self._shingles |= shingles
        self._settings[settings] += 1
        self._limits[arrival.max_output_tokens] += 1
        self._prefixes.update(arrival.messages[:size] for size in range(1, len(arrival.messages) + 1))
        return features


def look_back(arrival: Arrival, following: Arrival, second: Arrival) -> dict[str, float]:
    """Return what a host learns of a job only after its arrival, by when the next two come."""
    return {
        f"{WHILE} another comes within 0.1 s": float(following.at_s - arrival.at_s <= 0.1),
        f"{WHILE} another comes within 1 s": float(following.at_s - arrival.at_s <= 1.0),
        f"{WHILE} another comes while it runs": float(following.at_s < arrival.ends_s),
        f"{AFTERWARDS} the next one, after its end": following.at_s - arrival.ends_s,
        f"{AFTERWARDS} the next one to the one after it": second.at_s - following.at_s,
    }


class BinnedRatio:
    """The log of how much likelier a value is for a canary than for a user's job."""

    def __init__(self, values: Sequence[float], labels: Sequence[bool]) -> None:
        ordered = sorted(values)
        self._edges = sorted({ordered[len(ordered) * k // BINS] for k in range(1, BINS)})
        counts = {label: [1.0] * (2 * len(self._edges) + 1) for label in (False, True)}
        for value, label in zip(values, labels, strict=True):
            counts[label][self._bin(value)] += 1
        sums = {label: sum(counts[label]) for label in counts}
        self._ratios = [
            math.log(canary / sums[True]) - math.log(real / sums[False])
            for canary, real in zip(counts[True], counts[False], strict=True)
        ]

    def _bin(self, value: float) -> int:
        # A value that is an edge has a bin of its own: many features have few values.
        place = bisect_right(self._edges, value)
        return 2 * place - 1 if place and self._edges[place - 1] == value else 2 * place

    def score(self, value: float) -> float:
        """Return the ratio of a value's bin."""
        return self._ratios[self._bin(value)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A job with its features and the truth."""

    features: dict[str, float]
    is_canary: bool
    client: int


def auc(scores: Sequence[float], looked: Sequence[Looked]) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    canaries = sum(one.is_canary for one in looked)
    users = len(looked) - canaries
    placed = [0.0] * len(scores)
    below = {True: 0, False: 0}
    for _, group in groupby(order, key=scores.__getitem__):
        same = list(group)
        mine = sum(looked[at].is_canary for at in same)
        for at in same:
            if looked[at].is_canary:
                placed[at] = (below[False] + (len(same) - mine) / 2) / users
            else:
                placed[at] = 1 - (below[True] + mine / 2) / canaries
        below[True] += mine
        below[False] += len(same) - mine
    area = sum(place for place, one in zip(placed, looked, strict=True) if one.is_canary) / canaries
    pulls = [(place - area) / (canaries if one.is_canary else users) for place, one in zip(placed, looked, strict=True)]
    return area, _error(pulls, looked)


def honest_on(score: Score, trained: Sequence[Looked], looked: Sequence[Looked]) -> tuple[float, float]:
    """Return which part of the canaries a host runs the true model on, with its standard error.

    These are the jobs that look more like canaries than all but :data:`HONEST_PART` of those of the training; of jobs
    that look as much like one as the last of these, it takes as many at random as there is room for.
    """
    ordered = sorted((score(one.features) for one in trained), reverse=True)
    room = round(HONEST_PART * len(ordered))
    edge = ordered[room]
    at_edge = (room - ordered.index(edge)) / ordered.count(edge)
    canaries = [one for one in looked if one.is_canary]
    scores = [score(one.features) for one in canaries]
    chances = [float(mine > edge) if mine != edge else at_edge for mine in scores]
    part = sum(chances) / len(canaries)
    return part, _error([(chance - part) / len(canaries) for chance in chances], canaries)


def _error(pulls: Iterable[float], looked: Sequence[Looked]) -> float:
    """Return the standard error of a figure that each of the jobs pulls so far: those of a client count as one."""
    of_clients: defaultdict[int, float] = defaultdict(float)
    for pull, one in zip(pulls, looked, strict=True):
        of_clients[one.client] += pull
    clients = len(of_clients)
    return math.sqrt(sum(pull**2 for pull in of_clients.values()) * clients / (clients - 1))


def look_at(clients: Iterable[Iterable[Arrival]], *, warm_up: int = 50) -> list[Looked]:
    """Return the features of all clients' jobs, with the truth; a client's first and its last two are left out."""
    looked: list[Looked] = []
    for client, jobs in enumerate(clients):
        memory = Memory()
        arrivals = list(jobs)
        for place, (arrival, following, second) in enumerate(zip(arrivals, arrivals[1:], arrivals[2:], strict=False)):
            features = memory.look(arrival) | look_back(arrival, following, second)
            if place >= warm_up:
                looked.append(Looked(features=features, is_canary=arrival.is_canary, client=client))
    return looked


def train(looked: Sequence[Looked]) -> dict[str, Score]:
    """Return a classifier for each feature, and those that add them up."""
    labels = [one.is_canary for one in looked]
    ratios = {name: BinnedRatio([one.features[name] for one in looked], labels) for name in looked[0].features}

    def added(names: Iterable[str]) -> Score:
        some = [(name, ratios[name]) for name in names]
        return lambda features: sum(ratio.score(features[name]) for name, ratio in some)

    in_time = [name for name in ratios if not name.startswith(AFTERWARDS)]
    at_arrival = [name for name in in_time if not name.startswith(WHILE)]
    return {name: added([name]) for name in ratios} | {
        ALL: added(at_arrival),
        ALL_WHILE: added(in_time),
        ALL_AFTERWARDS: added(ratios),
    }


def measure(kind: Kind, *, users: int, jobs: int) -> dict[str, Any]:
    """Return the AUC of each classifier and the host's gain, with standard errors, on users not trained on.

    Args:
        kind: of the users.
        users: for training, and as many others for the measurement.
        jobs: real ones of each user.

    Cost: about 0.25 s for a user of 400 jobs.
    """
    trained = look_at(User(kind, seed).arrivals(jobs) for seed in range(users))
    looked = look_at(User(kind, seed).arrivals(jobs) for seed in range(users, 2 * users))
    classifiers = train(trained)
    figures = {}
    for name, score in classifiers.items():
        area, error = auc([score(one.features) for one in looked], looked)
        figures[name] = {"auc": round(area, 4), "error": round(error, 4)}
    gains = {}
    for when, name in {"at arrival": ALL, "while it answers": ALL_WHILE}.items():
        part, error = honest_on(classifiers[name], trained, looked)
        gains[when] = {"part": round(part, 4), "error": round(error, 4)}
    return {
        "jobs": len(looked),
        "canaries": sum(one.is_canary for one in looked),
        "classifiers": figures,
        "gain": gains,
    }
