"""A host that tries to recognise canaries. docs/measurements/canaries.json has the same on more users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
from tests.benchmarks.canaries.guessing import (
    AFTERWARDS,
    ALL_WHILE,
    HONEST_PART,
    WHILE,
    Looked,
    auc,
    honest_on,
    look_at,
    measure,
    train,
)
from tests.benchmarks.canaries.kinds import KINDS, Kind
from tests.benchmarks.canaries.traffic import RATE, Arrival, User

from hostmesh.canaries.plan import CanaryPlan
from hostmesh.canaries.rhythm import MIN_JOBS

FIRM = 4.0
"""Standard errors. With 24 clients one classifier in two thousand is off by as many, and there are 162 of them."""
TELLING = {"chat": AFTERWARDS}
"""What docs/canaries.md says under "What it does not show": people who pause do not come later than they like. Nobody's
canaries are told before their answer is complete."""
MOST_TOLD = 0.12
"""Of an area, by these."""


def tells_nothing(kind: str, name: str, seen: dict[str, float]) -> bool:
    """Return whether a classifier is no better than chance, or no better than is said of it."""
    is_told = kind in TELLING and name.startswith(TELLING[kind])
    return abs(seen["auc"] - 0.5) <= (MOST_TOLD if is_told else FIRM * seen["error"])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_host_sees_tells_canaries_from_jobs(kind: Kind) -> None:
    found = measure(kind, users=24, jobs=200)
    assert found["canaries"] >= 200
    for name, seen in found["classifiers"].items():
        assert tells_nothing(kind, name, seen), name
    for when, seen in found["gain"].items():
        assert abs(seen["part"] - HONEST_PART) <= FIRM * seen["error"], when


def test_jobs_that_do_not_wait_tell_canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without the wait each canary of a loop is the job during which another one comes."""
    monkeypatch.setattr(CanaryPlan, "leaves_s", lambda plan, peer_id, asked: asked.asked_s)
    loop = measure("loop", users=6, jobs=100)
    assert loop["classifiers"][f"{WHILE} another comes while it runs"]["auc"] > 0.9
    assert loop["gain"]["while it answers"]["part"] > 0.9
    workers = measure("workers", users=8, jobs=200)
    assert workers["classifiers"][ALL_WHILE]["auc"] > 0.7


def waits_s(kind: Kind, seeds: list[int], *, jobs: int, without: int = 0) -> list[float]:
    """Return how long users' jobs waited for canaries, without so many first ones of each user."""
    users = [User(kind, seed) for seed in seeds]
    for user in users:
        assert sum(arrival.is_canary for arrival in user.arrivals(jobs)) > 0
    return [wait_s for user in users for wait_s in user.waits_s[without:]]


def test_of_those_who_ask_one_after_the_other_a_tenth_of_the_jobs_wait_for_one_answer_more() -> None:
    seeds = [seed for seed in range(18) if seed % 3]  # the others have conversations
    waited = waits_s("loop", seeds, jobs=150, without=50)
    long = [wait_s for wait_s in waited if wait_s > 0.0]
    assert len(long) / len(waited) == pytest.approx(RATE, abs=0.03)
    assert sum(long) / len(long) == pytest.approx(3.0, abs=1.0), "answers take 1 to 5 s"
    assert sum(wait_s > 6.0 for wait_s in long) / len(long) <= 2 * RATE, "another canary comes after a canary"


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_waits_before_there_are_canaries(kind: Kind) -> None:
    for user in (User(kind, seed) for seed in range(8)):
        assert not any(arrival.is_canary for arrival in user.arrivals(MIN_JOBS - 1))
        assert max(user.waits_s) == 0.0


@pytest.mark.parametrize("kind", ["pipeline", "service"])
def test_nobody_whose_jobs_overlap_waits_for_long(kind: Kind) -> None:
    waited = waits_s(kind, list(range(24)), jobs=300)
    assert sum(0.0 < wait_s <= 2.0 for wait_s in waited) > 10
    # A user who now and then has so many at once, and for a while no more, is taken for one with so many places.
    assert sum(wait_s > 2.0 for wait_s in waited) <= 0.005 * len(waited)
    assert max(waited) < 5.0 + 2.0, "an answer and a pause"


