"""Receipts, countersignatures and proofs."""

from __future__ import annotations

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
