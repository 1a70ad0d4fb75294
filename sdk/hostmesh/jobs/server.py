"""The host's side of jobs: serves JobService in front of an engine.

A job goes through: quote; session, price ceiling and spending limit; a slot or a place in the queue; the engine; its
usage. It ends exactly once, and whatever happens its slot is freed and its reservation settled. What a job costs that
does not succeed: nothing when the host failed it, the tokens up to then when the client cancelled it.

Prompts and answers are never logged or kept.

Spec: docs/protocols/job.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping

import trio

from hostmesh.errors import ConnectionLostError, EngineError, JobError, ReceiptError, RpcError, StatusCode
from hostmesh.jobs.accepted import AcceptedJob
from hostmesh.jobs.account import RequireSession
from hostmesh.jobs.admission import Admission, JobLimits
from hostmesh.jobs.content import within_context, work_of
from hostmesh.jobs.delivery import Delivery
from hostmesh.jobs.engine import ChatWork, Engine, Work
from hostmesh.jobs.offer import QUOTE_ID_BYTES, seal_quote
from hostmesh.jobs.parameters import decode_parameters
from hostmesh.jobs.quoter import Quoter
from hostmesh.jobs.reasons import engine_refused, job_refused, to_status
from hostmesh.jobs.receipt_desk import ClientStandings, ReceiptDesk
from hostmesh.jobs.stats import STATE_OF, JobOutcome, JobStats
from hostmesh.jobs.throughput import Throughput
from hostmesh.jobs.usage import TokenMeter, most_tokens
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.prompt_room import prompt_room
from hostmesh.receipts.receipt import JobState
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.shapes import SendResponse
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.system import System
from hostmesh.v1 import job_pb2
from hostmesh.v1.job_hostmesh import JobServiceBase

logger = logging.getLogger("hostmesh.jobs")


class JobServer(JobServiceBase):
    """Handler of ``hostmesh.v1.JobService``.

    Args:
        engine: does the work.
        key: the host's peer key; signs quotes.
        network: the network's name.
        prices: by model id; a model without one is served to nobody.
        require_session: see :data:`hostmesh.jobs.account.RequireSession`.
        receipts: keeps the receipts of all jobs.
        clients: told how clients pay; None = nobody is.
        limits: slots, queue and times.
        system: clocks and random bytes.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        key: PeerKey,
        network: str,
        prices: Mapping[str, ModelPrice],
        require_session: RequireSession,
        receipts: ReceiptStore,
        clients: ClientStandings | None = None,
        limits: JobLimits | None = None,
        system: System | None = None,
    ) -> None:
        self._engine = engine
        self._key = key
        self._network = network
        self._require_session = require_session
        self._limits = limits or JobLimits()
        self._system = system or System()
        self._desk = ReceiptDesk(key=key, network=network, store=receipts, system=self._system, clients=clients)
        self._quoter = Quoter(engine.models(), prices, self._limits)
        self._admission = Admission(self._limits)
        self._throughput = Throughput()
        self._jobs: dict[bytes, AcceptedJob] = {}
        self._job_ended = trio.Event()
        self._watchers: dict[object, Callable[[], None]] = {}
        self._accepted = 0
        self._outcomes: Counter[JobOutcome] = Counter()
        self._refused: Counter[str] = Counter()
        self._prompt_tokens = 0
        self._completion_tokens = 0

    # --- what the host asks ---

    def stats(self) -> JobStats:
        """Return the load and the counters as they are now."""
        return JobStats(
            active_jobs=self._admission.active,
            queued_jobs=self._admission.queued,
            max_concurrent_jobs=self._limits.max_concurrent_jobs,
            max_queued_jobs=self._limits.max_queued_jobs,
            is_draining=self._admission.is_draining,
            accepted=self._accepted,
            outcomes=dict(self._outcomes),
            refused=dict(self._refused),
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
        )

    def clients(self) -> frozenset[PeerId]:
        """Return the peers whose jobs run or wait here."""
        return frozenset(job.peer_id for job in self._jobs.values())

    def throughput_of(self, model_id: str) -> int | None:
        """Return how fast a model answers a job alone, in thousandths of a token per second; None = not measured."""
        return self._throughput.of(model_id)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, in no particular task, whenever load or draining changed.

        Args:
            callback: quick, raises nothing, does not wait; reads :meth:`stats` itself.

        Returns:
            Ends it. Idempotent.
        """
        token = object()
        self._watchers[token] = callback

        def stop() -> None:
            self._watchers.pop(token, None)

        return stop

    def set_prices(self, prices: Mapping[str, ModelPrice]) -> None:
        """Ask these prices from now on. Quotes that were given keep theirs."""
        self._quoter.set_prices(prices)

    def price_of(self, model_id: str, peer_id: PeerId) -> ModelPrice | None:
        """Return the least that this client pays for a model: today's price, or that of a quote it still holds.

        The price source of :class:`hostmesh.sessions.server.SessionServer`: a quote precedes its session, and a price
        that rose meanwhile does not break it.

        Returns:
            None = the model is not offered at a price.
        """
        return self._quoter.price_of(model_id, peer_id, self._system.monotonic_s())

    def begin_drain(self) -> None:
        """Refuse every new quote and job with DRAINING from now on. Idempotent."""
        self._admission.drain()
        self._changed()

    async def drain(self, timeout_s: float) -> None:
        """Take no new jobs, let those that were accepted end, and cancel what is left after ``timeout_s``.

        Returns once no job is left: soon after the timeout at the latest, since an engine stops within a second.

        Cancellation: safe; the host stays draining, its jobs go on.
        """
        self.begin_drain()
        with trio.move_on_after(timeout_s):
            await self._wait_for_no_jobs()
        for job in self._jobs.values():
            job.stop(JobOutcome.DRAINED)
        await self._wait_for_no_jobs()

    # --- the service ---

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        """Serve Quote."""
        try:
            self._admission.check(context.peer_id)
            terms = self._quoter.issue(
                request,
                context.peer_id,
                quote_id=self._system.random_bytes(QUOTE_ID_BYTES),
                now=self._system.monotonic_s(),
            )
        except JobError as error:
            raise self._refusal(error, context) from error
        envelope = seal_quote(
            self._key,
            terms,
            network=self._network,
            issued_at_unix_s=int(self._system.unix_s()),
            lifetime_s=int(self._limits.quote_lifetime_s),
            queue_position=self._admission.jobs_ahead,
        )
        self._quoter.book.keep_envelope(terms.quote_id, envelope)
        return job_pb2.QuoteResponse(quote=envelope)

    async def run(
        self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse[job_pb2.RunResponse]
    ) -> None:
        """Serve Run."""
        try:
            job = await self._accept(request, context)
        except JobError as error:
            raise self._refusal(error, context) from error
        except EngineError as error:
            raise self._refusal(self._engine_failed(error, executed=False), context) from error
        except ReceiptError as error:
            raise self._receipt_refusal(error, context) from error
        except RpcError as error:
            self._refused[error.reason or error.status.name] += 1
            raise
        try:
            await self._see_through(job, context, send)
        finally:
            self._end(job)

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        """Serve Countersign."""
        try:
            self._desk.countersign(request, context)
        except ReceiptError as error:
            raise self._receipt_refusal(error, context) from error
        self._start_more()
        return job_pb2.CountersignResponse()

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        """Serve GetReceipt. Who asks for the last receipt of a job that runs leaves it."""
        if (job := self._jobs.get(request.job_id)) is not None and self._desk.is_of(job.bill, context):
            job.stop(JobOutcome.CANCELLED)
        try:
            return job_pb2.GetReceiptResponse(receipt=await self._desk.last_receipt(request, context))
        except ReceiptError as error:
            raise self._receipt_refusal(error, context) from error

    # --- inside ---

    async def _accept(self, request: job_pb2.RunRequest, context: CallContext) -> AcceptedJob:
        """Check everything, the cheap first, and let the job in."""
        self._admission.check(context.peer_id)
        terms = self._quoter.book.look_up(request.quote_id, context.peer_id, self._system.monotonic_s())
        session = self._require_session(context, terms.model_id)
        if session.currency != terms.currency or session.max_price_micros_per_mtok < terms.price_micros_per_mtok:
            raise job_refused("PRICE_TOO_LOW", "the quote is above the session's price ceiling")
        model = self._quoter.model(terms.model_id)
        parameters = decode_parameters(request.parameters, supported=model.parameters)
        work = work_of(request, model, max_output_tokens=terms.max_output_tokens, parameters=parameters)
        prompt_tokens = await self._count(work)
        work = within_context(work, prompt_tokens=prompt_tokens, context_tokens=terms.context_tokens)
        job_input = request.chat if isinstance(work, ChatWork) else request.embedding
        max_output_tokens = work.max_output_tokens if isinstance(work, ChatWork) else 0
        prompt = prompt_room(
            job_input, prompt_tokens, context_tokens=terms.context_tokens, max_output_tokens=max_output_tokens
        )
        prompt.check_slice(session.slice_micros, terms.price_micros_per_mtok)
        most = most_tokens(work, prompt_tokens=prompt_tokens, context_tokens=terms.context_tokens)
        # No await from here on: what is checked holds when it is taken.
        now = self._system.monotonic_s()
        self._quoter.book.look_up(terms.quote_id, context.peer_id, now)
        self._admission.check(context.peer_id)
        # Counting may have taken minutes: the session may be over.
        session = self._require_session(context, terms.model_id)
        reservation = session.reserve(cost_micros(most, terms.price_micros_per_mtok))
        try:
            bill = self._desk.open_bill(
                session,
                terms,
                job_input=job_input,
                salt=request.salt,
                reservation=reservation,
                most_micros=cost_micros(most, terms.price_micros_per_mtok),
                prompt=prompt,
            )
        except BaseException:
            reservation.release()
            raise
        self._quoter.book.consume(terms.quote_id, context.peer_id, now)
        job = AcceptedJob(
            job_id=bill.job_id,
            peer_id=context.peer_id,
            work=work,
            meter=TokenMeter(reserved_tokens=most, max_output_tokens=max_output_tokens, prompt_tokens=prompt_tokens),
            bill=bill,
            queue_position=self._admission.submit(bill.job_id, context.peer_id, lambda _: bill.may_start()),
        )
        if job.queue_position == 0:
            job.turn.set()
        self._jobs[job.job_id] = job
        self._accepted += 1
        self._changed()
        return job

    async def _count(self, work: Work) -> int | None:
        with trio.move_on_after(self._limits.engine_silence_s):
            return await self._engine.count_prompt_tokens(work)
        raise EngineError(f"the engine counted no tokens for {self._limits.engine_silence_s:g} s")

    async def _see_through(
        self, job: AcceptedJob, context: CallContext, send: SendResponse[job_pb2.RunResponse]
    ) -> None:
        async def send_whole(response: job_pb2.RunResponse) -> None:
            await trio.lowlevel.checkpoint_if_cancelled()  # what is begun goes out whole, or takes the stream with it
            job.is_sending = True
            await job.bill.send_in_time(response, send)
            job.is_sending = False
            if job.stopped_as is not None:
                job.scope.cancel()

        try:
            with job.scope:
                await send_whole(
                    job_pb2.RunResponse(
                        accepted=job_pb2.JobAccepted(job_id=job.job_id, queue_position=job.queue_position)
                    )
                )
                await job.bill.wait_for(job.turn)
                job.scope.deadline = trio.current_time() + self._limits.max_job_s
                with self._throughput.time_job(job.work.model_id) as pace:
                    delivery = Delivery(job.work, job.meter, job.bill, send_whole, pace)
                    await delivery.run(self._engine, silence_s=self._limits.engine_silence_s)
                job.outcome = JobOutcome.SUCCEEDED
        except EngineError as error:
            raise to_status(self._engine_failed(error, executed=True)) from error
        except JobError as error:
            job.outcome = JobOutcome.UNPAID
            raise to_status(error) from error
        except ConnectionLostError:
            job.outcome = JobOutcome.CANCELLED
            raise
        except trio.Cancelled:
            late = context.deadline is not None and self._system.monotonic_s() >= context.deadline
            job.outcome = JobOutcome.EXPIRED if late else JobOutcome.CANCELLED
            raise
        if job.scope.cancelled_caught:
            job.outcome = job.stopped_as or JobOutcome.EXPIRED
            if job.outcome is JobOutcome.DRAINED:
                raise to_status(job_refused("DRAINING", "the host left before the job was done"))
            if job.outcome is JobOutcome.CANCELLED:
                raise RpcError("the client left the job", status=StatusCode.CANCELLED)
            raise to_status(job_refused("JOB_TIME_LIMIT", f"a job runs at most {self._limits.max_job_s:g} s here"))

    def _end(self, job: AcceptedJob) -> None:
        """Free the slot, settle the bill, count the outcome. Runs once a job, and waits for nothing."""
        state = STATE_OF[job.outcome]
        job.bill.close(state)
        self._desk.end(job.bill)
        if state is not JobState.FAILED:
            self._prompt_tokens += job.bill.prompt_tokens
            self._completion_tokens += job.bill.completion_tokens
        del self._jobs[job.job_id]
        if (promoted := self._admission.leave(job.job_id, self._may_start)) is not None:
            self._jobs[promoted].turn.set()
        self._start_more()
        self._outcomes[job.outcome] += 1
        self._job_ended.set()
        self._job_ended = trio.Event()
        about = {"job_id": job.job_id.hex(), "peer_id": job.peer_id, "model_id": job.work.model_id}
        logger.debug("job ended", extra={**about, "outcome": job.outcome.value})
        self._changed()

    def _may_start(self, job_id: bytes) -> bool:
        return self._jobs[job_id].bill.may_start()

    def _start_more(self) -> None:
        """Start jobs that waited for room in their sessions."""
        while (job_id := self._admission.promote(self._may_start)) is not None:
            self._jobs[job_id].turn.set()

    def _engine_failed(self, error: EngineError, *, executed: bool) -> JobError:
        refusal = engine_refused(error, may_have_executed=executed)
        if refusal.reason == EngineError.reason:
            logger.warning("engine failed: %s", error.message, extra={"error_code": error.code})
        return refusal

    def _refusal(self, error: JobError, context: CallContext) -> RpcError:
        self._refused[error.reason] += 1
        logger.debug("job refused", extra={"peer_id": context.peer_id, "reason": error.reason})
        return to_status(error)

    def _receipt_refusal(self, error: ReceiptError, context: CallContext) -> RpcError:
        self._refused[error.reason] += 1
        logger.debug("receipt refused", extra={"peer_id": context.peer_id, "reason": error.reason})
        return RpcError(error.message, status=StatusCode.FAILED_PRECONDITION, reason=error.reason, remedy=error.remedy)

    async def _wait_for_no_jobs(self) -> None:
        while self._jobs:
            await self._job_ended.wait()

    def _changed(self) -> None:
        for callback in list(self._watchers.values()):
            callback()
