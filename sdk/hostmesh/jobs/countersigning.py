"""The client's side of one job's receipts: audits each, keeps it, countersigns it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeAlias

import trio

from hostmesh.errors import HostmeshError, MalformedMessageError, ReceiptError, RpcError, TransportError
from hostmesh.identity.structs import Receipt, SessionAuthorization
from hostmesh.jobs.reasons import slice_used_up
from hostmesh.jobs.transcript import EmbeddingResult, TextDelta
from hostmesh.jobs.usage import Usage
from hostmesh.net.peer_id import PeerId
from hostmesh.receipts.client_ledger import JobAudit, Refuse, Withhold
from hostmesh.receipts.host_ledger import COUNTERSIGN_TIMEOUT_S
from hostmesh.receipts.reasons import ReceiptFault
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.receipts.store import PaidJob, ReceiptStore
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.v1 import job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient

logger = logging.getLogger("hostmesh.jobs")

UnixTime: TypeAlias = Callable[[], float]

SETTLE_TIMEOUT_S = 2.0
"""Most time that leaving a job takes for its last receipt."""
SEND_AGAIN_TIMEOUT_S = 10.0
HAS_NONE = frozenset({ReceiptFault.UNKNOWN_RECEIPT.value, ReceiptFault.PIECES_WENT_BACK.value})
"""A host that says so has no last receipt over what came, and will have none."""
MOST_PIECES = 2**64 - 1
"""However many were sent."""


class SigningSession(Protocol):
    """What countersigning needs of a session (:class:`hostmesh.sessions.session.Session`)."""

    @property
    def session_id(self) -> bytes:
        """16 bytes."""
        ...

    @property
    def peer_id(self) -> PeerId:
        """The host."""
        ...

    @property
    def authorization(self) -> SessionAuthorization:
        """What was signed to open it."""
        ...

    @property
    def signed_authorization(self) -> bytes:
        """The same as a message with its signature, serialised."""
        ...

    @property
    def delegation(self) -> bytes:
        """The message that lets a session key sign, serialised; empty = the client's wallet signed."""
        ...

    @property
    def grant(self) -> bytes:
        """The host's signed grant."""
        ...

    @property
    def signer(self) -> bytes:
        """Who signed that, 20 bytes."""
        ...

    def countersign(self, receipt: Receipt) -> bytes:
        """Sign a receipt that was found right, with the key that signed the authorisation; 65 bytes."""
        ...

    def charge(self, amount_micros: int) -> None:
        """Note that this client is about to acknowledge so much more; on disk when it returns.

        Raises:
            HostmeshError: it may not, or it could not be written.
        """
        ...


