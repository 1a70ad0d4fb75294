"""What becomes of a find whose best host falls from favour while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from discovery_world import FakePeer, trio_system
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.reputation.standing_book import StandingBook

CRITERIA = HostCriteria(required_models=["m"], min_reputation=50)


def _bars(world: World, peer: FakePeer, _: Path) -> None:
    world.manager.blacklist(peer.peer_id)


def _another_process_bars(_: World, peer: FakePeer, path: Path) -> None:
    StandingBook(path, system=trio_system()).blacklist(peer.peer_id)


def _thinks_ill(world: World, peer: FakePeer, _: Path) -> None:
    world.reputation.known[peer.peer_id] = 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "standings.sqlite3"


@pytest.fixture
def world(path: Path) -> World:
    world = World()
    world.standings = StandingBook(path, system=trio_system())
    # The search goes on for half a second after its first match.
    world.source.lasts_s = 10.0
    return world


falls = pytest.mark.parametrize("fall", [_bars, _another_process_bars, _thinks_ill])


@falls
async def test_a_find_goes_on_for_whom_it_left_out(
    autojump_clock: MockClock, world: World, path: Path, fall: Callable[[World, FakePeer, Path], None]
) -> None:
    """The dear host was not probed, since a match was better than it could become; that one is no match any more."""
    best = world.host("best", "m", price=1)
    left_out = world.host("left out", "m", price=5_000_000, after_s=0.2)
    async with world.client() as discovery, trio.open_nursery() as nursery:

        async def change_mind() -> None:
            await trio.sleep(0.4)
            assert (best.pinged, left_out.asked, left_out.pinged) == (3, 1, 0), "as the test needs it"
            fall(world, best, path)

        nursery.start_soon(change_mind)
        assert (await discovery.find_host(CRITERIA)).peer_id == left_out.peer_id
        assert trio.current_time() > 0.4


@falls
@pytest.mark.parametrize("is_in_time", [True, False])
async def test_all_that_are_found_are_fit_at_the_end(
    autojump_clock: MockClock,
    world: World,
    path: Path,
    fall: Callable[[World, FakePeer, Path], None],
    is_in_time: bool,
) -> None:
    """Whether the search came to its end or was cut off."""
    best, other = world.host("best", "m", price=1), world.host("other", "m", price=5_000_000)
    world.source.lasts_s = 1.0 if is_in_time else 10.0
    async with world.client() as discovery, trio.open_nursery() as nursery:

        async def change_mind() -> None:
            await trio.sleep(0.4)
            assert (best.pinged, other.pinged) == (3, 3), "as the test needs it"
            fall(world, best, path)

        nursery.start_soon(change_mind)
        found = await discovery.find_all_hosts(CRITERIA, timeout_s=2.0)
        assert [choice.peer_id for choice in found] == [other.peer_id]
        assert trio.current_time() > 0.4
