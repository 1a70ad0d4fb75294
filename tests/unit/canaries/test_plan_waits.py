"""The plan: who waits for whom, how many canaries run at once, and what goes on when."""

from __future__ import annotations

import math

import pytest
from tests.benchmarks.canaries.traffic import Arrival, User
from tests.unit.canaries.plan_client import Client, with_a_canary

from hostmesh.canaries.plan import MAX_AT_ONCE_OF_HOST
from hostmesh.canaries.rhythm import MAX_PAUSE_S, MAX_WAIT_S
from hostmesh.canaries.traffic import JobShape, PastJob

DEADLINE_S = 120.0
"""Of all jobs of a pipeline."""
SHAPE = JobShape(length_bytes=40, max_output_tokens=8)


@pytest.mark.parametrize("end", ["answered", "failed"])
def test_a_job_waits_for_the_end_of_a_canary_at_its_host_and_as_long_as_its_user_took_to_ask(end: str) -> None:
    client, canary, asked = with_a_canary()
    assert client.plan.leaves_s("host", asked) == math.inf
    assert client.plan.leaves_s("another", client.ask("another", b"")) == client.now_s
    client.now_s += 1.0
    if end == "answered":
        client.answer(canary, "Yes.")
    else:
        client.fail(canary)
    assert client.plan.leaves_s("host", asked) == pytest.approx(client.now_s + 0.05)


def test_a_job_of_a_user_whose_jobs_overlap_waits_for_its_turn_and_for_no_answer() -> None:
    client, _, asked = with_a_canary(overlapping=True)
    assert client.plan.leaves_s("host", asked) <= client.now_s + MAX_PAUSE_S


def test_no_canary_begins_while_a_job_waits_nor_at_a_time_that_has_passed_meanwhile() -> None:
    client, canary, asked = with_a_canary()
    assert client.plan.next_due() is None
    client.fail(canary)
    due = client.plan.next_due()
    assert due is None or due[0] > client.plan.leaves_s("host", asked)
    client.now_s = client.plan.leaves_s("host", asked)
    client.start("host", b"next", canary.shape, asked)
    assert client.plan.next_due() is None


def test_a_job_that_waited_may_wait_for_a_second_canary_which_comes_as_soon_as_it_would() -> None:
    """Or what comes after a canary would always be a job."""
    seconds = []
    for seed in range(400):
        client, canary, _ = with_a_canary(rate=0.5, seed=seed)
        client.fail(canary)
        due = client.plan.next_due()
        seconds.append(due is not None and due[0] <= client.now_s + 0.1)
    assert sum(seconds) / len(seconds) == pytest.approx(1 / 3, abs=0.07)


def test_a_second_canary_never_runs_beside_one_where_jobs_never_do() -> None:
    client, _, _ = with_a_canary()
    for number in range(50):
        client.now_s += 0.3
        client.ask("host", b"%d" % number)
        assert client.plan.next_due() is None


@pytest.mark.parametrize(("pause_s", "goes_on"), [(0.05, True), (60.0, False)])
def test_a_conversation_goes_on_while_a_job_waits_if_its_pauses_are_short(pause_s: float, goes_on: bool) -> None:
    client, canary, asked = with_a_canary(turns=3, pause_s=pause_s)
    assert client.plan.leaves_s("host", asked) == math.inf
    client.now_s += 1.0
    client.answer(canary, "Yes.")
    if not goes_on:
        assert client.plan.leaves_s("host", asked) <= client.now_s + MAX_PAUSE_S
        client.start("host", b"next", canary.shape, asked)
        assert client.plan.next_due() is None, "its next turn would come while the job runs"
        return
    assert client.plan.leaves_s("host", asked) == math.inf
    second = client.make()
    assert second is not None
    assert len(second.turns) == 3
    assert client.plan.leaves_s("host", asked) == math.inf


def test_a_canary_that_nobody_waits_for_any_more_ends_nobodys_wait_for_another() -> None:
    """Or its host would see a user's job come beside the other one, as soon as it answers the first."""
    waited = 0
    for seed in range(20):
        client, held_open, asked = with_a_canary(seed=seed)
        client.now_s += MAX_WAIT_S
        client.plan.has_waited("host", asked, now_s=client.now_s)
        assert client.plan.leaves_s("host", asked) <= client.now_s
        client.start("host", b"waited", SHAPE, asked)
        for number in range(1000):
            client.now_s += 1.0
            client.end("host", b"waited" if number == 0 else b"after %d" % number)
            client.now_s += 0.05
            asked = client.ask("host", b"after %d" % (number + 1))
            if client.plan.leaves_s("host", asked) == math.inf:
                break
            client.start("host", b"after %d" % (number + 1), SHAPE, asked)
        assert client.make() is not None
        client.now_s += 0.5
        client.answer(held_open, "At last.")
        waited += client.plan.leaves_s("host", asked) == math.inf and client.plan.next_due() is None
    assert waited == 20


def past_job(number: int, *, started_s: float, ended_s: float) -> PastJob:
    conversation = number.to_bytes(2, "big")
    return PastJob(conversation=conversation, shape=SHAPE, system_prompt=None, started_s=started_s, ended_s=ended_s)


