"""Which records a peer is told when it asks, page by page. Pure.

The order is by a hash of a secret, the asker and the host: a host cannot choose a key that stands first, each asker
begins with other hosts, and one that comes back with a cursor goes on where it was, whatever came or left meanwhile.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.discovery.description import HostState
from hostmesh.discovery.table import KnownHost
from hostmesh.net.peer_id import PeerId

MAX_PAGE_RECORDS = 16
CURSOR_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordQuery:
    """What a peer asks for."""

    model_ids: tuple[str, ...]
    """All of them; empty = any."""
    country_code: str
    """Empty = anywhere."""
    limit: int
    """Most records of the page; 0 = :data:`MAX_PAGE_RECORDS`, which is also the most."""
    cursor: bytes
    """Of the page before; empty = the first page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPage:
    """One page."""

    hosts: tuple[KnownHost, ...]
    cursor: bytes
    """Of the next page; empty = there is none."""


def page_of(hosts: Iterable[KnownHost], query: RecordQuery, *, asker: PeerId, secret: bytes) -> RecordPage:
    """Return the page that follows the query's cursor.

    Args:
        hosts: what is known, each peer once. What others handed over is left out: nobody is believed about a third.
        query: what is asked for; a cursor that no page had is a place like any other.
        asker: who asks.
        secret: random bytes, the same for as long as cursors are to hold.

    Cost: O(hosts), a hash for each that matches.
    """
    limit = min(query.limit or MAX_PAGE_RECORDS, MAX_PAGE_RECORDS)
    prefix = secret + asker.encode() + b"\0"
    places = (
        (hashlib.sha256(prefix + host.info.peer_id.encode()).digest(), host.info.peer_id, host)
        for host in hosts
        if host.introducer is None and _matches(host, query)
    )
    chosen = heapq.nsmallest(limit + 1, (place for place in places if place[0] > query.cursor))
    return RecordPage(
        hosts=tuple(host for _, _, host in chosen[:limit]), cursor=chosen[limit - 1][0] if len(chosen) > limit else b""
    )


def _matches(host: KnownHost, query: RecordQuery) -> bool:
    info = host.info
    if info.state is not HostState.AVAILABLE:
        return False
    if query.country_code and (info.place is None or info.place.country_code != query.country_code):
        return False
    return all(info.offer(model_id) is not None for model_id in query.model_ids)
