"""The listening side of a node: sockets, inbound handshakes, and which addresses to tell others."""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

import trio

from hostmesh.errors import DialError, InvalidAddressError, StartFailedError
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER, AddressScope, Endpoint, parse_address, scope_of_ip
from hostmesh.net.dial_policy import target_network
from hostmesh.net.links import Link, LinkBrokenError, WebSocketLink, link_over
from hostmesh.net.network import BoundListener, Network
from hostmesh.net.upgrade import HandshakeError, SecuredLink, Upgrader

_log = logging.getLogger("hostmesh.net")

HANDSHAKE_TIMEOUT_S = 10.0
"""An inbound connection that has not proven its peer by then is closed."""
MAX_HANDSHAKES = 128
"""Inbound handshakes at once; one more ends the oldest of the network that has most, so that idle connections cannot
keep others out."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_EXHAUSTED_PAUSE_S = 0.1
"""How long accepting rests when the system has no room for a socket."""

_BIND_ERRORS = {
    errno.EADDRINUSE: ("the port is in use", "stop the other program, or choose another port; port 0 takes a free one"),
    errno.EADDRNOTAVAIL: (
        "the address is not this machine's",
        "listen on an address of this machine, or on 0.0.0.0 or :: for all of them",
    ),
    errno.EACCES: ("the system does not allow this port", "choose a port above 1023"),
    errno.EAFNOSUPPORT: ("this machine has no such address family", "listen on the other IP version"),
}


class Listening:
    """The listeners of one node.

    Args:
        network: the sockets.
        upgrader: shakes hands.
        adopt: takes an authenticated connection over; raises DialError when there is no room.
        has_room_for: whether a connection from this IP address and port would be taken in now.
    """

    def __init__(
        self,
        network: Network,
        upgrader: Upgrader,
        adopt: Callable[[SecuredLink], Awaitable[None]],
        has_room_for: Callable[[tuple[str, int] | None], bool],
    ) -> None:
        self._network = network
        self._upgrader = upgrader
        self._adopt = adopt
        self._has_room_for = has_room_for
        self._bound: list[tuple[Endpoint, BoundListener]] = []
        self._handshakes: dict[Link, tuple[trio.CancelScope, str | None]] = {}
        """Oldest first, each with the network it comes from."""

    async def bind(self, addresses: Iterable[str]) -> None:
        """Bind every address, or none.

        Raises:
            InvalidAddressError: not an address to listen on.
            StartFailedError: the system refused one.
        """
        endpoints = []
        for text in addresses:
            endpoint = parse_address(text)
            if endpoint.is_name:
                raise InvalidAddressError(
                    f"cannot listen on the name {text}", remedy="listen on an IP address, and announce the name"
                )
            endpoints.append(endpoint)
        try:
            for endpoint in endpoints:
                bound = await self._network.listen(endpoint.dial_host, endpoint.port)
                self._bound.append((replace(endpoint, host=bound.host, port=bound.port), bound))
        except OSError as error:
            await self.close()
            why, remedy = _BIND_ERRORS.get(
                error.errno or 0, (error.strerror or str(error), "check the address to listen on")
            )
            raise StartFailedError(f"cannot listen on {endpoint}: {why}", remedy=remedy) from error
        except BaseException:
            await self.close()
            raise

    def addresses(self) -> tuple[str, ...]:
        """Return the bound addresses, ports filled in."""
        return tuple(str(endpoint) for endpoint, _ in self._bound)

    def reachable_addresses(self) -> tuple[str, ...]:
        """Return where others may reach this node: an unspecified address stands for those of the interfaces."""
        return _most_useful(
            endpoint if ip is None else replace(endpoint, host=ip) for endpoint, ip in self._expanded() if _is_told(ip)
        )

    def scopes(self) -> frozenset[AddressScope]:
        """Return the scopes that the listeners are in."""
        return frozenset(scope_of_ip(ipaddress.ip_address(ip or endpoint.host)) for endpoint, ip in self._expanded())

    def _expanded(self) -> list[tuple[Endpoint, str | None]]:
        expanded: list[tuple[Endpoint, str | None]] = []
        for endpoint, _ in self._bound:
            address = endpoint.ip
            assert address is not None
            if address.is_unspecified:
                expanded += [
                    (endpoint, ip)
                    for ip in self._network.interface_addresses()
                    if ipaddress.ip_address(ip).version == address.version
                ]
            else:
                expanded.append((endpoint, None))
        return expanded

    async def run(self) -> None:
        """Accept until cancelled; then the sockets are closed."""
        async with trio.open_nursery() as nursery:
            for endpoint, bound in self._bound:
                nursery.start_soon(self._serve, endpoint, bound.listener)

    async def close(self) -> None:
        """Close the sockets. Idempotent, shielded."""
        with trio.CancelScope(shield=True):
            for _, bound in self._bound:
                await trio.aclose_forcefully(bound.listener)

    async def _serve(self, endpoint: Endpoint, listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        async with listener, trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _EXHAUSTED:
                        raise
                    _log.warning("cannot accept a connection: %s", error.strerror)
                    await trio.sleep(_EXHAUSTED_PAUSE_S)
                else:
                    nursery.start_soon(self._welcome, stream, endpoint.is_websocket)

    async def _welcome(self, stream: trio.abc.Stream, is_websocket: bool) -> None:
        remote = self._network.remote_endpoint(stream)
        raw = link_over(stream, remote, self._network.local_host(stream))
        link: Link = WebSocketLink(raw, is_client=False) if is_websocket else raw
        is_adopted = False
        try:
            if not self._has_room_for(remote):
                _log.debug("inbound connection refused: no room", extra={"remote": remote})
                return
            with trio.move_on_after(HANDSHAKE_TIMEOUT_S) as scope:
                self._handshakes[link] = scope, None if remote is None else target_network(remote[0])
                self._make_room()
                if isinstance(link, WebSocketLink):
                    await link.accept()
                opened = await self._upgrader.inbound(link)
            if scope.cancelled_caught:
                _log.debug("inbound connection closed: no handshake in time", extra={"remote": remote})
                return
            self._handshakes.pop(link, None)
            await self._adopt(opened)
            is_adopted = True
        except (HandshakeError, LinkBrokenError, DialError) as error:
            _log.debug("inbound connection refused: %s", error, extra={"remote": remote})
        except Exception:  # noqa: BLE001 # the supervisor of inbound handshakes: whatever a stranger does ends its own
            _log.exception("an inbound handshake failed", extra={"remote": remote})
        finally:
            self._handshakes.pop(link, None)
            if not is_adopted:
                await link.close()

    def _make_room(self) -> None:
        if len(self._handshakes) > MAX_HANDSHAKES:
            ((crowd, _),) = Counter(network for _, network in self._handshakes.values()).most_common(1)
            victim = next(link for link, (_, network) in self._handshakes.items() if network == crowd)
            # At once: it must not be found again before its task has run.
            self._handshakes.pop(victim)[0].cancel()


def _is_told(ip: str | None) -> bool:
    # A zone means nothing to others, so the link-local addresses of all interfaces stay untold.
    return ip is None or not ipaddress.ip_address(ip).is_link_local


def _most_useful(endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    """Order addresses by how far they reach, and leave loopback out where there is more."""
    by_scope: dict[AddressScope, list[str]] = {}
    for endpoint in endpoints:
        ip = endpoint.ip
        if ip is not None and endpoint.port:
            by_scope.setdefault(scope_of_ip(ip), []).append(str(endpoint))
    order = (AddressScope.PUBLIC, AddressScope.PRIVATE, AddressScope.LINK_LOCAL)
    far: Sequence[str] = [address for scope in order for address in by_scope.get(scope, ())]
    return tuple(dict.fromkeys(far or by_scope.get(AddressScope.LOOPBACK, ())))[:MAX_ADDRESSES_PER_PEER]
