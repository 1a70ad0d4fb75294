"""What is to be paid, by receipts. Pure.

:class:`Settlement` is the door for anything that settles: it is given verified sessions and says what became of each.
:class:`Statement` is the one that ships: it adds up what each client countersigned and moves no money. Settlement on a
chain is for others to write.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hostmesh.identity.address import address_to_text
from hostmesh.receipts.bundle import BundleVerifier, SessionBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What is owed by one client to one operator in one currency."""

    network: str
    operator: str
    """The wallet that is to be paid, with its checksum."""
    client: str
    """The wallet that pays, with its checksum."""
    currency: str
    amount_micros: int
    """Countersigned, in all sessions given."""
    sessions: int
    jobs: int
    prompt_tokens: int
    completion_tokens: int
    first_unix_s: int
    """Of the receipts that count."""
    last_unix_s: int


class Settlement(Protocol):
    """Takes receipts to be paid."""

    def settle(self, bundles: Iterable[SessionBundle]) -> Sequence[Settled]:
        """Settle what is countersigned in some sessions.

        Args:
            bundles: each session once.

        Returns:
            What became of it, by who owes whom.

        Raises:
            ReceiptError: a session does not verify; nothing was settled.
        """
        ...


class Statement:
    """Adds up; moves no money.

    Example::

        lines = Statement().settle(read_bundles(file))
        print(statement_csv(lines))
    """

    def settle(self, bundles: Iterable[SessionBundle]) -> Sequence[Settled]:
        """Return what is owed, by network, operator, client and currency.

        Args:
            bundles: each session once.

        Raises:
            ReceiptError: a session does not verify, or came before.
        """
        sums: dict[tuple[str, bytes, bytes, str], _Sum] = {}
        verifier = BundleVerifier()
        for bundle in bundles:
            session = verifier.open(bundle.session)
            terms = session.authorization
            total = sums.setdefault((session.network, terms.operator, terms.client, terms.currency), _Sum())
            total.sessions += 1
            for job in bundle.jobs:
                verifier.job(job.job_id, job.quote)
                paid = None
                for papers in job.receipts:
                    receipt = verifier.receipt(job.job_id, papers).receipt
                    if papers.countersignature:
                        paid = receipt
                if paid is not None:
                    total.jobs += 1
                    total.prompt_tokens += paid.prompt_tokens
                    total.completion_tokens += paid.completion_tokens
                    at = paid.issued_at_unix_s
                    total.first_unix_s = min(at, total.first_unix_s or at)
                    total.last_unix_s = max(at, total.last_unix_s)
            total.amount_micros += verifier.owed_micros
        return [
            Settled(
                network=network,
                operator=address_to_text(operator),
                client=address_to_text(client),
                currency=currency,
                amount_micros=total.amount_micros,
                sessions=total.sessions,
                jobs=total.jobs,
                prompt_tokens=total.prompt_tokens,
                completion_tokens=total.completion_tokens,
                first_unix_s=total.first_unix_s,
                last_unix_s=total.last_unix_s,
            )
            for (network, operator, client, currency), total in sorted(sums.items())
        ]


COLUMNS = (
    "network",
    "operator",
    "client",
    "currency",
    "amount_micros",
    "sessions",
    "jobs",
    "prompt_tokens",
    "completion_tokens",
    "first_unix_s",
    "last_unix_s",
)


def statement_csv(lines: Iterable[Settled]) -> str:
    """Return a statement as CSV with a line of headings (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow(_cell(getattr(line, column)) for column in COLUMNS)
    return out.getvalue()


class _Sum:
    def __init__(self) -> None:
        self.amount_micros = 0
        self.sessions = 0
        self.jobs = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.first_unix_s = 0
        self.last_unix_s = 0


def _cell(value: str | int) -> str | int:
    """Return a cell that no spreadsheet takes for a formula: network and currency are others' words."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
