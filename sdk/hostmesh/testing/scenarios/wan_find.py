"""How long a find takes over wide-area links: cold, of a node that has just started, and warm."""

from __future__ import annotations

from collections import defaultdict

import trio

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.errors import ReadyTimeoutError
from hostmesh.testing.scenario import Scenario, ScenarioRun, ScenarioSize
from hostmesh.testing.scenarios.asking import SETTLED_S, percentile
from hostmesh.testing.scenarios.call_log import CallLog
from hostmesh.testing.scenarios.mesh import Leaving, Mesh, MeshNode

LATENCY_S = (0.020, 0.079)
"""One way, drawn for each pair of nodes."""
COLD_P50_S = 1.5
COLD_P95_S = 3.0
WARM_OVER_PROBE_S = 0.010
"""The bounds that the measurement is held against."""
MODELS = ("common-7b", "common-13b", "rare-34b", "rare-70b")
_WEIGHTS = (8, 4, 2, 1)
CLIENTS_AT_ONCE = 4
WARM_FINDS = 4
"""By each client."""
_BETWEEN_WARM_S = 5.0
"""Four of them are over before the minute is, after which a find asks the sources again."""
_START_GAP_S = 0.5


class _Finds:
    """What the finds of all clients took."""

    def __init__(self, run: ScenarioRun) -> None:
        self._run = run
        self._cold_s: list[float] = []
        self._warm_s: list[float] = []
        self._over_probe_s: list[float] = []
        self._slowest_probe_s: list[float] = []
        self._probes: list[int] = []
        self._phases: dict[str, list[float]] = defaultdict(list)
        self._swept = 0
        self._misses = 0

    async def cold(self, client: MeshNode, log: CallLog, model_id: str) -> None:
        """Look for the first time. The time counts from when the node began to start."""
        manager = client.manager
        assert manager is not None
        connected_s = None

        async def watch() -> None:
            nonlocal connected_s
            try:
                await manager.wait_ready()
            except ReadyTimeoutError:
                return
            connected_s = trio.current_time()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            choice = await self._run.find(manager, HostCriteria(required_models=[model_id]))
            nursery.cancel_scope.cancel()
        ended_s = trio.current_time()
        if choice is None:
            self._misses += 1
            return
        self._cold_s.append(ended_s - client.begun_s)
        records, probes = log.records(client.begun_s, ended_s), log.accepted_probes(client.begun_s, ended_s)
        if connected_s is not None and records and probes:
            first_probe = min(probes.values(), key=lambda span: span[1])
            steps = {
                "bootstrap": connected_s,
                "lookup": min(call.began_s for call in records),
                "record": first_probe[0],
                "probe": first_probe[1],
                "settle": ended_s,
            }
            since_s = client.begun_s
            for phase, until_s in steps.items():
                self._phases[phase].append(max(0.0, until_s - since_s))
                since_s = max(since_s, until_s)

    async def warm(self, client: MeshNode, log: CallLog, model_id: str) -> None:
        """Look again, with records and connections known: every probe is sent anew."""
        manager = client.manager
        assert manager is not None
        swept = manager.stats().searches.get("swept", 0)
        began_s = trio.current_time()
        choice = await self._run.find(manager, HostCriteria(required_models=[model_id]))
        ended_s = trio.current_time()
        probes = log.accepted_probes(began_s, ended_s)
        if choice is None:
            self._misses += 1
        elif manager.stats().searches.get("swept", 0) > swept or not probes:
            self._swept += 1
        else:
            slowest_s = max(ended - began for began, ended in probes.values())
            self._warm_s.append(ended_s - began_s)
            self._slowest_probe_s.append(slowest_s)
            self._over_probe_s.append(ended_s - began_s - slowest_s)
            self._probes.append(len(probes))

    def figures(self) -> dict[str, object]:
        """Return the figures, as a report has them."""
        cold_p50, cold_p95 = percentile(self._cold_s, 50), percentile(self._cold_s, 95)
        over = percentile(self._over_probe_s, 100)
        return {
            "cold_finds": len(self._cold_s),
            "cold_p50_s": cold_p50,
            "cold_p95_s": cold_p95,
            "cold_max_s": percentile(self._cold_s, 100),
            "cold_phases_p50_s": {name: percentile(values, 50) for name, values in self._phases.items()},
            "cold_phases_p95_s": {name: percentile(values, 95) for name, values in self._phases.items()},
            "warm_finds": len(self._warm_s),
            "warm_p50_s": percentile(self._warm_s, 50),
            "warm_p95_s": percentile(self._warm_s, 95),
            "warm_slowest_probe_p50_s": percentile(self._slowest_probe_s, 50),
            "warm_over_slowest_probe_max_s": over,
            "warm_probes_p50": percentile(self._probes, 50),
            "not_warm": self._swept,
            "without_a_host": self._misses,
            "bounds": {
                "cold_p50_s": COLD_P50_S,
                "cold_p95_s": COLD_P95_S,
                "warm_over_slowest_probe_s": WARM_OVER_PROBE_S,
            },
            "is_within_bounds": (
                self._misses == self._swept == 0
                and cold_p50 is not None
                and cold_p95 is not None
                and over is not None
                and cold_p50 <= COLD_P50_S
                and cold_p95 <= COLD_P95_S
                and max(self._over_probe_s) <= WARM_OVER_PROBE_S
            ),
        }


