"""Plays a program: a caller's node and a server's on the simulated network, and what the program does to them."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

import trio
from tests.simulated.calls_machine.account import Account, Call, ServerLife
from tests.simulated.calls_machine.program import (
    PROTOCOL,
    SERVICE,
    Begin,
    Drop,
    Ending,
    Finish,
    HalfClose,
    Harm,
    Leave,
    Read,
    Repair,
    Send,
    Setting,
    Shape,
    Side,
    Step,
    Wait,
)
from tests.simulated.calls_machine.sides import Caller, Handler, TappedOpener
from tests.simulated.calls_machine.taps import Tap

from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.stream import Stream, StreamHandler, StreamPlace
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import CallLimits, RpcLimits
from hostmesh.rpc.server import RpcServer
from hostmesh.testing import LinkProfile, SimNetwork, SimOptions, make_peer_key, run_sim

if TYPE_CHECKING:
    from trio_typing import TaskStatus

LATENCY_S = 0.02
NOTICED_S = 150.0
"""After so long every node knows which connections died, and dials again."""
OVER_S = 900.0
"""By then every call is over whose handler was told to end: the longest timeout, and what a dead peer takes."""
SETTLED_S = 30.0


class _Node:
    """What runs on one machine, and starts anew after it ended."""

    def __init__(self, net: SimNetwork, name: str) -> None:
        self.machine = net.machine(name)
        self.key = make_peer_key(name)
        self.address = f"/ip4/{self.machine.address}/tcp/4001"
        self.node: Node | None = None
        """None: it has ended."""
        self.nursery: trio.Nursery | None = None
        self.is_stopping = False

    async def live(self, prepare: Any, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run a node to its end."""
        machine = self.machine
        try:
            async with machine.process(), trio.open_nursery() as nursery:
                node = Node(
                    NodeConfig(enable_dht=False, listen_addresses=(self.address,)),
                    self.key,
                    system=machine.system,
                    network=machine.network,
                )
                await prepare(node, nursery)
                await nursery.start(node.run)
                self.node, self.nursery, self.is_stopping = node, nursery, False
                task_status.started()
                await trio.sleep_forever()
        finally:
            self.forget()

    def forget(self) -> None:
        """Take it for ended."""
        self.node = self.nursery = None

    def stop(self) -> None:
        """End in order, in a task of its own."""
        if self.node is not None and self.nursery is not None and not self.is_stopping:
            self.is_stopping = True
            self.nursery.start_soon(self._stop, self.node, self.nursery)

    async def _stop(self, node: Node, nursery: trio.Nursery) -> None:
        await node.stop()
        nursery.cancel_scope.cancel()


