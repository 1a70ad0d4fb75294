"""The binding under which a host runs: from a file that the operator's wallet filled elsewhere, or signed here."""

from __future__ import annotations

from pathlib import Path

from hostmesh.errors import NotAuthenticatedError, RemoteProtocolError
from hostmesh.identity.binding import load_binding, save_binding, sign_binding, verify_binding
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

_RENEW_BEFORE_S = 86_400
"""A wallet at hand signs a new binding when less than this is left."""


class OperatorBinding:
    """Hands out the current binding of a peer key.

    Args:
        network: the network's name.
        system: the clock.
        wallet: signs when there is no good binding; None = the file alone counts, and the wallet need not be online.
        path: the binding's file; None = kept in memory.
    """

    def __init__(self, *, network: str, system: System, wallet: Wallet | None = None, path: Path | None = None) -> None:
        self._network = network
        self._system = system
        self._wallet = wallet
        self._path = path
        self._kept: pb.PeerBinding | None = None

    def current(self, peer_id: PeerId) -> pb.PeerBinding:
        """Return the binding of this key: the file's, or a new one of the wallet's.

        Raises:
            NotAuthenticatedError: there is neither a binding of this key nor a wallet.
            KeyFileError: the file is unsafe or no binding.
            BadSignatureError, RecordInvalidError: the file's binding does not hold for this key and network, or has
                expired, and no wallet is at hand.
        """
        now = self._system.unix_s()
        found = self._load()
        if self._wallet is None:
            if found is None:
                raise NotAuthenticatedError(
                    "this host has no wallet and no binding of its key",
                    remedy="hostmesh-host bind --wallet FILE, where the wallet is",
                )
            verify_binding(found, peer_id=peer_id, network=self._network, now=now)
            return found
        if found is not None and self._is_good(found, peer_id, now):
            return found
        fresh = sign_binding(
            self._wallet,
            peer_id,
            network=self._network,
            now=now,
            revocation_epoch=0 if found is None else found.revocation_epoch,
        )
        if self._path is not None:
            save_binding(self._path, fresh)
        self._kept = fresh
        return fresh

    def _load(self) -> pb.PeerBinding | None:
        if self._path is None or not self._path.exists():
            return self._kept
        return load_binding(self._path)

    def _is_good(self, binding: pb.PeerBinding, peer_id: PeerId, now: float) -> bool:
        """Whether others will believe it for a day more; a wallet at hand signs another if not."""
        assert self._wallet is not None
        try:
            signer = verify_binding(binding, peer_id=peer_id, network=self._network, now=now)
        except RemoteProtocolError:
            return False
        return signer == self._wallet.address_bytes and binding.expires_at_unix_s - now > _RENEW_BEFORE_S
