"""A host that tries to recognise canaries. docs/measurements/canaries.json has the same on more users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
from tests.benchmarks.canaries.guessing import LATER, Looked, auc, look_at, measure, train
from tests.benchmarks.canaries.traffic import KINDS, RATE, Arrival, User

from hostmesh.canaries.plan import CanaryPlan

FIRM = 4.0
"""Standard errors. With 24 clients one classifier in two thousand is off by as many, and there are 80 of them."""
ONLY_AFTERWARDS = (f"{LATER} the next one, after its end", f"{LATER} all, with those above")
TELLING = {
    "chat": ONLY_AFTERWARDS,
    "pipeline": (f"{LATER} another comes while it runs", *ONLY_AFTERWARDS),
}
"""What docs/canaries.md says under "What it does not show": of a user whose jobs are not put off for canaries it tells
something whether his next one comes. Nobody's is told before its answer is on the way."""
MOST_TOLD = 0.12
"""Of an area, by these."""


def tells_nothing(kind: str, name: str, seen: dict[str, float]) -> bool:
    """Return whether a classifier is no better than chance, or no better than is said of it."""
    return abs(seen["auc"] - 0.5) <= (MOST_TOLD if name in TELLING.get(kind, ()) else FIRM * seen["error"])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_host_sees_tells_canaries_from_jobs(kind: str) -> None:
    found = measure(kind, users=24, jobs=100)
    assert found["canaries"] >= 40
    for name, seen in found["classifiers"].items():
        assert tells_nothing(kind, name, seen), name


def test_a_next_job_that_does_not_wait_tells_a_canary_of_who_asks_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: without the wait each canary is the job during which another one comes."""
    monkeypatch.setattr(CanaryPlan, "holds", lambda plan, peer_id, *, now_s: False)
    found = measure("loop", users=6, jobs=100)
    assert found["classifiers"][f"{LATER} another comes while it runs"]["auc"] > 0.95


def test_of_those_who_ask_one_after_the_other_a_tenth_of_the_jobs_wait_for_one_answer_more() -> None:
    users = [User("loop", seed) for seed in range(18) if seed % 3]  # the others have conversations
    for user in users:
        list(user.arrivals(150))
    waits_s = [wait_s for user in users for wait_s in user.waits_s[50:]]
    waited = [wait_s for wait_s in waits_s if wait_s > 0.0]
    assert len(waited) / len(waits_s) == pytest.approx(RATE, abs=0.03)
    assert sum(waited) / len(waited) == pytest.approx(3.0, abs=1.0), "answers take 1 to 5 s"
    assert max(waited) < 5.0 + 2 * 1.0


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


def test_jobs_of_one_client_count_as_one() -> None:
    """Each job ten times over: the area is the same, and so is the error."""
    labels = [at % 3 == 0 for at in range(120)]
    scores = [float(at * 7919 % 120) for at in range(120)]
    once = [Looked(features={}, is_canary=label, client=at // 4) for at, label in enumerate(labels)]
    assert auc(scores * 10, once * 10) == pytest.approx(auc(scores, once))
