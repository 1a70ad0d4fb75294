"""A running job, as its client holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import NoReturn

import trio

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    HostmeshError,
    JobError,
    RemoteProtocolError,
    RpcError,
    UsageError,
)
from hostmesh.jobs.conduct import JobConduct
from hostmesh.jobs.countersigning import Countersigner
from hostmesh.jobs.engine import FinishReason
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.jobs.reasons import HOST_CAUSED, from_status
from hostmesh.jobs.transcript import Accepted, Completed, EmbeddingResult, ReceiptIssued, TextDelta, Transcript
from hostmesh.jobs.usage import Usage
from hostmesh.jobs.verdict import JobVerdict
from hostmesh.net.peer_id import PeerId
from hostmesh.v1 import job_pb2


class Job:
    """One job on one host. Get one from :meth:`hostmesh.jobs.client.JobManager.run`.

    Iterate over it for the pieces of the answer as they come; the loop ends when the job is done, and only then are
    ``usage`` and ``finish_reason`` there. A job of texts has no pieces: its loop ends with ``vectors`` filled.

    Iterating, :meth:`read_text` and :meth:`read_vectors` raise:

    - :class:`~hostmesh.errors.JobError`: the host ended the job with a reason. ``retry_safe`` is True only when nothing
      was charged and no piece of the answer had come.
    - :class:`~hostmesh.errors.ConnectionLostError`, :class:`~hostmesh.errors.DeadlineExceededError`: the end is not
      known; the tokens so far may be charged.
    - :class:`~hostmesh.errors.RemoteProtocolError`: the host broke the protocol. Do not use it again.

    Cancellation: a cancelled iteration loses nothing; leaving the block of ``run`` stops the job on the host.
    """

    def __init__(
        self,
        responses: AsyncIterator[job_pb2.RunResponse],
        transcript: Transcript,
        offer: QuoteOffer,
        *,
        countersigner: Countersigner,
        conduct: JobConduct,
        record: Callable[[JobVerdict, str], None],
    ) -> None:
        self._responses = responses
        self._transcript = transcript
        self._countersigner = countersigner
        self._conduct = conduct
        self._record = record
        self._vectors: list[tuple[float, ...]] = []
        self._accepted: Accepted | None = None
        self._completed: Completed | None = None
        self._error: HostmeshError | None = None
        self._is_read = False
        self._is_done = False
        self._is_left = False
        self._text: str | None = None
        self.offer = offer
        """The quote that the job runs under."""

    @property
    def peer_id(self) -> PeerId:
        """The host."""
        return self.offer.peer_id

    @property
    def job_id(self) -> bytes:
        """The host's name for the job, 16 bytes."""
        assert self._accepted is not None
        return self._accepted.job_id

    @property
    def queue_position(self) -> int:
        """Where the job stood when the host accepted it: 0 = it started at once, n = the n-th in the queue."""
        assert self._accepted is not None
        return self._accepted.queue_position

    @property
    def is_done(self) -> bool:
        """The job has ended well: usage and finish reason are there."""
        return self._is_done

    @property
    def is_settled(self) -> bool:
        """Nothing of the job is open: its last receipt was countersigned, or the host refused it."""
        is_refused = self._accepted is None and isinstance(self._error, JobError)
        return is_refused or self._countersigner.is_settled

    @property
    def may_settle(self) -> bool:
        """Whether its last receipt may be asked for again. Only the manager asks."""
        is_broken = isinstance(self._error, RemoteProtocolError)
        return not (self.is_settled or is_broken) and self._countersigner.may_settle

    @property
    def usage(self) -> Usage:
        """Tokens and cost, checked against the quote.

        Raises:
            UsageError: the job has not ended well (yet).
        """
        return self._end_of("usage").usage

    @property
    def finish_reason(self) -> FinishReason:
        """Why the answer ended.

        Raises:
            UsageError: the job has not ended well (yet).
        """
        return self._end_of("finish_reason").finish_reason

    @property
    def vectors(self) -> tuple[tuple[float, ...], ...]:
        """The vectors that have come, in the order of the texts; all of them once the job is done."""
        return tuple(self._vectors)

    @property
    def text(self) -> str | None:
        """The whole answer, once :meth:`read_text` has read it; None before: pieces are not kept."""
        return self._text

    def __aiter__(self) -> AsyncIterator[TextDelta]:
        return self

    async def __anext__(self) -> TextDelta:
        if self._error is not None:
            raise self._error
        while not self._is_done:
            event = await self._next()
            match event:
                case TextDelta():
                    return event
                case EmbeddingResult():
                    self._vectors.append(event.values)
                case Completed():
                    self._completed = event
                case None:
                    self._is_done = True
                    self._record(JobVerdict.FINISHED, "")
        raise StopAsyncIteration

    async def read_text(self) -> str:
        """Read to the end and return the pieces that had not come yet, as one text. It stays in ``text``."""
        if self._text is None:
            self._text = "".join([delta.text async for delta in self])
        return self._text

    async def read_vectors(self) -> tuple[tuple[float, ...], ...]:
        """Read to the end and return all vectors, in the order of the texts."""
        async for _ in self:
            pass
        return self.vectors

    async def wait_accepted(self) -> None:
        """Wait for the host to take the job. Only the manager calls this.

        Raises:
            JobError: the host refused it; nothing was executed.
        """
        accepted = await self._next()
        if not isinstance(accepted, Accepted):
            # The host ended the call with OK and nothing in it.
            self._fail(RemoteProtocolError("the host ended the job without accepting it"), is_bad=True)
        self._accepted = accepted

    async def leave(self) -> None:
        """Stop a job that runs, while its stream is there. Only the manager calls this. Never raises."""
        if self._accepted is not None and not self._is_done and self._error is None:
            self._is_left = True
            await self._countersigner.leave(self._read_out)

    async def settle(self) -> None:
        """See to the last receipt of a job, and that the host has it. Only the manager calls this. Never raises."""
        if self._accepted is not None:
            await self._countersigner.settle()

    async def _read_out(self) -> None:
        with suppress(HostmeshError):
            while await self._next() is not None:
                pass

    async def _next(self) -> Accepted | TextDelta | EmbeddingResult | Completed | None:
        """Return the next event that a caller may see; None = the call ended with OK."""
        self._conduct.reading(trio.current_time())
        try:
            return await self._receive()
        finally:
            if self._error is None and not self._is_read:
                self._conduct.left(trio.current_time())

    async def _receive(self) -> Accepted | TextDelta | EmbeddingResult | Completed | None:
        try:
            while True:
                await self._countersigner.deliver()
                try:
                    response = await anext(self._responses)
                except StopAsyncIteration:
                    if self._accepted is not None:
                        self._transcript.end()
                    self._is_read = True
                    return None
                event = self._transcript.event(response)
                match event:
                    case ReceiptIssued():
                        receipt = await self._countersigner.receipt(event.envelope)
                        self._conduct.countersigned(receipt.cost_micros, trio.current_time())
                        continue
                    case TextDelta() | EmbeddingResult():
                        self._countersigner.piece(event)
                    case Completed():
                        self._countersigner.check_usage(event.usage)
                return event
        except RpcError as error:
            accepted = self._transcript.is_accepted
            refused = from_status(error, accepted=accepted, delivered=self._transcript.is_delivered)
            is_bad = self._is_failure(refused) if accepted else refused.reason in HOST_CAUSED
            self._fail(refused, is_bad=is_bad, cause=error)
        except RemoteProtocolError as error:
            self._fail(error, is_bad=True)
        except ConnectionLostError as error:
            self._fail(error, is_bad=self._transcript.is_accepted and self._is_failure(error))
        except DeadlineExceededError as error:
            self._fail(error, is_bad=self._transcript.is_accepted and self._is_failure(error))
        except HostmeshError as error:
            self._fail(error, is_bad=False)

    def _is_failure(self, error: HostmeshError) -> bool:
        return self._conduct.is_hosts_failure(error, trio.current_time())

    def _fail(self, error: HostmeshError, *, is_bad: bool, cause: HostmeshError | None = None) -> NoReturn:
        self._error = error
        # Of a job that its caller left, only a host that lies is held against it.
        if is_bad and (not self._is_left or isinstance(error, RemoteProtocolError)):
            verdict = JobVerdict.FAILED
            if isinstance(error, RemoteProtocolError):
                is_proven = self._countersigner.has_proof
                verdict = JobVerdict.FALSE_RECEIPT if is_proven else JobVerdict.PROTOCOL_BROKEN
            self._record(verdict, error.message)
        if cause is not None:
            raise error from cause
        raise error

    def _end_of(self, name: str) -> Completed:
        if not self._is_done or self._completed is None:
            raise UsageError(f"the job has no {name} yet", remedy="Read it to its end first.")
        return self._completed

    def __repr__(self) -> str:
        state = "failed" if self._error is not None else "done" if self._is_done else "running"
        return f"Job({self.offer.model_id!r}, {state}, peer_id={self.peer_id})"
