"""A small mesh of whole, unmodified nodes that plays schedules: a bootstrap node, hosts with engines, clients.

A program that is killed, or whose machine loses power, is started again once it can be. Every call of the public API is
noted in a :class:`MeshAccount`, with what hosts announced and what was left in the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from hostmesh.net.ledger import NodeUsage
from hostmesh.status.snapshot import HostStatus
from hostmesh.testing.engine import FakeEngine, chat_model
from hostmesh.testing.faults import NetworkEvent, StreamFault
from hostmesh.testing.link import LinkProfile
from hostmesh.testing.mesh_account import Ending, MeshAccount, answer
from hostmesh.testing.mesh_clients import MeshClient
from hostmesh.testing.mesh_hosts import HostLoad, MeshHost
from hostmesh.testing.mesh_program import MODEL, MeshProgram
from hostmesh.testing.mesh_steps import (
    Change,
    EngineDies,
    Find,
    Leave,
    Operation,
    Restart,
    RunJob,
    StepSource,
    Watch,
    Withdraw,
    end_of,
)
from hostmesh.testing.network import SimNetwork
from hostmesh.testing.run import SimOptions
from hostmesh.testing.shrinking import Schedule

START_S = 5.0
"""By then every node is up. Nothing of a schedule happens before."""
AFTERMATH_S = 20.0
"""So long after the last step a fault may still hit a stream."""
QUIET_S = 130.0
"""So long after that everything is over: an engine takes up to 120 s for a job, silence ends a connection
within 48 s, bootstrap nodes are tried again within 60 s."""
_CLEAN_S = 30
"""So long after the last job nothing may be left of it; maintenance of the DHT comes and goes."""
_SAMPLE_S = 1.0
_STEADY_SAMPLES = 5
"""What is so for so many is seen by who watches."""
_NEW_S = 10.0
"""A watch that is older has shown something."""
_CALM_S = 60.0
"""So long after a disturbance everything has arrived that it held up, and what died in silence has ended."""
_SLOW_TOKENS_PER_S, _FAST_TOKENS_PER_S = 20.0, 200.0
_FIRST_TOKEN_S = 0.1
_MAX_OUTPUT_TOKENS = 4096
_CONTEXT_TOKENS = 100_000
_FIRST_PRICE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshWorld:
    """The mesh. It is a :class:`SimWorld`.

    Args:
        hosts: how many machines serve, ``h1`` and on. Every second engine is ten times as fast as the others.
        clients: how many ask, ``c1`` and on.
        options: of the network.
    """

    hosts: int = 2
    clients: int = 2
    options: SimOptions = field(
        default_factory=lambda: SimOptions(
            link=LinkProfile(latency_s=0.02, jitter_s=0.005, bytes_per_s=5e5), max_sim_s=3600.0
        )
    )

    @property
    def host_names(self) -> list[str]:
        """The hosts' machines."""
        return [f"h{number}" for number in range(1, self.hosts + 1)]

    @property
    def client_names(self) -> list[str]:
        """The clients' machines."""
        return [f"c{number}" for number in range(1, self.clients + 1)]

    def draw(self, seed: int) -> Schedule:
        """Return the schedule of a seed."""
        source = StepSource(others=["boot"], hosts=self.host_names, clients=self.client_names, start_s=START_S)
        return source.draw(seed)

    async def play(self, net: SimNetwork, schedule: Schedule) -> MeshAccount:
        """Play a schedule, let everything heal and end, and see whether the mesh works and what is left."""
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as nursery:
            mesh = _Mesh(self, net, schedule, nursery)
            await mesh.start()
            await mesh.play()
            await mesh.check()
            await mesh.end()
        left = trio.lowlevel.current_statistics().tasks_living - tasks
        if left > 0:
            mesh.account.left_over.append(f"{left} tasks live on after all programs have ended")
        return mesh.account


