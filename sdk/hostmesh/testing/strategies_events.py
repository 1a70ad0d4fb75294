"""Strategies for what a node tells about its connections, its dials and its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.net.events import (
    CloseCause,
    ConnectionClosed,
    ConnectionOpened,
    DialEnded,
    DialStarted,
    NetworkChanged,
    RetryPlanned,
    RetryReason,
)
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import address_lists, multiaddrs, peer_ids

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_STAGES = ("address", "limit", "dns", "dial", "timeout", "handshake")


def _seconds() -> SearchStrategy[float]:
    return st.floats(0, 1e6)


def connections_opened() -> SearchStrategy[ConnectionOpened]:
    """Draw a connection that came."""
    address = st.none() | multiaddrs()
    return address.flatmap(
        lambda address: st.builds(
            ConnectionOpened,
            at_s=_seconds(),
            peer_id=peer_ids(),
            is_outbound=st.just(address is not None),
            address=st.just(address),
            is_first=st.booleans(),
        )
    )


def connections_closed() -> SearchStrategy[ConnectionClosed]:
    """Draw a connection that went."""
    address = st.none() | multiaddrs()
    return address.flatmap(
        lambda address: st.builds(
            ConnectionClosed,
            at_s=_seconds(),
            peer_id=peer_ids(),
            is_outbound=st.just(address is not None),
            address=st.just(address),
            cause=st.sampled_from(CloseCause),
            lasted_s=_seconds(),
            is_last=st.booleans(),
        )
    )


def dials_started() -> SearchStrategy[DialStarted]:
    """Draw a dial that begins."""
    return st.builds(DialStarted, at_s=_seconds(), peer_id=peer_ids(), addresses=address_lists())


def dials_ended() -> SearchStrategy[DialEnded]:
    """Draw a dial that worked, was called off, or failed."""
    worked = st.builds(
        DialEnded,
        at_s=_seconds(),
        peer_id=peer_ids(),
        stage=st.just("connected"),
        address=multiaddrs(),
        took_s=_seconds(),
    )
    failed = st.builds(
        DialEnded,
        at_s=_seconds(),
        peer_id=peer_ids(),
        stage=st.sampled_from((*_STAGES, "cancelled")),
        address=st.none(),
        attempts=st.dictionaries(multiaddrs(), st.sampled_from(_STAGES), max_size=3),
        took_s=_seconds(),
    )
    return worked | failed


def retries_planned() -> SearchStrategy[RetryPlanned]:
    """Draw a pause before a dial: one address of a bootstrap peer, all of a wanted one."""
    address = st.none() | multiaddrs()
    return address.flatmap(
        lambda address: st.builds(
            RetryPlanned,
            at_s=_seconds(),
            peer_id=peer_ids(),
            reason=st.just(RetryReason.WANTED if address is None else RetryReason.BOOTSTRAP),
            address=st.just(address),
            stage=st.sampled_from((*_STAGES, "connected")),
            failures=st.integers(1, 1000),
            delay_s=st.floats(0.5, 60),
        )
    )


def network_changes() -> SearchStrategy[NetworkChanged]:
    """Draw addresses that came and went, or a sleep."""
    ips = st.ip_addresses().map(str)
    addresses = st.frozensets(ips, min_size=1, max_size=3)
    moved = st.builds(NetworkChanged, at_s=_seconds(), added=addresses, changes_reach=st.just(True))
    lost = st.builds(NetworkChanged, at_s=_seconds(), removed=addresses, changes_reach=st.just(True))
    slept = st.builds(NetworkChanged, at_s=_seconds(), slept_s=st.floats(5, 1e6), changes_reach=st.just(True))
    return moved | lost | slept
