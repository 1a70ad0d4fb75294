"""The intake of a sweep: shares hold, whatever is named in whatever order, and junk keeps nobody else out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from discovery_world import make_key
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.intake import Intake
from hostmesh.discovery.source import Candidate
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId

SOURCES = ("dht", "exchange", "mdns", "cache")
PEERS = [make_key(f"candidate {number}").peer_id for number in range(60)]
NAMERS = [make_key(f"namer {number}").peer_id for number in range(4)]
PLACES = 32
OWN = PLACES // 2 // len(SOURCES)


@dataclass(frozen=True)
class Named:
    """Something that a source says; ``candidate`` None: that it has no more."""

    source: str
    candidate: Candidate | None = None


def named(
    source: str,
    peer_id: PeerId,
    *addresses: str,
    by: PeerId | None = None,
    origin: AddressOrigin = AddressOrigin.REMOTE,
) -> Named:
    return Named(source, Candidate(peer_id=peer_id, addresses=addresses, source=source, origin=origin, named_by=by))


ADDRESSES = st.builds("/ip4/{}.{}.0.1/tcp/1".format, st.sampled_from([11, 12]), st.integers(0, 5))
CANDIDATES = st.builds(
    lambda source, peer_id, addresses, by: named(source, peer_id, *addresses, by=by),
    st.sampled_from(SOURCES),
    st.sampled_from(PEERS),
    st.lists(ADDRESSES, max_size=2),
    st.none() | st.sampled_from(NAMERS),
)
RUNS = st.lists(CANDIDATES | st.sampled_from([Named(source) for source in SOURCES]), max_size=150)


def play(said: Sequence[Named], *, end: bool = True) -> tuple[Intake, dict[PeerId, str]]:
    """Return the intake, and the source under whose share each admitted peer came in."""
    intake = Intake(SOURCES, max_candidates=PLACES)
    admitted: dict[PeerId, str] = {}
    ended: set[str] = set()

    def finish(source: str) -> None:
        ended.add(source)
        for candidate, name in intake.end(source):
            admitted.setdefault(candidate.peer_id, name)

    for each in said:
        if each.source in ended:
            continue
        if each.candidate is None:
            finish(each.source)
        elif intake.offer(each.candidate, each.source):
            admitted.setdefault(each.candidate.peer_id, each.source)
    for source in SOURCES if end else ():
        if source not in ended:
            finish(source)
    return intake, admitted


def asked(intake: Intake) -> list[PeerId]:
    order = []
    while (peer_id := intake.next()) is not None:
        order.append(peer_id)
    return order


@given(RUNS, st.booleans())
def test_everybody_who_got_a_place_is_asked_once_and_there_are_no_more_places_than_said(
    said: list[Named], end: bool
) -> None:
    intake, admitted = play(said, end=end)
    assert len(admitted) <= PLACES
    waiting = len(intake)
    order = asked(intake)
    assert sorted(order) == sorted(admitted)
    assert (waiting, len(intake)) == (len(order), 0)


@given(RUNS)
def test_once_all_sources_have_ended_no_place_is_empty_while_somebody_is_kept_out(said: list[Named]) -> None:
    intake, admitted = play(said)
    ended: set[str] = set()
    offered: set[PeerId] = set()
    for each in said:
        if each.candidate is None:
            ended.add(each.source)
        elif each.source not in ended:
            offered.add(each.candidate.peer_id)
    assert len(admitted) == min(PLACES, len(offered))
    assert intake.dropped == len(offered) - len(admitted)


@given(junk=RUNS, data=st.data())
def test_no_other_source_keeps_out_whom_a_source_names(junk: list[Named], data: st.DataObject) -> None:
    """It has its own places, whatever the others say before, between and after."""
    honest = [
        named("static", make_key(f"honest {number}").peer_id, f"/ip4/11.9.{number}.1/tcp/1")
        for number in range(PLACES // 2 // 5)
    ]
    said = [each for each in junk if each.candidate is not None]
    for each in honest:
        said.insert(data.draw(st.integers(0, len(said))), each)
    intake = Intake((*SOURCES, "static"), max_candidates=PLACES)
    for each in said:
        assert each.candidate is not None
        is_in = intake.offer(each.candidate, each.source)
        assert is_in or each not in honest


@given(flood=st.integers(PLACES, 4 * PLACES), flooding=st.sampled_from(SOURCES))
def test_a_flood_takes_what_is_anybodys_and_the_rest_once_the_others_have_ended(flood: int, flooding: str) -> None:
    intake = Intake(SOURCES, max_candidates=PLACES)
    crowd = [named(flooding, make_key(f"flood {number}").peer_id) for number in range(flood)]
    taken = sum(intake.offer(_candidate(each), flooding) for each in crowd)
    assert taken == PLACES // 2 + OWN
    others = [source for source in SOURCES if source != flooding]
    for source in others:
        assert intake.offer(_candidate(named(source, make_key(f"of {source}").peer_id)), source)
    for source in others:
        taken += len(intake.end(source))
    assert taken + len(others) == PLACES
    assert intake.dropped == flood - taken


@given(
    crowd=st.integers(0, 200),
    late=st.integers(1, PLACES // 8),
    by_peer=st.booleans(),
)
def test_one_naming_peer_and_one_network_leave_room_for_others_of_the_same_source(
    crowd: int, late: int, by_peer: bool
) -> None:
    intake = Intake(SOURCES, max_candidates=PLACES)
    for number in range(crowd):
        peer_id = make_key(f"crowd {number}").peer_id
        where = f"/ip4/13.{number}.0.1/tcp/1" if by_peer else f"/ip4/13.0.0.{number % 250}/tcp/1"
        each = named("dht", peer_id, where, by=NAMERS[0] if by_peer else None)
        assert each.candidate is not None
        intake.offer(each.candidate, "dht")
    for number in range(late):
        each = named("dht", make_key(f"late {number}").peer_id, f"/ip4/14.{number}.0.1/tcp/1", by=NAMERS[1])
        assert each.candidate is not None
        assert intake.offer(each.candidate, "dht")


@given(st.lists(st.sampled_from(SOURCES[:2]), min_size=1, max_size=PLACES // 2))
def test_sources_take_turns(order: list[str]) -> None:
    intake = Intake(SOURCES[:2], max_candidates=PLACES)
    source_of = {}
    for number, source in enumerate(order):
        each = named(source, PEERS[number])
        assert each.candidate is not None
        intake.offer(each.candidate, source)
        source_of[PEERS[number]] = source
    sources = [source_of[peer_id] for peer_id in asked(intake)]
    few = min(Counter(order).values()) if len(set(order)) == 2 else 0
    assert all(sources[2 * turn] != sources[2 * turn + 1] for turn in range(few))


def test_who_is_named_at_the_end_of_a_long_line_is_asked_when_a_short_one_comes_to_him() -> None:
    """Whoever knows a host may name it behind a hundred others; that does not make it wait."""
    intake = Intake(SOURCES, max_candidates=PLACES)
    for peer_id in PEERS[:10]:
        intake.offer(_candidate(named("dht", peer_id)), "dht")
    intake.offer(_candidate(named("mdns", PEERS[9], "/ip4/11.0.0.1/tcp/1")), "mdns")
    assert asked(intake)[1] == PEERS[9]


def test_news_are_a_second_chance_and_no_more_than_that() -> None:
    intake = Intake(SOURCES, max_candidates=PLACES)
    first, second = (_candidate(named("dht", PEERS[0], f"/ip4/11.0.0.{n}/tcp/1")) for n in (1, 2))
    intake.offer(first, "dht")
    assert intake.next() == PEERS[0]
    intake.offer(first, "dht")
    assert not intake.finish(PEERS[0], has_failed=True), "nothing new came up"
    intake.offer(second, "dht")
    assert intake.next() == PEERS[0]
    intake.offer(_candidate(named("exchange", PEERS[0], "/ip4/11.0.0.3/tcp/1")), "exchange")
    assert intake.finish(PEERS[0], has_failed=True), "at once: it came while the peer was asked"
    assert not intake.finish(PEERS[0], has_failed=False)
    intake.offer(_candidate(named("exchange", PEERS[0], "/ip4/11.0.0.4/tcp/1")), "exchange")
    assert intake.next() is None, "it has answered"


def _candidate(each: Named) -> Candidate:
    assert each.candidate is not None
    return each.candidate