class World:
    """Two nodes and the calls between them.

    Args:
        net: where they run.
        setting: of the program.
        nursery: runs all.
    """

    def __init__(self, net: SimNetwork, setting: Setting, nursery: trio.Nursery) -> None:
        self.account = Account(setting, LATENCY_S)
        self._net = net
        self._nursery = nursery
        self._nodes = {side: _Node(net, side.value) for side in Side}
        self._server: RpcServer | None = None
        self._caller: Caller | None = None
        self._broken_since: float | None = None
        self.is_forgetful = False

    # --- nodes ---

    async def _start(self, side: Side) -> None:
        prepare = self._prepare_server if side is Side.SERVER else self._prepare_caller
        await self._nursery.start(self._nodes[side].live, prepare)

    async def _prepare_server(self, node: Node, nursery: trio.Nursery) -> None:
        machine = self._nodes[Side.SERVER].machine
        limits = CallLimits(max_concurrent=self.account.setting.most_calls, calls_per_s=1000.0, burst=1000)
        server = RpcServer(prefix="/hostmesh", system=machine.system, limits=RpcLimits(per_peer=limits))
        life = ServerLife(len(self.account.lives), server.counters)
        server.add_service(SERVICE, Handler(self.account.calls, life.number))
        for protocol_id, handler in server.stream_handlers().items():
            node.set_stream_handler(protocol_id, TappedHandler(self, life, handler))
        await nursery.start(server.run)
        self.account.lives.append(life)
        self._server = server

    def tap(self, life: ServerLife, stream: Stream) -> Tap:
        tap = Tap(stream)

        def begin() -> None:
            tap.begin = lambda: None
            tap.active_before = sum(other.over_s is None for other in life.taps)
            life.taps.append(tap)

        tap.begin = begin
        return tap

    async def serve(self, life: ServerLife, handler: StreamHandler, stream: Stream) -> None:
        if self.is_forgetful:
            await self._forget(Tap(stream))
            return
        tap = self.tap(life, stream)
        tap.begin()
        try:
            await handler(tap)
        finally:
            tap.over_s = trio.current_time()

    async def _forget(self, tap: Tap) -> None:
        while tap.call is None:
            if not await tap.receive():
                return
        self.account.forgotten[tap.call] = trio.current_time()
        await tap.wait_reset()

    async def _prepare_caller(self, node: Node, nursery: trio.Nursery) -> None:
        server, machine = self._nodes[Side.SERVER], self._nodes[Side.CALLER].machine
        node.add_addresses(server.key.peer_id, (server.address,), AddressOrigin.CONFIGURED)
        client = RpcClient(TappedOpener(node), prefix="/hostmesh", system=machine.system)
        self._caller = Caller(client, server.key.peer_id)

    # --- steps ---

    async def do(self, step: Step) -> None:
        """Do one step of a program. What it is for may be over, and then it does nothing."""
        match step:
            case Wait():
                await trio.sleep(step.for_s)
            case Drop():
                self._drop(step)
            case Repair():
                await self._repair(step.then_s)
            case Begin():
                self._begin(step)
            case _:
                call = self.account.calls.get(step.call)
                if call is not None:
                    self._tell(call, step)
                    call.changed()

    def _begin(self, step: Begin) -> None:
        one = self._nodes[Side.CALLER]
        if one.nursery is not None and not one.is_stopping and self._caller is not None:
            call = self.account.calls[step.call] = Call(step, trio.current_time(), ending=step.ending)
            one.nursery.start_soon(self._caller.make, call)

    def _tell(self, call: Call, step: Send | Read | HalfClose | Leave | Finish) -> None:
        match step:
            case Send():
                shape = call.begin.shape
                if shape.gets_many if step.side is Side.SERVER else shape.sends_many and not call.half_closes:
                    call.sizes[step.side].extend(step.sizes)
            case Read():
                call.reads[step.side] = step.reads
                if not step.reads:
                    call.was_paused.add(step.side)
                    if step.side in call.reading:
                        call.reading[step.side].cancel()
            case HalfClose():
                call.half_closes = True
            case Finish():
                call.ending = call.ending or step.ending
            case Leave():
                if call.left_s is None and not call.ends:
                    call.left_s, call.by_cancelling = trio.current_time(), step.by_cancelling
                    is_block = not step.by_cancelling and call.begin.shape is not Shape.ONE
                    (call.block if is_block else call.task).cancel()

    # --- what goes wrong ---

    def _drop(self, step: Drop) -> None:
        if self._broken_since is None:
            self._broken_since = trio.current_time()
        one = self._nodes[step.side]
        caller, server = (self._nodes[side].machine for side in Side)
        if step.side is Side.SERVER and step.harm in (Harm.KILL, Harm.POWER_OFF):
            self.account.lives[-1].has_crashed = True
        match step.harm:
            case Harm.CUT:
                self._net.cut(caller, server)
            case Harm.STALL:
                self._net.stall(caller, server)
            case Harm.FREEZE if one.node is not None:
                one.machine.freeze()
            case Harm.KILL:
                one.machine.kill()
                one.forget()
            case Harm.POWER_OFF:
                one.machine.power_off()
                one.forget()
            case Harm.STOP:
                one.stop()
            case Harm.DISCONNECT if one.node is not None:
                other = self._nodes[Side.SERVER if step.side is Side.CALLER else Side.CALLER]
                self._nursery.start_soon(one.node.disconnect, other.key.peer_id)
            case Harm.FORGET:
                self.is_forgetful = True
            case _:
                pass

    async def _repair(self, then_s: float) -> None:
        self._net.heal()
        self.is_forgetful = False
        for side, one in self._nodes.items():
            if one.machine.is_frozen:
                one.machine.resume()
            if one.is_stopping or one.node is None or not one.machine.is_on:
                one.machine.power_on()
                await one.machine.wait_ready()
                await self._start(side)
        if self._broken_since is not None:
            self.account.unrest.append((self._broken_since, trio.current_time() + NOTICED_S))
            self._broken_since = None
        await trio.sleep(then_s)

    # --- the whole ---

    async def play(self, program: Sequence[Step]) -> None:
        """Play a program, let every call end, and look at what is left."""
        for side in reversed(Side):
            await self._start(side)
        await self._check_call(-1)
        tasks = trio.lowlevel.current_statistics().tasks_living
        for step in program:
            await self.do(step)
        await self._wind_up()
        await trio.sleep(SETTLED_S)
        await self._check_call(-2)
        await trio.sleep(SETTLED_S)
        self._look_for_rest(tasks)

    async def _check_call(self, number: int) -> None:
        """Make a call that nothing disturbs."""
        self._begin(Begin(number, Shape.ONE, 30.0, Ending()))
        with trio.move_on_after(60.0):
            while not self.account.calls[number].ends:  # noqa: ASYNC110 - the virtual clock's sleep costs nothing
                await trio.sleep(1.0)

    async def _wind_up(self) -> None:
        """Mend everything, tell every call to end, and wait until all have."""
        await self._repair(NOTICED_S if self._broken_since is not None else 0.0)
        for call in self.account.calls.values():
            call.reads = dict.fromkeys(Side, True)
            call.half_closes = True
            call.ending = call.ending or Ending()
            call.changed()
        if not await self._all_ended():
            # Who only sends is not waiting (docs/protocols/rpc.md, "Silence"): to a server that forgot his call he
            # sends until he leaves it, or its time is over.
            for number in self.account.forgotten:
                call = self.account.calls[number]
                if call.begin.shape is Shape.UP and call.begin.timeout_s is None:
                    self._tell(call, Leave(number, by_cancelling=True))
            await self._all_ended()

    async def _all_ended(self) -> bool:
        with trio.move_on_after(OVER_S):
            while not all(call.ends for call in self.account.calls.values()):  # noqa: ASYNC110 - as above
                await trio.sleep(1.0)
        return all(call.ends for call in self.account.calls.values())

    def _look_for_rest(self, tasks: int) -> None:
        left, server = self.account.left, self._server
        for side, one in self._nodes.items():
            if one.node is None:
                left.append(f"the {side.value}'s node has ended")
                continue
            usage = one.node.usage()
            for direction in (usage.inbound_streams, usage.outbound_streams):
                if direction:
                    left.append(f"streams of the {side.value}: {dict(direction)}")
            if usage.unread_bytes or usage.unsent_bytes:
                left.append(f"the {side.value} holds {usage.unread_bytes} B unread, {usage.unsent_bytes} B unsent")
        assert server is not None
        peer_id = self._nodes[Side.CALLER].key.peer_id
        counts = {
            "calls of the caller": server.active_calls(peer_id),
            "calls of the service": sum(each.bucket.active for each in server._book.table._services.values()),
            "bytes of unfinished requests": server._unfinished.total_bytes,
            "calls with a handler": len(server._book.handled),
            "callers that are waited for": server._lingering.callers,
            "further tasks": max(0, trio.lowlevel.current_statistics().tasks_living - tasks - server.idle_workers),
        }
        left.extend(f"{count} {what}" for what, count in counts.items() if count)


