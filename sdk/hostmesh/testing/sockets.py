"""The sockets of a simulated machine: dialling, listening, names and addresses."""

from __future__ import annotations

import errno
import ipaddress
import socket
from functools import partial
from typing import TYPE_CHECKING

import trio

from hostmesh.net.network import BoundListener
from hostmesh.testing.nat import Nat
from hostmesh.testing.stream import SimListener, SimStream, refused, timed_out, unreachable

if TYPE_CHECKING:
    from hostmesh.testing.machine import SimMachine
    from hostmesh.testing.wire import Wire

_FIRST_FREE_PORT = 49152
_SYN_RETRIES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""When a dialer that hears nothing knocks again: Linux, tcp_syn_retries = 6."""
_LAST_WAIT_S = 64.0


class SimSockets:
    """A :class:`hostmesh.net.network.Network` for the nodes on one simulated machine."""

    def __init__(self, machine: SimMachine) -> None:
        self._machine = machine
        self._last_port = _FIRST_FREE_PORT - 1

    async def dial(self, host: str, port: int) -> SimStream:
        """Connect: it takes a round trip. See :meth:`hostmesh.net.network.Network.dial`.

        Raises:
            OSError: refused, unreachable, or nobody answered for 127 s.
        """
        await trio.lowlevel.checkpoint()
        machine = self._machine
        target = machine.route(host)
        if not machine.is_on or machine.is_dying or (target is not machine and not machine.has_interface):
            raise unreachable()
        if target is not None and machine.net.link(machine, target).is_cut:
            raise unreachable()
        dialing = _Dialing(machine, target, (host, port), self._free_port())
        machine.net.note("dial", machine.name, "?" if target is None else target.name)
        try:
            dialing.knock()
            await dialing.answered.wait()
        finally:
            dialing.is_over = True
            if dialing.stream is not None and dialing.error is None and not dialing.answered.is_set():
                dialing.stream.reset()
        if dialing.error is not None:
            raise dialing.error
        assert dialing.stream is not None
        return dialing.stream

    async def listen(self, host: str, port: int) -> BoundListener:
        """Listen; see :meth:`hostmesh.net.network.Network.listen`. There is IPv4 only."""
        await trio.lowlevel.checkpoint()
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version != 4:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        if not address.is_unspecified and host not in self.interface_addresses():
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        if self._machine.is_dying:
            raise OSError(errno.ENETDOWN, "Network is down")
        listeners = self._machine.listeners
        if port == 0:
            port = self._free_port()
        if any(
            taken_port == port and (taken == host or address.is_unspecified or taken == "0.0.0.0")  # noqa: S104
            for taken, taken_port in listeners
        ):
            raise OSError(errno.EADDRINUSE, "Address already in use")
        listener = listeners[host, port] = SimListener(partial(listeners.pop, (host, port), None))
        return BoundListener(listener=listener, host=host, port=port)

    async def resolve(self, name: str, *, version: int | None = None) -> tuple[str, ...]:
        """Look a name up, which takes a round trip; see :meth:`hostmesh.net.network.Network.resolve`."""
        await trio.sleep(2 * self._machine.net.profile.latency_s)
        found = self._machine.net.resolve(name)
        answers = tuple(each for each in found if version is None or (version == 6) == (":" in each))
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers

    def remote_endpoint(self, stream: trio.abc.Stream) -> tuple[str, int] | None:
        """Return the other end's address and port, as a NAT lets it be seen."""
        return stream.remote if isinstance(stream, SimStream) else None

    def local_host(self, stream: trio.abc.Stream) -> str | None:
        """Return this end's address."""
        return stream.local[0] if isinstance(stream, SimStream) else None

    def interface_addresses(self) -> tuple[str, ...]:
        """Return the machine's addresses: loopback, and its public one or, behind a NAT, its private one."""
        machine = self._machine
        return ("127.0.0.1", machine.interface_address) if machine.has_interface else ("127.0.0.1",)

    def _free_port(self) -> int:
        used = {port for _, port in self._machine.listeners}
        while True:
            self._last_port = self._last_port + 1 if self._last_port < 65535 else _FIRST_FREE_PORT
            if self._last_port not in used:
                return self._last_port


