"""The client's side of jobs: asks for a quote, verifies it, and runs a job in a session.

The prompt leaves only after the chosen host has signed a quote within the session's ceiling, and to that host alone.

Spec: docs/protocols/job.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from hostmesh.errors import (
    DeadlineExceededError,
    ParameterError,
    RemoteProtocolError,
    RpcError,
    StoreError,
    UsageError,
)
from hostmesh.identity.structs import NO_DIGEST
from hostmesh.jobs.client_sessions import ClientSessions, OpenSession, TrackedSession
from hostmesh.jobs.content import MessageLike, WireInput, build_input, run_request
from hostmesh.jobs.countersigning import Countersigner, send_again
from hostmesh.jobs.job import Job
from hostmesh.jobs.offer import QuoteOffer, open_quote
from hostmesh.jobs.parameters import check_parameters, encode_parameters
from hostmesh.jobs.prompt_turns import least_prompt_micros, most_prompt_micros
from hostmesh.jobs.reasons import HOST_CAUSED, from_status, job_refused
from hostmesh.jobs.transcript import Transcript
from hostmesh.jobs.verdict import JobVerdict, OutcomeBook
from hostmesh.jobs.watch import JobWatch, Parameters, Watching
from hostmesh.net.peer_id import PeerId
from hostmesh.receipts.chain import SALT_BYTES
from hostmesh.receipts.client_ledger import JobAudit
from hostmesh.receipts.counting import TokenCounter
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.sessions.client_errors import ended
from hostmesh.system import System
from hostmesh.v1 import job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient

logger = logging.getLogger("hostmesh.jobs")

QUOTE_TIMEOUT_S = 30.0
"""For a quote, the dial included; a job itself has only its caller's time limit."""


