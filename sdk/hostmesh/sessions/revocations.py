"""What a host does with a revocation that somebody brings: verified, written, and then its sessions end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hostmesh.identity.structs import DelegationRevocation
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.book import SessionBook
from hostmesh.sessions.delegation import check_revocation_times
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.sessions.signatures import SignatureChecker
from hostmesh.system import System

logger = logging.getLogger("hostmesh.sessions")


class RevocationIntake:
    """Takes revocations for the sessions of one host.

    Args:
        book: the sessions.
        signatures: checks the owner's.
        limit_checks: raises RATE_LIMITED when too many signatures were checked for a peer; told whether the delegation
            is in use here.
        network_of: the network that a peer counts under.
        system: the clock.
    """

    def __init__(
        self,
        book: SessionBook,
        signatures: SignatureChecker,
        *,
        limit_checks: Callable[[PeerId, bool], None],
        network_of: Callable[[PeerId], str | None],
        system: System,
    ) -> None:
        self._book = book
        self._signatures = signatures
        self._limit_checks = limit_checks
        self._network_of = network_of
        self._system = system

    async def take(self, revocation: DelegationRevocation, signature: bytes, peer_id: PeerId) -> int:
        """Revoke a delegation. It is on disk when this returns.

        Args:
            revocation: what its owner signed.
            signature: as it came.
            peer_id: who brought it; that is not its owner's matter.

        Returns:
            How many open sessions it ended; 0 where it was revoked already.

        Raises:
            RefusedError: REVOCATION_NOT_YET_VALID, REVOCATION_EXPIRED, REVOCATION_WRONG_OWNER, TOO_MANY_REVOCATIONS,
                RATE_LIMITED, REVOCATION_BAD_SIGNATURE, a word of contract wallets, or SESSIONS_UNAVAILABLE. Nothing was
                changed.
        """
        if not self._is_news(revocation, peer_id):
            return 0
        digest = revocation.delegation_digest
        self._limit_checks(peer_id, self._book.delegations.account(digest) is not None)
        wrong = RefusedError(Reason.REVOCATION_BAD_SIGNATURE, "the revocation is not signed by the owner it names")
        await self._signatures.check(revocation, signature, revocation.owner, wrong=wrong, peer_id=peer_id)
        # A contract wallet may have taken its time.
        if not self._is_news(revocation, peer_id):
            return 0
        unseen = self._book.delegations.unseen_of(revocation, peer_id, self._network_of(peer_id))
        if unseen is not None:
            self._book.keep_unseen(unseen)
            return 0
        ended = self._book.revoke(digest)
        logger.info("delegation revoked", extra={"peer_id": peer_id, "ended_sessions": ended})
        return ended

    def _is_news(self, revocation: DelegationRevocation, peer_id: PeerId) -> bool:
        """Check what costs nothing; tell whether there is anything to do."""
        now = self._system.unix_s()
        check_revocation_times(revocation, now)
        self._book.table.expire(now)
        return self._book.delegations.check_revocation(revocation, peer_id, now, self._network_of(peer_id))
