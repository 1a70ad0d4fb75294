"""Partition: the network falls into two halves for a third of the time, and heals."""

from __future__ import annotations

import trio

from hostmesh.testing.scenario import Scenario, ScenarioRun, ScenarioSize
from hostmesh.testing.scenarios.asking import SETTLED_S, Asking
from hostmesh.testing.scenarios.mesh import CONTINENTS_S, Mesh, MeshNode

NODES_PER_CLIENT = 5
MODELS = ("here-8b", "there-8b", "everywhere-8b")
"""Hosts of one half serve the first, those of the other the second, and every other one the third."""
_START_GAP_S = 0.5


async def play(run: ScenarioRun) -> None:
    """Start two halves of one network; cut them apart for the middle third of the minutes."""
    halves: dict[str, int] = {}
    async with trio.open_nursery() as nursery:
        mesh = Mesh(run.network, nursery, latency_s=CONTINENTS_S)
        whole_since_s: float | None = 0.0

        def reaches(client: MeshNode, host: MeshNode) -> bool:
            if halves[client.machine.name] == halves[host.machine.name]:
                return True
            return whole_since_s is not None and trio.current_time() - whole_since_s > SETTLED_S

        asking = Asking(run, mesh, reaches)

        async def ask_each_minute(client: MeshNode) -> None:
            draws = run.dice(client.machine.name)
            while True:
                await trio.sleep(60 * draws.random())
                await asking.find(client, draws.choice(MODELS))

        # The only bootstrap node is in the first half: the second lives on by what its nodes know.
        await mesh.start_bootstrap("bootstrap")
        halves["bootstrap"] = 0
        for index in range(1, run.nodes):
            half = index % 2
            name = f"{'client' if index % NODES_PER_CLIENT == 1 else 'host'}-{index}"
            halves[name] = half
            if name.startswith("client"):
                await mesh.start_client(name, ask_each_minute)
            else:
                await mesh.start_host(name, [MODELS[half], *MODELS[2:][: index // 2 % 2]])
            await trio.sleep(_START_GAP_S)
        third_s = run.minutes * 60 / 3
        await trio.sleep(third_s)
        run.network.partition([[name for name in halves if halves[name] == half] for half in (0, 1)])
        whole_since_s = None
        await trio.sleep(third_s)
        run.network.heal()
        whole_since_s = trio.current_time()
        await trio.sleep(third_s)
        nursery.cancel_scope.cancel()
    run.figures = asking.figures()


SCENARIO = Scenario(
    name="partition",
    summary="two halves of a network cannot reach each other for the middle third of the time",
    play=play,
    size=ScenarioSize(nodes=20, minutes=15),
    full_size=ScenarioSize(nodes=50, minutes=60),
)