class TappedHandler:
    """What a node serves of the server, with a tap on each stream."""

    def __init__(self, world: World, life: ServerLife, handler: Any) -> None:
        self._world, self._life, self._handler = world, life, handler

    def __call__(self, stream: Stream) -> Awaitable[None]:
        return self._world.serve(self._life, self._handler, stream)

    def take(self, stream: Stream, place: StreamPlace) -> bool:
        if self._world.is_forgetful:
            return False
        tap = self._world.tap(self._life, stream)
        return bool(self._handler.take(tap, TappedPlace(tap, place)))


class TappedPlace:
    """Notes when whoever took a stream is done with it."""

    def __init__(self, tap: Tap, place: StreamPlace) -> None:
        self._tap, self._place = tap, place

    async def serve(self, stream: Any, handler: StreamHandler) -> None:
        self._tap.begin()
        try:
            await self._place.serve(stream, handler)
        finally:
            self._tap.over_s = trio.current_time()

    def start(self, stream: Any, handler: StreamHandler) -> bool:
        self._tap.begin()
        return False

    def note_served(self, stream: Stream) -> None:
        self._tap.over_s = trio.current_time()
        self._place.note_served(stream)


def play(setting: Setting, program: Sequence[Step]) -> Account:
    """Play a program; the same one comes to the same account."""

    async def main(net: SimNetwork) -> Account:
        async with trio.open_nursery() as nursery:
            world = World(net, setting, nursery)
            await world.play(program)
            nursery.cancel_scope.cancel()
        return world.account

    link = LinkProfile(latency_s=LATENCY_S, jitter_s=setting.jitter_s, bytes_per_s=setting.bytes_per_s)
    return run_sim(main, seed=setting.seed, network=SimOptions(link=link)).result


__all__ = ["PROTOCOL", "World", "play"]