@cache
def service(seed: int) -> tuple[Arrival, ...]:
    return tuple(User("service", seed).arrivals(250))


def careless(change: Callable[[Arrival], Arrival]) -> float:
    """Return the best AUC against canaries that are changed, the control of the test above."""

    def changed(seed: int) -> Iterator[Arrival]:
        return (change(arrival) if arrival.is_canary else arrival for arrival in service(seed))

    classifiers = train(look_at(changed(seed) for seed in range(2)))
    looked = look_at(changed(seed) for seed in range(2, 4))
    return max(auc([score(one.features) for one in looked], looked)[0] for score in classifiers.values())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda job: replace(job, messages=(("user", "What is gravity?"),)), id="one text"),
        pytest.param(lambda job: replace(job, messages=(*job.messages[:-1], ("user", "x" * 300))), id="one length"),
        pytest.param(lambda job: replace(job, since_end_s=0.01), id="at once after an answer"),
        pytest.param(lambda job: replace(job, parameters=(("temperature", 0.0),)), id="settings of their own"),
        pytest.param(lambda job: replace(job, max_output_tokens=24), id="a token limit of their own"),
        pytest.param(lambda job: replace(job, seed=0), id="no random seed"),
        pytest.param(lambda job: replace(job, messages=job.messages[-1:]), id="no system prompt to be cached"),
    ],
)
def test_careless_canaries_are_recognised(change: Callable[[Arrival], Arrival]) -> None:
    assert careless(change) > 0.7


def test_the_area_under_the_curve() -> None:
    def area(canaries: list[float], users: list[float]) -> tuple[float, float]:
        labels = [True] * len(canaries) + [False] * len(users)
        looked = [Looked(features={}, is_canary=label, client=at) for at, label in enumerate(labels)]
        return auc([*canaries, *users], looked)

    assert area([3.0, 4.0], [1.0, 2.0])[0] == 1.0
    assert area([1.0, 2.0], [3.0, 4.0])[0] == 0.0
    assert area([1.0, 1.0], [1.0, 1.0])[0] == 0.5
    assert area([1.0, 3.0], [2.0, 2.0])[0] == 0.5
    middle, error = area([float(n) for n in range(200)], [n + 0.5 for n in range(200)])
    assert middle == pytest.approx(0.5, abs=0.01)
    assert error == pytest.approx(0.0289, abs=0.001), "with a client for each job, that of independent jobs"


def test_the_quarter_that_looks_most_like_canaries() -> None:
    def jobs(values: list[float], *, canaries: bool) -> list[Looked]:
        return [Looked(features={"": value}, is_canary=canaries, client=at) for at, value in enumerate(values)]

    def part(canaries: list[float], trained: list[float]) -> float:
        looked = [*jobs(canaries, canaries=True), *jobs(trained, canaries=False)]
        return honest_on(lambda features: features[""], jobs(trained, canaries=False), looked)[0]

    one_to_hundred = [float(n) for n in range(1, 101)]
    assert part([76.0, 75.0, 10.0, 90.0], one_to_hundred) == 0.5
    assert part([1.0, 2.0], one_to_hundred) == 0.0
    assert part([1.0, 1.0], [1.0] * 100) == 0.25, "who sees no difference takes them at random"
    assert part([2.0, 1.0], [1.0] * 60 + [2.0] * 40) == 0.5 * 25 / 40


def test_jobs_of_one_client_count_as_one() -> None:
    """Each job ten times over: the area is the same, and so is the error."""
    labels = [at % 3 == 0 for at in range(120)]
    scores = [float(at * 7919 % 120) for at in range(120)]
    once = [Looked(features={}, is_canary=label, client=at // 4) for at, label in enumerate(labels)]
    assert auc(scores * 10, once * 10) == pytest.approx(auc(scores, once))
