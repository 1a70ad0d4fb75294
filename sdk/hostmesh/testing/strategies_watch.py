"""Strategies for what discovery tells: events, who joins and leaves, what was measured of a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.events import (
    HostProbed,
    HostRevoked,
    ListingChange,
    ListingChanged,
    OutcomeRecorded,
    RecordDecided,
    RecordDecision,
    SearchEnded,
    SearchStarted,
)
from hostmesh.discovery.matching import CRITERIA
from hostmesh.discovery.metrics import ConnectionMetrics
from hostmesh.discovery.roster import HostChanged, HostJoined, HostLeft, LeaveReason
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import counts, peer_ids, texts
from hostmesh.testing.strategies_choices import host_choices
from hostmesh.testing.strategies_discovery import measurements

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_CHANGES = ("models", "price", "free_slots", "latency_ms")
_LISTED = (LeaveReason.UNFIT, LeaveReason.UNREACHABLE, LeaveReason.DRAINING)


def _seconds() -> SearchStrategy[float]:
    return st.floats(0, 1e6)


def records_decided() -> SearchStrategy[RecordDecided]:
    """Draw what became of a record: one that was judged first, then one that does not hold."""
    judged = st.builds(
        RecordDecided,
        at_s=_seconds(),
        decision=st.sampled_from([each for each in RecordDecision if each is not RecordDecision.REFUSED]),
        peer_id=peer_ids(),
        sequence=st.none() | counts(2**40),
        introducer=st.none() | peer_ids(),
    )
    refused = st.builds(
        RecordDecided,
        at_s=_seconds(),
        decision=st.just(RecordDecision.REFUSED),
        peer_id=st.none() | peer_ids(),
        introducer=st.none() | peer_ids(),
        reason=st.sampled_from(("models", "SIGNATURE_INVALID")),
    )
    return judged | refused


def hosts_revoked() -> SearchStrategy[HostRevoked]:
    """Draw bindings that are void."""
    return st.builds(
        HostRevoked,
        at_s=_seconds(),
        peer_id=peer_ids(),
        operator=st.binary(min_size=20, max_size=20),
        least_epoch=st.integers(1, 2**64 - 1),
    )


def hosts_probed() -> SearchStrategy[HostProbed]:
    """Draw a host that answered, or did not."""
    answered = st.builds(
        HostProbed,
        at_s=_seconds(),
        peer_id=peer_ids(),
        latency_ms=st.none() | st.floats(0, 1e4),
        unreachable=st.just(""),
    )
    silent = st.builds(
        HostProbed, at_s=_seconds(), peer_id=peer_ids(), latency_ms=st.none(), unreachable=st.just("DIAL_FAILED: dial")
    )
    return answered | silent


def searches_started() -> SearchStrategy[SearchStarted]:
    """Draw a search that begins."""
    return st.builds(SearchStarted, at_s=_seconds(), number=st.integers(1, 2**40), timeout_s=st.floats(0.001, 1e3))


def searches_ended() -> SearchStrategy[SearchEnded]:
    """Draw a search that found nobody, somebody, or was cut off."""
    some = st.integers(1, 100)
    times = {"at_s": _seconds(), "number": st.integers(1, 2**40), "took_s": _seconds()}
    nobody = st.builds(SearchEnded, **times, seen=counts(100), matched=st.just(0), best=st.none())
    found = some.flatmap(
        lambda matched: st.builds(
            SearchEnded, **times, seen=st.integers(matched, 100), matched=st.just(matched), best=peer_ids()
        )
    )
    cut_off = st.builds(SearchEnded, **times, seen=st.none(), matched=st.none(), best=st.none())
    return nobody | found | cut_off


def outcomes_recorded() -> SearchStrategy[OutcomeRecorded]:
    """Draw an outcome of a host."""
    return st.builds(OutcomeRecorded, at_s=_seconds(), peer_id=peer_ids(), good=st.booleans())


def listings_changed() -> SearchStrategy[ListingChanged]:
    """Draw a change of the lists, of a peer or a wallet."""
    wallets = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
    return st.builds(ListingChanged, at_s=_seconds(), change=st.sampled_from(ListingChange), name=peer_ids() | wallets)


def hosts_joined() -> SearchStrategy[HostJoined]:
    """Draw a host that meets the criteria."""
    return st.builds(HostJoined, at_unix_s=_seconds(), choice=host_choices())


def hosts_changed() -> SearchStrategy[HostChanged]:
    """Draw a host that is not as it was."""
    changes = st.lists(st.sampled_from(_CHANGES), min_size=1, max_size=3, unique=True).map(tuple)
    return st.builds(HostChanged, at_unix_s=_seconds(), choice=host_choices(), changes=changes)


def hosts_left() -> SearchStrategy[HostLeft]:
    """Draw a host that is gone, or fails a criterion."""
    choices: SearchStrategy[HostChoice] = host_choices()
    gone = st.builds(
        HostLeft,
        at_unix_s=_seconds(),
        choice=choices,
        reason=st.sampled_from([each for each in LeaveReason if each not in _LISTED]),
    )
    fails = st.builds(
        HostLeft,
        at_unix_s=_seconds(),
        choice=choices,
        reason=st.sampled_from(_LISTED),
        criterion=st.sampled_from(CRITERIA),
        detail=texts(most_bytes=96),
    )
    return gone | fails


def connection_metrics() -> SearchStrategy[ConnectionMetrics]:
    """Draw what was measured of a peer: nothing first."""
    latencies = st.none() | measurements()
    return latencies.flatmap(
        lambda latency: st.builds(
            ConnectionMetrics,
            peer_id=peer_ids(),
            is_connected=st.booleans(),
            latency=st.just(latency),
            age_s=st.none() if latency is None else _seconds(),
            last_ping_ms=st.none() | st.floats(0, 1e4),
        )
    )