class Countersigner:
    """The receipts of one job, at its client.

    Args:
        caller: makes the calls.
        session: the job's.
        audit: of the job.
        book: keeps receipts.
        unix_s: the wall clock.
    """

    def __init__(
        self, caller: RpcCaller, session: SigningSession, audit: JobAudit, book: ReceiptStore, *, unix_s: UnixTime
    ) -> None:
        self._caller = caller
        self._session = session
        self._audit = audit
        self._book = book
        self._unix_s = unix_s
        self._undelivered: job_pb2.CountersignRequest | None = None
        self._is_tried = False
        self._pieces = 0
        self._charged_micros = 0
        self._countersigned = b""
        self._is_refused = False
        self._has_proof = False
        self._is_settled = False
        self._is_hopeless = False
        self._until_s: float | None = None

    @property
    def has_proof(self) -> bool:
        """Whether a receipt was refused whose lie can be shown to anybody."""
        return self._has_proof

    @property
    def is_settled(self) -> bool:
        """Whether the last receipt of the job was countersigned, and the host has it."""
        return self._is_settled and self._undelivered is None

    @property
    def may_settle(self) -> bool:
        """Whether the job is open, and its host may still have a last receipt that can be countersigned."""
        return not (self.is_settled or self._is_refused or self._is_hopeless)

    @property
    def job_id(self) -> bytes:
        """16 bytes."""
        return self._audit.job_id

    @property
    def kept_bytes(self) -> int:
        """Of the prompt, and of what of the answer came."""
        return self._audit.kept_bytes

    @property
    def last(self) -> Receipt | None:
        """The receipt that was found right last."""
        signed = self._audit.last
        return None if signed is None else signed.receipt

    def piece(self, event: TextDelta | EmbeddingResult) -> None:
        """Note a piece of the answer, before its receipt comes.

        Raises:
            ReceiptError: the host broke the protocol.
        """
        if isinstance(event, TextDelta):
            self._audit.text(event.index, event.text, event.completion_tokens)
        else:
            self._audit.vector(event.index, event.values)
        self._pieces += 1

    async def receipt(self, envelope: bytes, *, is_asked_for: bool = False) -> Receipt:
        """Audit a receipt, and countersign it. Returns it.

        A countersignature that cannot be delivered harms nobody: the next receipt covers the same, and a host that
        waits in vain ends the job.

        Raises:
            ReceiptError: the receipt is wrong, by its reason. It was kept, not countersigned; the job is over.
            JobError: SLICE_TOO_SMALL: this client pays for no more prompts without an answer. Nothing was signed.
            HostmeshError: it could not be kept, or the budget does not cover it. Nothing was signed.
        """
        verdict = self._audit.receipt(envelope, now=self._unix_s(), is_asked_for=is_asked_for)
        if isinstance(verdict, Refuse):
            self._is_refused = True
            self._has_proof = verdict.proof is not None
            self._book.put_refused(envelope, verdict, network=self._audit.network)
            raise ReceiptError(verdict.message, reason=verdict.reason.value)
        if isinstance(verdict, Withhold):
            self._is_hopeless = self._is_hopeless or is_asked_for
            raise slice_used_up(may_have_executed=True)
        receipt = verdict.signed.receipt
        self._session.charge(receipt.cost_micros - self._charged_micros)
        self._charged_micros = receipt.cost_micros
        signature = self._session.countersign(receipt)
        self._book.put_countersigned(verdict.signed, signature, signer=self._session.signer)
        self._countersigned = envelope
        self._is_settled = verdict.signed.state.is_final
        self._undelivered = job_pb2.CountersignRequest(
            job_id=receipt.job_id, sequence=receipt.sequence, signature=signature
        )
        self._is_tried = False
        await self.deliver()
        return receipt

    async def deliver(self) -> None:
        """Deliver the last countersignature, unless it was tried. Call it again where :meth:`receipt` was cancelled."""
        if not self._is_tried:
            await self._deliver()

    async def _deliver(self) -> None:
        request = self._undelivered
        if request is None:
            return
        try:
            await JobServiceClient(self._caller, self._session.peer_id).countersign(
                request, timeout_s=COUNTERSIGN_TIMEOUT_S, session_id=self._session.session_id
            )
        except (RpcError, TransportError) as error:
            logger.info("receipt not delivered: %s", error.message, extra={"peer_id": self._session.peer_id})
            # Of a path that failed, the end of the job makes one more attempt.
            self._is_tried = True
            if isinstance(error, TransportError):
                return
        self._undelivered = None

    def check_usage(self, usage: Usage) -> None:
        """Check that the usage which ends a job says what its last receipt says.

        Raises:
            MalformedMessageError: another number, or no last receipt.
        """
        last = self.last
        told = (usage.prompt_tokens, usage.completion_tokens, usage.cost_micros)
        if (
            last is None
            or last.state != JobState.SUCCEEDED
            or told != (last.prompt_tokens, last.completion_tokens, last.cost_micros)
        ):
            raise MalformedMessageError("the usage is not that of the last receipt", field="completed.usage")

    async def leave(self, read_out: Callable[[], Awaitable[None]]) -> None:
        """Leave a job that runs: the host stops it, and what it had sent by then is paid for. Never raises.

        So nothing is under way that neither side can settle. Takes 2 s at most, also when cancelled, and what it takes
        :meth:`settle` has no more.

        Args:
            read_out: reads the job's stream to its end, noting its pieces and receipts here; raises nothing.
        """
        with trio.CancelScope(shield=True), trio.move_on_at(self._settles_until()):
            await self._deliver()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_out)
                envelope = await self._ask(MOST_PIECES)
                if envelope is None:
                    nursery.cancel_scope.cancel()
            if envelope is not None:
                await self._take_last(envelope)

    async def settle(self) -> None:
        """Ask for the last receipt of a job that was cut, over the pieces that came, unless one came. Never raises.

        So the host is paid for what arrived, and the session's slice is free again. Takes 2 s at most, also when
        cancelled.
        """
        with trio.CancelScope(shield=True), trio.move_on_at(self._settles_until()):
            await self._deliver()
            if self._is_refused or self._is_settled:
                return
            envelope = await self._ask(self._pieces)
            if envelope is not None:
                await self._take_last(envelope)

    async def settle_again(self) -> None:
        """Do what :meth:`settle` could not do, once the job is over for its session. Never raises.

        Cancellation: safe; call it again.
        """
        with self._audit.reopened():
            await self._deliver()
            if not self._is_settled and (envelope := await self._ask(self._pieces)) is not None:
                await self._take_last(envelope)

    def _settles_until(self) -> float:
        """Return until when this job may be settled: leaving it and what follows share one limit."""
        if self._until_s is None:
            self._until_s = trio.current_time() + SETTLE_TIMEOUT_S
        return self._until_s

    async def _ask(self, delivered_pieces: int) -> bytes | None:
        request = job_pb2.GetReceiptRequest(job_id=self._audit.job_id, delivered_pieces=delivered_pieces)
        try:
            response = await JobServiceClient(self._caller, self._session.peer_id).get_receipt(
                request, timeout_s=SETTLE_TIMEOUT_S, session_id=self._session.session_id
            )
        except HostmeshError as error:
            logger.info("job not settled: %s", error.message, extra={"peer_id": self._session.peer_id})
            self._is_hopeless = isinstance(error, RpcError) and error.reason in HAS_NONE
            return None
        return response.receipt

    async def _take_last(self, envelope: bytes) -> None:
        if self._is_refused:
            return
        last = self._audit.last
        if last is not None and last.envelope == envelope:
            # Also a host that started again, which bills nothing more; a receipt that we did not sign stays open.
            self._is_settled = self._countersigned == envelope
            self._is_hopeless = not self._is_settled
            return
        if self._is_over_lost(envelope):
            # Not all that was under way came: no fault of the host.
            self._is_hopeless = True
            logger.info("job not settled: not all of it was read", extra={"peer_id": self._session.peer_id})
            return
        try:
            await self.receipt(envelope, is_asked_for=True)
        except HostmeshError as error:
            logger.info("job not settled: %s", error.message, extra={"peer_id": self._session.peer_id})

    def _is_over_lost(self, envelope: bytes) -> bool:
        """Return whether a last receipt is over pieces that did not come, or repeats a receipt that did not."""
        try:
            receipt = open_sealed(envelope, network=self._audit.network).receipt
        except ReceiptError:
            return False  # the audit says what is wrong with it
        due = 1 if self.last is None else self.last.sequence + 1
        is_repeated = receipt.state == JobState.FAILED and receipt.sequence > due
        return receipt.output_pieces > self._pieces or is_repeated


async def send_again(caller: RpcCaller, session: SigningSession, jobs: Iterable[PaidJob]) -> None:
    """Send countersignatures that are on disk, all at once: a killed client may not have sent them. Never raises.

    To a host that has them it changes nothing; to one that waits for them the session's slice is free again. Takes 10 s
    at most.
    """

    async def send(job: PaidJob) -> None:
        request = job_pb2.CountersignRequest(job_id=job.job_id, sequence=job.sequence, signature=job.countersignature)
        try:
            await JobServiceClient(caller, session.peer_id).countersign(
                request, timeout_s=SEND_AGAIN_TIMEOUT_S, session_id=session.session_id
            )
        except HostmeshError as error:
            logger.info("receipt not delivered again: %s", error.message, extra={"peer_id": session.peer_id})

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(send, job)
