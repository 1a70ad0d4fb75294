"""PeerScore: who always fails is blacklisted, however fast; an honest peer is not, however slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.reputation.peer_score import (
    BLACKLISTED,
    MIN_EVENTS,
    PeerEvent,
    PeerScore,
    latency_part,
)

DAY_S = 86_400.0
NOON = 20_000 * DAY_S + 43_200.0
BAD = [PeerEvent.TIMED_OUT, PeerEvent.CORRUPT, PeerEvent.FORGED]
rtts = st.none() | st.floats(0, 20)
pauses = st.floats(0, 30 * DAY_S)


def peer(rtt_s: float | None = None) -> PeerScore:
    new = PeerScore(at_unix_s=NOON)
    return new if rtt_s is None else new.measured(rtt_s)


def lived(*events: PeerEvent, of: PeerScore | None = None, every_s: float = 0.0) -> PeerScore:
    score = of or peer()
    for number, event in enumerate(events):
        score = score.after(event, NOON + number * every_s)
    return score


def test_a_new_peer_has_one_half() -> None:
    assert peer().score(NOON) == peer().score(NOON + 1e9) == 0.5


def test_the_parts_add_up_as_the_formula_says() -> None:
    good = lived(*[PeerEvent.SERVED] * 8, of=peer(0.19))
    assert good.score(NOON) == pytest.approx(0.3 * 0.9 + 0.5 * 9 / 10 + 0.2 * 0.5)
    mixed = lived(PeerEvent.SERVED, PeerEvent.TIMED_OUT, PeerEvent.SERVED, of=peer(0.05))
    assert mixed.score(NOON) == pytest.approx(0.3 + 0.5 * 3 / 5 + 0.1)
    half_later = mixed.score(NOON + 600)
    assert half_later == pytest.approx(0.3 + 0.5 * 2 / 3.5 + 0.1)
    corrupt = lived(PeerEvent.CORRUPT, of=peer(0.05))
    assert corrupt.score(NOON) == pytest.approx(0.3 * 2 / 7 + 0.5 / 7 + 0.1), "how fast it fails is worth nothing"


def test_failures_in_a_row_leave_nothing_of_what_was_good_a_moment_ago() -> None:
    proven = lived(*[PeerEvent.SERVED] * 9, of=peer(0.05), every_s=DAY_S)
    now = NOON + 8 * DAY_S
    for event in [PeerEvent.SERVED] * 100 + [PeerEvent.TIMED_OUT] * 5:
        proven = proven.after(event, now)
    assert proven.score(now) == pytest.approx(0.3 * 2 / 7 + 0.5 / 7 + 0.2)


def test_latency_falls_from_a_tenth_of_a_second_to_a_second_and_is_smoothed() -> None:
    assert [latency_part(rtt_s) for rtt_s in (None, 0.0, 0.1, 0.55, 1.0, 5.0)] == pytest.approx([0.5, 1, 1, 0.5, 0, 0])
    assert peer(0.1).measured(0.5).rtt_s == pytest.approx(0.2)


def test_history_is_the_share_of_good_days_and_counts_in_full_after_a_week() -> None:
    score = peer()
    for day in range(10):
        score = score.after(PeerEvent.SERVED, NOON + day * DAY_S)
    now = NOON + 9 * DAY_S
    assert score.score(now) == pytest.approx(0.5 * 2 / 3 + 0.3 * 0.5 + 0.2), "nine good days are over"
    two = lived(PeerEvent.SERVED, PeerEvent.SERVED, PeerEvent.SERVED, every_s=DAY_S)
    assert two.score(NOON + 2 * DAY_S) == pytest.approx(0.5 * 2 / 3 + 0.15 + 0.2 * (0.5 + 0.5 * 2 / 7))
    bad_day = lived(PeerEvent.TIMED_OUT, PeerEvent.SERVED, every_s=DAY_S)
    assert bad_day.score(NOON + DAY_S) == pytest.approx(0.5 * 2 / 3 + 0.15 + 0.2 * (0.5 - 0.5 / 7))


def test_days_are_bounded() -> None:
    score = peer()
    for day in range(400):
        score = score.after(PeerEvent.SERVED if day < 200 else PeerEvent.TIMED_OUT, NOON + day * DAY_S)
        assert score.good_days + score.bad_days <= 30
    assert score.good_days < 1 < score.bad_days, "what is long ago counts no more"


@pytest.mark.parametrize("rtt_s", [None, 0.0, 0.001, 0.1])
def test_the_plain_formula_would_never_blacklist_these(rtt_s: float | None) -> None:
    """The reason for the two ceilings: after a thousand failures and no success."""
    latency = 0.3 * latency_part(rtt_s) + 0.5 * 1 / 1002
    assert latency + 0.2 * 0.5 > (BLACKLISTED if rtt_s is not None else 0.25)
    assert BLACKLISTED < 0.3 * 0.5 + 0.5 / 7 + 0.2 * 0.5, "nor one without a round trip after five"


@given(rtt_s=rtts, events=st.lists(st.tuples(st.sampled_from(BAD), pauses), min_size=MIN_EVENTS, max_size=MIN_EVENTS))
def test_who_fails_five_times_and_never_serves_is_blacklisted(
    rtt_s: float | None, events: list[tuple[PeerEvent, float]]
) -> None:
    score, now = peer(rtt_s), NOON
    for event, pause_s in events:
        assert score.may_dial(now)
        now += pause_s
        score = score.after(event, now)
    assert not score.may_dial(now)
    assert score.may_dial(now + 600)


@given(rtt_s=rtts, good_days=st.integers(0, 60), every_s=st.floats(0, 2 * DAY_S), extra=st.sampled_from(BAD))
def test_even_of_the_best_history_ten_failures_in_a_row_are_enough(
    rtt_s: float | None, good_days: int, every_s: float, extra: PeerEvent
) -> None:
    score, now = peer(rtt_s), NOON
    for _ in range(good_days):
        score, now = score.after(PeerEvent.SERVED, now), now + DAY_S
    for _ in range(10):
        score, now = score.after(extra, now), now + every_s
    assert score.suspension is not None


@given(rtt_s=st.floats(0, 1e6), served=st.lists(pauses, min_size=1, max_size=30), late=st.data())
def test_a_slow_but_honest_peer_is_never_blacklisted(rtt_s: float, served: list[float], late: st.DataObject) -> None:
    """However slow: between two of its answers at most one comes too late."""
    score, now = peer(rtt_s), NOON
    for pause_s in served:
        now += pause_s
        if late.draw(st.booleans()):
            score = score.after(PeerEvent.TIMED_OUT, now)
        score = score.after(PeerEvent.SERVED, now)
        assert score.suspension is None
        assert score.score(now) >= BLACKLISTED


@given(events=st.lists(st.tuples(st.sampled_from(PeerEvent), pauses), max_size=30), rtt_s=rtts)
def test_the_score_stays_on_its_scale(events: list[tuple[PeerEvent, float]], rtt_s: float | None) -> None:
    score, now = peer(rtt_s), NOON
    for event, pause_s in events:
        now += pause_s
        score = score.after(event, now)
        assert 0 <= score.score(now) <= 1


@given(
    good=st.floats(0, 100), bad=st.floats(0, 100), row=st.integers(0, 20), fast=st.floats(0, 2), more=st.floats(0, 2)
)
def test_each_part_moves_it_the_right_way(good: float, bad: float, row: int, fast: float, more: float) -> None:
    def score(**changed: float) -> float:
        fields = {"good": good, "bad": bad, "rtt_s": fast, **changed}
        return PeerScore(at_unix_s=NOON, row=row, **fields).score(NOON)  # type: ignore[arg-type]

    assert score(rtt_s=fast + more) <= score() + 1e-12
    assert score(bad=bad + more) <= score() + 1e-12
    assert score(good=good + more) >= score() - 1e-12


def test_one_forgery_blacklists_nobody_and_neither_do_two_late_answers_after_a_quiet_hour() -> None:
    assert lived(PeerEvent.FORGED).suspension is None
    slow = lived(*[PeerEvent.SERVED] * 20, of=peer(3.0))
    for _ in range(4):
        slow = slow.after(PeerEvent.TIMED_OUT, NOON + 36_000)
    assert slow.suspension is None
    assert slow.after(PeerEvent.TIMED_OUT, NOON + 36_000).suspension is not None


@pytest.mark.parametrize("event", [PeerEvent.CORRUPT, PeerEvent.FORGED])
def test_who_lies_every_other_time_is_blacklisted_too(event: PeerEvent) -> None:
    assert lived(*[event, PeerEvent.SERVED] * 12, of=peer(0.01)).suspension is not None


def test_five_failures_blacklist_no_peer_that_stands_above_three_tenths() -> None:
    score = peer(0.05)
    for day in range(9):
        score = score.after(PeerEvent.SERVED, NOON + day * DAY_S)
    now = NOON + 8 * DAY_S
    for _ in range(6):
        score = score.after(PeerEvent.TIMED_OUT, now)
        assert score.score(now) > BLACKLISTED
    assert score.suspension is None, "its history speaks for it, for a while"


def test_probation_ends_with_a_success_at_two_fifths_or_doubles() -> None:
    score = lived(*[PeerEvent.TIMED_OUT] * 5, of=peer(0.05))
    assert score.suspension is not None
    assert (score.suspension.duration_s, score.suspension.times) == (600, 1)
    after = NOON + 600
    assert score.after(PeerEvent.SERVED, after).suspension is None
    again = score.after(PeerEvent.TIMED_OUT, after)
    assert again.suspension is not None
    assert (again.suspension.duration_s, again.may_dial(after)) == (1200, False)
    assert "timed out" in again.suspension.reason
    assert score.after(PeerEvent.SERVED, NOON + 599).suspension == score.suspension, "begun before"


def test_a_success_that_leaves_it_below_two_fifths_ends_no_probation() -> None:
    bad_days = peer(5.0)
    for day in range(8):
        bad_days = bad_days.after(PeerEvent.TIMED_OUT, NOON + day * DAY_S)
    assert bad_days.suspension is not None
    now = bad_days.suspension.until_unix_s
    once = bad_days.after(PeerEvent.SERVED, now)
    assert once.score(now) < 0.4
    assert once.suspension is not None
    assert once.after(PeerEvent.SERVED, now).after(PeerEvent.SERVED, now).suspension is None


def test_a_clock_that_was_set_back_forgets_nothing_and_bars_nobody_for_ever() -> None:
    score = lived(*[PeerEvent.TIMED_OUT] * 3)
    assert score.score(NOON - 1e6) == score.score(NOON)
    assert score.after(PeerEvent.SERVED, NOON - 1e6).at_unix_s == NOON
