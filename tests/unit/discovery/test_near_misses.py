"""Hosts that just miss the criteria are asked themselves before a relaxation is told."""

from __future__ import annotations

import pytest
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.errors import NoHostFoundError
from hostmesh.v1 import discovery_pb2 as pb

CRITERIA = HostCriteria(required_models=["m"], capabilities=["vision"])
PROBED = ProbeConfig().max_parallel


@pytest.mark.parametrize("dead", [0, 1, PROBED - 1, PROBED])
async def test_the_five_nearest_misses_are_asked(autojump_clock: MockClock, dead: int) -> None:
    """Four of them may be gone: the fifth answers for the change that would let it through."""
    assert PROBED == 5
    world = World()
    peers = [world.host(f"h{number}", "m", price=200_000 * number) for number in range(PROBED + 2)]
    for peer in peers[:dead]:
        peer.is_dead = True
    async with world.client() as discovery:
        for peer in peers[:dead]:
            world.records.accept(peer.record() or pb.SignedHostRecord())
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(CRITERIA)
    assert caught.value.seen == len(peers)
    assert caught.value.relaxation == ("" if dead == PROBED else "capabilities without 'vision'")
    probed = [number for number, peer in enumerate(peers) if peer.pinged]
    assert probed == list(range(dead, PROBED)), "the cheapest are the nearest"
