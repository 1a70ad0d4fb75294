"""What a client knows of the sessions that it runs jobs in: what they come to, how it kept them, their papers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from hostmesh.identity.structs import NO_DIGEST
from hostmesh.jobs.conduct import SessionConduct
from hostmesh.jobs.countersigning import SigningSession
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.jobs.prompt_turns import PromptTurns
from hostmesh.jobs.unsettled import SessionKey, UnsettledJobs
from hostmesh.receipts.bundle import SessionPapers
from hostmesh.receipts.spending import SessionSpending
from hostmesh.receipts.store import PaidJob, ReceiptStore
from hostmesh.receipts.terms import JobTerms, SessionTerms

MAX_TRACKED_SESSIONS = 1024
MAX_UNSURE = 64
"""As many jobs as a host takes of one peer at once: no more ran when an earlier run was killed."""


class OpenSession(SigningSession, Protocol):
    """What jobs need of a session (:class:`hostmesh.sessions.session.Session`)."""

    @property
    def model_id(self) -> str:
        """The one model that it authorises."""
        ...

    @property
    def max_price_micros_per_mtok(self) -> int:
        """The price ceiling."""
        ...

    @property
    def currency(self) -> str:
        """Of the ceiling and the limit."""
        ...

    @property
    def spending_limit_micros(self) -> int:
        """Most that the session can cost."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether it takes no new work."""
        ...

    @property
    def end_reason(self) -> str:
        """A stable word for what ended it, such as BINDING_REVOKED; empty where its own client did."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedSession:
    """One session."""

    terms: SessionTerms
    spending: SessionSpending
    turns: PromptTurns
    conduct: SessionConduct
    unsure: list[PaidJob]
    """Jobs of an earlier run, the latest last: whether the host has what was countersigned of them is not known."""

    @property
    def key(self) -> SessionKey:
        """Hosts choose the ids: each speaks for its own."""
        return self.terms.authorization.host_peer_id, self.terms.session_id

    def job_terms(self, offer: QuoteOffer) -> JobTerms:
        """Return the terms of a job under a quote."""
        return JobTerms(
            session=self.terms,
            job_id=offer.quote_id,
            price_micros_per_mtok=offer.price_micros_per_mtok,
            max_output_tokens=offer.max_output_tokens,
            context_tokens=offer.context_tokens,
            weights_sha256=offer.weights_sha256 or NO_DIGEST,
            tokenizer_sha256=offer.tokenizer_sha256 or NO_DIGEST,
            chat_template_sha256=offer.chat_template_sha256 or NO_DIGEST,
        )


class ClientSessions:
    """The sessions used last; one that was pushed out is restored from the store when it is used again.

    Args:
        network: the network's name.
        receipts: keeps what was countersigned, and papers.
    """

    def __init__(self, *, network: str, receipts: ReceiptStore) -> None:
        self._network = network
        self._receipts = receipts
        self._tracked: OrderedDict[SessionKey, TrackedSession] = OrderedDict()
        self.unsettled = UnsettledJobs()
        """Of this run."""

    def track(self, session: OpenSession) -> TrackedSession:
        """Return what is known of a session. Its papers are kept when this returns.

        Raises:
            StoreError: they cannot be, or what was countersigned before cannot be read.
        """
        authorization = session.authorization
        key = (authorization.host_peer_id, session.session_id)
        tracked = self._tracked.get(key)
        if tracked is None:
            terms = SessionTerms(
                network=self._network,
                session_id=session.session_id,
                authorization=authorization,
                signer=session.signer,
            )
            spending = SessionSpending(
                limit_micros=authorization.spending_limit_micros, slice_micros=authorization.slice_micros
            )
            paid = self._receipts.countersigned(authorization.host_peer_id, session.session_id)
            for job in paid:
                spending.restore(job.job_id, job.cost_micros, is_answered=job.is_answered)
            conduct = SessionConduct(is_new=self._put_papers(session, terms), slice_micros=authorization.slice_micros)
            tracked = TrackedSession(
                terms=terms,
                spending=spending,
                turns=PromptTurns(spending),
                conduct=conduct,
                unsure=list(paid[-MAX_UNSURE:]),
            )
            self._tracked[key] = tracked
        self._tracked.move_to_end(key)
        if len(self._tracked) > MAX_TRACKED_SESSIONS:
            # What runs is not on disk: one with jobs stays.
            idle = next((each for each, known in self._tracked.items() if not known.spending.is_busy), key)
            if idle != key:
                del self._tracked[idle]
                self.unsettled.forget(idle)
        return tracked

    def is_used(self, tracked: TrackedSession, job_id: bytes) -> bool:
        """Return whether a job of this id waits or runs in a session, or had a receipt. A quote's id is its job's.

        Raises:
            StoreError: the receipts cannot be read.
        """
        host = tracked.terms.authorization.host_peer_id
        return tracked.turns.is_known(job_id) or self._receipts.has_countersigned(
            host, tracked.terms.session_id, job_id
        )

    def _put_papers(self, session: OpenSession, terms: SessionTerms) -> bool:
        papers = SessionPapers(
            network=self._network,
            authorization=session.signed_authorization,
            grant=session.grant,
            delegation=session.delegation,
        )
        return self._receipts.papers.put_session(terms, papers, is_host=False)