class Overlapping:
    """A user who begins a conversation each half second, says something more after 25 s, and waits long for that."""

    def __init__(self) -> None:
        self.client = Client()
        self.client.answers = False
        self._number = 100
        begun_s = [(number, -200.0 + number / 2) for number in range(self._number)]
        past = [past_job(number, started_s=at, ended_s=at + 1.4) for number, at in begun_s]
        past += [past_job(number, started_s=at + 25.0, ended_s=-0.1) for number, at in begun_s]
        self.client.plan.restore("host", past)

    def go_on(self, seconds: float) -> None:
        until_s = self.client.now_s + seconds
        while self.client.now_s < until_s:
            begins, ends, goes_on = (self._number - back for back in (0, 3, 50))
            self.client.leave("host", begins.to_bytes(2, "big"), SHAPE)
            self.client.end("host", ends.to_bytes(2, "big"))
            self.client.leave("host", goes_on.to_bytes(2, "big"), SHAPE)
            self.client.now_s += 0.5
            self._number += 1


def test_a_user_whose_jobs_overlap_has_so_many_canary_conversations_at_once_and_no_more() -> None:
    user = Overlapping()
    client = user.client
    user.go_on(100.0)
    assert len(client.canaries) == MAX_AT_ONCE_OF_HOST
    host = client.plan._hosts["host"]
    longer = next(canary for canary in client.canaries if canary.canary_id in host.begun)
    client.answer(longer, "Yes.")
    user.go_on(18.0)
    assert len(client.canaries) == MAX_AT_ONCE_OF_HOST, "one that is to go on counts"
    user.go_on(12.0)
    assert [len(canary.turns) for canary in client.canaries] == [1] * MAX_AT_ONCE_OF_HOST + [3]
    user.go_on(30.0)
    assert len(client.canaries) == MAX_AT_ONCE_OF_HOST + 1
    client.fail(client.canaries[-1])
    user.go_on(30.0)
    assert [len(canary.turns) for canary in client.canaries] == [1] * MAX_AT_ONCE_OF_HOST + [3, 1]


def test_the_pauses_of_a_canary_conversation_are_those_of_the_copied_one_within_a_tenth() -> None:
    client = Client()
    pauses_s = {0: (0.3, 1.5), 1: (5.0, 12.0), 2: (200.0, 60.0)}
    answered_s: dict[str, float] = {}
    seen: dict[tuple[int, int], list[float]] = {}
    for number in range(150):
        kind = number % len(pauses_s)
        shape = JobShape(length_bytes=40, max_output_tokens=8, parameters=(("top_k", kind),))
        for pause_s in (*pauses_s[kind], client.random.uniform(2000.0, 4000.0)):
            client.leave("host", number.to_bytes(2, "big"), shape)
            client.now_s += 1.0
            client.end("host", number.to_bytes(2, "big"))
            until_s = client.now_s + pause_s
            while (due := client.plan.next_due()) is not None and due[0] < until_s:
                canary = client.make()
                assert canary is not None
                turn, key = len(canary.turns) // 2, canary.turns[0].words.text
                if turn:
                    copied = (int(str(canary.parameters["top_k"])), turn - 1)
                    seen.setdefault(copied, []).append(due[0] - answered_s[key])
                client.now_s += 1.0
                client.answer(canary, "Yes.")
                answered_s[key] = client.now_s
            client.now_s = max(client.now_s, until_s)
    assert len(seen) == 2 * len(pauses_s)
    for (kind, turn), waited_s in seen.items():
        assert len(waited_s) > 5
        assert waited_s == pytest.approx([pauses_s[kind][turn]] * len(waited_s), rel=0.1)
        assert len(set(waited_s)) == len(waited_s), "none is the copied one to the microsecond"


def asked_s(arrival: Arrival) -> float:
    assert arrival.timeout_s is not None
    return arrival.at_s - (DEADLINE_S - arrival.timeout_s)


def test_in_a_row_a_canarys_deadline_is_shorter_by_what_a_job_in_its_place_has_waited() -> None:
    """Along a row that canaries put off deadlines get shorter; those of canaries are in line with them."""
    deadlines_s = []
    for seed in range(6):
        arrivals = list(User("pipeline", seed).arrivals(250))
        for before, canary, after in zip(arrivals, arrivals[1:], arrivals[2:], strict=False):
            if [before.is_canary, canary.is_canary, after.is_canary] != [False, True, False]:
                continue
            if asked_s(after) - asked_s(before) > MAX_PAUSE_S:
                continue  # no row of the user's
            assert canary.timeout_s == pytest.approx(before.timeout_s)
            assert (after.timeout_s or 0.0) <= (canary.timeout_s or 0.0)
            deadlines_s.append(canary.timeout_s)
    assert len(deadlines_s) > 50
    shorter = sum(deadline_s != DEADLINE_S for deadline_s in deadlines_s)
    assert 0.1 < shorter / len(deadlines_s) < 0.9


def test_a_canary_that_failed_is_not_gone_on_with() -> None:
    client, canary, asked = with_a_canary(turns=3)
    client.fail(canary)
    client.now_s = 1e9
    client.answer(canary, "too late")
    assert client.plan.next_due() is None
    assert client.plan.leaves_s("host", asked) < client.now_s
