"""What a host answers to what it refuses, and how often it did."""

from __future__ import annotations

import logging
from collections import Counter
from math import ceil

from hostmesh.errors import RpcError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.reasons import STATUS_OF, Reason, RefusedError

logger = logging.getLogger("hostmesh.sessions")


class Refusals:
    """Turns refusals into the errors that answer them, and counts each by its word."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        """Return how often each reason was given."""
        return dict(self._counts)

    def answer(self, refused: RefusedError, peer_id: PeerId, *, of_use: bool = False) -> RpcError:
        """Count a refusal, and return the error that answers it.

        Args:
            refused: what was refused.
            peer_id: to whom.
            of_use: of a call within a session: UNAUTHORIZED, with the word in the details, since the remedy of all is a
                new session.
        """
        self._counts[refused.reason] += 1
        logger.debug("session refused", extra={"peer_id": peer_id, "reason": refused.reason})
        word = refused.word
        details: dict[str, str] = {}
        reason = refused.reason
        status = STATUS_OF[word]
        if of_use and word is not Reason.SESSIONS_UNAVAILABLE:
            shown = Reason.UNKNOWN_SESSION if word is Reason.SESSION_OF_ANOTHER_PEER else word
            details, reason, status = {"cause": shown.value}, "UNAUTHORIZED", StatusCode.UNAUTHENTICATED
        retry_after_ms = None if refused.retry_after_s is None else max(1, ceil(refused.retry_after_s * 1000))
        return RpcError(refused.message, status=status, reason=reason, retry_after_ms=retry_after_ms, details=details)
