"""AutoNAT v2, the side that dials: a peer asks to be dialled, and is told whether it could be reached.

Participants: a node that serves the DHT, or is told to, answers ``/libp2p/autonat/2/dial-request``. Of a request's
addresses it dials one, over a connection of its own that ends with the dial-back; never over one that there is. What
may be dialled, and how often, is said in :mod:`hostmesh.net.autonat_policy`.

Source: libp2p specs, "autonat v2". docs/protocols/reachability.md tells the whole.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

import trio

from hostmesh.errors import DialError, HostmeshError, MalformedMessageError, RemoteProtocolError, TransportError
from hostmesh.net.autonat_message import (
    DIAL_BACK_ID,
    MAX_MESSAGE_BYTES,
    DataRequest,
    DialData,
    DialRequest,
    DialResponse,
    DialStatus,
    Message,
    ResponseStatus,
    decode_message,
    encode_data_request,
    encode_dial_back,
    encode_response,
)
from hostmesh.net.autonat_policy import MAX_DATA_BYTES, MIN_DATA_BYTES, Chosen, DialBackLimiter, choose_address
from hostmesh.net.connection import Connection
from hostmesh.net.dht_server import read_frame
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.system import System
from hostmesh.wire.framing import FrameDecoder

_log = logging.getLogger("hostmesh.net")

REQUEST_TIMEOUT_S = 30.0
"""A request with all that it brings; a client that sends its data slowly is cut off then."""
DIAL_TIMEOUT_S = 10.0
DELIVERY_TIMEOUT_S = 5.0
MAX_WAIT_S = 3.0
"""Before an address is dialled that is not the asker's own: many requests do not arrive at one victim as one. As
go-libp2p has it."""
_LEAST_DATA_BYTES = 100
"""Of one message of data but the last: less would make us parse for nothing."""

UseApart = Callable[[PeerId, str, float, Callable[[Connection], Awaitable[None]]], Awaitable[None]]
"""Dials a peer at one address within so many seconds, calls back with that connection, and ends it; raises
DialError."""


class AutonatServer:
    """Dials peers back.

    Args:
        remote_ip: where a connected peer is seen.
        own_ips: this machine's addresses; may raise OSError.
        use_apart: dials.
        system: clock and random bytes.
    """

    def __init__(
        self,
        remote_ip: Callable[[PeerId], str | None],
        own_ips: Callable[[], Collection[str]],
        use_apart: UseApart,
        *,
        system: System,
    ) -> None:
        self._remote_ip = remote_ip
        self._own_ips = own_ips
        self._use_apart = use_apart
        self._system = system
        self._limiter = DialBackLimiter()
        self.dialled: Counter[str] = Counter()
        """Dial-backs, by how they ended."""

    @property
    def refused(self) -> Counter[str]:
        """Requests that were not admitted, by reason."""
        return self._limiter.refused

    async def serve(self, stream: Stream) -> None:
        """Answer one request; the stream is reset where it makes no sense.

        Cancellation: the caller resets the stream; a dial in progress ends.
        """
        peer_id = stream.peer_id
        asker_ip = self._remote_ip(peer_id)
        if not self._limiter.begin(peer_id, asker_ip, self._system.monotonic_s()):
            await _answer(stream, DialResponse(status=ResponseStatus.REJECTED))
            return
        try:
            with trio.move_on_after(REQUEST_TIMEOUT_S) as scope:
                await _answer(stream, await self._serve(stream, asker_ip))
            if scope.cancelled_caught:
                await stream.reset()
        except (RemoteProtocolError, TransportError) as error:
            _log.debug("a request to be dialled came to nothing: %s", error, extra={"peer_id": peer_id})
            await stream.reset()
        finally:
            self._limiter.end(peer_id)

    async def _serve(self, stream: Stream, asker_ip: str | None) -> DialResponse:
        decoder = FrameDecoder(MAX_MESSAGE_BYTES)
        request = await _next_message(stream, decoder)
        if not isinstance(request, DialRequest):
            raise MalformedMessageError("the first message is no request to be dialled", field="msg")
        try:
            own_ips = self._own_ips()
        except OSError:
            own_ips = ()
        chosen = choose_address(request.addresses, asker_ip=asker_ip, own_ips=own_ips)
        if chosen is None:
            return DialResponse(status=ResponseStatus.REFUSED)
        if chosen.is_paid:
            if not self._limiter.admit_paid(self._system.monotonic_s()):
                return DialResponse(status=ResponseStatus.REJECTED)
            await self._collect_data(stream, decoder, chosen)
        status = await self._dial_back(stream.peer_id, chosen.address, request.nonce)
        self.dialled[status.name.lower()] += 1
        return DialResponse(status=ResponseStatus.OK, index=chosen.index, dial_status=status)

    async def _collect_data(self, stream: Stream, decoder: FrameDecoder, chosen: Chosen) -> None:
        """Have the asker pay for the dial, then let a while pass.

        Raises:
            RemoteProtocolError, TransportError: it does not.
        """
        drawn = int.from_bytes(self._system.random_bytes(4), "big")
        left = MIN_DATA_BYTES + drawn % (MAX_DATA_BYTES - MIN_DATA_BYTES)
        await stream.send(encode_data_request(DataRequest(index=chosen.index, num_bytes=left)))
        while left > 0:
            data = await _next_message(stream, decoder)
            if not isinstance(data, DialData):
                raise MalformedMessageError("data was asked for, and something else came", field="msg")
            left -= data.num_bytes
            if left > 0 and data.num_bytes < _LEAST_DATA_BYTES:
                raise MalformedMessageError("data in too small pieces", field="data")
        await trio.sleep(MAX_WAIT_S * int.from_bytes(self._system.random_bytes(2), "big") / 65536)

    async def _dial_back(self, peer_id: PeerId, address: str, nonce: int) -> DialStatus:
        status = DialStatus.DIAL_ERROR

        async def deliver(connection: Connection) -> None:
            nonlocal status
            status = DialStatus.DIAL_BACK_ERROR
            try:
                with trio.move_on_after(DELIVERY_TIMEOUT_S):
                    stream = await connection.open_stream(DIAL_BACK_ID)
                    await stream.send(encode_dial_back(nonce), end=True)
                    # Its content says nothing; that it came says that the nonce arrived.
                    if await stream.receive():
                        status = DialStatus.OK
            except HostmeshError as error:
                _log.debug("a dial-back was not delivered: %s", error, extra={"peer_id": peer_id})

        try:
            await self._use_apart(peer_id, address, DIAL_TIMEOUT_S, deliver)
        except DialError as error:
            _log.debug("a peer cannot be dialled back: %s", error, extra={"peer_id": peer_id})
        return status


async def _next_message(stream: Stream, decoder: FrameDecoder) -> Message:
    frame = await read_frame(stream, decoder)
    if frame is None:
        raise MalformedMessageError("the stream ended before its request did")
    return decode_message(frame)


async def _answer(stream: Stream, response: DialResponse) -> None:
    await stream.send(encode_response(response))
    await stream.close()
