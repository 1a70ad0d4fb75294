"""Deposits: what a host may demand of strangers beyond a signature, by a plug-in of its operator's.

hostmesh knows nothing of chains and escrows. A :class:`DepositVerifier` says what a proof is and whether it is enough;
here it is asked within bounds: for wallets whose signature was verified, so many at once, and no longer than a limit.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import trio

from hostmesh.errors import ConfigError
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.reasons import Reason, RefusedError

logger = logging.getLogger("hostmesh.sessions")

MAX_PROOF_BYTES = 2048
"""Source: AuthorizeRequest.deposit_proof in protos/hostmesh/v1/session.proto."""
MAX_WHY = 200
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositClaim:
    """Who wants a session on a deposit, and what for."""

    wallet: bytes
    """20 bytes; its signature was verified."""
    peer_id: PeerId
    model_id: str
    spending_limit_micros: int
    currency: str
    proof: bytes
    """What the client sent, 1 to 2,048 bytes; nothing of it was checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositVerdict:
    """What a verifier found."""

    is_enough: bool
    why: str = ""
    """For the client, when it is not enough; its first 200 characters are sent."""


class DepositVerifier(Protocol):
    """Says whether a client's deposit is enough for a session.

    >>> class Prepaid:
    ...     async def verify_deposit(self, claim: DepositClaim) -> DepositVerdict:
    ...         return DepositVerdict(is_enough=claim.proof == b"paid", why="pay at the desk")
    """

    async def verify_deposit(self, claim: DepositClaim) -> DepositVerdict:
        """Check a proof.

        It runs in the host's event loop: what blocks belongs into a thread. It is cancelled at the time limit. An error
        counts as none of the client's: it is told to come again, and the error is logged.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositLimits:
    """Bounds of asking a verifier. Chosen here."""

    timeout_s: float = 5.0
    at_once: int = 32
    """Proofs that are checked at once; who comes beyond is told to come again."""

    def __post_init__(self) -> None:
        if not self.timeout_s > 0 or self.at_once < 1:
            raise ConfigError("deposits need a time above 0 and room for one", name="deposits", source="argument")


class DepositDesk:
    """Asks a host's verifier.

    Args:
        verifier: the operator's; None: no deposit is demanded.
        limits: bounds.
    """

    __slots__ = ("_asked", "_limits", "_verifier")

    def __init__(self, verifier: DepositVerifier | None = None, limits: DepositLimits | None = None) -> None:
        self._verifier = verifier
        self._limits = limits or DepositLimits()
        self._asked = 0

    @property
    def is_open(self) -> bool:
        """Whether deposits are demanded."""
        return self._verifier is not None

    async def check(self, claim: DepositClaim) -> None:
        """Check that a client's deposit is enough.

        Raises:
            RefusedError: DEPOSIT_REQUIRED: no proof; DEPOSIT_REFUSED: it is not enough; DEPOSIT_UNAVAILABLE: it was not
                checked: too many at once, too slow, or the verifier failed.

        Cancellation: safe; cancels the verifier.
        """
        if self._verifier is None:
            return
        if not claim.proof:
            raise RefusedError(Reason.DEPOSIT_REQUIRED, "this host wants proof of a deposit")
        if self._asked >= self._limits.at_once:
            raise _unavailable("too many deposits are being checked")
        self._asked += 1
        try:
            verdict = await self._ask(self._verifier, claim)
        finally:
            self._asked -= 1
        if not verdict.is_enough:
            why = verdict.why[:MAX_WHY]
            raise RefusedError(Reason.DEPOSIT_REFUSED, f"the deposit is refused: {why}" if why else "it is not enough")

    async def _ask(self, verifier: DepositVerifier, claim: DepositClaim) -> DepositVerdict:
        with trio.move_on_after(self._limits.timeout_s):
            try:
                return await verifier.verify_deposit(claim)
            except Exception:  # the operator's own code: whatever it raises must not end the host
                logger.exception("the deposit verifier failed")
                raise _unavailable("the deposit could not be checked") from None
        logger.warning("the deposit verifier took more than %s s", self._limits.timeout_s)
        raise _unavailable("the deposit was not checked in time")


def _unavailable(message: str) -> RefusedError:
    return RefusedError(Reason.DEPOSIT_UNAVAILABLE, message, retry_after_s=_RETRY_S)
