"""Everything that a receipt needs to be verified by somebody who was not there. Pure; no clock: it holds for ever.

A session's papers are the client's authorisation with its signature, the delegation if a session key signed it, and the
host's grant; a job's is its quote. With them, each receipt is held against what was agreed, and against the one before.

Contract wallets (EIP-1271) cannot be verified without asking their chain: their papers are refused here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hostmesh.errors import RemoteProtocolError
from hostmesh.identity.structs import Delegation, Receipt, SessionAuthorization
from hostmesh.identity.typed_data import typed_digest
from hostmesh.net.envelope import open_envelope
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.quote import read_quote
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.receipts.receipt import (
    SignedReceipt,
    check_later,
    check_sound,
    check_terms,
    open_sealed,
    verify_countersignature,
)
from hostmesh.receipts.terms import JobTerms, SessionTerms
from hostmesh.sessions.grant import MAX_GRANT_BYTES, PAYLOAD_TYPE, grant_domain
from hostmesh.sessions.papers import verify_papers
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.v1 import session_pb2 as pb
from hostmesh.wire.bounds import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPapers:
    """What was signed to open a session."""

    network: str
    authorization: bytes = field(repr=False)
    """A ``SessionAuthorization`` message with its signature, serialised."""
    grant: bytes = field(repr=False)
    """The host's envelope."""
    delegation: bytes = field(default=b"", repr=False)
    """A ``Delegation`` message, serialised; empty: the client's wallet signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptPapers:
    """A receipt as it is kept."""

    envelope: bytes = field(repr=False)
    countersignature: bytes = field(default=b"", repr=False)
    """Empty: the client did not sign it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPapers:
    """A job and its receipts, the first one first. Receipts that a later one stands for may be missing."""

    job_id: bytes
    quote: bytes = field(repr=False)
    """The host's envelope."""
    receipts: tuple[ReceiptPapers, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBundle:
    """A session with all its jobs."""

    session: SessionPapers
    jobs: tuple[JobPapers, ...] = ()


class BundleVerifier:
    """Verifies papers in the order session, its jobs, their receipts, and adds up what is owed.

    Each method refuses what does not hold and then counts nothing of it, so that the rest can still be verified.
    """

    def __init__(self) -> None:
        self._cap: tuple[bytes, bytes, int] | None = None
        """Of the session: digest of its delegation, host, most that may be spent under both."""
        self._seen: set[bytes] = set()
        """Digests of authorisations: a session that came in parts would pass each part's limit."""
        self._owed_under: Counter[tuple[bytes, bytes]] = Counter()
        self.session: SessionTerms | None = None
        """The one that is being verified."""
        self._jobs: dict[bytes, JobTerms] = {}
        self._last: dict[bytes, Receipt] = {}
        self._owed: dict[bytes, int] = {}

    @property
    def owed_micros(self) -> int:
        """What the client countersigned in this session."""
        return sum(self._owed.values())

    def open(self, papers: SessionPapers) -> SessionTerms:
        """Begin with a session.

        Raises:
            ReceiptError: BUNDLE_MALFORMED, BAD_AUTHORIZATION, BAD_DELEGATION, BAD_GRANT, or REPLAYED: the session was
                verified before.

        Cost: one recovery (two with a delegation) and one Ed25519 verification.
        """
        self.session, self._cap = None, None
        self._jobs, self._last, self._owed = {}, {}, {}
        session, cap_micros = verify_session(papers)
        if session.authorization_digest in self._seen:
            raise fault(ReceiptFault.REPLAYED, "the session came before")
        self._seen.add(session.authorization_digest)
        if cap_micros is not None:
            terms = session.authorization
            self._cap = (terms.delegation_digest, terms.host_peer_id, cap_micros)
        self.session = session
        return session

    def job(self, job_id: bytes, quote: bytes) -> JobTerms:
        """Go on with a job of the session.

        Raises:
            ReceiptError: NO_SESSION, BAD_QUOTE, or REPLAYED: the session has a job of this id.
        """
        if self.session is None:
            raise fault(ReceiptFault.NO_SESSION, "the job's session does not precede it")
        if job_id in self._jobs:
            raise fault(ReceiptFault.REPLAYED, "the session has this job already")
        terms = verify_quote(self.session, job_id, quote)
        self._jobs[job_id] = terms
        return terms

    def receipt(self, job_id: bytes, papers: ReceiptPapers) -> SignedReceipt:
        """Go on with the next receipt of a job.

        Raises:
            ReceiptError: NO_SESSION, a word of :func:`hostmesh.receipts.receipt.open_receipt`, BAD_COUNTERSIGNATURE,
                or OVER_LIMIT: more than the session's limit or the delegation's cap is countersigned.
        """
        terms = self._jobs.get(job_id)
        if terms is None:
            raise fault(ReceiptFault.NO_SESSION, "the receipt's job does not precede it")
        signed = open_sealed(papers.envelope, network=terms.session.network)
        receipt = signed.receipt
        check_terms(receipt, terms)
        check_sound(receipt)
        last = self._last.get(job_id)
        if last is not None:
            check_later(receipt, last)
        if papers.countersignature:
            verify_countersignature(
                receipt, papers.countersignature, network=signed.network, signer=terms.session.signer
            )
            self._owe(job_id, receipt.cost_micros, terms.session.authorization)
        self._last[job_id] = receipt
        return signed

    def _owe(self, job_id: bytes, cost_micros: int, authorization: SessionAuthorization) -> None:
        step = cost_micros - self._owed.get(job_id, 0)
        if self.owed_micros + step > authorization.spending_limit_micros:
            raise fault(ReceiptFault.OVER_LIMIT, "more than the session's limit was countersigned")
        if self._cap is not None:
            digest, host, cap_micros = self._cap
            if self._owed_under[digest, host] + step > cap_micros:
                raise fault(ReceiptFault.OVER_LIMIT, "more than the delegation's cap for this host was countersigned")
            self._owed_under[digest, host] += step
        self._owed[job_id] = cost_micros


def verify_bundle(bundle: SessionBundle) -> int:
    """Verify a whole session.

    Returns:
        What the client countersigned, micro-units.

    Raises:
        ReceiptError: see :class:`BundleVerifier`.
    """
    verifier = BundleVerifier()
    verifier.open(bundle.session)
    for job in bundle.jobs:
        verifier.job(job.job_id, job.quote)
        for receipt in job.receipts:
            verifier.receipt(job.job_id, receipt)
    return verifier.owed_micros


def verify_session(papers: SessionPapers) -> tuple[SessionTerms, int | None]:
    """Verify what was signed to open a session.

    Returns:
        Its terms, and the delegation's cap for the host; None without a delegation.

    Raises:
        ReceiptError: BUNDLE_MALFORMED, BAD_AUTHORIZATION, BAD_DELEGATION or BAD_GRANT.
    """
    if not papers.network:
        raise fault(ReceiptFault.BUNDLE_MALFORMED, "a session is on a network that has a name")
    try:
        terms, delegation = verify_papers(papers.authorization, papers.delegation, network=papers.network)
    except RemoteProtocolError as error:
        raise fault(ReceiptFault.BUNDLE_MALFORMED, f"no authorisation: {error.message}") from error
    except RefusedError as refused:
        is_signature = refused.word is Reason.BAD_SIGNATURE
        raise fault(
            ReceiptFault.BAD_AUTHORIZATION if is_signature else ReceiptFault.BAD_DELEGATION, refused.message
        ) from refused
    signer = terms.client if delegation is None else delegation.delegate
    session = SessionTerms(
        network=papers.network, session_id=_granted_id(papers, terms), authorization=terms, signer=signer
    )
    return session, None if delegation is None else _cap_of(delegation, terms)


def verify_quote(session: SessionTerms, job_id: bytes, quote: bytes) -> JobTerms:
    """Verify the quote that a job of the session ran under.

    Raises:
        ReceiptError: BAD_QUOTE.
    """
    authorization = session.authorization
    try:
        peer_id, message = read_quote(quote, network=session.network)
    except RemoteProtocolError as error:
        raise fault(ReceiptFault.BAD_QUOTE, f"no quote: {error.message}") from error
    for what, is_right in (
        ("signed by another peer than the host", peer_id_to_bytes(peer_id) == authorization.host_peer_id),
        ("of another network", message.network == session.network),
        ("of another job", message.quote_id == job_id),
        ("of another host", message.host_peer_id == authorization.host_peer_id),
        ("for another client", message.client_peer_id == authorization.client_peer_id),
        ("for another model", message.model_id == authorization.model_id),
        ("in another currency", message.currency == authorization.currency),
        ("above the ceiling", message.price_micros_per_mtok <= authorization.max_price_micros_per_mtok),
    ):
        if not is_right:
            raise fault(ReceiptFault.BAD_QUOTE, f"the quote is {what}")
    return JobTerms.of_quote(session, job_id, message)


def _cap_of(delegation: Delegation, terms: SessionAuthorization) -> int:
    return next(cap.cap_micros for cap in delegation.host_caps if cap.host_peer_id == terms.host_peer_id)


def _granted_id(papers: SessionPapers, terms: SessionAuthorization) -> bytes:
    """Return the session's id, once the grant is seen to answer this authorisation."""
    try:
        opened = open_envelope(
            papers.grant, domain=grant_domain(papers.network), payload_type=PAYLOAD_TYPE, max_bytes=MAX_GRANT_BYTES
        )
        grant = parse(pb.SessionGrant, opened.payload, MAX_GRANT_BYTES)
    except RemoteProtocolError as error:
        raise fault(ReceiptFault.BAD_GRANT, f"no grant: {error.message}") from error
    for what, is_right in (
        ("signed by another peer than the host", peer_id_to_bytes(opened.peer_id) == terms.host_peer_id),
        ("of another network", grant.network == papers.network),
        ("of another host", grant.host_peer_id == terms.host_peer_id),
        ("for another client", grant.client_peer_id == terms.client_peer_id),
        ("the answer to another authorisation", grant.authorization_digest == typed_digest(terms, papers.network)),
    ):
        if not is_right:
            raise fault(ReceiptFault.BAD_GRANT, f"the grant is {what}")
    return grant.session_id
