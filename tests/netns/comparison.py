"""The same scenario on real sockets over a delayed link, and on the simulated network set to that link's round trips.

On both sides the host and a bootstrap node are on one side of the link and the client on the other. What the machine's
own work takes is measured too: by the same client on the near side of the link, where there is no delay.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import trio
from tests.netns import delayed_link, echo
from tests.netns.namespaces import ip, set_kernel, two_namespaces
from tests.netns.scenario import (
    BOOTSTRAP_IP,
    CLIENT_IP,
    FIGURES,
    HOST_IP,
    NEAR_CLIENT_IP,
    Stopwatch,
    be_bootstrap,
    be_host,
    measure,
)
from tests.support.json_process import JsonProcess, Start, json_processes

from hostmesh.testing import LinkProfile, SimMachine, SimNetwork, SimOptions, run_sim
from hostmesh.testing.link import LOOPBACK_LATENCY_S

_HERE = Path(__file__).parent
_ECHO_PORT = 7
_LONGEST_S = 300.0
_PREFIX_BITS = 8
_MAC = "02:00:00:00:00:0{}"
_TRIANGLE_P90_MINUS_P10 = 2 - 2 * 0.2**0.5
"""Of the sum of two numbers that are uniform between 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is compared."""

    delay_s: float = 0.04
    """Of the real link, one way."""
    jitter_s: float = 0.01
    """Of the real link: uniform between 0 and this, one way."""
    repetitions: int = 5
    round_trips: int = 100
    """Measured half before and half after the scenario."""
    seed: int = 1
    congestion_control: str = "reno"
    """What real sockets use. Every Linux has reno, and cubic, the usual one, begins as it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """What was measured on real sockets."""

    figures: Stopwatch
    near: Stopwatch
    """The same with the client beside the host."""
    round_trips_s: list[float]
    endpoint_s: float
    """What a round trip of the echo takes without the link, median: the two programs' own time."""
    link_lateness_s: list[float]
    """How late the link passed each frame on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What was measured in the simulation."""

    figures: Stopwatch
    round_trips_s: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both, and how the simulated link was set."""

    plan: Plan
    profile: LinkProfile
    real: Real
    simulated: Simulated

    def ratios(self) -> dict[str, float]:
        """Return simulated by real, of the medians, by figure."""
        real, simulated = self.real.figures.medians_s(), self.simulated.figures.medians_s()
        return {name: simulated[name] / real[name] for name in FIGURES}


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which so large a part of the values is.

    >>> quantile([3.0, 1.0, 2.0], 0.5)
    2.0
    """
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def profile_of(round_trips_s: Sequence[float], endpoint_s: float) -> LinkProfile:
    """Return the link whose round trips are distributed like these.

    A round trip is the sum of two latencies, each uniform: its distribution is a triangle. Median and the distance from
    p10 to p90 say which; what a busy machine adds to a few does not count there.
    """
    wire_s = [each - endpoint_s for each in round_trips_s]
    jitter_s = (quantile(wire_s, 0.9) - quantile(wire_s, 0.1)) / _TRIANGLE_P90_MINUS_P10
    return LinkProfile(latency_s=max(0.0, statistics.median(wire_s) - jitter_s) / 2, jitter_s=jitter_s)


def compare(plan: Plan) -> Comparison:
    """Measure the link and the scenario on it, then simulate both."""
    real = trio.run(measure_real, plan)
    profile = profile_of(real.round_trips_s, real.endpoint_s)
    return Comparison(plan=plan, profile=profile, real=real, simulated=simulate(plan, profile))


# --- real sockets ---


