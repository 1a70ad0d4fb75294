"""AutoNAT v2, the side that asks: can others dial the addresses that this node announces?

Participants: every node asks, and takes dial-backs on ``/libp2p/autonat/2/dial-back``; whoever dials back may do so
under another key, so only the nonce counts, and that it came over a connection that was made to us after we had asked.
Peers that serve it are asked address by address, those of our configuration first. Limits: 4 peers, 8 addresses, 100 KB
of data for each address where the peer wants to be paid; one check at a time.

Source: libp2p specs, "autonat v2". docs/protocols/reachability.md tells the whole.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

import trio

from hostmesh.errors import HostmeshError, InvalidAddressError, MalformedMessageError
from hostmesh.net.address import AddressScope, parse_address, scope_of_ip, split_peer_address
from hostmesh.net.autonat_message import (
    DIAL_REQUEST_ID,
    MAX_DATA_BYTES,
    MAX_DIAL_BACK_BYTES,
    MAX_MESSAGE_BYTES,
    DataRequest,
    DialResponse,
    DialStatus,
    Message,
    ResponseStatus,
    decode_dial_back,
    decode_message,
    encode_data,
    encode_dial_back_response,
    encode_request,
)
from hostmesh.net.autonat_policy import MAX_DATA_BYTES as MAX_PAID_BYTES
from hostmesh.net.autonat_report import DialBackAnswer, DialBackOutcome, ReachabilityReport, can_judge, judge
from hostmesh.net.dht_server import read_frame
from hostmesh.net.dial_policy import target_network
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.system import System
from hostmesh.wire.framing import FrameDecoder

MAX_ASKED = 4
"""Peers asked in one check. Chosen here: two must agree that an address cannot be reached, and two may be wrong."""
MAX_TESTED = 8
"""Addresses tested in one check, the first of those announced. A peer serves 12 requests a minute."""
QUESTION_TIMEOUT_S = 25.0
"""One peer about one address. A peer takes up to 3 s before it dials, 10 s for the dial and 5 s to deliver."""
ARRIVAL_S = 2.0
"""How long a dial-back may come after the word that it was delivered."""
TAKE_TIMEOUT_S = 5.0


class AutonatNode(Protocol):
    """What asking needs of the node."""

    def announced_addresses(self) -> tuple[str, ...]:
        """Return what others are told."""
        ...

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with a connection."""
        ...

    def protocols_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return what a peer said that it speaks."""
        ...

    def remote_ip(self, peer_id: PeerId) -> str | None:
        """Return where a peer is seen."""
        ...

    def bootstrap_outcomes(self) -> dict[str, str]:
        """Return what happened last, by bootstrap address with ``/p2p``."""
        ...

    async def open_stream(self, peer_id: PeerId, protocol_id: str, *, timeout_s: float | None = None) -> Stream:
        """Open a stream."""
        ...


@dataclass(slots=True)
class _Expected:
    """A dial-back that may come."""

    since_s: float
    ip_version: int | None
    """Of the address; None: it is a name."""
    arrived: trio.Event = field(default_factory=trio.Event)


class AutonatClient:
    """Asks peers to dial this node back.

    Args:
        node: knows the peers.
        own_addresses: what this machine listens on, as others would dial it.
        came_by: returns this machine's IP address that an inbound stream came over; None where its connection was not
            made by the peer, or before the given time by trio's clock.
        system: clock and random bytes.
    """

    def __init__(
        self,
        node: AutonatNode,
        own_addresses: Callable[[], Collection[str]],
        came_by: Callable[[Stream, float], str | None],
        *,
        system: System,
    ) -> None:
        self._node = node
        self._own_addresses = own_addresses
        self._came_by = came_by
        self._system = system
        self._expected: dict[int, _Expected] = {}
        self._one_at_a_time = trio.Lock()
        self.last: ReachabilityReport | None = None
        """What the last check came to; None: there was none."""

    def servers(self) -> tuple[PeerId, ...]:
        """Return the peers that would be asked now: those configured first, then one of each network, then others."""
        trusted = self._trusted()
        speaking = [each for each in self._node.connected_peers() if DIAL_REQUEST_ID in self._node.protocols_of(each)]
        seen: set[str | None] = set()
        ranked: list[tuple[int, PeerId]] = []
        for peer_id in speaking:
            ip = self._node.remote_ip(peer_id)
            network = None if ip is None else target_network(ip)
            ranked.append((0 if peer_id in trusted else 2 if network in seen else 1, peer_id))
            seen.add(network)
        return tuple(peer_id for _, peer_id in sorted(ranked, key=lambda each: each[0])[:MAX_ASKED])

    async def check(self, *, timeout_s: float) -> ReachabilityReport:
        """Ask whether others reach the announced addresses.

        Args:
            timeout_s: for everything; what was answered by then counts.

        Cancellation: safe.
        Cost: up to 4 peers times 8 addresses: a short call and a handshake each, and up to 100 KB sent where the peer
        wants to be paid.
        """
        answers: list[DialBackAnswer] = []
        with trio.move_on_after(timeout_s):
            async with self._one_at_a_time, trio.open_nursery() as nursery:
                for peer_id in self.servers():
                    nursery.start_soon(self._ask_peer, peer_id, answers)
        self.last = judge(
            answers,
            announced=self._node.announced_addresses(),
            own=self._own_addresses(),
            at_unix_s=self._system.unix_s(),
        )
        return self.last

    async def take_dial_back(self, stream: Stream) -> None:
        """Take what somebody delivers over a connection that was made to us for it."""
        with trio.move_on_after(TAKE_TIMEOUT_S):
            try:
                frame = await read_frame(stream, FrameDecoder(MAX_DIAL_BACK_BYTES))
                nonce = None if frame is None else decode_dial_back(frame)
            except MalformedMessageError:
                nonce = None
            expected = None if nonce is None else self._expected.get(nonce)
            if expected is not None:
                ip = self._came_by(stream, expected.since_s)
                if ip is not None and expected.ip_version in (None, ipaddress.ip_address(ip).version):
                    expected.arrived.set()
                    await stream.send(encode_dial_back_response(), end=True)
                    return
        await stream.reset()

    def _trusted(self) -> frozenset[PeerId]:
        found = set()
        for address in self._node.bootstrap_outcomes():
            try:
                found.add(split_peer_address(address)[1])
            except InvalidAddressError:
                continue
        return frozenset(each for each in found if each is not None)

    async def _ask_peer(self, peer_id: PeerId, answers: list[DialBackAnswer]) -> None:
        ip = self._node.remote_ip(peer_id)
        scope: AddressScope | None = None if ip is None else scope_of_ip(ipaddress.ip_address(ip))
        is_trusted = peer_id in self._trusted()
        for address in self._node.announced_addresses()[:MAX_TESTED]:
            if not can_judge(address, scope):
                continue
            outcome = await self._ask(peer_id, address)
            answers.append(DialBackAnswer(peer_id=peer_id, address=address, outcome=outcome, is_trusted=is_trusted))
            if outcome in (DialBackOutcome.BUSY, DialBackOutcome.NO_ANSWER):
                return

    async def _ask(self, peer_id: PeerId, address: str) -> DialBackOutcome:
        nonce = int.from_bytes(self._system.random_bytes(8), "big")
        expected = self._expected[nonce] = _Expected(trio.current_time(), _ip_version(address))
        outcome = DialBackOutcome.NO_ANSWER
        try:
            with trio.move_on_after(QUESTION_TIMEOUT_S):
                response = await self._converse(peer_id, address, nonce)
                outcome = _OUTCOMES[response.status]
                if response.status is ResponseStatus.OK:
                    outcome = DialBackOutcome.FAILED
                    if response.dial_status is not DialStatus.DIAL_ERROR:
                        outcome = DialBackOutcome.UNPROVEN
                        with trio.move_on_after(ARRIVAL_S):
                            await expected.arrived.wait()
        except HostmeshError:
            outcome = DialBackOutcome.NO_ANSWER
        finally:
            del self._expected[nonce]
        return DialBackOutcome.REACHED if expected.arrived.is_set() else outcome

    async def _converse(self, peer_id: PeerId, address: str, nonce: int) -> DialResponse:
        stream = await self._node.open_stream(peer_id, DIAL_REQUEST_ID, timeout_s=QUESTION_TIMEOUT_S)
        try:
            await stream.send(encode_request([address], nonce))
            response = await _response(stream)
            await stream.close()
        except BaseException:
            await stream.reset()
            raise
        return response


_OUTCOMES = {
    ResponseStatus.INTERNAL_ERROR: DialBackOutcome.NO_ANSWER,
    ResponseStatus.REJECTED: DialBackOutcome.BUSY,
    ResponseStatus.REFUSED: DialBackOutcome.REFUSED,
    ResponseStatus.OK: DialBackOutcome.UNPROVEN,
}


async def _response(stream: Stream) -> DialResponse:
    """Return what became of a request for one address, having paid what the peer wants.

    Raises:
        RemoteProtocolError: it wants too much, or answers something else.
        ConnectionLostError: the stream was lost.
    """
    decoder = FrameDecoder(MAX_MESSAGE_BYTES)
    message = await _next_message(stream, decoder)
    if isinstance(message, DataRequest):
        if message.index != 0 or message.num_bytes > MAX_PAID_BYTES:
            raise MalformedMessageError("a request for data out of bounds", field="num_bytes")
        piece = encode_data(MAX_DATA_BYTES)
        for _ in range(0, message.num_bytes, MAX_DATA_BYTES):
            await stream.send(piece)
        message = await _next_message(stream, decoder)
    if not isinstance(message, DialResponse) or message.index != 0:
        raise MalformedMessageError("no response to what was asked", field="msg")
    return message


async def _next_message(stream: Stream, decoder: FrameDecoder) -> Message:
    frame = await read_frame(stream, decoder)
    if frame is None:
        raise MalformedMessageError("the stream ended without a response")
    return decode_message(frame)


def _ip_version(address: str) -> int | None:
    ip = parse_address(address).ip
    return None if ip is None else ip.version
