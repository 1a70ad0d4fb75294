"""Receipts, countersignatures and proofs."""

from __future__ import annotations

from collections.abc import Mapping

from hostmesh.errors.net import TransportError
from hostmesh.errors.root import RemoteProtocolError


class ReceiptError(RemoteProtocolError):
    """A receipt, a countersignature or a proof is not what it must be.

    Args:
        reason: a stable word of :class:`hostmesh.receipts.reasons.ReceiptFault`: ``WRONG_COST``, ``REPLAYED``, ...
    """

    code = "RECEIPT_INVALID"

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class NobodyAnsweredError(TransportError):
    """No peer told of receipts that it shares.

    Args:
        outcomes: by peer id, the code of what came instead; ``PROTOCOL_NOT_SUPPORTED``: it shares none.
    """

    code = "NOBODY_ANSWERED"
    retry_safe = True

    def __init__(self, message: str, *, outcomes: Mapping[str, str], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.outcomes = dict(outcomes)