async def measure_real(plan: Plan) -> Real:
    """Run the scenario between two namespaces. Needs root."""
    with two_namespaces() as (near, far), TemporaryDirectory() as folder:
        async with json_processes() as start, _linked(start, plan, near, far) as link:
            run = partial(_run_in, start, folder)
            await run(near, "echo.py", role="server", host=HOST_IP, port=_ECHO_PORT)
            far_echo = await run(far, "echo.py", role="client", host=HOST_IP, port=_ECHO_PORT)
            near_echo = await run(near, "echo.py", role="client", host=HOST_IP, port=_ECHO_PORT)
            bootstrap = (await run(near, "scenario_node.py", role="bootstrap")).addresses[0]
            host = (await run(near, "scenario_node.py", role="host", bootstrap=bootstrap)).addresses[0]
            client = partial(
                run, script="scenario_node.py", role="client", bootstrap=bootstrap, host=host,
                repetitions=plan.repetitions,
            )  # fmt: skip
            endpoint_s = await _round_trips(near_echo, 0, plan.round_trips)
            before_s = await _round_trips(far_echo, 0, plan.round_trips // 2)
            measured = await _measured(await client(far, ip=CLIENT_IP))
            after_s = await _round_trips(far_echo, 1, plan.round_trips - plan.round_trips // 2)
            near_measured = await _measured(await client(near, ip=NEAR_CLIENT_IP))
            lateness_s = (await link.stop())["lateness_s"]
    return Real(
        figures=measured,
        near=near_measured,
        round_trips_s=before_s + after_s,
        endpoint_s=statistics.median(endpoint_s),
        link_lateness_s=lateness_s,
    )


@asynccontextmanager
async def _linked(start: Start, plan: Plan, near: str, far: str) -> AsyncIterator[JsonProcess]:
    """Join two namespaces by a delayed link."""
    wanted = {"namespaces": [near, far], "delay_s": plan.delay_s, "jitter_s": plan.jitter_s, "seed": plan.seed}
    link = await start([sys.executable, str(_HERE / "delayed_link.py"), json.dumps(wanted)])
    sides = [(near, (BOOTSTRAP_IP, HOST_IP, NEAR_CLIENT_IP)), (far, (CLIENT_IP,))]
    device = delayed_link.INTERFACE
    for number, (namespace, addresses) in enumerate(sides):
        set_kernel(namespace, "net/ipv4/tcp_congestion_control", plan.congestion_control)
        # What one connection learnt of the link is not to show in the next: each client is to be a new one.
        set_kernel(namespace, "net/ipv4/tcp_no_metrics_save", "1")
        ip("-n", namespace, "link", "set", device, "address", _MAC.format(number), "addrgenmode", "none")
        for address in addresses:
            ip("-n", namespace, "address", "add", f"{address}/{_PREFIX_BITS}", "dev", device)
        ip("-n", namespace, "link", "set", device, "up")
        # Each knows the other's MAC: to ask for it first would take a round trip that no longer way has.
        other_number = 1 - number
        for other in sides[other_number][1]:
            ip("-n", namespace, "neigh", "add", other, "lladdr", _MAC.format(other_number), "dev", device)
    yield link


async def _run_in(start: Start, folder: str, namespace: str, script: str, **wanted: Any) -> JsonProcess:
    command = ["ip", "netns", "exec", namespace, sys.executable, str(_HERE / script), json.dumps(wanted)]
    return await start(command, {"HOSTMESH_HOME": mkdtemp(dir=folder)})


async def _measured(client: JsonProcess) -> Stopwatch:
    watch = Stopwatch(taken_s=(await client.event("measured", within_s=_LONGEST_S))["taken_s"])
    await client.stop()
    return watch


async def _round_trips(client: JsonProcess, number: int, count: int) -> list[float]:
    """Ask an echo client for round trips, for the ``number``-th time."""
    await client.command(str(count))
    return (await client.event(f"round trips {number}"))["seconds"]


# --- simulated ---


def simulate(plan: Plan, profile: LinkProfile) -> Simulated:
    """Run the scenario on the simulated network, with a link of this profile between client and the others."""

    async def main(net: SimNetwork) -> Simulated:
        boot, host, client = (net.machine(name) for name in ("boot", "host", "client"))
        # On real sockets these two stand in one namespace.
        net.link(boot, host).latency_s, net.link(boot, host).jitter_s = LOOPBACK_LATENCY_S, 0.0
        async with trio.open_nursery() as nursery:
            bootstrap = await nursery.start(be_bootstrap, boot.open_sdk)
            address = await nursery.start(be_host, host.open_sdk, bootstrap)
            figures = await measure(
                client.open_sdk, CLIENT_IP, bootstrap=bootstrap, host=address, repetitions=plan.repetitions
            )
            round_trips_s = await _simulated_round_trips(nursery, host, client, plan.round_trips)
            nursery.cancel_scope.cancel()
        return Simulated(figures=figures, round_trips_s=round_trips_s)

    return run_sim(main, seed=plan.seed, network=SimOptions(link=profile)).result


async def _simulated_round_trips(
    nursery: trio.Nursery, server: SimMachine, client: SimMachine, count: int
) -> list[float]:
    """Do as echo.py does."""

    async def answer(stream: trio.abc.Stream) -> None:
        async for data in stream:
            await stream.send_all(data)

    bound = await server.network.listen(HOST_IP, _ECHO_PORT)
    nursery.start_soon(trio.serve_listeners, answer, [bound.listener])
    stream = await client.network.dial(HOST_IP, _ECHO_PORT)
    taken_s = []
    for _ in range(count):
        began_s = trio.current_time()
        await stream.send_all(bytes(echo.SEGMENT_BYTES))
        await stream.receive_some()
        taken_s.append(trio.current_time() - began_s)
    return taken_s
