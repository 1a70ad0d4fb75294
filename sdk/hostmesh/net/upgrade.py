"""The handshake: a byte link becomes a connection whose peer is known. Drives :mod:`hostmesh.wire.handshake`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hostmesh.errors import ProtocolNotSupportedError, RemoteProtocolError
from hostmesh.net.links import Link, LinkBrokenError
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, public_key_of
from hostmesh.net.peer_key import PeerKey
from hostmesh.wire.handshake import Handshake, Secured
from hostmesh.wire.noise import SIGNED_PREFIX, NoiseIdentity
from hostmesh.wire.yamux import YAMUX_ID


class HandshakeError(Exception):
    """A handshake failed; the text says how. Stays inside ``net``."""


@dataclass(frozen=True, slots=True)
class SecuredLink:
    """A link whose peer has proven who it is, ready for streams."""

    link: Link
    secured: Secured
    peer_id: PeerId
    is_initiator: bool


class Upgrader:
    """Turns byte links into connections: Noise and Yamux, nothing else on offer.

    Args:
        key: the peer key; it signs this node's Noise key once.
        random_bytes: source of keys.
    """

    def __init__(self, key: PeerKey, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._own_peer_id = key.peer_id
        self._random_bytes = random_bytes
        static = random_bytes(32)
        static_public = X25519PrivateKey.from_private_bytes(static).public_key().public_bytes_raw()
        signature = key.sign(SIGNED_PREFIX + static_public)
        self._identity = NoiseIdentity(static, key.public_bytes, signature, muxers=(YAMUX_ID,))

    async def outbound(self, link: Link, peer_id: PeerId) -> SecuredLink:
        """Shake hands as the dialer; the peer must prove ``peer_id``.

        Raises:
            HandshakeError: the peer is another one, offers no Noise or Yamux, or talks nonsense.

        Cancellation: the link must be closed. There is no timeout of its own.
        """
        return await self._shake_hands(link, is_initiator=True, expected_public_key=public_key_of(peer_id))

    async def inbound(self, link: Link) -> SecuredLink:
        """Shake hands as the listener; see :meth:`outbound`."""
        secured = await self._shake_hands(link, is_initiator=False)
        if secured.peer_id == self._own_peer_id:
            raise HandshakeError("the peer uses our own key")
        return secured

    async def _shake_hands(
        self, link: Link, *, is_initiator: bool, expected_public_key: bytes | None = None
    ) -> SecuredLink:
        handshake = Handshake(
            is_initiator=is_initiator,
            identity=self._identity,
            ephemeral_private=self._random_bytes(32),
            expected_public_key=expected_public_key,
        )
        secured: Secured | None = None
        try:
            while True:
                output = handshake.data_to_send()
                if output:
                    sent = link.send_nowait(output)
                    if sent < len(output):
                        await link.send(output[sent:])
                if secured is not None:
                    peer_id = peer_id_from_public_key(secured.remote_public_key)
                    return SecuredLink(link, secured, peer_id, is_initiator)
                data = await link.receive()
                if not data:
                    raise HandshakeError("the peer does not offer Noise and Yamux, or closed the connection")
                secured = handshake.receive(data)
        except ProtocolNotSupportedError as error:
            raise HandshakeError(f"the peer does not offer {error.needed}") from error
        except RemoteProtocolError as error:
            raise HandshakeError(error.message) from error
        except LinkBrokenError as error:
            raise HandshakeError(f"the handshake broke: {error}") from error
