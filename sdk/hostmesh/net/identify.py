"""Identify: each side tells the other which protocols it speaks and where it listens.

Participants: every node answers ``/ipfs/id/1.0.0`` and asks it once on every connection. What changes afterwards it
tells the connected peers that take ``/ipfs/id/push/1.0.0``, at most once a second. What a peer says is believed about
itself only: its addresses are claims (``AddressOrigin.REMOTE``). The observed address is sent, and ignored when
received: nothing of ours depends on it. Limits: a message of 64 KiB, 256 protocols, 16 addresses.

Source: libp2p specs, "identify" and "identify/push".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio

from hostmesh.errors import HostmeshError, InvalidAddressError, MalformedMessageError
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER, AddressOrigin, keep_usable
from hostmesh.net.address_bytes import address_from_bytes, address_to_bytes
from hostmesh.net.connection import Connection
from hostmesh.net.peer_id import PeerId
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.stream import Stream
from hostmesh.v1.identify_pb2 import Identify as IdentifyMessage
from hostmesh.wire.bounds import parse
from hostmesh.wire.framing import FrameDecoder, encode_frame

_log = logging.getLogger("hostmesh.net")

IDENTIFY_ID = "/ipfs/id/1.0.0"
PUSH_ID = "/ipfs/id/push/1.0.0"
MAX_MESSAGE_BYTES = 64 * 1024
MAX_PARTS = 10
"""go-libp2p tells much about itself in several messages; js-libp2p reads as many."""
MAX_PROTOCOLS = 256
_TIMEOUT_S = 10.0
_SETTLE_S = 1.0
_PUSH_PAUSE_S = 1.0
_MAX_PUSHES = 64
"""Peers that are told of a change at once."""
_MAX_PROTOCOL_CHARS = 256
AGENT = "hostmesh"
_ED25519_KEY_PREFIX = bytes.fromhex("08011220")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a peer says about itself."""

    protocols: tuple[str, ...]
    addresses: tuple[str, ...]
    agent: str


def encode_identity(identity: Identity, *, public_key: bytes, observed: tuple[str, int] | None) -> bytes:
    """Return the length-prefixed message.

    Args:
        identity: what to tell.
        public_key: our raw Ed25519 public key.
        observed: IP address and port that the connection comes from, to tell the peer.
    """
    seen = b""
    if observed is not None:
        kind = "ip6" if ":" in observed[0] else "ip4"
        seen = address_to_bytes(f"/{kind}/{observed[0]}/tcp/{observed[1]}")
    message = IdentifyMessage(
        protocol_version="ipfs/0.1.0",
        agent_version=identity.agent,
        public_key=_ED25519_KEY_PREFIX + public_key,
        listen_addrs=[address_to_bytes(address) for address in identity.addresses],
        observed_addr=seen,
        protocols=identity.protocols,
    ).SerializeToString()
    return encode_frame(message)


def decode_identity(data: bytes) -> Identity:
    """Read a message without its length prefix.

    Raises:
        MalformedMessageError: not an Identify message.
    """
    message = parse(IdentifyMessage, data, MAX_MESSAGE_BYTES)
    addresses = []
    for raw in message.listen_addrs[: 4 * MAX_ADDRESSES_PER_PEER]:
        try:
            addresses.append(address_from_bytes(raw))
        except InvalidAddressError:
            continue
    return Identity(
        protocols=tuple(text for text in message.protocols[:MAX_PROTOCOLS] if len(text) <= _MAX_PROTOCOL_CHARS),
        addresses=keep_usable(addresses),
        agent=message.agent_version[:_MAX_PROTOCOL_CHARS],
    )


async def read_identity(stream: Stream) -> Identity:
    """Read the peer's message to its end.

    Raises:
        MalformedMessageError: too long, cut short, or not an Identify message.
        ConnectionLostError: the stream ended early.
    """
    decoder = FrameDecoder(MAX_MESSAGE_BYTES)
    parts: list[bytes] = []
    received_bytes = 0
    while chunk := await stream.receive():
        received_bytes += len(chunk)
        if received_bytes > MAX_MESSAGE_BYTES:
            raise MalformedMessageError("an Identify message is too long")
        decoder.feed(chunk)
        while (part := decoder.next_frame()) is not None:
            parts.append(part)
            if len(parts) > MAX_PARTS:
                raise MalformedMessageError("an Identify message in too many parts")
    decoder.finish()
    if not parts:
        raise MalformedMessageError("an Identify message was cut short")
    # Serialised messages one after another are their merger, which is how the specification wants the parts read.
    return decode_identity(b"".join(parts))


