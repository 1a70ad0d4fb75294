"""The sockets under a node, as a small protocol that a simulated network can implement instead.

Everything a node does with the outside passes through a :class:`Network`: dialling, listening, resolving names and
asking which addresses the machine has. A node given another :class:`Network` opens no socket.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import ifaddr
import trio

_BACKLOG = 256
"""Connections that the kernel holds until they are accepted. Chosen here: a burst of a few hundred is not refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundListener:
    """A listener and where it ended up."""

    listener: trio.abc.Listener[trio.abc.Stream]
    host: str
    """The bound IP address, without a zone."""
    port: int
    """The bound port, never 0."""


class Network(Protocol):
    """What a node needs of the machine's network. Hosts are IP addresses as text; IPv6 may carry ``%zone``."""

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        """Open a byte stream.

        Raises:
            OSError: refused, unreachable. There is no timeout: the caller has one.

        Cancellation: safe; nothing is left open.
        """
        ...

    async def listen(self, host: str, port: int) -> BoundListener:
        """Listen on one address; port 0 takes a free one.

        Raises:
            OSError: the port is in use, or the address is not this machine's.
        """
        ...

    async def resolve(self, name: str, *, version: int | None = None) -> tuple[str, ...]:
        """Return the IP addresses of a DNS name: of IP version 4, 6, or both (None).

        Raises:
            OSError: the name has no address, or the resolver failed. There is no timeout: the caller has one.
        """
        ...

    def remote_endpoint(self, stream: trio.abc.Stream) -> tuple[str, int] | None:
        """Return the peer's IP address and port, or None when it is gone already."""
        ...

    def local_host(self, stream: trio.abc.Stream) -> str | None:
        """Return this machine's IP address that a stream goes over, without a zone, or None when it is gone already."""
        ...

    def interface_addresses(self) -> tuple[str, ...]:
        """Return this machine's IP addresses, loopback among them, without zones. Never waits.

        Raises:
            OSError: the system does not tell.
        """
        ...


class SocketNetwork:
    """The real network: TCP sockets, the system's resolver, the machine's interfaces."""

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        """Open a TCP connection; see :meth:`Network.dial`."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connection = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            await connection.connect((host, port))
        except BaseException:
            connection.close()
            raise
        return trio.SocketStream(connection)

    async def listen(self, host: str, port: int) -> BoundListener:
        """Bind and listen; see :meth:`Network.listen`. An IPv6 socket takes IPv6 only: 0.0.0.0 may stand beside it."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            # SO_REUSEADDR but never SO_REUSEPORT: a second node on the port must fail, not share the connections.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            await server.bind((host, port))
            server.listen(_BACKLOG)
            bound = server.getsockname()
        except BaseException:
            server.close()
            raise
        return BoundListener(
            listener=trio.SocketListener(server), host=str(bound[0]).partition("%")[0], port=int(bound[1])
        )

    async def resolve(self, name: str, *, version: int | None = None) -> tuple[str, ...]:
        """Ask the system's resolver, in a thread; see :meth:`Network.resolve`."""
        family = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[version]
        answers = await trio.socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
        return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))

    def remote_endpoint(self, stream: trio.abc.Stream) -> tuple[str, int] | None:
        """Return the socket's peer; see :meth:`Network.remote_endpoint`."""
        if not isinstance(stream, trio.SocketStream):
            return None
        try:
            peer = stream.socket.getpeername()
        except OSError:
            return None
        return str(peer[0]).partition("%")[0], int(peer[1])

    def local_host(self, stream: trio.abc.Stream) -> str | None:
        """Return the socket's own address; see :meth:`Network.local_host`."""
        if not isinstance(stream, trio.SocketStream):
            return None
        try:
            return str(stream.socket.getsockname()[0]).partition("%")[0]
        except OSError:
            return None

    def interface_addresses(self) -> tuple[str, ...]:
        """List the interfaces' addresses; see :meth:`Network.interface_addresses`."""
        found: Sequence[str] = [
            ip.ip if isinstance(ip.ip, str) else str(ip.ip[0])
            for adapter in ifaddr.get_adapters()
            for ip in adapter.ips
        ]
        return tuple(dict.fromkeys(found))
