"""Sessions whose receipts are kept here, as ``hostmesh receipts list`` shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hostmesh.cli.terminal import field

if TYPE_CHECKING:
    from hostmesh.receipts.paper_store import KeptSession, KeptTotals

COLUMNS = ("AS", "HOST", "SESSION", "MODEL", "JOBS", "RECEIPTS", "OWED", "UNPAID", "CURRENCY", "LAST", "SHARED")


def row_cells(kept: KeptSession, totals: KeptTotals) -> tuple[str, ...]:
    """Return a session's cells, as :data:`COLUMNS` has them."""
    from hostmesh.net.peer_id import peer_id_from_bytes

    last = totals.last.receipt
    return (
        kept.side,
        peer_id_from_bytes(kept.host_peer_id),
        kept.session_id.hex(),
        field(last.model_id, max_chars=40),
        str(totals.jobs),
        str(totals.receipts),
        str(totals.countersigned_micros),
        str(totals.issued_micros - totals.countersigned_micros),
        field(last.currency),
        datetime.fromtimestamp(totals.last_unix_s, UTC).strftime("%Y-%m-%d %H:%M"),
        "yes" if kept.is_shared else "no",
    )


def row_object(kept: KeptSession, totals: KeptTotals) -> dict[str, object]:
    """Return a session as JSON takes it."""
    from hostmesh.identity.address import address_to_text
    from hostmesh.net.peer_id import peer_id_from_bytes

    last = totals.last.receipt
    return {
        "side": kept.side,
        "network": kept.network,
        "host_peer_id": peer_id_from_bytes(kept.host_peer_id),
        "session_id": kept.session_id.hex(),
        "client": address_to_text(last.client),
        "operator": address_to_text(last.operator),
        "model_id": last.model_id,
        "currency": last.currency,
        "jobs": totals.jobs,
        "receipts": totals.receipts,
        "issued_micros": totals.issued_micros,
        "countersigned_micros": totals.countersigned_micros,
        "first_unix_s": totals.first_unix_s,
        "last_unix_s": totals.last_unix_s,
        "is_shared": kept.is_shared,
        "has_papers": kept.bundle is not None,
    }