class _Dialing:
    """One attempt to connect: SYN, SYN-ACK, ACK."""

    def __init__(
        self, machine: SimMachine, target: SimMachine | None, remote: tuple[str, int], local_port: int
    ) -> None:
        self._machine = machine
        self._target = target
        self._remote = remote
        self._local_port = local_port
        self._retries = iter(_SYN_RETRIES_S)
        self.answered = trio.Event()
        self.is_over = False
        """The dialer has its answer or wants none any more."""
        self.stream: SimStream | None = None
        self.error: OSError | None = None

    def knock(self) -> None:
        """Send a SYN, and another one later."""
        if self.is_over or self.answered.is_set():
            return
        if self._machine.is_frozen:
            self._machine.outbox.append(self.knock)
            return
        if self._target is not None and self._there().path.link.is_cut:
            self._fail(unreachable())
            return
        wait_s = next(self._retries, None)
        agenda = self._machine.net.agenda
        if wait_s is None:
            agenda.at(trio.current_time() + _LAST_WAIT_S, self._fail, timed_out())
            return
        if self._target is not None and self._machine.is_on:
            self._there().carry("syn", 0, self._arrive)
        agenda.at(trio.current_time() + wait_s, self.knock)

    def _there(self) -> Wire:
        assert self._target is not None
        return self._machine.net.wire(self._machine, self._target)

    def _back(self) -> Wire:
        assert self._target is not None
        return self._machine.net.wire(self._target, self._machine)

    def _arrive(self) -> None:
        target = self._target
        assert target is not None
        if self.answered.is_set() or (self.stream is not None and not self._is_half_lost(self.stream)):
            return  # a SYN that was repeated
        if not target.is_on or not target.has_address(self._remote[0]):
            return
        if target is not self._machine and not target.nat.takes_inbound:
            if target.nat is Nat.REFUSES_INBOUND:
                self._back().carry("refuse", 0, self._fail, refused())
            return
        listener = target.listener_at(*self._remote)
        if listener is None:
            self._back().carry("refuse", 0, self._fail, refused())
        elif listener.has_room:
            self._connect(target, listener)

    def _connect(self, target: SimMachine, listener: SimListener) -> None:
        here, there = self._machine, target
        host = self._remote[0]
        local = host if here is there and host.startswith("127.") else here.interface_address
        seen_as = (local if here is there else here.address, self._local_port)
        ours = SimStream(here, (local, self._local_port), self._remote, self._there())
        theirs = SimStream(there, self._remote, seen_as, self._back())
        ours.peer, theirs.peer = theirs, ours
        if self.stream is not None:
            self.stream.forget()
        self.stream = ours
        there.streams[theirs] = None
        here.streams[ours] = None
        theirs.last_arrival_s = self._back().carry("accept", 0, self._establish, ours, listener)

    def _establish(self, ours: SimStream, listener: SimListener) -> None:
        if ours is not self.stream:
            return
        if self.is_over or ours.is_gone:
            ours.is_gone = False
            ours.reset()
            return
        ours.last_arrival_s = self._there().carry("ack", 0, _offer, listener, ours.peer)
        self.answered.set()

    @staticmethod
    def _is_half_lost(stream: SimStream) -> bool:
        """Whether an end was reset, or lost its power, before the other knew of it: then a SYN begins anew."""
        return stream.is_gone or stream.peer.is_gone

    def _fail(self, error: OSError) -> None:
        if not self.answered.is_set():
            self.error = error
            self.answered.set()


def _offer(listener: SimListener, stream: SimStream) -> None:
    if listener.is_closed:
        stream.reset()
    elif not stream.is_gone:
        listener.offer(stream)
