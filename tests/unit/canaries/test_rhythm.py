"""When canaries are due among real jobs, and which jobs wait for them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.canaries.draws import Draws
from hostmesh.canaries.rhythm import MAX_PAUSE_S, MAX_WAIT_S, MIN_JOBS, Asked, Rhythm, Stay


def draws(number: int) -> Draws:
    return Draws(number.to_bytes(16, "big"))


class User:
    """Asks for jobs that leave as soon as they may; takes each canary when it is due."""

    def __init__(self, *, rate: float = 0.2, seed: int = 1, answer_s: float = 3.0) -> None:
        self.rhythm = Rhythm(rate=rate)
        self.chance = random.Random(seed)
        self.answer_s = answer_s
        self.now_s = 0.0
        self.ends: list[tuple[float, bool]] = []
        self.later: list[float] = []
        """When further jobs are asked for."""
        self.at_end: Callable[[], None] = lambda: None
        """Called when an answer to a job is over."""
        self.waiting: list[Asked] = []
        self.came: list[tuple[float, bool]] = []
        """When each job came, and whether it is a canary."""
        self.waited_s: list[float] = []

    def draws(self) -> Draws:
        return Draws(self.chance.randbytes(16))

    def ask(self, *, begins: bool = True) -> Asked:
        asked = self.rhythm.job_asked(begins, self.now_s, self.draws())
        self.waiting.append(asked)
        return asked

    def run_until(self, until_s: float) -> None:
        """Let everything happen that does until then."""
        while (step := self._next(until_s)) is not None:
            self.now_s, happens = step
            happens()
        self.now_s = until_s

    def run_until_all_left(self) -> None:
        while self.waiting:
            step = self._next(math.inf)
            assert step is not None, "jobs wait for what never comes"
            self.now_s, happens = step
            happens()

    def _next(self, until_s: float) -> tuple[float, Callable[[], None]] | None:
        steps: list[tuple[float, int, Callable[[], None]]] = []
        if self.rhythm.due_s is not None:
            steps.append((self.rhythm.due_s, 0, self._canary))
        steps += [(self.rhythm.leaves_s(asked), 1, partial(self._leave, asked)) for asked in self.waiting]
        if self.ends:
            steps.append((min(self.ends)[0], 2, self._end))
        if self.later:
            steps.append((min(self.later), 3, self._ask_later))
        known = [step for step in steps if step[0] <= until_s and step[0] < math.inf]
        steps = [(max(at_s, self.now_s), order, happens) for at_s, order, happens in known]
        if not steps:
            return None
        at_s, _, happens = min(steps, key=lambda step: step[:2])
        return at_s, happens

    def _ask_later(self) -> None:
        self.later.remove(min(self.later))
        self.ask()

    def _canary(self) -> None:
        self.rhythm.canary_began(self.now_s, self.draws())
        self._came(is_canary=True)

    def _leave(self, asked: Asked) -> None:
        self.waiting.remove(asked)
        self.waited_s.append(self.now_s - asked.asked_s)
        self.rhythm.job_started(asked, self.now_s, self.draws())
        self._came(is_canary=False)

    def _came(self, *, is_canary: bool) -> None:
        self.came.append((self.now_s, is_canary))
        self.ends.append((self.now_s + self.answer_s, is_canary))

    def _end(self) -> None:
        end = min(self.ends)
        self.ends.remove(end)
        if end[1]:
            self.rhythm.canary_over(self.now_s, self.draws())
        else:
            self.rhythm.job_ended(self.now_s, self.draws())
            self.at_end()


def one_after_the_other(user: User, jobs: int, pause_s: Callable[[], float]) -> None:
    for _ in range(jobs):
        user.ask()
        user.run_until_all_left()
        real_end_s = max(end_s for end_s, is_canary in user.ends if not is_canary)
        user.run_until(real_end_s)
        user.run_until(user.now_s + pause_s())


def in_rows(user: User, rows: int, *, gap_s: Callable[[], float], apart_s: float = 600.0) -> None:
    for _ in range(rows):
        for _ in range(user.chance.randint(5, 20)):
            user.ask()
            user.run_until(user.now_s + gap_s())
        user.run_until(user.now_s + apart_s)


def canaries(user: User) -> int:
    return sum(is_canary for _, is_canary in user.came)


def test_no_canary_is_due_before_there_is_traffic_to_be_like() -> None:
    user = User(rate=1.0)
    one_after_the_other(user, MIN_JOBS - 1, lambda: 0.1)
    assert canaries(user) == 0
    one_after_the_other(user, MIN_JOBS, lambda: 0.1)
    assert canaries(user) > 5


@pytest.mark.parametrize(
    ("under_way", "places"),
    [
        pytest.param([0] * 100, 1, id="one after the other"),
        pytest.param([0] * 95 + [1] * 5, 1, id="hardly ever two"),
        pytest.param([0] * 10 + [1, 2] * 5 + [3] * 80, 4, id="four places, mostly taken"),
        pytest.param([5] * 20 + [6] * 40 + [7] * 27, 8, id="eight, of which some are free at times"),
        pytest.param([0] * 60 + [1] * 25 + [2] * 10 + [3] * 3 + [4] * 2, None, id="as many as there happen to be"),
        pytest.param([0] * 80 + [1] * 20, None, id="few, but not only one"),
    ],
)
def test_how_many_jobs_a_user_has_at_once(under_way: list[int], places: int | None) -> None:
    rhythm = Rhythm(rate=0.1)
    for count in random.Random(1).sample(under_way, len(under_way)):
        rhythm._starts.append(
            Asked(asked_s=0.0, begins=True, gap_s=1.0, since_end_s=1.0, under_way=count, is_in_row=False, apart_s=1.0)
        )
    assert rhythm.places == places


@pytest.mark.parametrize("pauses_s", [(0.005, 0.05), (0.2, 1.0)])
def test_who_asks_one_thing_after_the_other_never_has_two_jobs_at_once(pauses_s: tuple[float, float]) -> None:
    user = User()
    one_after_the_other(user, 500, lambda: user.chance.uniform(*pauses_s))
    times = [at_s for at_s, _ in user.came]
    gaps = [after - before - user.answer_s for before, after in pairwise(times)]
    assert min(gaps) >= pauses_s[0] - 1e-6
    assert max(gaps) <= pauses_s[1] + 1e-6, "no gap is longer, also after a canary"
    assert canaries(user) / len(user.came) == pytest.approx(0.2 / 1.2, abs=0.05)


def test_a_job_that_gave_way_waits_for_the_answer_and_a_pause() -> None:
    user = User()
    one_after_the_other(user, 300, lambda: 0.25)
    waited = sorted(wait_s for wait_s in user.waited_s if wait_s)
    assert 0.1 < len(waited) / 300 < 0.25
    assert waited[0] == pytest.approx(3.25)
    assert waited[-1] < 6 * 3.25, "a canary follows a canary as often as it does a job"


@pytest.mark.parametrize("places", [2, 4, 8])
def test_of_some_places_a_canary_takes_one_and_never_one_more(places: int) -> None:
    user = User()
    user.at_end = lambda: user.later.append(user.now_s + user.chance.uniform(0.005, 0.05))
    user.later = [user.chance.uniform(0.0, 3.0) for _ in range(places)]
    user.run_until(600.0 * user.answer_s / places)
    assert user.rhythm.places == places
    most = 0
    for at_s, _ in user.came:
        most = max(most, sum(at_s - user.answer_s < came_s <= at_s for came_s, _ in user.came))
    assert most == places
    assert canaries(user) / len(user.came) == pytest.approx(0.2 / 1.2, abs=0.05)


def test_jobs_of_a_row_are_later_by_the_canaries_turns_and_by_no_more_than_a_pause() -> None:
    user = User()
    in_rows(user, 60, gap_s=lambda: user.chance.expovariate(1 / 0.5))
    assert user.rhythm.places is None
    waited = [wait_s for wait_s in user.waited_s if wait_s > 1e-9]
    assert len(waited) > 0.3 * len(user.waited_s)
    assert max(user.waited_s) <= MAX_PAUSE_S + 1e-6
    assert canaries(user) / len(user.came) == pytest.approx(0.2 / 1.2, abs=0.04)


def test_jobs_that_all_waited_for_one_canary_leave_together() -> None:
    """Also where so many at once make another user of theirs."""
    user = User(rate=1.0)
    one_after_the_other(user, 60, lambda: 0.1)
    while user.rhythm.leaves_s(user.ask()) < math.inf:
        user.run_until(user.now_s + 3.1)
    user.run_until(user.now_s + 0.5)
    assert user.waiting, "a canary runs"
    for _ in range(500):
        user.ask()
    user.waited_s.clear()
    user.run_until_all_left()
    assert len(user.waited_s) == 501
    assert max(user.waited_s) < 3 * (user.answer_s + MAX_PAUSE_S)


def test_of_jobs_at_equal_distances_no_more_are_canaries() -> None:
    user = User(rate=0.1)
    for _ in range(1500):
        user.ask()
        user.run_until(user.now_s + 1.5)
    assert canaries(user) / len(user.came) == pytest.approx(0.1 / 1.1, abs=0.03)


def test_canaries_of_a_user_who_keeps_to_a_clock_keep_to_it() -> None:
    """A job each minute, however long the answers take."""
    user = User(seed=4)
    for minute in range(600):
        user.answer_s = user.chance.uniform(1.0, 20.0)
        user.run_until(60.0 * minute + user.chance.uniform(0.0, 0.2))
        user.ask()
    off = sorted(min(at_s % 60.0, 60.0 - at_s % 60.0) for at_s, is_canary in user.came[100:] if is_canary)
    assert len(off) > 30
    assert off[int(0.8 * len(off))] < 0.3


def test_rows_of_jobs_at_one_moment_hardly_wait() -> None:
    user = User()
    in_rows(user, 60, gap_s=lambda: user.chance.uniform(0.0, 0.002), apart_s=20.0)
    assert canaries(user) > 60
    assert max(user.waited_s) < 0.1


def test_a_canary_is_in_any_place_of_a_row_as_often() -> None:
    """What comes before and after it tells nothing: short gaps in the row, a long one at its ends."""
    user = User(rate=0.1, seed=3)
    in_rows(user, 1500, gap_s=lambda: user.chance.expovariate(1 / 0.5))
    known = user.came[200:]
    for behind in (1, -1):
        far = {True: [0, 0], False: [0, 0]}
        for place in range(1, len(known) - 1):
            at_s, is_canary = known[place]
            far[is_canary][0] += abs(known[place + behind][0] - at_s) > 60.0
            far[is_canary][1] += 1
        parts = {label: ends / count for label, (ends, count) in far.items()}
        assert parts[True] == pytest.approx(parts[False], abs=0.03), behind


def test_canaries_come_at_the_rate_of_real_jobs_at_each_age_of_a_long_gap() -> None:
    user = User(seed=7, answer_s=1.0)
    one_after_the_other(user, 3000, lambda: 60.0 + user.chance.lognormvariate(5.0, 1.0))
    assert max(user.waited_s) <= user.answer_s + MAX_PAUSE_S, "hardly anybody waits, and then for one answer"
    assert sum(wait_s > 0.0 for wait_s in user.waited_s) < 0.02 * len(user.waited_s)
    gaps, last_s = [], 0.0
    for at_s, is_canary in user.came[200:]:
        gaps.append((at_s - last_s, is_canary))
        last_s = last_s if is_canary else at_s
    gaps.sort()
    part = sum(is_canary for _, is_canary in gaps) / len(gaps)
    assert part == pytest.approx(0.2 / 1.2, abs=0.02)
    fifth = len(gaps) // 5
    for start in range(0, 5 * fifth, fifth):
        among = sum(is_canary for _, is_canary in gaps[start : start + fifth]) / fifth
        assert among == pytest.approx(part, abs=0.04), start


@pytest.mark.parametrize(
    ("answer_s", "pause_s", "bound_s", "leaves"),
    [
        pytest.param(5.0, 0.1, MAX_WAIT_S, True, id="jobs can wait for an answer"),
        pytest.param(MAX_WAIT_S + 1, 0.1, MAX_WAIT_S, False, id="answers take too long to be waited for"),
        pytest.param(MAX_WAIT_S + 1, 3600.0, MAX_WAIT_S, True, id="and no job comes before they end"),
        pytest.param(5.0, 0.1, 4.0, False, id="jobs have no time to wait"),
        pytest.param(5.0, 60.0, 4.0, True, id="and need none"),
    ],
)
def test_no_canary_leaves_where_a_job_could_not_wait_for_its_end(
    answer_s: float, pause_s: float, bound_s: float, leaves: bool
) -> None:
    user = User(rate=1.0, answer_s=answer_s)
    user.rhythm.stay = Stay(canary_s=answer_s, bound_s=bound_s)
    one_after_the_other(user, 100, lambda: user.chance.uniform(0.5, 1.0) * pause_s)
    assert (canaries(user) > 20) is leaves
    assert leaves or canaries(user) == 0


@pytest.mark.parametrize(("pause_s", "leaves"), [(0.1, True), (10.0, False)])
def test_no_canary_leaves_where_its_conversation_would_have_to_be_cut(pause_s: float, leaves: bool) -> None:
    user = User(rate=1.0)
    user.rhythm.stay = Stay(canary_s=3 * 3.0 + 2 * pause_s, pause_s=pause_s)
    one_after_the_other(user, 100, lambda: user.chance.uniform(0.2, 0.5))
    assert (canaries(user) > 20) is leaves


def test_a_row_is_not_put_off_longer_than_a_job_may_wait() -> None:
    user = User()
    user.rhythm.stay = Stay(bound_s=0.4)
    in_rows(user, 60, gap_s=lambda: user.chance.expovariate(1 / 0.5))
    assert max(user.waited_s) <= 0.4 + 1e-6
    assert canaries(user) > 60


def test_nobody_waits_again_for_a_canary_that_takes_too_long() -> None:
    user = User(rate=1.0)
    one_after_the_other(user, 60, lambda: 0.1)
    user.answer_s = 500.0
    while user.rhythm.leaves_s(asked := user.ask()) < math.inf:
        user.run_until(user.now_s + 600.0)
    user.run_until(user.now_s + 120.0)
    assert user.rhythm.leaves_s(asked) == math.inf
    assert user.rhythm.has_waited(asked, user.now_s)
    assert user.rhythm.leaves_s(asked) <= user.now_s
    assert user.rhythm.due_s is None
    assert user.rhythm.leaves_s(user.ask()) <= user.now_s


@pytest.mark.parametrize("has_rows", [False, True])
def test_a_canary_that_is_dropped_holds_nobody(has_rows: bool) -> None:
    user = User(rate=1.0)
    for _ in range(60):
        asked = user.ask()
        if user.rhythm.due_s == user.now_s and not user.ends:
            break
        user.run_until_all_left()
        if has_rows:
            user.run_until(user.now_s + 0.3)
            in_rows(user, 1, gap_s=lambda: user.chance.uniform(0.1, 0.5))
        else:
            user.run_until(user.now_s + 3.1)
    else:
        raise AssertionError("no job gave way")
    user.rhythm.canary_dropped(user.now_s, user.draws())
    assert user.rhythm.leaves_s(asked) < user.now_s + MAX_PAUSE_S


def test_the_place_of_a_canary_is_what_a_job_there_would_have_waited_for() -> None:
    user = User(seed=2)
    in_rows(user, 40, gap_s=lambda: user.chance.expovariate(1 / 0.5))
    late = 0
    for _ in range(400):
        user.ask()
        user.run_until_all_left()
        waited_s = user.waited_s[-1]
        due_s = user.rhythm.due_s
        if due_s is not None and due_s - user.now_s <= MAX_PAUSE_S:
            assert user.rhythm.waited_s(due_s) == pytest.approx(waited_s)
            late += waited_s > 0.0
        user.run_until(user.now_s + user.chance.expovariate(1 / 0.5))
    assert late > 10


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    events=st.lists(
        st.tuples(st.sampled_from(["ask", "turn", "withdraw", "has waited", "drop", "go on"]), st.floats(0.0, 8.0)),
        max_size=120,
    ),
)
def test_whatever_happens_every_job_leaves_in_the_end(seed: int, events: list[tuple[str, float]]) -> None:
    user = User(rate=1.0, seed=seed, answer_s=2.0)
    one_after_the_other(user, 20, lambda: 0.2)
    in_rows(user, 2, gap_s=lambda: 0.3, apart_s=9.0)
    for what, for_s in events:
        if what in ("ask", "turn"):
            user.ask(begins=what == "ask")
        elif what == "withdraw" and user.waiting:
            user.rhythm.job_withdrawn(user.waiting.pop(user.chance.randrange(len(user.waiting))))
        elif what == "has waited" and user.waiting:
            user.rhythm.has_waited(user.chance.choice(user.waiting), user.now_s)
        elif what == "drop" and user.rhythm.due_s is not None and user.rhythm.due_s <= user.now_s:
            user.rhythm.canary_dropped(user.now_s, user.draws())
        user.run_until(user.now_s + for_s)
    user.run_until_all_left()
    assert len(user.rhythm._waiting) == 0


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_a_rate_is_more_than_nothing_and_at_most_one(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Rhythm(rate=rate)