class Identify:
    """Identify on one node's connections.

    Args:
        public_key: our raw Ed25519 public key.
        protocols: what we speak.
        addresses: where others may reach us.
        pool: the connections that there are.
        learn: takes the addresses that a peer claims.
    """

    def __init__(
        self,
        public_key: bytes,
        protocols: Callable[[], Iterable[str]],
        addresses: Callable[[], tuple[str, ...]],
        pool: ConnectionPool,
        learn: Callable[[PeerId, Sequence[str], AddressOrigin], None],
    ) -> None:
        self._public_key = public_key
        self._protocols = protocols
        self._addresses = addresses
        self._pool = pool
        self._learn = learn
        self._identities: dict[PeerId, Identity] = {}
        self._asking: dict[PeerId, trio.Event] = {}
        self._changed = trio.Event()

    def protocols_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return what a peer said it speaks; empty until it said so."""
        identity = self._identities.get(peer_id)
        return () if identity is None else identity.protocols

    def forget(self, peer_id: PeerId) -> None:
        """Drop what a peer said: it has no connection any more."""
        self._identities.pop(peer_id, None)

    async def settled(self, peer_id: PeerId) -> None:
        """Return once a peer has said what it speaks, or will not; after a second at most."""
        answered = self._asking.get(peer_id)
        if answered is not None:
            with trio.move_on_after(_SETTLE_S):
                await answered.wait()

    async def refresh(self, connection: Connection, *, is_urgent: bool) -> None:
        """Return once what a peer speaks is known as well as it can be; after a second at most.

        Args:
            connection: to the peer. If it is being asked, its answer is waited for.
            is_urgent: ask it anew otherwise: it may have changed without telling.
        """
        if connection.peer_id in self._asking:
            await self.settled(connection.peer_id)
        elif is_urgent:
            with trio.move_on_after(_SETTLE_S):
                await self.ask(connection)

    async def ask(self, connection: Connection) -> None:
        """Ask the peer of a connection. Never raises: a peer without Identify is a peer."""
        answered = self._asking[connection.peer_id] = trio.Event()
        try:
            await self._ask(connection)
        finally:
            answered.set()
            if self._asking.get(connection.peer_id) is answered:
                del self._asking[connection.peer_id]

    async def _ask(self, connection: Connection) -> None:
        try:
            with trio.fail_after(_TIMEOUT_S):
                stream = await connection.open_stream(IDENTIFY_ID)
                try:
                    identity = await read_identity(stream)
                    await stream.close()
                except BaseException:
                    await stream.reset()
                    raise
        except (HostmeshError, trio.TooSlowError) as error:
            _log.debug("identify failed: %s", error, extra={"peer_id": connection.peer_id})
            return
        self._identities[connection.peer_id] = identity
        connection.spoken = frozenset(identity.protocols)
        self._learn(connection.peer_id, identity.addresses, AddressOrigin.REMOTE)

    async def answer(self, stream: Stream) -> None:
        """Tell a peer about us."""
        await stream.send(self._about_us(stream.peer_id))

    def _about_us(self, peer_id: PeerId) -> bytes:
        connection = self._pool.get(peer_id)
        identity = Identity(protocols=tuple(self._protocols()), addresses=self._addresses(), agent=AGENT)
        observed = None if connection is None else connection.remote
        return encode_identity(identity, public_key=self._public_key, observed=observed)

    # --- changes ---

    def announce(self) -> None:
        """Tell the connected peers soon that what we speak has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Tell the connected peers of changes, until cancelled."""
        self._changed = trio.Event()  # nobody is connected yet
        slots = trio.Semaphore(_MAX_PUSHES)
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            async with trio.open_nursery() as nursery:
                for peer_id in self._pool.peers():
                    await slots.acquire()
                    nursery.start_soon(self._push, peer_id, slots)
            await trio.sleep(_PUSH_PAUSE_S)

    async def _push(self, peer_id: PeerId, slots: trio.Semaphore) -> None:
        """Tell one peer about us. Never raises."""
        try:
            connection = self._pool.get(peer_id)
            if connection is None or (connection.spoken and PUSH_ID not in connection.spoken):
                return
            with trio.fail_after(_TIMEOUT_S):
                stream = await connection.open_stream(PUSH_ID)
                try:
                    await stream.send(self._about_us(peer_id), end=True)
                    await stream.close()
                except BaseException:
                    await stream.reset()
                    raise
        except (HostmeshError, trio.TooSlowError) as error:
            _log.debug("a change was not told: %s", error, extra={"peer_id": peer_id})
        finally:
            slots.release()

    async def take_push(self, stream: Stream) -> None:
        """Learn what has changed about a peer."""
        identity: Identity | None = None
        try:
            with trio.move_on_after(_TIMEOUT_S):
                identity = await read_identity(stream)
        except MalformedMessageError as error:
            _log.debug("a change that a peer told was nonsense: %s", error, extra={"peer_id": stream.peer_id})
        if identity is None:
            await stream.reset()
            return
        # The answer to what we asked first is older than this.
        await self.settled(stream.peer_id)
        connections = self._pool.of(stream.peer_id)
        if connections and identity.protocols:  # a message may leave out what has not changed
            self._identities[stream.peer_id] = identity
            for connection in connections:
                connection.spoken = frozenset(identity.protocols)
        if connections:
            self._learn(stream.peer_id, identity.addresses, AddressOrigin.REMOTE)
