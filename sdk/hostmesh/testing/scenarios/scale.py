"""Scale: what a cold find and an hour of being a host cost, in networks of more and more hosts of one model.

Whole nodes join one network until it has 10, 100, ... hosts; at each size the simulator counts what goes over its
links. Beyond that, records alone (:mod:`hostmesh.testing.scenarios.scale_model`): how many servers of the DHT a find
asks, how many hosts they name, and how many a table and a page hold, by the shipped pure parts and no network.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import trio

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.sources.model_keys import SHARDS
from hostmesh.discovery.sweep import SweepConfig
from hostmesh.testing.scenario import Scenario, ScenarioRun, ScenarioSize
from hostmesh.testing.scenarios.asking import SETTLED_S, percentile
from hostmesh.testing.scenarios.call_log import CallLog
from hostmesh.testing.scenarios.mesh import CONTINENTS_S, Leaving, Mesh, MeshNode
from hostmesh.testing.scenarios.scale_model import RECORD_SIZES, records_cost
from hostmesh.testing.trace import Trace

MODEL = "everybodys-8b"
RARE_MODEL = "rare-8b"
"""Which the first :data:`RARE_HOSTS` hosts serve, at each size."""
RARE_HOSTS = 10
COLD_FINDS = 5
"""Clients of each model at each size, one after the other, each new."""
SMALLEST = 10
HOURLY_S = 3600.0
MOST_PER_TENFOLD = SHARDS * math.log2(10)
"""Servers that ten times the hosts may add to those that a find asks: one more hop of each lookup for each doubling,
which is what a logarithm adds. The bound that the records are held against."""
MAX_STEEPENING = 1.25
"""The last tenfold may add so many times what the one before added: finds of a few clients differ by chance."""
COSTS = tuple((name, unit) for name in ("cold_find", "cold_find_rare", "host_hour") for unit in ("messages", "bytes"))
"""What whole nodes are measured by."""
_START_GAP_S = 0.1


def sizes_up_to(most: int) -> list[int]:
    """Return the sizes at which a network of so many hosts is measured.

    >>> sizes_up_to(1000), sizes_up_to(30), sizes_up_to(5)
    ([10, 100, 1000], [10, 30], [5])
    """
    sizes = []
    size = SMALLEST
    while size < most:
        sizes.append(size)
        size *= 10
    return [*sizes, most]


async def play(run: ScenarioRun) -> None:
    """Let a network grow; at each size look a few times with new clients, then let it be for the minutes."""
    rows: list[dict[str, object]] = []
    async with trio.open_nursery() as nursery:
        mesh = Mesh(run.network, nursery, latency_s=CONTINENTS_S)
        await mesh.start_bootstrap("bootstrap")
        hosts = 0
        for size in sizes_up_to(run.nodes):
            while hosts < size:
                models = [MODEL, RARE_MODEL] if hosts < RARE_HOSTS else [MODEL]
                await mesh.start_host(f"host-{hosts}", models)
                hosts += 1
                await trio.sleep(_START_GAP_S)
            await trio.sleep(SETTLED_S)
            row: dict[str, object] = {"hosts": size}
            for name, model_id in (("cold_find", MODEL), ("cold_find_rare", RARE_MODEL)):
                row[name] = await _cold_finds(run, mesh, model_id, f"{name}-{size}")
            row["host_hour"] = await _host_hour(run, size)
            rows.append(row)
        nursery.cancel_scope.cancel()
    records = [records_cost(size, run.dice("records", size)) for size in RECORD_SIZES if size <= 100 * run.nodes]
    most_named = SweepConfig().max_candidates
    steepening = [f"{name}_{unit}" for name, unit in COSTS if is_steepening(_points(rows, name, unit))]
    run.figures = {
        "whole_nodes": rows,
        "records_only": records,
        "growth": _growth(rows, records),
        "worse_than_logarithmic": steepening,
        "bounds": {"servers_asked_per_tenfold": round(MOST_PER_TENFOLD, 1), "hosts_named": most_named},
        "is_within_bounds": run.misses == 0 and not steepening and _is_logarithmic(records, most_named),
    }


async def _cold_finds(run: ScenarioRun, mesh: Mesh, model_id: str, name: str) -> dict[str, object]:
    """Return what a find of a new client costs, from the start of its node to the answer: the middle one of some."""
    costs: list[Mapping[str, float]] = []
    for turn in range(COLD_FINDS):
        client_name, log, is_done = f"{name}-{turn}", CallLog(), trio.Event()

        async def look(client: MeshNode, is_done: trio.Event = is_done) -> None:
            assert client.manager is not None
            await run.find(client.manager, HostCriteria(required_models=[model_id]))
            is_done.set()

        with counting(run.network.trace, client_name) as sent:
            client = await mesh.start_client(client_name, look, interceptors=[log])
            await is_done.wait()
            took_s = trio.current_time() - client.begun_s
            costs.append({"messages": sent["messages"], "bytes": sent["bytes"], "took_s": took_s, **_calls(log)})
        mesh.leave(client, Leaving.QUIT)
        await trio.sleep(5)
    return {key: percentile((cost[key] for cost in costs), 50) for key in costs[0]}


def _calls(log: CallLog) -> dict[str, float]:
    asked = {call.peer_id for call in log.calls if call.method == "GetRecord"}
    probed = {call.peer_id for call in log.calls if call.method == "Ping"}
    return {"calls": len(log.calls), "records_asked": len(asked), "hosts_probed": len(probed)}


async def _host_hour(run: ScenarioRun, hosts: int) -> dict[str, object]:
    """Return what the network sends while nobody looks, for each host and hour."""
    passed_s = run.minutes * 60
    with counting(run.network.trace) as sent:
        await trio.sleep(passed_s)
    share = HOURLY_S / passed_s / hosts
    return {"messages": round(sent["messages"] * share), "bytes": round(sent["bytes"] * share)}


@contextmanager
def counting(trace: Trace, machine: str | None = None) -> Iterator[Counter[str]]:
    """Count the segments with data that arrive, and their bytes: of all machines, or from and to one."""
    sent: Counter[str] = Counter()

    def note(kind: str, source: str, target: str, size: int) -> None:
        if kind == "data" and (machine is None or machine in (source, target)):
            sent["messages"] += 1
            sent["bytes"] += size

    before, trace.listener = trace.listener, note
    try:
        yield sent
    finally:
        trace.listener = before


def _points(rows: Sequence[Mapping[str, Any]], name: str, unit: str) -> list[tuple[float, float]]:
    return [(row["hosts"], row[name][unit]) for row in rows if row[name][unit]]


def _growth(rows: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the fitted growth of each cost: what ten times the hosts add, and the exponent of a power of them."""
    growth: dict[str, object] = {}
    for name, unit in COSTS:
        growth[f"{name}_{unit}"] = fitted(_points(rows, name, unit))
    for name in ("servers_asked", "hosts_named"):
        growth[f"records_{name}"] = fitted([(row["hosts"], row[name]) for row in records])
    return growth


