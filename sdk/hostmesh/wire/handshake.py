"""From a byte link to a secured, multiplexed connection: multistream, Noise, the multiplexer. Pure.

::

    dialer:    /noise + Noise message 1          (one write)
    listener:  /noise + Noise message 2
    dialer:    Noise message 3 [+ sealed: /yamux/1.0.0]
    listener:  [sealed: /yamux/1.0.0]

The lines in brackets are left out where both sides named Yamux in the handshake. Nothing but Noise and Yamux is offered
or taken. A dialer needs one round trip before it may send streams, or two; a listener never waits.

Limits: those of the lines (8 KiB) and of two Noise messages (4 KiB each), so that a peer which has not proven who it is
gets no further than 17 KiB. What comes in one piece with the proof belongs to the streams.

Source: libp2p specs, "Connections", "noise" and "inlined muxer negotiation".
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import RemoteProtocolError
from hostmesh.wire.multistream import Proposer, Responder, proposal
from hostmesh.wire.noise import NOISE_ID, NoiseHandshake, NoiseIdentity, NoiseResult
from hostmesh.wire.noise_channel import NoiseChannel
from hostmesh.wire.yamux import YAMUX_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A connection whose peer is known."""

    remote_public_key: bytes
    """Raw Ed25519, 32 bytes, proven."""
    channel: NoiseChannel
    plaintexts: tuple[bytes, ...]
    """What the peer said already on the multiplexer."""


class Handshake:
    """One side: send what there is, feed what arrives, until :meth:`receive` returns the connection.

    What there is to send then still has to be sent.

    Args:
        is_initiator: whether this side dialled.
        identity: this node's.
        ephemeral_private: 32 fresh random bytes.
        expected_public_key: the key that the peer must prove, raw Ed25519; None takes any.
    """

    __slots__ = ("_identity", "_muxer", "_noise", "_output", "_result", "_security")

    def __init__(
        self,
        *,
        is_initiator: bool,
        identity: NoiseIdentity,
        ephemeral_private: bytes,
        expected_public_key: bytes | None = None,
    ) -> None:
        self._identity = identity
        self._noise = NoiseHandshake(
            is_initiator=is_initiator,
            identity=identity,
            ephemeral_private=ephemeral_private,
            expected_public_key=expected_public_key,
        )
        self._security: Proposer | Responder | None
        self._muxer: Proposer | Responder
        self._output = bytearray()
        if is_initiator:
            self._security, self._muxer = Proposer(NOISE_ID), Proposer(YAMUX_ID)
            self._output += proposal(NOISE_ID) + self._noise.data_to_send()
        else:
            self._security, self._muxer = Responder(NOISE_ID.__eq__), Responder(YAMUX_ID.__eq__)
        self._result: NoiseResult | None = None

    def data_to_send(self) -> bytes:
        """Return what must be sent and was not taken yet."""
        output = bytes(self._output)
        self._output.clear()
        return output

    @property
    def is_proven(self) -> bool:
        """Whether the peer has proven who it is."""
        return self._result is not None

    def receive(self, data: bytes) -> Secured | None:
        """Take received bytes; return the connection once both sides agree.

        Raises:
            ProtocolNotSupportedError: the peer offers no Noise, or no Yamux.
            RemoteProtocolError: it talks nonsense, too much, or cannot prove its key.
        """
        if self._result is None:
            finished = self._receive_noise(data)
            if finished is None:
                return None
            self._result, rest = finished
            if YAMUX_ID in self._result.remote_muxers and YAMUX_ID in self._identity.muxers:
                return self._secured(self._result, self._result.channel.open(rest))
            if isinstance(self._muxer, Proposer):
                self._output += self._result.channel.seal(proposal(YAMUX_ID))
            data = rest
        channel = self._result.channel
        try:
            plaintexts = channel.open(data)
        except RemoteProtocolError:
            # What was said first counts first, in whatever pieces it came.
            self._agree_on_muxer(self._result, channel.undelivered)
            raise
        return self._agree_on_muxer(self._result, plaintexts)

    def _receive_noise(self, data: bytes) -> tuple[NoiseResult, bytes] | None:
        security = self._security
        if isinstance(security, Proposer):
            rest = security.receive(data)
            if rest is None:
                return None
            self._security, data = None, rest
        elif isinstance(security, Responder):
            selected = security.receive(data)
            self._output += security.data_to_send()
            if selected is None:
                return None
            self._security, data = None, security.rest
        finished = self._noise.receive(data)
        self._output += self._noise.data_to_send()
        return finished

    def _agree_on_muxer(self, result: NoiseResult, plaintexts: list[bytes]) -> Secured | None:
        muxer = self._muxer
        for index, plaintext in enumerate(plaintexts):
            if isinstance(muxer, Proposer):
                rest = muxer.receive(plaintext)
            else:
                rest = muxer.rest if muxer.receive(plaintext) else None
                answer = muxer.data_to_send()
                if answer:
                    self._output += result.channel.seal(answer)
            if rest is not None:
                return self._secured(result, [rest, *plaintexts[index + 1 :]])
        return None

    @staticmethod
    def _secured(result: NoiseResult, plaintexts: list[bytes]) -> Secured:
        return Secured(
            remote_public_key=result.remote_public_key,
            channel=result.channel,
            plaintexts=tuple(each for each in plaintexts if each),
        )
