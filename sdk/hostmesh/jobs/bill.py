"""What one job of a host comes to while it runs: its receipts, and the waits for their countersignatures.

A step (the prompt, then each piece of the answer) is served when the session's slice has room for it. Every piece goes
into the hash chain before it leaves, so that a receipt never covers less than what a client may hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from hostmesh.errors import HostmeshError, JobError, ReceiptError
from hostmesh.jobs.account import JobReservation
from hostmesh.jobs.reasons import job_refused
from hostmesh.jobs.session_account import SessionAccount
from hostmesh.jobs.usage import Usage
from hostmesh.receipts.chain import OutputChain
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.prompt_room import PromptRoom
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.receipts.receipt import JobState
from hostmesh.receipts.terms import JobTerms
from hostmesh.receipts.writer import ReceiptWriter
from hostmesh.v1 import job_pb2

MAX_PIECES_WITHOUT_RECEIPT = 1024
"""So far a job that is cut can be gone back to what its client received; also of a free model."""
LEAST_READ_BYTES_PER_S = 16_384
"""A client that reads slower keeps its host waiting; a line of 128 kbit/s does not."""
_LOOK_AGAIN_S = 1.0

SendResponse = Callable[[job_pb2.RunResponse], Awaitable[None]]


class JobBill:
    """The bill of one job.

    Args:
        account: of its session.
        terms: as quoted.
        chain: begun, without a piece.
        reservation: what the session set aside for it.
        most_micros: how much that is.
        prompt: what it takes of the slice.
    """

    def __init__(
        self,
        account: SessionAccount,
        terms: JobTerms,
        chain: OutputChain,
        reservation: JobReservation,
        *,
        most_micros: int,
        prompt: PromptRoom,
    ) -> None:
        self.account = account
        """Of its session."""
        self._terms = terms
        self._reservation = reservation
        self._chain = chain
        self._writer = ReceiptWriter(terms, chain)
        self._most_micros = most_micros
        self._prompt = prompt
        self._is_counted = prompt.is_counted
        self._prompt_tokens = prompt.tokens if prompt.is_counted else 0
        # As long as it is not counted, and of what is never counted what no receipt claims.
        self._held_micros = 0 if prompt.is_counted else self._cost(prompt.tokens, 0)
        self._began_s: float | None = None
        self._first_piece_ms = 0
        self._room = trio.Event()
        # What the chain was at each piece since the last receipt: a cut job goes back to what was delivered.
        self._marks: list[tuple[int, int, bytes]] = []
        self._final: bytes | None = None
        self._cut_state: JobState | None = None
        self.is_overdue = False
        """The job ended because the client countersigned no receipt in time."""
        self.ended = trio.Event()
        """The job runs no more."""

    @property
    def job_id(self) -> bytes:
        """16 bytes."""
        return self._terms.job_id

    @property
    def was_cut(self) -> bool:
        """The job ended without the last receipt that :meth:`finish` sends."""
        return self._cut_state is not None

    @property
    def marks(self) -> int:
        """Pieces since the last receipt, which a job that is cut may go back to."""
        return len(self._marks)

    @property
    def prompt_tokens(self) -> int:
        """Of the work that began; 0 while the job waits, or as long as they are not known."""
        return 0 if self._began_s is None else self._prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """Of the pieces that were sent."""
        return self._chain.completion_tokens

    def may_start(self) -> bool:
        """Take room for the prompt, now or not at all: a job without it takes no place in the engine."""
        tokens = self._prompt.tokens
        return self.account.ledger.may_start(
            self.job_id,
            self._cost(self._prompt_tokens, 0),
            self.account.monotonic_s(),
            held_micros=self._held_micros,
            beside_micros=self._cost(tokens, self._prompt.answer_tokens) - self._cost(tokens, 0),
        )

    async def wait_for(self, turn: trio.Event) -> None:
        """Wait for the job's turn.

        Raises:
            JobError: RECEIPT_OVERDUE: there is no room for it, and the client makes none.

        Cancellation: safe.
        """
        await self._wait_for(turn)

    def start(self) -> None:
        """Note that the engine starts."""
        self._began_s = self.account.monotonic_s()

    async def send_in_time(self, response: job_pb2.RunResponse, send: SendResponse) -> None:
        """Send a response. A client that is slow to read it uses up the session's patience, unless the model is free.

        Raises:
            JobError: RECEIPT_OVERDUE: it is over. The stream is broken then, if a part of the response was sent.

        Cancellation: a response that was begun is broken off.
        """
        if self._terms.price_micros_per_mtok == 0:
            await send(response)
            return
        patience, now = self.account.ledger.patience, self.account.monotonic_s()
        since = now + response.ByteSize() / LEAST_READ_BYTES_PER_S
        patience.begin(since, now)
        try:
            with trio.move_on_after(since - now + patience.left_s(now)) as in_time:
                await send(response)
        finally:
            patience.end(since, self.account.monotonic_s())
        if in_time.cancelled_caught:
            raise self._overdue("the client does not read")

    async def take_text(self, text: str, completion_tokens: int, send: SendResponse) -> None:
        """Wait for room for the next piece of an answer, and add it. Send it next.

        Raises:
            JobError: RECEIPT_OVERDUE; the piece was not added.

        Cancellation: safe; the piece was not added.
        """
        await self._take_room(self._prompt_tokens, completion_tokens, send)
        # What is in the chain goes out: a job that was told to stop must not come as far.
        await trio.lowlevel.checkpoint_if_cancelled()
        self._mark()
        self._chain.add_text(text, completion_tokens)

    async def add_vector(self, values: Sequence[float]) -> None:
        """Add the vector of the next text; it costs nothing beside the prompt. Send it next.

        Cancellation: safe; the vector was not added.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._mark()
        self._chain.add_vector(values)

    async def send_receipt_if_due(self, send: SendResponse) -> None:
        """Send a receipt when half a slice is not covered by one; call it after each piece was sent."""
        if len(self._marks) >= MAX_PIECES_WITHOUT_RECEIPT or self.account.ledger.wants_receipt(self.job_id):
            await self._send_receipt(send)

    async def finish(self, prompt_tokens: int | None, send: SendResponse) -> Usage:
        """Send the last receipt of a job that succeeded, and return what it says.

        Args:
            prompt_tokens: the engine's own count; believed where it was not known at the start. None: there is none.
            send: to the client.
        """
        if not self._is_counted:
            self._count(prompt_tokens)
            ledger, cost = self.account.ledger, self._cost(self._prompt_tokens, self._chain.completion_tokens)
            now = self.account.monotonic_s()
            self.account.wake(ledger.hold(self.job_id, cost, now, held_micros=self._held_micros))
        await trio.lowlevel.checkpoint_if_cancelled()
        await send(job_pb2.RunResponse(receipt=self._write(JobState.SUCCEEDED)))
        return self.usage()

    def usage(self) -> Usage:
        """Return what the job came to by its last receipt; nothing without one."""
        last = self._writer.last
        return Usage(
            prompt_tokens=0 if last is None else last.prompt_tokens,
            completion_tokens=0 if last is None else last.completion_tokens,
            cost_micros=0 if last is None else last.cost_micros,
            currency=self._terms.session.authorization.currency,
        )

    def close(self, state: JobState) -> None:
        """End the bill, once: the job runs no more. Waits for nothing.

        What was served and no receipt covers stays unacknowledged, unless the host failed the job: then only what was
        countersigned is owed.

        Args:
            state: how the job ended; of one that :meth:`finish` saw through, SUCCEEDED.
        """
        ledger, now = self.account.ledger, self.account.monotonic_s()
        if self._final is not None:
            self._reservation.settle(self.usage().cost_micros)
            self.account.wake(ledger.end(self.job_id, now))
        elif state is JobState.FAILED:
            self.account.wake(ledger.write_off(self.job_id, now))
            self.account.write_off(self.job_id)
            self._reservation.release()
            self._cut_state = state
        else:
            # Of what never began there is nothing to pay.
            cost_micros = held_micros = 0
            if self._began_s is not None:
                if not self._is_counted:
                    self._count(None)
                cost_micros = self._cost(self._prompt_tokens, self._chain.completion_tokens)
                held_micros = self._held_micros
            # What is held beyond what a receipt can claim is not written down: after a restart nothing could free it.
            self._reservation.settle(min(cost_micros, self._most_micros))
            self.account.wake(ledger.cut(self.job_id, cost_micros, now, held_micros=held_micros))
            self._cut_state = state
        self.ended.set()

    def final_receipt(self, delivered_pieces: int) -> bytes:
        """Return the last receipt of a job that ended, over the pieces that its client received.

        The same receipt every time: what the first call said counts.

        Args:
            delivered_pieces: as the client says; more than were sent is all of them.

        Raises:
            ReceiptError: PIECES_WENT_BACK: an earlier receipt covers more.
        """
        if self._final is not None:
            return self._final
        assert self._cut_state is not None  # the job has ended
        if self._cut_state is not JobState.FAILED:
            self._go_back(delivered_pieces)
        return self._write(self._cut_state)

    def wake(self) -> None:
        """Go on: the ledger gave the room that was asked for."""
        self._room.set()

    # --- inside ---

    def _count(self, prompt_tokens: int | None) -> None:
        """Note the tokens of a prompt that was held; None: they will never be known."""
        tokens = self._chain.completion_tokens
        most_micros = self._held_micros + self._cost(0, tokens)
        self._is_counted = True
        if prompt_tokens is not None:
            self._prompt_tokens, self._held_micros = min(prompt_tokens, self._prompt.tokens), 0
        else:
            self._prompt_tokens = self._prompt.claimed_tokens(tokens)
            self._held_micros = most_micros - self._cost(self._prompt_tokens, tokens)

    async def _take_room(self, prompt_tokens: int, completion_tokens: int, send: SendResponse) -> None:
        ledger = self.account.ledger
        try:
            has_room = ledger.may_serve(
                self.job_id,
                self._cost(prompt_tokens, completion_tokens),
                self.account.monotonic_s(),
            )
        except ReceiptError as error:
            raise job_refused("SLICE_TOO_SMALL", error.message, remedy=error.remedy) from error
        if has_room:
            return
        self._room = trio.Event()
        if ledger.wants_receipt(self.job_id):
            await self._send_receipt(send)
        await self._wait_for(self._room)

    async def _wait_for(self, event: trio.Event) -> None:
        ledger = self.account.ledger
        while not event.is_set():
            left_s = ledger.patience.left_s(self.account.monotonic_s())
            if not ledger.awaits_client(self.job_id):
                # What another job does may change that: look again before the patience can be over.
                left_s = max(left_s, _LOOK_AGAIN_S)
            elif left_s == 0:
                raise self._overdue("the client countersigned no receipt in time")
            with trio.move_on_after(left_s):
                await event.wait()

    def _overdue(self, message: str) -> JobError:
        self.is_overdue = True
        return job_refused("RECEIPT_OVERDUE", message)

    def _cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        return cost_micros(prompt_tokens + completion_tokens, self._terms.price_micros_per_mtok)

    def _mark(self) -> None:
        chain = self._chain
        if chain.pieces == 0 and self._began_s is not None:
            self._first_piece_ms = max(1, round((self.account.monotonic_s() - self._began_s) * 1000))
        self._marks.append((chain.pieces, chain.completion_tokens, chain.head))

    def _go_back(self, delivered_pieces: int) -> None:
        last = self._writer.last
        if last is not None and delivered_pieces < last.output_pieces:
            raise fault(ReceiptFault.PIECES_WENT_BACK, "an earlier receipt covers more pieces")
        for pieces, tokens, head in self._marks:
            if pieces == delivered_pieces:
                self._chain.pieces, self._chain.completion_tokens, self._chain.head = pieces, tokens, head
                return

    async def _send_receipt(self, send: SendResponse) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        await send(job_pb2.RunResponse(receipt=self._write(JobState.RUNNING)))

    def _write(self, state: JobState) -> bytes:
        """Write the next receipt, on disk before it leaves.

        The receipt goes first, what the session spent second: a host that is killed between them, or cannot write,
        leaves nothing that its client owes and no receipt claims.
        """
        before = self._writer.last
        receipt = self._writer.write(
            state,
            prompt_tokens=self.prompt_tokens,
            time_to_first_token_ms=self._first_piece_ms,
            now=self.account.unix_s(),
        )
        try:
            envelope = self.account.issue(receipt)
        except HostmeshError:
            # Nobody will see it: what follows must not build on it.
            self._writer.last = before
            raise
        if state is not JobState.FAILED:
            now, is_last = self.account.monotonic_s(), state.is_final
            self.account.ledger.issued(self.job_id, receipt.cost_micros, now, is_last=is_last)
        self._marks.clear()
        if state.is_final:
            self._final = envelope
        if not self.ended.is_set():
            self._reservation.advance(receipt.cost_micros)
        return envelope