def is_steepening(points: Sequence[tuple[float, float]]) -> bool:
    """Tell whether a tenfold adds more at the end than before, a quarter of chance allowed: worse than a logarithm.

    >>> is_steepening([(10, 1.0), (100, 3.0), (1000, 5.0)]), is_steepening([(10, 1.0), (100, 3.0), (1000, 9.0)])
    (False, True)
    """
    slopes = [(later - earlier) / math.log10(more / fewer) for (fewer, earlier), (more, later) in pairwise(points)]
    return len(slopes) > 1 and slopes[-1] > max(0.0, MAX_STEEPENING * slopes[-2])


def fitted(points: Sequence[tuple[float, float]]) -> dict[str, float] | None:
    """Fit ``a + b log10(hosts)`` and ``hosts ** c`` to a cost, by least squares; None of fewer than two points.

    >>> fitted([(10, 3.0), (100, 5.0), (1000, 7.0)])
    {'at_one': 1.0, 'per_tenfold': 2.0, 'exponent': 0.184}
    """
    if len(points) < 2:
        return None
    logs = [math.log10(hosts) for hosts, _ in points]
    at_one, per_tenfold = _line(logs, [cost for _, cost in points])
    _, exponent = _line(logs, [math.log10(cost) for _, cost in points])
    return {"at_one": round(at_one, 1), "per_tenfold": round(per_tenfold, 1), "exponent": round(exponent, 3)}


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - middle_x) ** 2 for x in xs
    )
    return middle_y - slope * middle_x, slope


def _is_logarithmic(records: Sequence[Mapping[str, Any]], most_named: int) -> bool:
    """Tell whether no tenfold adds more servers asked than a logarithm, from 100 on, and no size more hosts named."""
    asked = [row["servers_asked"] for row in records if row["hosts"] >= 10 * SMALLEST]
    steps = [later - earlier for earlier, later in pairwise(asked)]
    return max(steps, default=0.0) <= MOST_PER_TENFOLD and all(row["hosts_named"] <= most_named for row in records)


SCENARIO = Scenario(
    name="scale",
    summary="what a cold find and an hour of being a host cost, in networks of more and more hosts of one model",
    play=play,
    size=ScenarioSize(nodes=20, minutes=10),
    full_size=ScenarioSize(nodes=1000, minutes=10),
)
