"""A network of simulated machines in one process; see :class:`SimNetwork`."""

from __future__ import annotations

import ipaddress
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath

import trio

from hostmesh.errors import UsageError
from hostmesh.testing.agenda import Agenda
from hostmesh.testing.clock import SimClock, seeded
from hostmesh.testing.faults import Faults
from hostmesh.testing.link import LOOPBACK_LATENCY_S, Link, LinkProfile, Path
from hostmesh.testing.machine import SimMachine
from hostmesh.testing.nat import Nat
from hostmesh.testing.trace import MAX_KEPT_EVENTS, Trace
from hostmesh.testing.wire import Wire

MAX_MACHINES = 10_000
_MEMORY_DISK = "/dev/shm"  # noqa: S108 - a folder of its own is made there
_LOOPBACK = LinkProfile(latency_s=LOOPBACK_LATENCY_S)


class SimNetwork:
    """Machines, the links between them, and what goes wrong. It lives in a running trio with a virtual clock.

    Every pair of machines has a link. :func:`hostmesh.testing.run_sim` makes a network and runs it.

    Args:
        seed: fixes every draw: jitter, and the random bytes of every machine.
        link: what a link is like unless :meth:`link` changes it.
        max_events: how many events the trace keeps to be read.

    Example::

        async def main(network: SimNetwork) -> None:
            ann, bob = network.machine("ann"), network.machine("bob")
            async with ann.open_sdk() as ann_sdk, bob.open_sdk() as bob_sdk:
                ...

        run_sim(main, seed=7)
    """

    def __init__(self, seed: int = 0, link: LinkProfile | None = None, *, max_events: int = MAX_KEPT_EVENTS) -> None:
        self.seed = seed
        self.trace = Trace(max_events=max_events)
        self.agenda = Agenda()
        self.faults = Faults(self)
        self.machines: dict[str, SimMachine] = {}
        """By name, in the order in which they were made."""
        self.names: dict[str, tuple[str, ...]] = {}
        """DNS: the addresses of a name. A machine's own name is one already."""
        self.profile = link or LinkProfile()
        """Of links that :meth:`link` does not change."""
        self._links: dict[tuple[str, str], Link] = {}
        self._wires: dict[tuple[str, str], Wire] = {}
        self._by_address: dict[str, SimMachine] = {}
        self._is_partitioned = False
        self._folder: FilePath | None = None

    # --- life ---

    async def run(self) -> None:
        """Carry the network's traffic until cancelled.

        Raises:
            UsageError: trio does not run under a :class:`~hostmesh.testing.clock.SimClock`.
        """
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, SimClock):
            raise UsageError("a simulated network needs simulated time", remedy="use hostmesh.testing.run_sim")
        await clock.play(self.agenda)

    def close(self) -> None:
        """Remove the machines' disks. Idempotent."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def has_disks(self) -> bool:
        """Whether there is a folder with the machines' disks."""
        return self._folder is not None and self._folder.exists()

    @property
    def folder(self) -> FilePath:
        """Where the machines' disks are; removed by :meth:`close`."""
        if self._folder is None:
            self._folder = FilePath(tempfile.mkdtemp(prefix="hostmesh-sim-", dir=_disk_folder()))
        return self._folder

    # --- machines ---

    def machine(
        self, name: str, *, nat: Nat = Nat.NONE, clock_skew_s: float = 0.0, clock_drift: float = 0.0
    ) -> SimMachine:
        """Add a machine.

        Args:
            name: letters, digits, ``-``, ``_`` and ``.``; new in this network. It is also the machine's DNS name.
            nat: whether others can connect to it.
            clock_skew_s: how far its wall clock is ahead.
            clock_drift: what its clocks gain, seconds a second.

        Raises:
            UsageError: the name is taken or malformed, or there are too many machines.
        """
        if name in self.machines or not name or not name.isascii() or not name.translate(_NAME_MARKS).isalnum():
            raise UsageError(
                f"{name!r} names no new machine", remedy="use letters, digits, '-', '_' and '.', and no name twice"
            )
        if len(self.machines) >= MAX_MACHINES:
            raise UsageError(f"a network has at most {MAX_MACHINES} machines", remedy="simulate fewer machines")
        index = len(self.machines) + 1
        # A /24 of its own for each: limits by network count them as strangers to each other. 11.0.0.0/8 is a public
        # range, so that addresses are believed as those of the Internet are.
        machine = SimMachine(
            self,
            name,
            f"11.{index >> 8}.{index & 255}.1",
            nat=nat,
            clock_skew_s=clock_skew_s,
            clock_drift=clock_drift,
            dice=seeded(self.seed, "machine", name),
        )
        self._by_address[machine.address] = machine
        others = [*self.machines]
        self.machines[name] = machine
        if self._is_partitioned:
            for other in others:
                self._set(name, other, is_stalled=True, is_cut=False)
        return machine

    def at_address(self, host: str) -> SimMachine | None:
        """Return the machine that has a public address, if any."""
        return self._by_address.get(host)

    def readdress(self, machine: SimMachine, address: str) -> None:
        """Give a machine another public address; use :meth:`SimMachine.move`.

        Raises:
            UsageError: it is not a public IPv4 address, or another machine's.
        """
        try:
            is_usable = ipaddress.IPv4Address(address).is_global
        except ValueError:
            is_usable = False
        if not is_usable or self._by_address.get(address, machine) is not machine:
            raise UsageError(
                f"{address} cannot be a machine's address", remedy="choose a public IPv4 address that is free"
            )
        del self._by_address[machine.address]
        self._by_address[address] = machine

    def resolve(self, name: str) -> tuple[str, ...]:
        """Return the addresses of a DNS name; none when it does not exist."""
        if name in self.names:
            return self.names[name]
        machine = self.machines.get(name)
        return () if machine is None else (machine.address,)

    # --- links ---

    def link(self, a: SimMachine | str, b: SimMachine | str) -> Link:
        """Return the settings of a pair's link, to be read or changed.

        Raises:
            UsageError: there is no such machine.
        """
        one, two = sorted((_name(a), _name(b)))
        link = self._links.get((one, two))
        if link is None:
            for name in (one, two):
                if name not in self.machines:
                    raise UsageError(f"no machine is named {name!r}", remedy="make the machine before its links")
            link = self._links[one, two] = Link(_LOOPBACK if one == two else self.profile)
        return link

    def wire(self, source: SimMachine, target: SimMachine) -> Wire:
        """Return the way from one machine to another."""
        key = source.name, target.name
        wire = self._wires.get(key)
        if wire is None:
            path = Path(self.link(source, target), seeded(self.seed, "path", *key).random)
            wire = self._wires[key] = Wire(source, target, path, self.agenda, self.trace)
        return wire

    def stall(self, a: SimMachine | str, b: SimMachine | str) -> None:
        """Let nothing arrive between two machines until :meth:`heal`: silence, as when every packet is lost."""
        self._set(_name(a), _name(b), is_stalled=True, is_cut=False)

    def cut(self, a: SimMachine | str, b: SimMachine | str) -> None:
        """Take the way between two machines: connections are reset at both ends, dialling fails at once."""
        one, two = _name(a), _name(b)
        self._set(one, two, is_stalled=False, is_cut=True)
        for stream in [*self.machines[one].streams]:
            if stream.peer.machine.name == two:
                stream.take_reset()
                stream.peer.take_reset()

    def partition(self, groups: Iterable[Iterable[SimMachine | str]]) -> None:
        """Let only machines of the same group reach each other, until the whole network is healed by :meth:`heal`.

        Machines of no group reach nobody, nor do those that are made later. What was on the way between groups waits;
        see :meth:`stall`.

        Raises:
            UsageError: there is no such machine.
        """
        group_of = {_name(machine): index for index, group in enumerate(groups) for machine in group}
        names = [*self.machines]
        if unknown := [name for name in group_of if name not in self.machines]:
            raise UsageError(f"no machine is named {unknown[0]!r}", remedy="make the machine before a partition")
        self._is_partitioned = True
        for index, one in enumerate(names):
            for two in names[index + 1 :]:
                apart = group_of.get(one, -1) != group_of.get(two, -2)
                self._set(one, two, is_stalled=apart, is_cut=False)

    def heal(self, a: SimMachine | str | None = None, b: SimMachine | str | None = None) -> None:
        """Undo stalls, cuts and partitions: of a pair, of all links of ``a``, or of the whole network.

        What waited arrives now.
        """
        wanted = {_name(each) for each in (a, b) if each is not None}
        self._is_partitioned = self._is_partitioned and bool(wanted)
        for one, two in [*self._links]:
            if wanted <= {one, two}:
                self._set(one, two, is_stalled=False, is_cut=False)

    def _set(self, one: str, two: str, *, is_stalled: bool, is_cut: bool) -> None:
        link = self.link(one, two)
        if (link.is_stalled, link.is_cut) == (is_stalled, is_cut):
            return
        link.is_stalled, link.is_cut = is_stalled, is_cut
        self.note("stall" if is_stalled else "cut" if is_cut else "heal", one, two)
        for key in ((one, two), (two, one)):
            if not is_stalled and key in self._wires:
                self._wires[key].release()

    def wires_to(self, machine: SimMachine) -> Sequence[Wire]:
        """Return the ways to a machine that were ever used."""
        return [wire for wire in self._wires.values() if wire.target is machine]

    def wires_of(self, machine: SimMachine) -> Sequence[Wire]:
        """Return the ways to and from a machine that were ever used."""
        return [wire for wire in self._wires.values() if machine in (wire.source, wire.target)]

    def note(self, kind: str, source: str, target: str = "") -> None:
        """Add an event to the trace."""
        self.trace.add(trio.current_time(), kind, source, target)


def _disk_folder() -> str | None:
    """Return the folder for disks in memory, where there is one: a simulated hour writes much, and none of it stays."""
    return _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK | os.X_OK) else None


_NAME_MARKS = str.maketrans("", "", "-_.")


def _name(machine: SimMachine | str) -> str:
    return machine if isinstance(machine, str) else machine.name
