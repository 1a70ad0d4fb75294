"""A host that died without a word leaves a watch when its record is over, though nothing else happens."""

from __future__ import annotations

import pytest
import trio
from discovery_world import EPOCH
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.roster import HostJoined, HostLeft, LeaveReason

ACCEPTED_FOR_S = 30.0
"""What docs/protocols/discovery.md grants a record after its end, for clocks that differ."""


# Records are looked at each 30 s in any case, which falls together with the end of one that lives 120 s.
@pytest.mark.parametrize("life_s", [40, 95, 100, 120])
async def test_it_is_told_at_the_end_of_its_record(autojump_clock: MockClock, life_s: int) -> None:
    world = World()
    host = world.host("host", "m", life_s=life_s)
    async with (
        world.client() as discovery,
        discovery.watch_hosts(HostCriteria(required_models=["m"]), interval_s=3600.0) as watch,
    ):
        event = await anext(watch)
        assert isinstance(event, HostJoined)
        ends_s = event.choice.record.issued_at_unix_s + life_s + ACCEPTED_FOR_S - EPOCH
        host.is_dead = True
        world.source.candidates.clear()
        event = await anext(watch)
        told_s = trio.current_time()
    assert isinstance(event, HostLeft)
    assert (event.choice.peer_id, event.reason) == (host.peer_id, LeaveReason.EXPIRED)
    assert ends_s <= told_s <= ends_s + 1