async def play(run: ScenarioRun) -> None:
    """Start the hosts, let them settle; then clients come, look, look again and leave, for the minutes."""
    dice = run.dice("wan-find")
    hosts: list[MeshNode] = []
    clients = min(CLIENTS_AT_ONCE, max(1, run.nodes // 10))
    finds = _Finds(run)
    async with trio.open_nursery() as nursery:
        mesh = Mesh(run.network, nursery, draw_latency_s=lambda: dice.uniform(*LATENCY_S))

        async def come_and_go(place: int) -> None:
            draws = run.dice("client", place)
            turn = 0
            while trio.current_time() < ends_s:
                turn += 1
                log, is_done = CallLog(), trio.Event()
                # Every model has a host by then, as there is one of each in turn.
                model_id = draws.choices(MODELS, _WEIGHTS)[0]

                async def look(
                    client: MeshNode, log: CallLog = log, model_id: str = model_id, is_done: trio.Event = is_done
                ) -> None:
                    assert client.manager is not None
                    await finds.cold(client, log, model_id)
                    await client.manager.find_all_hosts(HostCriteria(required_models=[model_id]))
                    for _ in range(WARM_FINDS):
                        await trio.sleep(_BETWEEN_WARM_S)
                        await finds.warm(client, log, model_id)
                    is_done.set()

                client = await mesh.start_client(f"client-{place}-{turn}", look, interceptors=[log])
                await is_done.wait()
                mesh.leave(client, Leaving.QUIT)
                await trio.sleep(10 * draws.random())

        await mesh.start_bootstrap("bootstrap")
        for index in range(run.nodes - 1 - clients):
            models = {MODELS[index % len(MODELS)], dice.choices(MODELS, _WEIGHTS)[0]}
            hosts.append(await mesh.start_host(f"host-{index}", sorted(models)))
            await trio.sleep(_START_GAP_S)
        await trio.sleep(SETTLED_S)
        ends_s = trio.current_time() + 60 * run.minutes
        async with trio.open_nursery() as places:
            for place in range(clients):
                places.start_soon(come_and_go, place)
        nursery.cancel_scope.cancel()
    run.figures = finds.figures()


SCENARIO = Scenario(
    name="wan-find",
    summary="cold and warm finds over links of 20 to 79 ms one way",
    play=play,
    size=ScenarioSize(nodes=12, minutes=1),
    full_size=ScenarioSize(nodes=40, minutes=10),
)
