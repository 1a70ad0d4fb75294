"""Writes the receipts of one job on its host. Pure; ``now`` is unix seconds."""

from __future__ import annotations

from hostmesh.errors import UsageError
from hostmesh.identity.structs import Receipt
from hostmesh.receipts.chain import OutputChain
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.receipt import JobState, check_successor
from hostmesh.receipts.terms import JobTerms


class ReceiptWriter:
    """The receipts of one job, in order. What it writes never contradicts the chain.

    Args:
        terms: of the job.
        chain: its own; add each piece to it as it is delivered.
    """

    def __init__(self, terms: JobTerms, chain: OutputChain) -> None:
        self._terms = terms
        self.chain = chain
        """The answer up to here."""
        self.last: Receipt | None = None
        """The receipt that was written last."""

    def cost_micros(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Return what the job comes to at these counts, micro-units."""
        return cost_micros(prompt_tokens + completion_tokens, self._terms.price_micros_per_mtok)

    def write(self, state: JobState, *, prompt_tokens: int, time_to_first_token_ms: int, now: float) -> Receipt:
        """Return the next receipt, over everything in the chain.

        The completion tokens are the last piece's count: tokens that came with no text are billed with the next piece,
        or not at all. A job that FAILED repeats what the receipt before it claimed, so that nothing more is owed.

        Args:
            state: where the job stands; after a final one no receipt follows.
            prompt_tokens: 0 until they are known; never below an earlier receipt's.
            time_to_first_token_ms: from the start in the engine to the first piece; what the first receipt with a piece
                said stays.
            now: unix seconds.

        Raises:
            UsageError: the job has ended with an earlier receipt.
            ReceiptError: PROMPT_WENT_BACK.
        """
        last = self.last
        if last is not None and last.state != JobState.RUNNING:
            raise UsageError("the last receipt of the job was written")
        chain, session = self.chain, self._terms.session
        authorization = session.authorization
        pieces, head, completion_tokens = chain.pieces, chain.head, chain.completion_tokens
        if state is JobState.FAILED and last is None:
            prompt_tokens, completion_tokens, pieces, head = 0, 0, 0, chain.genesis
        elif state is JobState.FAILED and last is not None:
            prompt_tokens, completion_tokens = last.prompt_tokens, last.completion_tokens
            pieces, head = last.output_pieces, last.output_hash
        if last is not None and last.output_pieces:
            time_to_first_token_ms = last.time_to_first_token_ms
        receipt = Receipt(
            authorization_digest=session.authorization_digest,
            session_id=session.session_id,
            job_id=self._terms.job_id,
            sequence=1 if last is None else last.sequence + 1,
            client=authorization.client,
            operator=authorization.operator,
            client_peer_id=authorization.client_peer_id,
            host_peer_id=authorization.host_peer_id,
            model_id=authorization.model_id,
            weights_sha256=self._terms.weights_sha256,
            tokenizer_sha256=self._terms.tokenizer_sha256,
            chat_template_sha256=self._terms.chat_template_sha256,
            price_micros_per_mtok=self._terms.price_micros_per_mtok,
            currency=authorization.currency,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_micros=self.cost_micros(prompt_tokens, completion_tokens),
            output_hash=head,
            output_pieces=pieces,
            time_to_first_token_ms=max(1, time_to_first_token_ms) if pieces else 0,
            state=int(state),
            # A clock that was set back does not break the order.
            issued_at_unix_s=max(int(now), 0 if last is None else last.issued_at_unix_s),
        )
        check_successor(receipt, last)
        self.last = receipt
        return receipt
