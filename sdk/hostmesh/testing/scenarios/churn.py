"""Churn: each minute one node leaves and one comes, while clients look for hosts."""

from __future__ import annotations

from itertools import count

import trio

from hostmesh.testing.scenario import Scenario, ScenarioRun, ScenarioSize
from hostmesh.testing.scenarios.asking import Asking
from hostmesh.testing.scenarios.mesh import CONTINENTS_S, Leaving, Mesh, MeshNode

NODES_PER_CLIENT = 10
"""One node of ten is a client, which looks for a host once a minute."""
MODELS = ("common-7b", "common-13b", "rare-34b", "rare-70b")
_WEIGHTS = (8, 4, 2, 1)
ABSENT_MODEL = "nobody-serves-this"
_ABSENT_SHARE = 0.02
"""Part of the finds that ask for a model that nobody serves: these must miss."""
_START_GAP_S = 0.5
"""Between two nodes that start, before the minutes are counted."""


async def play(run: ScenarioRun) -> None:
    """Start the nodes one after the other, then churn for the minutes."""
    dice = run.dice("churn")
    numbers = count(1)
    is_churning = trio.Event()
    left = dict.fromkeys(Leaving, 0)
    async with trio.open_nursery() as nursery:
        mesh = Mesh(run.network, nursery, latency_s=CONTINENTS_S)
        asking = Asking(run, mesh)

        async def ask_each_minute(client: MeshNode) -> None:
            draws = run.dice(client.machine.name)
            await is_churning.wait()
            while True:
                next_minute_s = trio.current_time() + 60
                await trio.sleep(60 * draws.random())
                await asking.find(client, ABSENT_MODEL if draws.random() < _ABSENT_SHARE else draws.choice(MODELS))
                await trio.sleep_until(next_minute_s)

        async def start(is_client: bool) -> None:
            if is_client:
                await mesh.start_client(f"client-{next(numbers)}", ask_each_minute)
            else:
                await mesh.start_host(f"host-{next(numbers)}", sorted({*dice.choices(MODELS, _WEIGHTS, k=2)}))

        async def replace(leaver: MeshNode, way: Leaving, leaves_s: float, comes_s: float) -> None:
            for at_s, is_leaving in sorted([(leaves_s, True), (comes_s, False)]):
                await trio.sleep_until(at_s)
                if is_leaving:
                    mesh.leave(leaver, way)
                    left[way] += 1
                else:
                    await start(is_client=not leaver.models)

        await mesh.start_bootstrap("bootstrap")
        for index in range(1, run.nodes):
            await start(is_client=index % NODES_PER_CLIENT == 1)
            await trio.sleep(_START_GAP_S)
        is_churning.set()
        began_s = trio.current_time()
        for minute in range(int(run.minutes)):
            minute_s = began_s + 60 * minute
            await trio.sleep_until(minute_s)
            leaves_s, comes_s = (minute_s + 50 * dice.random() for _ in range(2))
            await replace(dice.choice(mesh.nodes), dice.choice([*Leaving]), leaves_s, comes_s)
        await trio.sleep_until(began_s + 60 * run.minutes)
        nursery.cancel_scope.cancel()
    run.figures = {**asking.figures(), "left": {way.value: number for way, number in left.items()}}


SCENARIO = Scenario(
    name="churn",
    summary="each minute one node leaves and one comes; one find per 10 nodes per minute",
    play=play,
    size=ScenarioSize(nodes=50, minutes=20),
    full_size=ScenarioSize(nodes=50, minutes=60),
)