class JobManager:
    """Runs jobs on hosts.

    Args:
        caller: makes the calls.
        peer_id: this node's; quotes are bound to it.
        network: the network's name.
        receipts: keeps what was countersigned.
        outcomes: told of every job that a host brought to a good end or failed by its own fault; None = nobody.
        counter_of: returns the tokenizer of a digest, which recounts what a host claims; None = bytes alone bound that.
        watch: returns who sees jobs leave and end, if somebody does now; None = nobody.
        says_draining: whether a host tells everybody that it drains, or is gone: else it breaks its word to end a job
            so; None = no host does.
        is_leaving: whether this node is stopping: the connections it ends itself count against nobody; None = never.
        system: the wall clock judges quotes.
    """

    def __init__(
        self,
        *,
        caller: RpcCaller,
        peer_id: PeerId,
        network: str,
        receipts: ReceiptStore,
        outcomes: OutcomeBook | None = None,
        counter_of: Callable[[bytes], TokenCounter | None] | None = None,
        watch: Callable[[], JobWatch | None] | None = None,
        says_draining: Callable[[PeerId], bool] | None = None,
        is_leaving: Callable[[], bool] | None = None,
        system: System | None = None,
    ) -> None:
        self._caller = caller
        self._peer_id = peer_id
        self._network = network
        self._receipts = receipts
        self._outcomes = outcomes
        self._counter_of = counter_of
        self._watch = watch
        self._says_draining = says_draining or (lambda peer_id: False)
        self._is_leaving = is_leaving
        self._system = system or System()
        self._sessions = ClientSessions(network=network, receipts=receipts)

    async def request_quote(
        self,
        peer_id: PeerId,
        model_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        max_output_tokens: int | None = None,
        prompt_tokens_estimate: int | None = None,
        max_price_micros_per_mtok: int | None = None,
        currency: str | None = None,
        timeout_s: float = QUOTE_TIMEOUT_S,
        operator: bytes = b"",
    ) -> QuoteOffer:
        """Ask a host what a job would cost. The prompt is no part of it.

        Args:
            peer_id: the host.
            model_id: exact id.
            parameters: settings of the work, such as ``{"temperature": 0}``.
            max_output_tokens: most tokens of the answer, >= 1; None = the host's own limit.
            prompt_tokens_estimate: about how long the prompt will be; None = not said.
            max_price_micros_per_mtok: ceiling, inclusive; None = any price.
            currency: of the ceiling; None = any.
            timeout_s: seconds for everything, the dial included.
            operator: the wallet that answers for the host, 20 bytes, under which its quote is held against it; empty =
                not known: held against its peer key under whatever wallet.

        Returns:
            The verified quote, good for one job within about a minute.

        Raises:
            JobError: the host refuses (``reason``), or its price is above the ceiling; nothing was executed.
            ParameterError: a setting that cannot be used, by its name.
            TransportError: the host was not reached in time.
            RemoteProtocolError: the answer proves nothing. It counts against the host.

        Cancellation: safe. Cost: one round trip on a warm connection.
        """
        request = job_pb2.QuoteRequest(
            model_id=model_id,
            max_output_tokens=_token_count("max_output_tokens", max_output_tokens, least=1),
            prompt_tokens_estimate=_token_count("prompt_tokens_estimate", prompt_tokens_estimate, least=0),
            parameters=encode_parameters(check_parameters(parameters or {})),
        )
        try:
            response = await JobServiceClient(self._caller, peer_id).quote(request, timeout_s=timeout_s)
            return open_quote(
                response.quote,
                network=self._network,
                client_peer_id=self._peer_id,
                host_peer_id=peer_id,
                model_id=model_id,
                max_output_tokens=max_output_tokens,
                max_price_micros_per_mtok=max_price_micros_per_mtok,
                currency=currency,
                now=self._system.unix_s(),
            )
        except RpcError as error:
            refused = from_status(error, accepted=False, delivered=False)
            if refused.reason in HOST_CAUSED:
                self._record(peer_id, operator, JobVerdict.FAILED, refused.reason)
            raise refused from error
        except RemoteProtocolError as error:
            self._record(peer_id, operator, JobVerdict.PROTOCOL_BROKEN, error.message)
            raise

    @asynccontextmanager
    async def run(
        self,
        session: OpenSession,
        *,
        prompt: str | None = None,
        messages: Sequence[MessageLike] | None = None,
        texts: Sequence[str] | None = None,
        system_prompt: str | None = None,
        parameters: Mapping[str, object] | None = None,
        max_output_tokens: int | None = None,
        timeout_s: float | None = None,
        quote: QuoteOffer | None = None,
    ) -> AsyncIterator[Job]:
        """Run one job in a session; iterate over the job inside the block.

        Leaving the block before the job is done cancels it on the host; the tokens up to then are charged.

        Args:
            session: an open session on the host.
            prompt: one message of the user.
            messages: a conversation: mappings of ``role`` and ``content``.
            texts: texts to embed. Exactly one of the three is given.
            system_prompt: goes before the prompt or the conversation.
            parameters: settings of the work, such as ``{"temperature": 0}``.
            max_output_tokens: most tokens of the answer; None = the host's own limit, or that of ``quote``.
            timeout_s: seconds for everything; it runs out only while the job is waited for, its turn included (below).
                None = no limit. While models are checked a job may wait for a canary's end, for half of it at most.
            quote: one from :meth:`request_quote` for this session's host and model; None = a new one is asked for.

        Yields:
            The job, accepted by the host and perhaps still in its queue.

        Raises:
            JobError: the host refused the job, or the input is too large (``reason``). Nothing was executed.
            ParameterError: a setting that cannot be used, by its name. Nothing was executed.
            UsageError: contradicting arguments; nothing was sent.
            SessionError: the session takes no new work: it was closed, has expired, or the host's binding was revoked
                (``reason``). The host gets no prompt.
            TransportError: the path failed; ``may_have_executed`` says whether the host may have begun.
            RemoteProtocolError: the host broke the protocol.

        Cost: two round trips on a warm connection before the job is accepted, one with ``quote``; one more for
        the first job of a session that an earlier run used, and up to three, in 2 s, where an outage left jobs open.
        Its prompt leaves only while all prompts of the session that have no answer yet cannot cost more than a slice
        together: beyond, it waits until another job's first piece was read, or that job ended. Read jobs in tasks of
        their own, or open the session with a larger slice.
        """
        deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
        wire = build_input(prompt=prompt, messages=messages, texts=texts, system_prompt=system_prompt)
        checked = check_parameters(parameters or {})
        _refuse_if_closed(session)
        # One under a quote that was asked for apart is like no other, and is not watched.
        watching = Watching(
            self._watch() if self._watch is not None and quote is None else None,
            session=session,
            wire=wire,
            parameters=checked,
            max_output_tokens=max_output_tokens,
            timeout_s=timeout_s,
        )
        with watching:
            await watching.leave()
            try:
                offer = await self._offer(session, quote, watching.parameters, max_output_tokens, deadline)
            except ParameterError as error:
                if not watching.may_go_without_seed(error):
                    raise
                offer = await self._offer(session, quote, watching.parameters, max_output_tokens, deadline)
            ask = partial(self._offer, session, quote, watching.parameters, max_output_tokens, deadline)
            async with self._run(session, wire, watching, offer, deadline, None if quote is not None else ask) as job:
                yield job

    @asynccontextmanager
    async def _run(
        self,
        session: OpenSession,
        wire: WireInput,
        watching: Watching,
        offer: QuoteOffer,
        deadline: float,
        ask_again: Callable[[], Awaitable[QuoteOffer]] | None,
    ) -> AsyncIterator[Job]:
        def record(verdict: JobVerdict, detail: str) -> None:
            watching.ended()
            self._record(session.peer_id, session.authorization.operator, verdict, detail)

        def check(offer: QuoteOffer) -> None:
            _refuse_if_closed(session)  # a revocation may have come while the host thought of a price
            if session.spending_limit_micros == 0 and offer.price_micros_per_mtok > 0:
                raise job_refused("SPENDING_LIMIT", "the session may spend nothing, and the model is not free")
            if not self._sessions.is_used(tracked, offer.quote_id):
                return
            if ask_again is None:
                raise job_refused("QUOTE_EXPIRED", "a job ran under the quote")
            broken = RemoteProtocolError("the host gave one quote id for two jobs")
            record(JobVerdict.PROTOCOL_BROKEN, broken.message)
            raise broken

        _refuse_if_closed(session)
        tracked = self._sessions.track(session)
        if tracked.unsure:
            await send_again(self._caller, session, tracked.unsure)
            tracked.unsure.clear()
        await self._sessions.unsettled.settle(tracked.key)
        async with tracked.turns.hold(
            offer,
            micros=lambda offer: (
                least_prompt_micros(wire, offer),
                most_prompt_micros(wire, offer, self._counter(offer)),
            ),
            check=check,
            ask_again=ask_again,
            deadline=deadline,
        ) as fresh:
            _refuse_if_closed(session)  # or while its prompt waited
            async with self._send(session, wire, watching.parameters, fresh, deadline, tracked, record) as job:
                yield job

    @asynccontextmanager
    async def _send(
        self,
        session: OpenSession,
        wire: WireInput,
        parameters: Parameters,
        offer: QuoteOffer,
        deadline: float,
        tracked: TrackedSession,
        record: Callable[[JobVerdict, str], None],
    ) -> AsyncIterator[Job]:
        salt = self._system.random_bytes(SALT_BYTES)
        request = run_request(offer.quote_id, wire, parameters, salt=salt)
        spending, conduct = tracked.spending, tracked.conduct
        terms = tracked.job_terms(offer)
        self._receipts.papers.put_quote(terms.session, terms.job_id, offer.envelope, is_host=False)
        audit = JobAudit(terms, spending, job_input=wire, salt=salt, counter=self._counter(offer), quote=offer.envelope)
        signs = Countersigner(self._caller, session, audit, self._receipts, unix_s=self._system.unix_s)
        job: Job | None = None
        job_conduct = conduct.begin(
            terms,
            now=trio.current_time(),
            deadline=deadline,
            most_prompt_micros=most_prompt_micros(wire, offer, None),
            may_fill_context=audit.may_fill_context,
            says_draining=partial(self._says_draining, session.peer_id),
        )
        try:
            async with JobServiceClient(self._caller, session.peer_id).run(
                request, timeout_s=_left(deadline), session_id=session.session_id
            ) as responses:
                job = Job(
                    responses,
                    Transcript(offer, wire),
                    offer,
                    countersigner=signs,
                    conduct=job_conduct,
                    record=record,
                )
                await job.wait_accepted()
                try:
                    yield job
                finally:
                    await job.leave()
        finally:
            # Once the stream has ended: the host then knows what a job that was cut came to.
            if job is not None:
                await job.settle()
            conduct.end(offer.quote_id, now=trio.current_time(), is_settled=job is not None and job.is_settled)
            if job is not None and job.may_settle:
                self._sessions.unsettled.keep(tracked.key, signs)

    def _counter(self, offer: QuoteOffer) -> TokenCounter | None:
        return None if self._counter_of is None else self._counter_of(offer.tokenizer_sha256 or NO_DIGEST)

    async def _offer(
        self,
        session: OpenSession,
        quote: QuoteOffer | None,
        parameters: Parameters,
        max_output_tokens: int | None,
        deadline: float,
    ) -> QuoteOffer:
        if quote is None:
            return await self.request_quote(
                session.peer_id,
                session.model_id,
                parameters=parameters,
                max_output_tokens=max_output_tokens,
                max_price_micros_per_mtok=session.max_price_micros_per_mtok,
                currency=session.currency,
                timeout_s=min(QUOTE_TIMEOUT_S, _left(deadline) or QUOTE_TIMEOUT_S),
                operator=session.authorization.operator,
            )
        if quote.peer_id != session.peer_id or quote.model_id != session.model_id:
            raise UsageError("the quote is of another host or model than the session")
        if max_output_tokens is not None and max_output_tokens != quote.max_output_tokens:
            raise UsageError("the quote fixes max_output_tokens", remedy="Ask for a quote with the number wanted.")
        if quote.currency != session.currency or quote.price_micros_per_mtok > session.max_price_micros_per_mtok:
            raise job_refused("PRICE_TOO_LOW", "the quote is above the session's price ceiling")
        return quote

    def _record(self, peer_id: PeerId, operator: bytes, verdict: JobVerdict, detail: str) -> None:
        is_own_doing = self._is_leaving is not None and self._is_leaving()
        if self._outcomes is None or (is_own_doing and not verdict.is_good):
            return
        try:
            self._outcomes.record_job(peer_id, operator, verdict, detail)
        except StoreError as error:
            # The job's own end matters more than its entry in the book.
            logger.warning(
                "outcome not recorded: %s", error.message, extra={"peer_id": peer_id, "verdict": verdict.value}
            )


def _refuse_if_closed(session: OpenSession) -> None:
    if session.is_closed:
        raise ended(session.end_reason)


def _token_count(name: str, value: int | None, *, least: int) -> int | None:
    if value is not None and (type(value) is not int or not least <= value < 2**32):
        raise UsageError(f"{name} is a whole number, {least} or more", remedy=f"Correct {name} or leave it out.")
    return value


def _left(deadline: float) -> float | None:
    if deadline == math.inf:
        return None
    left_s = deadline - trio.current_time()
    if left_s <= 0:
        error = DeadlineExceededError("no time was left to run the job")
        error.may_have_executed, error.retry_safe = False, True
        raise error
    return left_s
