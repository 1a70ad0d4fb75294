"""What the cache names to a find."""

from __future__ import annotations

from typing import Any

from hostmesh.discovery.peer_cache import PeerCache, PeerUse
from hostmesh.discovery.source import Candidate, SourceQuery
from hostmesh.discovery.sources.cache import RECENT_S, CacheSource
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.system import System

NOW_S = 1_700_000_000.0
RECENT, OLD, SERVER, STRANGER = (PeerKey(bytes([number]) * 32).peer_id for number in range(1, 5))
ADDRESS = "/ip4/192.0.2.1/tcp/4001"


class Node:
    def connected_peers(self) -> tuple[PeerId, ...]:
        return (STRANGER,)


async def named(*peer_ids: PeerId) -> list[Candidate]:
    cache = PeerCache()
    cache.note(RECENT, (ADDRESS,), PeerUse.HOST, now=NOW_S - 60)
    cache.note(OLD, (ADDRESS,), PeerUse.HOST, now=NOW_S - 2 * RECENT_S)
    cache.note(SERVER, (ADDRESS,), PeerUse.SERVER, now=NOW_S - 60)
    nothing: Any = None
    source = CacheSource(
        Node(),  # type: ignore[arg-type]
        cache,
        nothing,
        network="testnet",
        records=nothing,
        servers=nothing,
        ran_jobs=nothing,
        system=System(unix_s=lambda: NOW_S),
    )
    found: list[Candidate] = []
    await source.find(SourceQuery(model_ids=(), country_code=None, limit=10, peer_ids=peer_ids), found.append)
    return found


async def test_hosts_of_the_last_day_are_named() -> None:
    assert [each.peer_id for each in await named()] == [RECENT]


async def test_who_is_asked_for_by_id_is_named_once_whatever_it_was_and_however_old() -> None:
    found = await named(OLD, SERVER, STRANGER, RECENT)
    assert [each.peer_id for each in found] == [OLD, SERVER, RECENT]
    assert {each.addresses for each in found} == {(ADDRESS,)}
