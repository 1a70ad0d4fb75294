"""Strategies for what the kit's adversaries are told to do; the smallest of each does least."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.discovery.terms import MAX_UINT64
from hostmesh.testing.adversary_dht import DhtLies, DhtManner
from hostmesh.testing.adversary_host import HostLies, JobLie, PingLie
from hostmesh.testing.adversary_slow import SlowKind, Slowness
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import MAX_UNIX_S, counts, model_ids, multiaddrs, name_lists, places

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_MAX_CAPABILITY_BYTES = 64
_MOST_UPTIME_S = MAX_UNIX_S // 4
"""So that a host that says so started after 1970, by the clocks of simulated machines."""


def _delays() -> SearchStrategy[float]:
    """Draw seconds in steps of a millisecond; a day is for ever."""
    return st.integers(0, 86_400_000).map(lambda milliseconds: milliseconds / 1000)


def host_lies() -> SearchStrategy[HostLies]:
    """Draw lies of a host, each of which leaves its record one that verifies; none first."""
    return st.builds(
        HostLies,
        extra_models=st.lists(model_ids(), max_size=3, unique=True).map(tuple),
        price_micros_per_mtok=st.none() | counts(MAX_UINT64),
        extra_uptime_s=counts(_MOST_UPTIME_S),
        location=st.none() | places().map(str),
        capabilities=name_lists(most_bytes=_MAX_CAPABILITY_BYTES),
        is_always_ready=st.booleans(),
        ping=st.sampled_from(PingLie),
        ping_delay_s=_delays(),
        job_delay_s=_delays(),
        job=st.sampled_from(JobLie),
        extra_tokens=counts(1_000_000),
    )


def dht_lies() -> SearchStrategy[DhtLies]:
    """Draw what a DHT server does with requests."""
    return st.builds(
        DhtLies,
        manner=st.sampled_from(DhtManner),
        honest_requests=counts(100),
        victim=st.none() | multiaddrs(),
    )


def slownesses() -> SearchStrategy[Slowness]:
    """Draw how a peer is slow; a second a byte first."""
    paces = st.integers(1000, 60_000) | st.integers(1, 999)
    return st.builds(
        Slowness, kind=st.sampled_from(SlowKind), byte_every_s=paces.map(lambda milliseconds: milliseconds / 1000)
    )
