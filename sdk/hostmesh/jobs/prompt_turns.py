"""When the prompts of a session leave: so that a host which answers none of them is paid a slice for all, not for each.

Spec: docs/protocols/receipt.md, "The slice".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from hostmesh.errors import DeadlineExceededError
from hostmesh.identity.structs import NO_DIGEST
from hostmesh.jobs.content import WireInput
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.jobs.reasons import slice_used_up
from hostmesh.receipts.counting import TokenCounter, estimated_prompt_tokens, fitting, most_claimed_tokens
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.spending import SessionSpending
from hostmesh.v1 import job_pb2

_Micros = tuple[int, int]
FRESH_S = 1.0
"""A quote that waited no longer is used, however short its host says that it lives."""


def most_prompt_micros(wire: WireInput, offer: QuoteOffer, counter: TokenCounter | None) -> int:
    """Return the most that a host can claim of this client for a prompt alone.

    Args:
        wire: the prompt, or the texts to embed.
        offer: the quote that it runs under.
        counter: a tokenizer; used if it is the quoted one.
    """
    if offer.price_micros_per_mtok == 0:
        return 0
    contexts = 1 if isinstance(wire, job_pb2.ChatInput) else len(wire.texts)
    most = most_claimed_tokens(wire, fitting(counter, offer.tokenizer_sha256 or NO_DIGEST))
    return cost_micros(min(most, offer.context_tokens * contexts), offer.price_micros_per_mtok)


def least_prompt_micros(wire: WireInput, offer: QuoteOffer) -> int:
    """Return about the least that an honest host claims for a prompt alone: the estimate of one that it cannot count.

    Args:
        wire: the prompt, or the texts to embed.
        offer: the quote that it runs under.
    """
    return cost_micros(estimated_prompt_tokens(wire), offer.price_micros_per_mtok)


class PromptTurns:
    """Jobs of one session that wait to send their prompts, in the order in which they came.

    Args:
        spending: of the session; says who may go.
    """

    def __init__(self, spending: SessionSpending) -> None:
        self._spending = spending
        self._waiting: dict[bytes, tuple[_Micros, trio.Event]] = {}
        spending.on_room = self._go_on

    def is_known(self, job_id: bytes) -> bool:
        """Return whether a job of this id waits or runs."""
        return job_id in self._waiting or self._spending.is_sent(job_id)

    @asynccontextmanager
    async def hold(
        self,
        offer: QuoteOffer,
        *,
        micros: Callable[[QuoteOffer], tuple[int, int]],
        check: Callable[[QuoteOffer], None],
        ask_again: Callable[[], Awaitable[QuoteOffer]] | None,
        deadline: float,
    ) -> AsyncIterator[QuoteOffer]:
        """Wait for a job's turn; it runs inside the block, and no receipt of it is taken after that.

        Args:
            offer: its quote, a new one.
            micros: returns about the least, and the most, that can be claimed for its prompt under a quote.
            check: raises where a quote cannot be used; called before a quote's id is known here.
            ask_again: returns another quote, for one that grew old while the job waited; None = the caller chose it.
            deadline: when the job's time is over, by trio's clock; infinity: never.

        Yields:
            The quote to run it under.

        Raises:
            DeadlineExceededError: its time was over before its turn; nothing was sent.
            JobError: SLICE_TOO_SMALL: prompts without an answer used the slice up; nothing was sent.

        Cancellation: safe; others go on.
        """
        held = b""
        try:
            while True:
                check(offer)
                began = trio.current_time()
                # Held from here on: its turn may come in the moment in which it is cancelled.
                before, held = held, offer.quote_id
                await self._wait(held, micros(offer), instead_of=before, deadline=deadline)
                lifetime_s = offer.expires_at_unix_s - offer.issued_at_unix_s
                if ask_again is None or trio.current_time() - began <= max(lifetime_s / 2, FRESH_S):
                    break
                offer = await ask_again()
            yield offer
        finally:
            if held:
                self._spending.end(held)

    async def _wait(self, job_id: bytes, micros: _Micros, *, instead_of: bytes, deadline: float) -> None:
        """Wait until a prompt may leave; one that goes instead of another one is the next."""
        if instead_of:
            self._spending.withdraw(instead_of)
        turn = trio.Event()
        waits = {job_id: (micros, turn)}
        self._waiting = waits | self._waiting if instead_of else self._waiting | waits
        if next(iter(self._waiting)) == job_id:
            self._go_on()
        if self._spending.is_sent(job_id):
            return
        try:
            with trio.move_on_at(deadline):
                await turn.wait()
        finally:
            if not turn.is_set():
                del self._waiting[job_id]
                self._go_on()
        if not turn.is_set():
            error = DeadlineExceededError(
                "the job's time was over before its prompt had room in the session's slice",
                remedy="Open the session with a larger slice_micros, or give the job more time.",
            )
            error.may_have_executed, error.retry_safe = False, True
            raise error
        if not self._spending.is_sent(job_id):
            raise slice_used_up(may_have_executed=False)

    def _go_on(self) -> None:
        while self._waiting:
            job_id, ((least_micros, most_micros), turn) = next(iter(self._waiting.items()))
            can_fit = self._spending.can_ever_fit(least_micros)
            if can_fit and not self._spending.may_send(most_micros):
                return
            del self._waiting[job_id]
            if can_fit:
                self._spending.send(job_id, most_micros)
            turn.set()
