"""How a node gets a connection to a peer: the one it has, the one that is being dialled, or a new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from hostmesh.errors import DialError
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER, AddressOrigin, AddressScope, Endpoint, scope_of
from hostmesh.net.connection import Connection
from hostmesh.net.dialer import AttemptFailedError, Dialer
from hostmesh.net.events import DialEnded, DialStarted, NodeEvent
from hostmesh.net.failure import same_failure
from hostmesh.net.links import LinkBrokenError, StreamLink, WebSocketLink, link_over
from hostmesh.net.network import Network
from hostmesh.net.peer_id import PeerId
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.upgrade import HandshakeError, SecuredLink, Upgrader
from hostmesh.system import System


@dataclass(slots=True)
class _Dialing:
    """A dial that others may wait for."""

    tried: frozenset[str]
    deadline: float
    """By trio's clock: when whoever began it gives up."""
    done: trio.Event
    error: DialError | None = None


class Connector:
    """Finds or makes connections.

    Args:
        own_peer_id: never dialled.
        network: the sockets.
        upgrader: shakes hands.
        pool: the connections that there are.
        own_scopes: scopes that this node lives in, asked for each dial.
        adopt: makes a connection of a link to a dialled address (None: of one that was not dialled) and takes it over;
            raises DialError when there is no room.
        system: the clock of the rate limits.
        tell: is told every dial, and how it ended.
    """

    def __init__(
        self,
        own_peer_id: PeerId,
        network: Network,
        upgrader: Upgrader,
        pool: ConnectionPool,
        own_scopes: Callable[[], frozenset[AddressScope]],
        adopt: Callable[[SecuredLink, str | None, AddressOrigin], Awaitable[Connection]],
        *,
        system: System,
        tell: Callable[[NodeEvent], None] = lambda event: None,
    ) -> None:
        self._tell = tell
        self._own_peer_id = own_peer_id
        self._network = network
        self._upgrader = upgrader
        self._pool = pool
        self._own_scopes = own_scopes
        self._adopt = adopt
        self._dialer = Dialer(network, system=system)
        self._dialing: dict[PeerId, _Dialing] = {}

    async def reach(
        self, peer_id: PeerId, addresses: Sequence[tuple[str, AddressOrigin]], timeout_s: float
    ) -> Connection:
        """Return a live connection to a peer.

        A dial of another task is waited for; if it fails, and it tried these addresses too, its failure is ours. Where
        that task had less time, and gave up for it, we go on.

        Raises:
            DialError: there is none, and none could be made.

        Cancellation: safe; tasks that waited for this dial make their own.
        """
        if peer_id == self._own_peer_id:
            raise DialError("that peer is this node", stage="address", remedy="name another peer")
        deadline = trio.current_time() + timeout_s
        while True:
            connection = self._pool.get(peer_id)
            if connection is not None:
                return connection
            ongoing = self._dialing.get(peer_id)
            left_s = deadline - trio.current_time()
            if ongoing is None:
                if not self._pool.may_dial(peer_id):
                    raise DialError(
                        f"{peer_id} is blacklisted as a neighbour: its connections failed again and again",
                        stage="limit",
                        remedy="wait, or want the peer (Node.want), or make it a bootstrap peer",
                    )
                return await self._dial(peer_id, addresses, deadline)
            with trio.move_on_after(max(0.0, left_s)) as scope:
                await ongoing.done.wait()
            if scope.cancelled_caught:
                raise DialError(f"{peer_id} could not be reached within {timeout_s:g} s", stage="timeout")
            had_time = trio.current_time() < ongoing.deadline or ongoing.deadline >= deadline
            if ongoing.error is not None and had_time and ongoing.tried.issuperset(each for each, _ in addresses):
                raise same_failure(ongoing.error)

    async def adopt_stream(self, stream: trio.abc.Stream, peer_id: PeerId | None, timeout_s: float) -> PeerId:
        """Shake hands over a byte stream that somebody else got, a relay's for one, and keep the connection.

        It counts as inbound whoever shakes hands first: no address of ours was dialled.

        Args:
            stream: owned by the node from now on.
            peer_id: who must prove to be at the other end, and we shake hands as the dialer; None: anybody, and the
                other side does.
            timeout_s: seconds for the handshake.

        Returns:
            Who is at the other end.

        Raises:
            DialError: the handshake failed, or there is no room; the stream was closed.

        Cancellation: safe; the stream is closed.
        """
        link = StreamLink(stream, None)
        try:
            with trio.fail_after(timeout_s):
                shake_hands = (
                    self._upgrader.inbound(link) if peer_id is None else self._upgrader.outbound(link, peer_id)
                )
                opened = await shake_hands
        except (HandshakeError, trio.TooSlowError) as error:
            await link.close()
            raise DialError(
                f"no connection over the stream: {str(error) or 'no answer in time'}", stage="handshake"
            ) from error
        except BaseException:
            await link.close()
            raise
        await self._adopt(opened, None, AddressOrigin.REMOTE)
        return opened.peer_id

    async def dial_apart(self, peer_id: PeerId, address: str, timeout_s: float) -> SecuredLink:
        """Connect to a peer at one address, whatever connections to it there are; the link is the caller's.

        Args:
            peer_id: who must prove to be there.
            address: somebody else's word, which the caller has judged. What a name resolves to must be public.
            timeout_s: seconds for everything.

        Raises:
            DialError: it did not work, or its network was dialled too often lately; nothing is left open.

        Cancellation: safe; nothing is left open.
        """

        async def open_connection(endpoint: Endpoint) -> SecuredLink:
            return await self._shake_hands(endpoint, peer_id)

        async def discard(opened: SecuredLink) -> None:
            await opened.link.close()

        opened, _ = await self._dialer.dial(
            [(address, AddressOrigin.REMOTE)],
            open_connection,
            discard,
            own_scopes=frozenset({scope_of(address)}),
            timeout_s=timeout_s,
        )
        return opened

    async def _dial(
        self, peer_id: PeerId, addresses: Sequence[tuple[str, AddressOrigin]], deadline: float
    ) -> Connection:
        async def open_connection(endpoint: Endpoint) -> SecuredLink:
            return await self._shake_hands(endpoint, peer_id)

        async def discard(opened: SecuredLink) -> None:
            await opened.link.close()

        dialing = self._dialing[peer_id] = _Dialing(
            frozenset(address for address, _ in addresses), deadline, trio.Event()
        )
        began_s = trio.current_time()
        tried = tuple(address for address, _ in addresses[:MAX_ADDRESSES_PER_PEER])
        self._tell(DialStarted(at_s=began_s, peer_id=peer_id, addresses=tried))
        stage, worked, attempts = "cancelled", None, {}
        try:
            opened, address = await self._dialer.dial(
                addresses,
                open_connection,
                discard,
                own_scopes=self._own_scopes(),
                timeout_s=max(0.0, deadline - trio.current_time()),
            )
            try:
                await self._pool.make_room()
            except BaseException:
                await opened.link.close()
                raise
            origin = dict(addresses).get(address, AddressOrigin.REMOTE)
            connection = await self._adopt(opened, address, origin)
        except DialError as error:
            stage, attempts = error.stage, error.attempts
            told = f"{peer_id}: {error.message}"
            dialing.error = DialError(told, stage=stage, attempts=attempts, remedy=error.remedy)
            raise same_failure(dialing.error) from error
        else:
            stage, worked = "connected", address
            return connection
        finally:
            del self._dialing[peer_id]
            dialing.done.set()
            now = trio.current_time()
            self._tell(
                DialEnded(
                    at_s=now, peer_id=peer_id, stage=stage, address=worked, attempts=attempts, took_s=now - began_s
                )
            )

    async def _shake_hands(self, endpoint: Endpoint, peer_id: PeerId) -> SecuredLink:
        stream = await self._network.dial(endpoint.dial_host, endpoint.port)
        raw = link_over(stream, self._network.remote_endpoint(stream), self._network.local_host(stream))
        link = WebSocketLink(raw, is_client=True) if endpoint.is_websocket else raw
        try:
            if isinstance(link, WebSocketLink):
                await link.open(f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host)
            return await self._upgrader.outbound(link, peer_id)
        except (HandshakeError, LinkBrokenError) as error:
            await link.close()
            raise AttemptFailedError("handshake", str(error)) from error
        except BaseException:
            await link.close()
            raise
