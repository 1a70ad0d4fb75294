"""The client's audit of a job: it countersigns a receipt that agrees with what came, and nothing else. Pure.

Held against each receipt: the terms that were agreed, the receipt before it, the pieces that came and their hash chain,
the tokens that these can have, and what the client is ready to owe. A receipt that fails is refused for good: the job
has ended for this client, and where the host contradicts what it signed itself, the refusal carries the proof.

Spec: docs/protocols/receipt.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from hostmesh.errors import ReceiptError
from hostmesh.identity.structs import Receipt
from hostmesh.receipts.chain import JobInput, OutputChain, input_sha256, vector_bytes
from hostmesh.receipts.counting import TokenCounter, check_completion, check_prompt, fitting, may_fill
from hostmesh.receipts.proof import LieProof, verify_proof
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.receipts.receipt import JobState, SignedReceipt, open_receipt
from hostmesh.receipts.spending import SessionSpending
from hostmesh.receipts.terms import JobTerms
from hostmesh.receipts.transcript import DeliveredPiece, OutputTranscript
from hostmesh.v1 import job_pb2

MAX_TRANSCRIPT_BYTES = 16 * 1024 * 1024
"""Most bytes of an answer: 256 vectors of 16,384 numbers, and far more text than a context holds."""
MAX_PIECES = 1_048_576
MAX_RECEIPTS_OVER_SAME = 4
"""Most receipts over the same pieces, a last one not counted: a host may write one with each step and each wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Countersign:
    """The receipt is right: sign it, store it, send the signature. Its cost is counted as owed already."""

    signed: SignedReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The receipt is not countersigned; stop the job."""

    reason: ReceiptFault
    message: str
    proof: LieProof | None = field(default=None, repr=False)
    """Verified: shows the lie to anybody, prompt and answer included as far as they are needed. None: nobody else can
    be shown it."""


@dataclass(frozen=True, slots=True)
class Withhold:
    """The receipt may be right, and is not countersigned: this client pays for no more prompts without an answer.

    Stop the job; nothing of it is held against the host.
    """


Verdict: TypeAlias = Countersign | Refuse | Withhold


class JobAudit:
    """One job, as its client follows it.

    Args:
        terms: what was agreed.
        spending: of its session.
        job_input: as it was sent.
        salt: as it was sent, 16 bytes or none.
        counter: a tokenizer; used if it is the quoted one.
        quote: the envelope of the job's quote, which a lie about the price or the model is proved with.
    """

    def __init__(
        self,
        terms: JobTerms,
        spending: SessionSpending,
        *,
        job_input: JobInput,
        salt: bytes,
        counter: TokenCounter | None = None,
        quote: bytes = b"",
    ) -> None:
        self._quote = quote
        self._terms = terms
        self._spending = spending
        self._input = job_input
        self._salt = salt
        self._counter = fitting(counter, terms.tokenizer_sha256)
        self._input_sha256 = input_sha256(job_input)
        self._chain = OutputChain(
            salt=salt, session_id=terms.session.session_id, job_id=terms.job_id, input_sha256=self._input_sha256
        )
        self._answer = bytearray()
        self._ends, self._tokens = array("Q"), array("Q")
        self._last: SignedReceipt | None = None
        self._over_same = 0
        self._refused: Refuse | None = None

    @property
    def last(self) -> SignedReceipt | None:
        """The receipt that was found right last."""
        return self._last

    @property
    def network(self) -> str:
        """Of the job's session."""
        return self._terms.session.network

    @property
    def job_id(self) -> bytes:
        """16 bytes."""
        return self._terms.job_id

    @property
    def completion_tokens(self) -> int:
        """Of what came, as the host counted with the last piece."""
        return self._chain.completion_tokens

    @property
    def kept_bytes(self) -> int:
        """Of the input, and of what of the answer came."""
        return self._input.ByteSize() + len(self._answer)

    @contextmanager
    def reopened(self) -> Iterator[None]:
        """Take the last receipt of a job that its session's spending had ended; it ends again with the block."""
        cost_micros = 0 if self._last is None else self._last.receipt.cost_micros
        self._spending.reopen(self.job_id, cost_micros, is_answered=self._chain.pieces > 0)
        try:
            yield
        finally:
            self._spending.end(self.job_id)

    def may_fill_context(self) -> bool:
        """Return whether the input can have left no room in the context that was quoted."""
        return may_fill(self._terms.context_tokens, self._input, self._counter)

    def text(self, index: int, text: str, completion_tokens: int) -> None:
        """Note the next piece of an answer.

        Raises:
            ReceiptError: PIECE_OUT_OF_ORDER, EMPTY_PIECE, TOKENS_WENT_BACK or TRANSCRIPT_TOO_LONG: the host broke the
                protocol.
        """
        self._add(index, text.encode(), completion_tokens)

    def vector(self, index: int, values: Sequence[float]) -> None:
        """Note the vector of the next text. Raises ReceiptError like :meth:`text`."""
        self._add(index, vector_bytes(values), 0)

    def receipt(self, envelope: bytes, *, now: float, is_asked_for: bool = False) -> Verdict:
        """Decide about a receipt as it came, after all pieces that came before it.

        Args:
            envelope: the host's.
            now: unix seconds.
            is_asked_for: it did not come by itself; those before it may be lost, since each is over the whole job.

        Returns:
            What to do. After a refusal every further receipt is refused with the same answer.

        Cost: one Ed25519 verification; with a tokenizer, a count of the whole answer.
        """
        if self._refused is not None:
            return self._refused
        previous = self._last
        try:
            signed = open_receipt(
                envelope,
                self._terms,
                previous=None if previous is None else previous.receipt,
                now=now,
                may_skip=is_asked_for,
            )
            self._check_new(signed.receipt)
            self._check_delivered(signed.receipt)
            self._check_tokens(signed.receipt)
            is_answered = self._chain.pieces > 0
            if not self._spending.owe(self._terms.job_id, signed.receipt.cost_micros, is_answered=is_answered):
                return Withhold()
        except ReceiptError as error:
            self._refused = Refuse(
                reason=ReceiptFault(error.reason), message=error.message, proof=self._proof(envelope, error.reason)
            )
            return self._refused
        self._last = signed
        return Countersign(signed=signed)

    def _add(self, index: int, piece: bytes, completion_tokens: int) -> None:
        if index != self._chain.pieces:
            raise fault(
                ReceiptFault.PIECE_OUT_OF_ORDER, f"piece {index} of the answer came where {self._chain.pieces} was due"
            )
        if len(self._answer) + len(piece) > MAX_TRANSCRIPT_BYTES or self._chain.pieces >= MAX_PIECES:
            raise fault(ReceiptFault.TRANSCRIPT_TOO_LONG, "the answer is longer than any job's")
        self._chain.add(piece, completion_tokens)
        if index == 0:
            self._spending.answered(self._terms.job_id)
        self._answer += piece
        self._ends.append(len(self._answer))
        self._tokens.append(completion_tokens)

    def _check_new(self, receipt: Receipt) -> None:
        """Check that receipts go on with the answer: each costs a look at the whole of it."""
        last = self._last
        is_more = last is None or receipt.output_pieces != last.receipt.output_pieces
        self._over_same = 1 if is_more else self._over_same + 1
        if self._over_same > MAX_RECEIPTS_OVER_SAME and receipt.state == JobState.RUNNING:
            raise fault(ReceiptFault.WRONG_PIECES, "nothing came since the receipts before, and another one follows")

    def _check_delivered(self, receipt: Receipt) -> None:
        chain = self._chain
        if receipt.state == JobState.FAILED:
            # It repeats what the receipt before said; there is nothing new to compare.
            if self._last is None and receipt.output_hash != chain.genesis:
                raise fault(ReceiptFault.WRONG_OUTPUT, "the hash chain does not begin with this job's input")
            return
        if receipt.output_pieces != chain.pieces:
            raise fault(
                ReceiptFault.WRONG_PIECES, f"{receipt.output_pieces} pieces are claimed, {chain.pieces} came before it"
            )
        if receipt.output_hash != chain.head:
            raise fault(ReceiptFault.WRONG_OUTPUT, "the hash chain is not that of what came")
        if receipt.completion_tokens != chain.completion_tokens:
            raise fault(
                ReceiptFault.WRONG_COMPLETION,
                f"{receipt.completion_tokens} tokens are claimed, {chain.completion_tokens} came with the pieces",
            )

    def _check_tokens(self, receipt: Receipt) -> None:
        terms, job_input = self._terms, self._input
        is_chat = isinstance(job_input, job_pb2.ChatInput)
        # An embedding model has its context for each text.
        contexts = 1 if isinstance(job_input, job_pb2.ChatInput) else len(job_input.texts)
        tokens = receipt.prompt_tokens + receipt.completion_tokens
        if receipt.completion_tokens > terms.max_output_tokens or tokens > terms.context_tokens * contexts:
            raise fault(ReceiptFault.OVER_QUOTE, f"{tokens} tokens are more than the quote allows")
        check_prompt(receipt.prompt_tokens, job_input, self._counter)
        if is_chat and receipt.completion_tokens:
            check_completion(receipt.completion_tokens, bytes(self._answer), self._counter)

    def _proof(self, envelope: bytes, reason: str) -> LieProof | None:
        """Return what shows a lie of this receipt to a third party, if anything does."""
        network, last = self._terms.session.network, self._last
        candidates = [LieProof(network=network, receipts=(envelope,))]
        if self._quote:
            candidates.append(LieProof(network=network, receipts=(envelope,), quote=self._quote))
        if last is not None:
            candidates.append(LieProof(network=network, receipts=(last.envelope, envelope)))
        needs_input = reason in (ReceiptFault.PROMPT_OVER_BYTES, ReceiptFault.PROMPT_OVER_COUNT)
        transcript = self.transcript(with_input=needs_input)
        candidates.append(LieProof(network=network, receipts=(envelope,), transcript=transcript))
        found: LieProof | None = None
        for proof in candidates:
            try:
                proven = verify_proof(proof, counter=self._counter)
            except ReceiptError:
                continue
            if proven.reason == reason:
                return proof
            # Not what the receipt was refused for, but a lie all the same.
            found = found or proof
        return found

    def transcript(self, *, with_input: bool) -> OutputTranscript:
        """Return what came up to now.

        Args:
            with_input: put the prompt in, which whoever gets the transcript then reads.
        """
        starts = [0, *self._ends]
        answer = bytes(self._answer)
        return OutputTranscript(
            salt=self._salt,
            input_sha256=self._input_sha256,
            pieces=tuple(
                DeliveredPiece(completion_tokens=tokens, data=answer[start:end])
                for tokens, start, end in zip(self._tokens, starts, self._ends, strict=False)
            ),
            job_input=self._input if with_input else None,
        )
