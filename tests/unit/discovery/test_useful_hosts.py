"""Which of the hosts that were found outlast a flood of newcomers in the table."""

from __future__ import annotations

from discovery_world import EPOCH, NETWORK, make_record, trio_system, trusting_verifier
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.table import HostTable

ROOM = 4


async def test_a_host_that_let_nobody_measure_it_is_worth_no_more_than_a_newcomer(autojump_clock: MockClock) -> None:
    table = HostTable(max_hosts=ROOM)
    world = World()
    world.records = RecordBook(network=NETWORK, verify_binding=trusting_verifier, system=trio_system(), table=table)
    measured = world.host("measured", "m")
    unmeasured = world.host("unmeasured", "m", serves_status=False)
    async with world.client() as discovery:
        found = await discovery.find_all_hosts(HostCriteria(required_models=["m"], accept_unmeasured=True))
        assert {choice.peer_id for choice in found} == {measured.peer_id, unmeasured.peer_id}
        for number in range(ROOM):
            world.records.accept(make_record(f"newcomer {number}", issued=EPOCH + 1))
        here = {known.info.peer_id for known in world.records.live()}
    assert len(here) == ROOM
    assert measured.peer_id in here
    assert unmeasured.peer_id not in here
