"""A simulated machine: a disk, clocks, dice, sockets, and one process that may die."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from hostmesh.bootstrap_node import open_bootstrap_node
from hostmesh.errors import UsageError
from hostmesh.identity.wallet import Wallet
from hostmesh.node_stack import SourceFactory
from hostmesh.receipts.counting import TokenCounter
from hostmesh.rpc.interceptors import ClientInterceptor, ServerInterceptor
from hostmesh.sdk import SDK, open_sdk
from hostmesh.settings import LoadedSettings, load_settings
from hostmesh.system import System
from hostmesh.testing.clock import MachineClock, system_of
from hostmesh.testing.nat import Nat
from hostmesh.testing.sockets import SimSockets
from hostmesh.testing.stream import SimListener, SimStream

if TYPE_CHECKING:
    from hostmesh.net.network import Network
    from hostmesh.testing.network import SimNetwork

DEFAULT_PORT = 4001
NETWORK_NAME = "simnet"
"""What nodes sign for by default: a network for which test wallets sign."""
_PRIVATE_ADDRESS = "192.168.1.2"


class SimMachine:
    """One machine of a :class:`SimNetwork`; :meth:`SimNetwork.machine` makes it.

    What runs on it is cancelled when it is killed or loses power: the ``async with`` block of :meth:`open_sdk` or
    :meth:`process` ends there without an error, and what stands after the block goes on.
    """

    def __init__(
        self,
        net: SimNetwork,
        name: str,
        address: str,
        *,
        nat: Nat,
        clock_skew_s: float,
        clock_drift: float,
        dice: random.Random,
    ) -> None:
        self.net = net
        self.name = name
        self.address = address
        """The public IP address: the machine's own or, behind a NAT, its router's."""
        self.nat = nat
        self.clock = MachineClock(clock_skew_s, clock_drift)
        """May be changed at any time."""
        self.system: System = system_of(self.clock, dice)
        """Clocks and random bytes for :func:`hostmesh.open_sdk`."""
        self.network: Network = SimSockets(self)
        """Sockets for :func:`hostmesh.open_sdk`."""
        self.is_on = True
        self.is_frozen = False
        self.has_interface = True
        """Whether it has its address; without, it reaches nobody but itself."""
        self.is_dying = False
        """The process was killed; its tasks are being cancelled, and reach nobody."""
        self.streams: dict[SimStream, None] = {}
        """Ends of connections here, oldest first."""
        self.listeners: dict[tuple[str, int], SimListener] = {}
        self.outbox: deque[Callable[[], None]] = deque()
        """What a frozen machine would send."""
        self._turned_on = trio.Event()
        self._process: trio.CancelScope | None = None
        self._process_ended = trio.Event()
        self._process_ended.set()

    def __repr__(self) -> str:
        state = "off" if not self.is_on else "frozen" if self.is_frozen else "on"
        return f"<SimMachine {self.name} {self.address} {state}>"

    # --- what runs ---

    @property
    def folder(self) -> Path:
        """The machine's disk. It outlives :meth:`kill` and :meth:`power_off`."""
        folder = self.net.folder / self.name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @property
    def listen_address(self) -> str:
        """What a node here listens on by default: every address, port 4001, so that :meth:`move` moves it."""
        return f"/ip4/0.0.0.0/tcp/{DEFAULT_PORT}"

    @asynccontextmanager
    async def process(self) -> AsyncIterator[None]:
        """Run the block as the machine's process: it ends when the machine is killed or loses power.

        Raises:
            UsageError: the machine is off, or has a process already.
        """
        if not self.is_on:
            raise UsageError(f"{self.name} is off", remedy="await machine.restart()")
        if self._process is not None:
            raise UsageError(f"{self.name} runs a process already", remedy="one machine runs one process")
        self._process_ended = trio.Event()
        try:
            with trio.CancelScope() as self._process:
                yield
        finally:
            self._process = None
            self.is_dying = False
            self._process_ended.set()

    @asynccontextmanager
    async def open_sdk(
        self,
        *,
        ephemeral_key: bool = False,
        in_memory: bool = False,
        serve_dht: bool = False,
        client_interceptors: Sequence[ClientInterceptor] = (),
        server_interceptors: Sequence[ServerInterceptor] = (),
        tokenizers: Sequence[TokenCounter] = (),
        sources: SourceFactory | None = None,
        **settings: object,
    ) -> AsyncIterator[SDK]:
        """Run :func:`hostmesh.open_sdk` on this machine: its network, clocks, random bytes and disk.

        Args:
            ephemeral_key: see :func:`hostmesh.open_sdk`.
            in_memory: see :func:`hostmesh.open_sdk`.
            serve_dht: see :func:`hostmesh.open_sdk`.
            client_interceptors: see :func:`hostmesh.open_sdk`.
            server_interceptors: see :func:`hostmesh.open_sdk`.
            tokenizers: see :func:`hostmesh.open_sdk`.
            sources: see :func:`hostmesh.open_sdk`.
            **settings: by name. The environment is not read; mDNS, which needs real sockets, is off, the network is
                ``simnet``, and the node
                listens on :attr:`listen_address`.

        Raises:
            UsageError: the machine is off, or has a process already.
            ConfigError: a setting is wrong.
        """
        async with (
            self.process(),
            open_sdk(
                self._load(settings),
                system=self.system,
                network=self.network,
                ephemeral_key=ephemeral_key,
                in_memory=in_memory,
                serve_dht=serve_dht,
                client_interceptors=client_interceptors,
                server_interceptors=server_interceptors,
                tokenizers=tokenizers,
                sources=sources,
            ) as sdk,
        ):
            yield sdk

    @asynccontextmanager
    async def open_bootstrap_node(
        self,
        *,
        wallet: Wallet | None = None,
        client_interceptors: Sequence[ClientInterceptor] = (),
        server_interceptors: Sequence[ServerInterceptor] = (),
        **settings: object,
    ) -> AsyncIterator[SDK]:
        """Run what ``hostmesh bootstrap`` runs on this machine; entering returns once it listens.

        Args:
            wallet: for a node that is more than a bootstrap node; None = one that is kept nowhere.
            client_interceptors: see :func:`hostmesh.open_sdk`.
            server_interceptors: see :func:`hostmesh.open_sdk`.
            **settings: see :meth:`open_sdk`; up to 10,000 connections where nothing else is said.

        Raises:
            UsageError: the machine is off, or has a process already.
            ConfigError: a setting is wrong.
        """
        async with (
            self.process(),
            open_bootstrap_node(
                # The key of whatever else runs here: a machine keeps its id.
                self._load({"key_file": self.folder / "peer.key", **settings}),
                system=self.system,
                network=self.network,
                wallet=wallet,
                client_interceptors=client_interceptors,
                server_interceptors=server_interceptors,
            ) as sdk,
        ):
            yield sdk

    def _load(self, settings: Mapping[str, object]) -> LoadedSettings:
        defaults: dict[str, object] = {
            "listen_addresses": (self.listen_address,),
            "enable_mdns": False,
            "network": NETWORK_NAME,
        }
        return load_settings({**defaults, **settings}, env={"HOSTMESH_HOME": str(self.folder)})

    # --- what goes wrong ---

    def kill(self) -> None:
        """Kill the process, if there is one, as ``kill -9`` does: peers meet resets, the disk stays as it is.

        The machine stays on. The process's tasks are cancelled; nothing that they still try to send leaves the machine.
        """
        self.net.note("kill", self.name)
        self.is_frozen = False
        for stream in [*self.streams]:
            stream.reset()
        self._end_process()
        self._forget_frozen()

    def power_off(self) -> None:
        """Take the machine off the network without a word: peers hear nothing more, the disk stays as it is.

        One that is off stays so.
        """
        if not self.is_on:
            return
        self.net.note("power-off", self.name)
        self.is_on = self.is_frozen = False
        for stream in [*self.streams]:
            stream.lose()
        self._end_process()
        self._forget_frozen()

    def power_on(self) -> None:
        """Bring the machine up again, with its disk and without a process. One that is on stays as it is."""
        if not self.is_on:
            self.net.note("power-on", self.name)
            self.is_on = True
            self._turned_on.set()
            self._turned_on = trio.Event()

    async def restart(self) -> None:
        """Kill the process if there is one, and return once the machine is on and can run another, with its disk."""
        if self._process is not None and self.is_on:
            self.kill()
        self.power_on()
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Return once the machine is on and runs no process."""
        while not self.is_on or self._process is not None:
            await (self._process_ended if self._process is not None else self._turned_on).wait()

    def freeze(self) -> None:
        """Stop the machine's process, as SIGSTOP does: it neither hears nor says anything; connections stay.

        Its timers go on in the simulation; what they decide is seen outside when it is resumed.
        """
        self.net.note("freeze", self.name)
        self.is_frozen = True

    def resume(self) -> None:
        """Let a frozen process go on: what came meanwhile reaches it, and what it meant to say is sent."""
        self.net.note("resume", self.name)
        self.is_frozen = False
        for wire in self.net.wires_to(self):
            wire.release()
        while self.outbox:
            self.outbox.popleft()()

    def move(self, address: str) -> None:
        """Give the machine another public address. Connections over the old one go silent, for both ends.

        Raises:
            UsageError: the address is not public, or another machine's.
        """
        self.net.readdress(self, address)
        self.net.note("move", self.name)
        self.address = address
        for stream in [*self.streams]:
            if stream.peer.machine is not self:
                stream.sever()

    def lose_address(self) -> None:
        """Take the machine's interface down: dialling fails at once, nothing leaves or arrives, peers hear nothing.

        What is on the way waits, as with TCP, and arrives if the machine gets the same address back.
        """
        if self.has_interface:
            self.net.note("lose-address", self.name)
            self.has_interface = False

    def gain_address(self, address: str | None = None) -> None:
        """Bring the machine's interface up again.

        Args:
            address: another public address than before, see :meth:`move`; None = the same.

        Raises:
            UsageError: the address is not public, or another machine's.
        """
        if address is not None and address != self.address:
            self.move(address)
        if not self.has_interface:
            self.net.note("gain-address", self.name)
            self.has_interface = True
            for wire in self.net.wires_of(self):
                wire.release()

    def _forget_frozen(self) -> None:
        """Forget what a frozen process meant to say, and let what waited for it arrive, where it is no more."""
        self.outbox.clear()
        for wire in self.net.wires_to(self):
            wire.release()

    def _end_process(self) -> None:
        for listener in [*self.listeners.values()]:
            listener.abandon()
        if self._process is not None:
            self.is_dying = True
            self._process.cancel()

    # --- for the sockets ---

    @property
    def interface_address(self) -> str:
        """The address that the machine itself has."""
        return self.address if self.nat is Nat.NONE else _PRIVATE_ADDRESS

    def route(self, host: str) -> SimMachine | None:
        """Return the machine that packets to an IP address reach from here; None = they get lost."""
        if host.startswith("127.") or host in (self.address, self.interface_address):
            return self
        return self.net.at_address(host)

    def has_address(self, host: str) -> bool:
        """Whether packets to the address are for this machine or its router."""
        return host.startswith("127.") or host in (self.address, self.interface_address)

    def listener_at(self, host: str, port: int) -> SimListener | None:
        """Return who listens there."""
        return self.listeners.get((host, port)) or self.listeners.get(("0.0.0.0", port))  # noqa: S104
