"""A scenario for `hostmesh sim examples/scenario.py`: how soon is a host found that has just come?"""

from __future__ import annotations

import trio

from hostmesh import HostCriteria
from hostmesh.testing import Mesh, MeshNode, Scenario, ScenarioRun, ScenarioSize

MODEL = "my-model"


async def play(run: ScenarioRun) -> None:
    """Let a client look for a host until there is one."""
    waited_s: list[float] = []
    async with trio.open_nursery() as nursery:
        mesh = Mesh(run.network, nursery)

        async def look(client: MeshNode) -> None:
            assert client.manager is not None
            host = await mesh.start_host(f"late-{client.machine.name}", [MODEL])
            while await run.find(client.manager, HostCriteria(required_models=[MODEL])) is None:  # noqa: ASYNC110
                await trio.sleep(1)
            waited_s.append(trio.current_time() - host.started_s)

        await mesh.start_bootstrap("bootstrap")
        for index in range(1, run.nodes // 2):
            await mesh.start_host(f"host-{index}", ["another-model"])
        for index in range(3):
            await mesh.start_client(f"client-{index}", look)
        await trio.sleep(run.minutes * 60)
        nursery.cancel_scope.cancel()
    run.figures = {"found": len(waited_s), "longest_wait_s": round(max(waited_s), 3)}


SCENARIO = Scenario(
    name="late-host",
    summary="how soon a host is found that has just come",
    play=play,
    size=ScenarioSize(nodes=12, minutes=2),
)
