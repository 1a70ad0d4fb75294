"""What a reader is told of hosts that come, change and go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from discovery_world import FakeReputation, make_description, make_info
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.choice import HostChoice, choice_of
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.measurement import Measurement, Origin, Path
from hostmesh.discovery.ranking import AUTO
from hostmesh.discovery.roster import HostChanged, HostJoined, HostLeft, LeaveReason, Roster, changes_between
from hostmesh.discovery.view import HostView, ProbeResult


def choice(name: str = "host", *, price: int = 100, latency_ms: float | None = 40.0, sequence: int = 1) -> HostChoice:
    latency = None
    if latency_ms is not None:
        latency = Measurement(
            value=latency_ms, unit="ms", at_unix_s=sequence, samples=3, origin=Origin.MEASURED, path=Path.DIRECT
        )
    view = HostView(
        info=make_info(name, make_description(price=price), sequence=sequence),
        uptime=None,
        reputation=FakeReputation(),
        probe=ProbeResult(latency=latency, readiness=None),
        sources=(),
    )
    return choice_of(view, AUTO.score(view, HostCriteria()), HostCriteria())


def told(roster: Roster, now: float = 7.0) -> list[object]:
    events = []
    while (event := roster.next_event(now)) is not None:
        events.append(event)
    return events


def test_a_host_joins_changes_and_leaves() -> None:
    roster, first, dearer = Roster(), choice(), choice(price=200)
    roster.fits(first)
    assert told(roster) == [HostJoined(at_unix_s=7.0, choice=first)]
    roster.fits(dearer)
    assert told(roster) == [HostChanged(at_unix_s=7.0, choice=dearer, changes=("models", "price"))]
    roster.leaves(first.peer_id, LeaveReason.UNFIT, "price", "price 200 > 150")
    assert told(roster) == [
        HostLeft(at_unix_s=7.0, choice=dearer, reason=LeaveReason.UNFIT, criterion="price", detail="price 200 > 150")
    ]
    assert told(roster) == []


def test_a_renewed_record_that_says_the_same_is_no_news() -> None:
    roster = Roster()
    roster.fits(choice(sequence=1))
    told(roster)
    roster.fits(choice(sequence=2))
    assert told(roster) == []


def test_a_slow_reader_gets_the_latest_and_nothing_of_who_came_and_went() -> None:
    roster, other = Roster(), choice("other")
    roster.fits(choice(price=1))
    roster.fits(other)
    roster.fits(choice(price=2))
    roster.leaves(other.peer_id, LeaveReason.EXPIRED)
    assert told(roster) == [HostJoined(at_unix_s=7.0, choice=choice(price=2))]
    roster.leaves(choice().peer_id, LeaveReason.EXPIRED)
    roster.fits(choice(price=2, sequence=3))
    assert told(roster) == []  # it is back before anybody asked


def test_a_host_that_was_not_there_does_not_leave() -> None:
    roster = Roster()
    roster.leaves(choice().peer_id, LeaveReason.EXPIRED)
    assert told(roster) == []


@pytest.mark.parametrize(
    ("before_ms", "after_ms", "is_news"),
    [(40, 44, False), (40, 50, False), (40, 51, True), (51, 40, False), (60, 40, True), (1, 5, False), (1, 7, True)],
)
def test_a_latency_is_news_when_it_moved_by_a_quarter_and_five_ms(
    before_ms: float, after_ms: float, is_news: bool
) -> None:
    changes = changes_between(choice(latency_ms=before_ms), choice(latency_ms=after_ms))
    assert changes == (("latency_ms",) if is_news else ())


def test_a_latency_that_creeps_is_told_in_the_end() -> None:
    """Compared with what was told, not with the number before."""
    roster = Roster()
    news = []
    for latency_ms in range(40, 80):
        roster.fits(choice(latency_ms=latency_ms))
        news += told(roster)
    assert [event.choice.latency.value for event in news] == [40, 51, 64]  # type: ignore[attr-defined]


def test_what_json_prints() -> None:
    one = choice()
    left = HostLeft(at_unix_s=7.0, choice=one, reason=LeaveReason.UNREACHABLE, criterion="reachable", detail="dead")
    assert left.to_dict() == {
        "event": "left",
        "at_unix_s": 7.0,
        "peer_id": one.peer_id,
        "reason": "unreachable",
        "criterion": "reachable",
        "detail": "dead",
    }
    assert HostJoined(at_unix_s=7.0, choice=one).to_dict()["host"] == one.to_dict()
    changed = HostChanged(at_unix_s=7.0, choice=one, changes=("price",)).to_dict()
    assert (changed["event"], changed["changes"]) == ("changed", ["price"])


_CHOICES = {name: [choice(name, price=price) for price in (1, 2, 3)] for name in "abc"}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.integers(0, 2)),
            st.tuples(st.sampled_from("abc"), st.none()),
            st.tuples(st.none(), st.integers(1, 3)),
        )
    )
)
def test_whoever_follows_the_events_knows_what_is_true(steps: list[tuple[str | None, int | None]]) -> None:
    """The model: a dictionary of who fits, and a reader who plays the events over his own."""
    roster, truth, known = Roster(), dict[str, HostChoice](), dict[str, HostChoice]()

    def read(most: int | None = None) -> None:
        while most is None or most > 0:
            event = roster.next_event(0.0)
            if event is None:
                return
            peer_id = event.choice.peer_id
            match event:
                case HostJoined():
                    assert peer_id not in known
                    known[peer_id] = event.choice
                case HostChanged():
                    assert known[peer_id] != event.choice
                    known[peer_id] = event.choice
                case HostLeft():
                    assert known.pop(peer_id) == event.choice
            most = None if most is None else most - 1

    for name, number in steps:
        if name is None:
            read(number)
            continue
        one = _CHOICES[name][number or 0]
        if number is None:
            roster.leaves(one.peer_id, LeaveReason.EXPIRED)
            truth.pop(one.peer_id, None)
        else:
            roster.fits(one)
            truth[one.peer_id] = one
        assert {each.peer_id: each for each in roster.choices} == truth
    read()
    assert known == truth
    assert replace(choice(), sources=("dht",)) != choice()  # choices compare by value
