"""The handshake: a byte link becomes an authenticated, multiplexed connection."""

from __future__ import annotations

from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID

from hostmesh.errors import InvalidAddressError
from hostmesh.net.links import Link
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stock import SteadyYamux

_NO_TIMEOUT_S = 10**6
"""The caller of an upgrade has the deadline."""


class HandshakeError(Exception):
    """A handshake failed; the text says how. Stays inside ``net``."""

    @classmethod
    def of(cls, error: Exception) -> HandshakeError:
        """Put a libp2p, Noise or cryptography error into words."""
        if isinstance(error, HandshakeError):
            return error
        if isinstance(error, PeerIDMismatchesPubkey):
            return cls("the peer there is another one")
        if isinstance(error, InvalidAddressError):
            return cls("the peer's key is not Ed25519")
        if isinstance(error, MultiselectClientError | MultiselectError):
            return cls("the peer does not offer Noise and Yamux, or closed the connection")
        return cls(f"the handshake broke ({type(error).__name__})")


class Upgrader:
    """Turns a byte link into an authenticated, multiplexed connection: Noise and Yamux, nothing else on offer (G1).

    Source: libp2p specs, "noise" and "yamux"; multistream-select 1.0.
    """

    def __init__(self, key: PeerKey) -> None:
        private = Ed25519PrivateKey.new(key.private_bytes)
        keys = KeyPair(private, private.get_public_key())
        self._own_peer_id = key.peer_id
        self._noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
        self._client = MultiselectClient()
        self._security = Multiselect({NOISE_ID: None})
        self._muxers = Multiselect({TProtocol(YAMUX_ID): None})

    async def outbound(self, link: Link, peer_id: PeerId) -> SteadyYamux:
        """Shake hands as the dialer; the peer must prove ``peer_id``.

        Raises:
            HandshakeError: the peer is another one, offers no Noise or Yamux, or talks nonsense.

        Cancellation: the link must be closed. There is no timeout of its own.
        """
        raw = RawConnection(link, True)
        try:
            await self._client.select_one_of([NOISE_ID], MultiselectCommunicator(raw), _NO_TIMEOUT_S)
            secured = await self._noise.secure_outbound(raw, ID(peer_id_to_bytes(peer_id)))
            await self._client.select_one_of([TProtocol(YAMUX_ID)], MultiselectCommunicator(secured), _NO_TIMEOUT_S)
        except Exception as error:  # noise, cryptography and libp2p raise what they like
            raise HandshakeError.of(error) from error
        link.trust()
        return SteadyYamux(secured, ID(peer_id_to_bytes(peer_id)), is_initiator=True, link=link)

    async def inbound(self, link: Link) -> SteadyYamux:
        """Shake hands as the listener; see :meth:`outbound`."""
        raw = RawConnection(link, False)
        try:
            await self._security.negotiate(MultiselectCommunicator(raw), _NO_TIMEOUT_S)
            secured = await self._noise.secure_inbound(raw)
            remote = peer_id_from_bytes(secured.get_remote_peer().to_bytes())
            self._refuse_self(remote)
            await self._muxers.negotiate(MultiselectCommunicator(secured), _NO_TIMEOUT_S)
        except Exception as error:  # see outbound
            raise HandshakeError.of(error) from error
        link.trust()
        return SteadyYamux(secured, secured.get_remote_peer(), is_initiator=False, link=link)

    def _refuse_self(self, remote: PeerId) -> None:
        if remote == self._own_peer_id:
            raise HandshakeError("the peer uses our own key")
