"""Finds held against the truth: what counts as served, and what does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from hostmesh import HostCriteria, NoHostFoundError
from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.testing import Leaving, Mesh, MeshNode, Scenario, ScenarioRun, ScenarioSize, play_scenario
from hostmesh.testing.scenarios.asking import SETTLED_S, Asking

MODEL = "fake-chat"


class Finder:
    """A discovery that finds what a test says. Of ``one`` and ``two``, which served for long, ``one`` has just left."""

    def __init__(self, find: Callable[[MeshNode, MeshNode], Awaitable[str]], one: MeshNode, two: MeshNode) -> None:
        self._find = partial(find, one, two)

    async def find_host(self, criteria: HostCriteria) -> HostChoice:
        assert criteria.required_models == (MODEL,)
        return cast("HostChoice", SimpleNamespace(peer_id=await self._find()))


async def find_who_serves(left: MeshNode, serves: MeshNode) -> str:
    return serves.peer_id


async def find_who_left(left: MeshNode, serves: MeshNode) -> str:
    return left.peer_id


async def miss(left: MeshNode, serves: MeshNode) -> str:
    raise NoHostFoundError("none", seen=1, rejected={"model": 1})


async def hang(left: MeshNode, serves: MeshNode) -> str:
    return await trio.sleep_forever()


@pytest.mark.parametrize(
    ("find", "finds", "answers", "false_answers", "cut_short"),
    [(find_who_serves, 1, 1, 0, 0), (find_who_left, 1, 0, 1, 0), (miss, 1, 0, 0, 0), (hang, 0, 0, 0, 1)],
)
def test_a_find_with_a_host_to_be_found(
    find: Callable[[MeshNode, MeshNode], Awaitable[str]], finds: int, answers: int, false_answers: int, cut_short: int
) -> None:
    async def play(run: ScenarioRun) -> None:
        async with trio.open_nursery() as nursery:
            mesh = Mesh(run.network, nursery)
            await mesh.start_bootstrap("boot")
            one, two = [await mesh.start_host(name, [MODEL]) for name in ("one", "two")]
            await trio.sleep(SETTLED_S + 1)
            mesh.leave(one, Leaving.KILL)
            await trio.sleep(1)
            client = MeshNode(machine=run.network.machine("client"))
            client.manager = cast("DiscoveryManager", Finder(find, one, two))
            asking = Asking(run, mesh)
            with trio.move_on_after(600):
                await asking.find(client, MODEL)
            run.figures = asking.figures()
            nursery.cancel_scope.cancel()

    size = ScenarioSize(nodes=4, minutes=2)
    figures = play_scenario(Scenario(name="asking", summary="one find", play=play, size=size)).figures
    assert (figures["served_finds"], figures["served_answers"]) == (finds, answers)
    assert (figures["false_answers"], figures["cut_short_finds"]) == (false_answers, cut_short)
