"""What jobs over a network do to a host's standing: slowness nothing, failures in a row the blacklist."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.world import MODEL, World, offer, world_of
from tests.support.simulated import simulated

from hostmesh import HostCriteria, HostmeshError, NoHostFoundError
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.testing import FailsAfter, LinkProfile, SimOptions, make_wallet

OPERATOR = make_wallet("host").address
SLOW = SimOptions(link=LinkProfile(latency_s=0.9))
"""One way: a round trip takes 1.8 s, which no neighbour's latency is worse than."""


async def _run_job(world: World) -> str:
    choice = await world.find()
    async with (
        world.client.get_session_manager().open_session(choice, spending_limit_micros=100) as session,
        world.client.get_job_manager().run(session, prompt="x") as job,
    ):
        return await job.read_text()


@simulated(world_of, network=SLOW)
async def test_a_slow_but_honest_host_is_not_blacklisted(world: World) -> None:
    """Its line takes 1.8 s there and back, and its engine 10 s for a token."""
    discovery = world.client.get_discovery_manager()
    async with world.host.get_host_manager().serve(offer(), world.engine):
        for jobs in range(1, 7):
            began_s = trio.current_time()
            assert await _run_job(world) == "first last"
            assert trio.current_time() - began_s > 10, "it is slow"
            assert discovery.reputation(world.host_id, OPERATOR).n == jobs
        assert discovery.reputation(world.host_id, OPERATOR).points == 1000 * 7 // 16
        assert discovery.listings() == ()
        await discovery.disconnect_peer(world.host_id)
        neighbours = world.client._files.neighbours
        assert 0.3 < neighbours.score_of(world.host_id) < 0.7, "its round trip is known, and worth nothing"
        assert await discovery.connect_to_peer(world.host_address) == world.host_id, "and it is dialled again"


@simulated(world_of)
async def test_a_host_whose_jobs_fail_in_a_row_blacklists_itself_and_returns_on_probation(world: World) -> None:
    discovery = world.client.get_discovery_manager()
    async with world.host.get_host_manager().serve(offer(), world.engine):
        world.engine.fault = FailsAfter(1)
        for failures in range(1, 6):
            while True:
                try:
                    await _run_job(world)
                except NoHostFoundError:
                    await trio.sleep(30)  # it is paused
                except HostmeshError:
                    break
            assert discovery.reputation(world.host_id, OPERATOR).n == failures
        [listed] = discovery.listings()
        assert (listed.name, listed.reason) == (world.host_id, "5 failures in a row")
        with pytest.raises(NoHostFoundError):
            await discovery.find_host(HostCriteria(required_models=[MODEL]))
        # Another process of this user reads it from the disk.
        book = StandingBook(world.client._files._dir / "standings.sqlite3", system=world.client._system)
        assert book.of(world.host_id, "").barred.startswith("blacklisted for ")
        book.close()
        await trio.sleep(600)
        assert discovery.listings() == ()
        world.engine.fault = None
        for _ in range(3):
            assert await _run_job(world) == "first last"
        assert world.client._files.standings.suspension(world.host_id) is None
