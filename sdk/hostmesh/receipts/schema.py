"""The tables of the store of receipts and papers."""

from __future__ import annotations

SUPERSEDED, FREE, OWED, PAID = range(4)
"""What a receipt is worth, and what goes first. Of what is owed, only what is overdue goes; what a job cost that its
host failed is free."""
MIGRATIONS = (
    (
        """
        CREATE TABLE receipts (
            id INTEGER PRIMARY KEY,
            side TEXT NOT NULL CHECK (side IN ('host', 'client')),
            network TEXT NOT NULL,
            host BLOB NOT NULL,
            session_id BLOB NOT NULL,
            job_id BLOB NOT NULL,
            sequence INTEGER NOT NULL,
            cost_micros TEXT NOT NULL,
            state INTEGER NOT NULL,
            pieces INTEGER NOT NULL,
            issued_at_unix_s INTEGER NOT NULL,
            signer BLOB NOT NULL,
            envelope BLOB NOT NULL,
            countersignature BLOB NOT NULL,
            worth INTEGER NOT NULL,
            UNIQUE (side, session_id, job_id, sequence, host, network)
        ) STRICT
        """,
        "CREATE INDEX receipts_by_worth ON receipts (worth, id)",
        f"CREATE INDEX receipts_owed ON receipts (session_id, issued_at_unix_s) WHERE worth = {OWED}",
        "CREATE INDEX receipts_by_time ON receipts (issued_at_unix_s)",
        """
        CREATE TABLE sessions (
            id INTEGER PRIMARY KEY,
            side TEXT NOT NULL CHECK (side IN ('host', 'client')),
            network TEXT NOT NULL,
            host BLOB NOT NULL,
            session_id BLOB NOT NULL,
            authorization BLOB NOT NULL,
            delegation BLOB NOT NULL,
            grant_envelope BLOB NOT NULL,
            expires_at_unix_s INTEGER NOT NULL,
            is_shared INTEGER NOT NULL DEFAULT 0,
            UNIQUE (side, session_id, host, network)
        ) STRICT
        """,
        "CREATE INDEX sessions_by_end ON sessions (expires_at_unix_s)",
        """
        CREATE TABLE quotes (
            id INTEGER PRIMARY KEY,
            session INTEGER NOT NULL,
            job_id BLOB NOT NULL,
            envelope BLOB NOT NULL,
            UNIQUE (session, job_id)
        ) STRICT
        """,
        """
        CREATE TABLE refused (
            id INTEGER PRIMARY KEY,
            network TEXT NOT NULL,
            reason TEXT NOT NULL,
            message TEXT NOT NULL,
            envelope BLOB NOT NULL,
            proof TEXT
        ) STRICT
        """,
    ),
    (
        # Of the few that others may be told, in the order of pages: an asker costs no look at the rest.
        "CREATE INDEX sessions_shared ON sessions (network, session_id, host) WHERE is_shared = 1",
    ),
)
