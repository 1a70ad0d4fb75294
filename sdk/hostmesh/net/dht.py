"""The DHT of a node: who provides a key, asked of the network. Hints, never truth; there are no values.

Participants: *servers* answer FIND_NODE, GET_PROVIDERS, ADD_PROVIDER and PING; every node, server or not, asks and
provides. A peer enters the routing table when it has answered a query and at no other time, so a client never does.
The node dials for it, under its own policy: an address that a stranger named leads nowhere the node would not go.

The messages and the lookup are libp2p's Kad-DHT, under ``{prefix}/kad/1.0.0`` and never IPFS's table. Why the library's
own implementation is not used: docs/adr/0002-own-dht.md.

Limits: see the constants here, in :mod:`hostmesh.net.dht_message`, :mod:`~hostmesh.net.dht_table` and
:mod:`~hostmesh.net.dht_lookup`. docs/protocols/dht.md tells the whole.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import (
    DeadlineExceededError,
    HostmeshError,
    ProtocolNotSupportedError,
    RemoteProtocolError,
)
from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht_lookup import Harvest, Lookup
from hostmesh.net.dht_message import (
    MAX_ADDRESSES,
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    DhtMessage,
    MessageKind,
    PeerAddresses,
    decode_message,
    encode_message,
)
from hostmesh.net.dht_server import DhtNode, DhtServer, read_frame
from hostmesh.net.dht_table import BUCKET_SIZE, ProviderTable, RoutingTable
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.room import once_there_is_room
from hostmesh.system import System
from hostmesh.wire.framing import FrameDecoder, encode_frame

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.net")

QUERY_TIMEOUT_S = 5.0
"""One query, dial included. Chosen here: a dead peer must not hold a lookup for long."""
MAX_PARALLEL_CHECKS = 4
"""New peers asked at once whether they serve the DHT."""
MAX_WAITING_CHECKS = 256
RECHECK_S = 30.0
"""Connected peers that are not in the table are asked again this often, unless they said that they are no servers or
the table would not take them."""
REFRESH_S = 600.0
"""A lookup of our own id or of a random key, in turn, so that the table knows its neighbourhood and the rest."""
MAX_REMEMBERED_CLIENTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtStatistics:
    """Counts since the start, and sizes now."""

    servers: int
    """Peers in the routing table."""
    provider_records: int
    """Records kept for others and for ourselves."""
    requests: dict[str, int]
    """Requests served, by kind."""
    refused: dict[str, int]
    """Requests and streams refused, by reason."""


class Dht:
    """The DHT of one node.

    Args:
        node: dials, listens, and keeps addresses.
        protocol_prefix: the protocol id is ``{prefix}/kad/1.0.0``.
        server: whether to answer others; a node behind NAT, or a client, does not.
        system: clock and random bytes.
    """

    def __init__(self, node: DhtNode, *, protocol_prefix: str, server: bool, system: System) -> None:
        self._node = node
        self._protocol_id = f"{protocol_prefix}/kad/1.0.0"
        self._server = server
        self._system = system
        self._table = RoutingTable(node.peer_id)
        self._providers = ProviderTable()
        self._clients: OrderedDict[PeerId, None] = OrderedDict()
        self._waiting: OrderedDict[PeerId, None] = OrderedDict()
        self._checking: set[PeerId] = set()
        self._wake_checker = trio.Event()
        self._has_server = trio.Event()
        self._answers = DhtServer(
            node, table=self._table, providers=self._providers, system=system, on_asked=self._want_check
        )

    def __repr__(self) -> str:
        role = "server" if self._server else "client"
        return f"<Dht {self._protocol_id} {role}, {len(self._table)} servers known, {len(self._providers)} records>"

    @property
    def protocol_id(self) -> str:
        """The protocol id."""
        return self._protocol_id

    @property
    def statistics(self) -> DhtStatistics:
        """Counts since the start, and sizes now."""
        self._providers.expire(self._system.monotonic_s())
        return DhtStatistics(
            servers=len(self._table),
            provider_records=len(self._providers),
            requests=dict(self._answers.requests),
            refused=dict(self._answers.refused),
        )

    def servers(self) -> tuple[PeerId, ...]:
        """Return the DHT servers known."""
        return self._table.peers()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve, ask new peers, keep the table fresh; until cancelled."""
        if self._server:
            self._node.set_stream_handler(self._protocol_id, self._answers.serve)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._check_peers)
                nursery.start_soon(self._recheck)
                nursery.start_soon(self._refresh)
                task_status.started()
        finally:
            if self._server:
                self._node.remove_stream_handler(self._protocol_id)

    # --- what a user asks ---

    def note_connected(self, peer_id: PeerId) -> None:
        """Tell the DHT of a new connection: the peer is asked whether it serves the DHT. Never blocks."""
        self._clients.pop(peer_id, None)
        self._want_check(peer_id)

    async def wait_server(self) -> None:
        """Return once a DHT server is known. Cancellation: safe."""
        while not len(self._table):
            await self._has_server.wait()

    async def provide(self, key: bytes) -> int:
        """Tell the peers closest to a key that this node provides it.

        Returns:
            How many peers were told: they took the message and did not reset the stream. 0 when no DHT server is known;
            try again after :meth:`wait_server`. A record lasts 30 minutes.

        Cancellation: safe; some peers may have been told.
        Cost: a lookup and at most 20 streams.
        """
        own = PeerAddresses(peer_id=self._node.peer_id, addresses=self._node.announced_addresses()[:MAX_ADDRESSES])
        if self._server:
            self._providers.add(key, own.peer_id, (), self._system.monotonic_s())
        closest = await self._closest_servers(key)
        message = DhtMessage(kind=MessageKind.ADD_PROVIDER, key=key, providers=(own,))
        told = 0

        async def tell(peer_id: PeerId) -> None:
            nonlocal told
            try:
                await self._ask(peer_id, message, answered=False)
            except HostmeshError as error:
                _log.debug("DHT server did not take a provider record: %s", error, extra={"peer_id": peer_id})
            else:
                told += 1

        async with trio.open_nursery() as nursery:
            for peer_id in closest:
                nursery.start_soon(tell, peer_id)
        return told

    async def find_providers(
        self,
        key: bytes,
        *,
        limit: int,
        timeout_s: float,
        share: int | None = None,
        found: Callable[[PeerId, tuple[str, ...], PeerId], None] | None = None,
    ) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Ask the network who provides a key.

        Waits for a first DHT server where none is known yet. What this node keeps for others itself counts as one
        server's answer, no more.

        Args:
            key: as given to :meth:`provide`.
            limit: most providers wanted, >= 1.
            timeout_s: for everything; what was found by then is returned.
            share: most providers that one answer may add as long as others may still answer, >= 1: who names many
                keeps no place from those whom others name. What is left of the limit is dealt out in the end. None: a
                20th of the limit, as a lookup is over when the 20 nearest have answered.
            found: told of each provider as it is heard of, with its addresses and who named it, and again when more of
                its addresses are; so that peers that are slow keep nobody waiting.

        Returns:
            Providers with at most 16 addresses each, without ourselves, each once. Claims: nobody checked them.

        Cancellation: safe.
        Cost: at most 80 queries.
        """
        harvest = Harvest(self._node.peer_id, limit=limit, share=share or max(1, limit // BUCKET_SIZE), found=found)

        async def ask(peer_id: PeerId) -> Sequence[PeerId]:
            answer = await self._ask(peer_id, DhtMessage(kind=MessageKind.GET_PROVIDERS, key=key))
            harvest.take(((provider.peer_id, provider.addresses) for provider in answer.providers), named_by=peer_id)
            return self._learn(answer.closer)

        harvest.take(self._answers.local_providers(key, limit), named_by=self._node.peer_id)
        with trio.move_on_after(timeout_s):
            await self.wait_server()
            await self._look_up(self._new_lookup(key), ask, enough=lambda: harvest.is_full)
        harvest.deal_rest()
        return list(harvest.kept.items())

    async def find_peer(
        self, peer_id: PeerId, *, timeout_s: float, found: Callable[[tuple[str, ...], PeerId], None]
    ) -> None:
        """Ask the network where a peer is; of those who serve no DHT it hardly knows.

        ``found`` is told of at most 16 addresses and who named them, for each answer that has any: claims.

        Cancellation: safe. Cost: at most 80 queries, in ``timeout_s``.
        """
        key = peer_id_to_bytes(peer_id)

        async def ask(server: PeerId) -> Sequence[PeerId]:
            answer = await self._ask(server, DhtMessage(kind=MessageKind.FIND_NODE, key=key))
            for peer in answer.closer:
                if peer.peer_id == peer_id and peer.addresses:
                    found(peer.addresses[:MAX_ADDRESSES], server)
            return self._learn(answer.closer)

        with trio.move_on_after(timeout_s):
            await self.wait_server()
            await self._look_up(self._new_lookup(key), ask)

    # --- lookups ---

    def _new_lookup(self, key: bytes) -> Lookup:
        return Lookup(key, own=self._node.peer_id, seeds=self._table.closest(key))

    async def _closest_servers(self, key: bytes) -> list[PeerId]:
        lookup = self._new_lookup(key)
        await self._look_up(lookup, lambda peer_id: self._find_node(peer_id, key))
        return lookup.closest()

    async def _look_up(
        self,
        lookup: Lookup,
        ask: Callable[[PeerId], Awaitable[Sequence[PeerId]]],
        *,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        progress = trio.Event()

        async def query(peer_id: PeerId) -> None:
            try:
                closer = await ask(peer_id)
            except HostmeshError as error:
                lookup.on_failure(peer_id)
                self._on_failed(peer_id, error)
            else:
                lookup.on_answer(peer_id, closer)
            progress.set()

        async with trio.open_nursery() as nursery:
            while not enough():
                while (peer_id := lookup.next_query()) is not None:
                    nursery.start_soon(query, peer_id)
                if not lookup.in_flight:
                    break
                await progress.wait()
                progress = trio.Event()
            nursery.cancel_scope.cancel()

    async def _find_node(self, peer_id: PeerId, key: bytes) -> Sequence[PeerId]:
        answer = await self._ask(peer_id, DhtMessage(kind=MessageKind.FIND_NODE, key=key))
        return self._learn(answer.closer)

    def _learn(self, closer: Sequence[PeerAddresses]) -> list[PeerId]:
        """Note where the peers of an answer may be; they come into the table when they answer themselves."""
        nearest = closer[: BUCKET_SIZE + 1]
        for peer in nearest:
            if peer.addresses and peer.peer_id != self._node.peer_id:
                self._node.add_addresses(peer.peer_id, peer.addresses, AddressOrigin.REMOTE)
        return [peer.peer_id for peer in nearest]

    async def _ask(self, peer_id: PeerId, message: DhtMessage, *, answered: bool = True) -> DhtMessage:
        """Send one request and return the answer; without one expected, return the request once the peer took it."""
        request = encode_frame(encode_message(message, max_bytes=MAX_REQUEST_BYTES))
        with trio.move_on_after(QUERY_TIMEOUT_S):
            stream = await once_there_is_room(
                lambda left_s: self._node.open_stream(peer_id, self._protocol_id, timeout_s=left_s), QUERY_TIMEOUT_S
            )
            try:
                await stream.send(request)
                if not answered:
                    # Some servers echo ADD_PROVIDER and some only close; a reset is a refusal.
                    await stream.close_write()
                frame = await read_frame(stream, FrameDecoder(MAX_ANSWER_BYTES))
                answer = message if frame is None and not answered else _answer_of(message.kind, frame)
                await stream.close()
            except BaseException:
                await stream.reset()
                raise
            self._on_server(peer_id)
            return answer
        raise DeadlineExceededError(f"no answer of the DHT server within {QUERY_TIMEOUT_S:g} s")

    def _on_server(self, peer_id: PeerId) -> None:
        self._clients.pop(peer_id, None)
        if self._table.add(peer_id, self._system.monotonic_s()) and not self._has_server.is_set():
            _log.debug("first DHT server", extra={"peer_id": peer_id})
            self._has_server.set()

    def _on_failed(self, peer_id: PeerId, error: HostmeshError) -> None:
        self._table.remove(peer_id)
        if not len(self._table) and self._has_server.is_set():
            self._has_server = trio.Event()
        if isinstance(error, ProtocolNotSupportedError):
            self._clients[peer_id] = None
            if len(self._clients) > MAX_REMEMBERED_CLIENTS:
                self._clients.popitem(last=False)
        _log.debug("DHT query failed: %s", error, extra={"peer_id": peer_id})

    # --- the table ---

    def _want_check(self, peer_id: PeerId) -> None:
        if peer_id in self._table or peer_id in self._clients or peer_id in self._waiting or peer_id in self._checking:
            return
        if len(self._waiting) >= MAX_WAITING_CHECKS:
            self._waiting.popitem(last=False)
        self._waiting[peer_id] = None
        self._wake_checker.set()

    async def _check_peers(self) -> None:
        """Ask new peers for our own neighbourhood: who answers is a server. Lookups go on to whom it names."""
        own_key = peer_id_to_bytes(self._node.peer_id)

        async def check(peer_id: PeerId) -> None:
            try:
                await self._find_node(peer_id, own_key)
            except HostmeshError as error:
                self._on_failed(peer_id, error)
            finally:
                self._checking.discard(peer_id)
                self._wake_checker.set()

        async with trio.open_nursery() as nursery:
            while True:
                while self._waiting and len(self._checking) < MAX_PARALLEL_CHECKS:
                    peer_id, _ = self._waiting.popitem(last=False)
                    self._checking.add(peer_id)
                    nursery.start_soon(check, peer_id)
                await self._wake_checker.wait()
                self._wake_checker = trio.Event()

    async def _recheck(self) -> None:
        while True:
            now = self._system.monotonic_s()
            for peer_id in self._node.connected_peers():
                if self._table.has_room_for(peer_id, now):
                    self._want_check(peer_id)
            await trio.sleep(RECHECK_S)

    async def _refresh(self) -> None:
        own_key = peer_id_to_bytes(self._node.peer_id)
        await self.wait_server()
        await self._closest_servers(own_key)
        while True:
            for key in (self._system.random_bytes(32), own_key):
                await self.wait_server()
                await self._closest_servers(key)
                await trio.sleep(REFRESH_S)


def _answer_of(kind: MessageKind, frame: bytes | None) -> DhtMessage:
    if frame is None:
        raise RemoteProtocolError("the DHT server ended the stream without an answer")
    answer = decode_message(frame)
    if answer.kind is not kind:
        raise RemoteProtocolError(f"the DHT server answered {kind.name} with {answer.kind.name}")
    return answer