class _Mesh:
    """One play."""

    def __init__(self, world: MeshWorld, net: SimNetwork, schedule: Schedule, nursery: trio.Nursery) -> None:
        self.account = MeshAccount()
        self._net = net
        self._schedule = sorted(schedule, key=lambda step: step.at_s)
        self._nursery = nursery
        self._nodes: dict[str, MeshProgram] = {}
        self._hosts: dict[str, MeshHost] = {}
        self._clients: dict[str, MeshClient] = {}
        self._host_names, self._client_names = world.host_names, world.client_names

    # --- the programs ---

    async def start(self) -> None:
        """Start everybody, one after the other."""
        boot = await self._launch("boot", serve_dht=True, bootstrap=[])
        numbers, prices = itertools.count(1), itertools.count(_FIRST_PRICE)
        for name in self._client_names:
            client = MeshClient(self.account, next_number=numbers.__next__)
            client.node = await self._launch(name, serve_dht=False, bootstrap=[boot.address])
            self._clients[name] = client
        for index, name in enumerate(self._host_names):
            engine = FakeEngine(
                [chat_model(MODEL, context_tokens=_CONTEXT_TOKENS, max_output_tokens=_MAX_OUTPUT_TOKENS)],
                first_token_s=_FIRST_TOKEN_S,
                tokens_per_s=_FAST_TOKENS_PER_S if index % 2 else _SLOW_TOKENS_PER_S,
                answer=answer,
            )
            self.account.engines[name] = engine
            host = MeshHost(
                engine,
                self.account,
                self._net.faults,
                clients=[client.node for client in self._clients.values()],
                next_price=prices.__next__,
            )
            host.node = self._make(name, serve_dht=True, bootstrap=[boot.address], host=host)
            await self._nursery.start(host.node.live)
            self._hosts[name] = host
        await trio.sleep_until(START_S)

    async def _launch(self, name: str, *, serve_dht: bool, bootstrap: Sequence[str]) -> MeshProgram:
        node = self._make(name, serve_dht=serve_dht, bootstrap=bootstrap)
        await self._nursery.start(node.live)
        return node

    def _make(
        self, name: str, *, serve_dht: bool, bootstrap: Sequence[str], host: MeshHost | None = None
    ) -> MeshProgram:
        node = MeshProgram(
            self._net.machine(name),
            self.account,
            serve_dht=serve_dht,
            bootstrap=bootstrap,
            work=None if host is None else host.work,
        )
        self._nodes[name] = node
        return node

    # --- the schedule ---

    async def play(self) -> None:
        """Let everything happen at its time, and wait until it is over."""
        self._nursery.start_soon(self._compare_watches)
        self._net.faults.schedule(step for step in self._schedule if isinstance(step, NetworkEvent | StreamFault))
        for step in self._schedule:
            if not isinstance(step, NetworkEvent | StreamFault):
                await trio.sleep_until(step.at_s)
                self._begin(step)
        await trio.sleep_until(max([START_S, *map(end_of, self._schedule)]) + AFTERMATH_S)
        self._net.faults.call_off()
        await trio.sleep(QUIET_S)
        for call in self.account.calls:
            # Whatever has no time limit of its own is over by now, but what goes on for as long as a program runs.
            call.is_overdue = call.ending is Ending.RUNNING and call.what not in ("serve", "watch")
        self.account.max_skew_s = max(abs(node.machine.clock.skew_s) for node in self._nodes.values())

    def _begin(self, step: Operation) -> None:
        node = self._nodes[step.machine]
        if node.sdk is None:
            return
        match step:
            case Find():
                node.start_soon(self._clients[step.machine].find, step)
            case RunJob():
                node.start_soon(self._clients[step.machine].run_job, step)
            case Watch():
                host_id = self._nodes[step.host].peer_id
                node.start_soon(self._clients[step.machine].watch, step, host_id)
            case Change():
                node.start_soon(self._hosts[step.machine].change, step)
            case Withdraw():
                node.start_soon(self._hosts[step.machine].withdraw, step)
            case Leave():
                node.start_soon(self._hosts[step.machine].leave, step)
            case EngineDies():
                node.start_soon(self._hosts[step.machine].lose_engine, step)
            case Restart():
                self._nursery.start_soon(node.restart, step.for_s)

    async def _compare_watches(self) -> None:
        """Compare what is watched with what is, again and again, until cancelled."""
        loads: dict[str, list[HostLoad | None]] = {name: [] for name in self._hosts}
        while True:
            await trio.sleep(_SAMPLE_S)
            for name, host in self._hosts.items():
                loads[name] = [*loads[name][1 - _STEADY_SAMPLES :], host.load]
            for call in self.account.calls:
                if call.host is None or call.status is None or call.ending is not Ending.RUNNING:
                    continue
                lately = loads[call.host]
                load = lately[-1]
                if load is None or lately != [load] * _STEADY_SAMPLES or load.is_shown_by(call.status):
                    continue
                now = trio.current_time()
                if call.began_s < now - _NEW_S and self._net.faults.was_calm(call.machine, call.host, for_s=_CALM_S):
                    call.lag = call.lag or f"shows {_brief(call.status)} at {now:.1f} s, long after {load}"

    # --- the end ---

    async def check(self) -> None:
        """See whether every client gets its work done, and what is left of it."""
        for name, client in self._clients.items():
            if client.node.sdk is None:
                self.account.left_over.append(f"{name} does not run")
                continue
            await client.run_job(RunJob(machine=name, at_s=trio.current_time(), words=3), is_final=True)
        await self._see_what_is_left()

    async def _see_what_is_left(self) -> None:
        for name, node in self._nodes.items():
            if name in self._clients:
                await node.restart(1.0)  # its watches end with it
        left: list[str] = []
        for _ in range(_CLEAN_S):
            await trio.sleep(1)
            left = [line for name, node in self._nodes.items() for line in self._in_use(name, node)]
            if not left:
                return
        self.account.left_over += left

    def _in_use(self, name: str, node: MeshProgram) -> list[str]:
        if node.sdk is None:
            return [f"{name} does not run"]
        used = _uses(node.sdk.get_usage())
        host = self._hosts.get(name)
        if host is not None:
            stats = None if host.serving is None else host.serving.stats()
            if stats is None:
                used.append("it does not serve")
            elif stats.active_jobs or stats.queued_jobs:
                used.append(f"{stats.active_jobs} active and {stats.queued_jobs} queued jobs")
        for source, counted in node.sdk.get_discovery_manager().stats().sources.items():
            total = counted.successes + counted.failures + counted.cut_short
            self.account.sums.append((f"questions of {name} to source {source}", counted.attempts, total))
        return [f"{name}: {line}" for line in used]

    async def end(self) -> None:
        """End all programs, clients first."""
        for node in reversed([*self._nodes.values()]):
            await node.end()
        self._nursery.cancel_scope.cancel()


def _brief(status: HostStatus) -> str:
    return f"{status.state.value}, {status.active_jobs} active and {status.queued_jobs} queued jobs"


def _uses(usage: NodeUsage) -> list[str]:
    used = [f"{count} inbound streams of {protocol}" for protocol, count in usage.inbound_streams.items() if count]
    used += [f"{count} outbound streams of {protocol}" for protocol, count in usage.outbound_streams.items() if count]
    if usage.unread_bytes or usage.unsent_bytes:
        used.append(f"{usage.unread_bytes} bytes unread, {usage.unsent_bytes} unsent")
    return used
