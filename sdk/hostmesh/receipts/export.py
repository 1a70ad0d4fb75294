"""Receipts with their papers as JSON lines, to be kept, verified or settled elsewhere. Pure.

A line is an object: ``session`` (with its papers), then its ``job`` lines (each with its quote), each followed by its
``receipt`` lines. Bytes are hex. So a file can be written and verified while only one session is in memory, and what is
wrong is a line of it. Spec: docs/protocols/receipt.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hostmesh.errors import ReceiptError
from hostmesh.json_text import parse_json
from hostmesh.receipts.bundle import BundleVerifier, JobPapers, ReceiptPapers, SessionBundle, SessionPapers
from hostmesh.receipts.reasons import ReceiptFault, fault

MAX_LINE_CHARS = 65_536
"""A session's papers take 45,000 at most."""
_VERSION = 1
_HEX = re.compile(r"([0-9a-f]{2})*")


def bundle_lines(bundle: SessionBundle) -> Iterator[str]:
    """Return the lines of a session, without line ends."""
    papers = bundle.session
    yield json.dumps(
        {
            "type": "session",
            "version": _VERSION,
            "network": papers.network,
            "authorization": papers.authorization.hex(),
            "delegation": papers.delegation.hex(),
            "grant": papers.grant.hex(),
        }
    )
    for job in bundle.jobs:
        yield json.dumps({"type": "job", "job_id": job.job_id.hex(), "quote": job.quote.hex()})
        for receipt in job.receipts:
            yield json.dumps(
                {
                    "type": "receipt",
                    "envelope": receipt.envelope.hex(),
                    "countersignature": receipt.countersignature.hex(),
                }
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFault:
    """What is wrong with a line."""

    line: int
    """From 1."""
    reason: str
    """A word of :class:`hostmesh.receipts.reasons.ReceiptFault`."""
    message: str


class LineReader:
    """Reads and verifies lines one after the other.

    Example::

        reader = LineReader()
        for line in file:
            fault = reader.read(line)
            if fault is not None:
                print(fault.line, fault.reason)
        sessions = reader.take()
    """

    def __init__(self) -> None:
        self._verifier = BundleVerifier()
        self._line = 0
        self._papers: SessionPapers | None = None
        self._jobs: list[tuple[bytes, bytes, list[ReceiptPapers]]] = []
        """Id, quote and receipts, of the session that is being read."""
        self._has_job = False
        """The receipts that follow are of the last job."""
        self._done: list[SessionBundle] = []
        self.sessions = 0
        """That verified."""
        self.receipts = 0
        """That verified."""

    def read(self, text: str) -> LineFault | None:
        """Read the next line.

        Returns:
            None: it holds, or is empty. What is wrong otherwise; the line counts as if it were not there, so that what
            depends on it is wrong as well (``NO_SESSION``).
        """
        self._line += 1
        if not text.strip():
            return None
        try:
            self._take_in(_parse(text))
        except ReceiptError as error:
            return LineFault(line=self._line, reason=error.reason, message=error.message)
        return None

    def take(self, *, is_end: bool = True) -> tuple[SessionBundle, ...]:
        """Return the sessions that were read and verified, without what was wrong in them, and forget them.

        Args:
            is_end: no line follows; else the session that is being read stays.
        """
        if is_end:
            self._finish()
        done, self._done = tuple(self._done), []
        return done

    def _take_in(self, document: dict[str, Any]) -> None:
        match document.get("type"):
            case "session":
                self._finish()
                papers = _papers(document)
                self._verifier.open(papers)
                self._papers = papers
                self.sessions += 1
            case "job":
                self._has_job = False
                job_id, quote = _hex(document, "job_id"), _hex(document, "quote")
                self._verifier.job(job_id, quote)
                self._jobs.append((job_id, quote, []))
                self._has_job = True
            case "receipt":
                if not self._has_job:
                    raise fault(ReceiptFault.NO_SESSION, "the receipt's job does not precede it, or is wrong")
                job_id, _, receipts = self._jobs[-1]
                receipt = ReceiptPapers(
                    envelope=_hex(document, "envelope"), countersignature=_hex(document, "countersignature")
                )
                self._verifier.receipt(job_id, receipt)
                receipts.append(receipt)
                self.receipts += 1
            case _:
                raise fault(ReceiptFault.BUNDLE_MALFORMED, "a line is a session, a job or a receipt")

    def _finish(self) -> None:
        if self._papers is not None:
            jobs = (
                JobPapers(job_id=job_id, quote=quote, receipts=tuple(receipts))
                for job_id, quote, receipts in self._jobs
            )
            self._done.append(SessionBundle(session=self._papers, jobs=tuple(jobs)))
        self._papers, self._jobs, self._has_job = None, [], False


def read_bundles(lines: Iterable[str]) -> Iterator[SessionBundle]:
    """Return the sessions of a file, each verified.

    Raises:
        ReceiptError: a line is wrong; the message begins with its number.
    """
    reader = LineReader()
    for text in lines:
        wrong = reader.read(text)
        if wrong is not None:
            raise ReceiptError(f"line {wrong.line}: {wrong.message}", reason=wrong.reason)
        yield from reader.take(is_end=False)
    yield from reader.take()


def _parse(text: str) -> dict[str, Any]:
    if len(text) > MAX_LINE_CHARS:
        raise fault(ReceiptFault.BUNDLE_MALFORMED, f"a line has at most {MAX_LINE_CHARS} characters")
    try:
        document = parse_json(text)
    except ValueError as error:
        raise fault(ReceiptFault.BUNDLE_MALFORMED, "not JSON") from error
    if not isinstance(document, dict):
        raise fault(ReceiptFault.BUNDLE_MALFORMED, "a line is an object")
    return document


def _papers(document: dict[str, Any]) -> SessionPapers:
    network = document.get("network")
    if document.get("version") != _VERSION or not isinstance(network, str):
        raise fault(ReceiptFault.BUNDLE_MALFORMED, "a session of another version, or without a network")
    return SessionPapers(
        network=network,
        authorization=_hex(document, "authorization"),
        delegation=_hex(document, "delegation"),
        grant=_hex(document, "grant"),
    )


def _hex(document: dict[str, Any], name: str) -> bytes:
    value = document.get(name)
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise fault(ReceiptFault.BUNDLE_MALFORMED, f"{name} is no hex")
    return bytes.fromhex(value)
