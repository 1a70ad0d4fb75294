"""A limit per operator or network bounds what is returned, and hides nobody: others are asked in the place of those."""

from __future__ import annotations

from typing import Any

import pytest
from discovery_world import view_of
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.selection import Diversity
from hostmesh.net.peer_id import PeerId

M = HostCriteria(required_models=["m"])


@pytest.mark.parametrize("crowd", [40, 140])
@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("is_by_operator", [True, False])
async def test_many_cheap_hosts_of_one_owner_leave_room_for_others(
    autojump_clock: MockClock, crowd: int, most: int, is_by_operator: bool
) -> None:
    """More than a search measures, and more than it attempts, all of which promise more than the others."""
    world = World()
    owner = {"operator": "one"} if is_by_operator else {}
    at: dict[PeerId, str] = {}

    def host(name: str, address: str, **options: Any) -> PeerId:
        peer_id = world.host(name, "m", addresses=(address,), **options).peer_id
        at[peer_id] = address
        return peer_id

    crowded = {host(f"crowd{n}", f"/ip4/192.0.2.{n + 1}/tcp/4001", price=1, **owner) for n in range(crowd)}
    others = {host(f"other{n}", f"/ip4/198.51.{n}.1/tcp/4001", price=100_000) for n in range(9)}
    diversity = Diversity(max_per_operator=most) if is_by_operator else Diversity(max_per_subnet=most)
    async with world.client() as discovery:
        world.node.views.update({peer_id: view_of(peer_id, address) for peer_id, address in at.items()})
        found = [choice.peer_id for choice in await discovery.find_all_hosts(M, 9 + most, diversity=diversity)]
        explained = [choice.peer_id for choice in (await discovery.explain(M, diversity=diversity)).choices]
    for listed in (found, explained):
        assert others <= set(listed)
        assert set(listed[:most]) <= crowded, "the best stays in front"
        assert len(listed) == 9 + most
