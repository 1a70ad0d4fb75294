"""A host that lies at the wire: it has the honest host's work, and its own words for it.

It keeps a hash chain of its own over what it sends, so that a lie in one number is not given away by another one, and
signs its receipts with the host's key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from tests.property.jobs.two_parties.truth import price
from tests.property.jobs.two_parties.world import SESSION_ID, Boundary, World
from tests.unit.jobs.kit import CLIENT_WALLET, HOST_KEY, NETWORK

from hostmesh.errors import ConnectionLostError, RpcError, StatusCode
from hostmesh.identity.structs import Receipt
from hostmesh.jobs.server import JobServer
from hostmesh.receipts.chain import OutputChain, input_sha256
from hostmesh.receipts.receipt import JobState, open_sealed, seal_receipt
from hostmesh.receipts.writer import ReceiptWriter
from hostmesh.rpc.context import CallContext
from hostmesh.v1 import job_pb2


class Lie(StrEnum):
    """What it does from the chosen receipt or piece on."""

    NONE = "none"
    # --- in the pieces, and in receipts that agree with them ---
    MORE_TOKENS = "more tokens in each piece"
    PADDING = "pieces of nothing but a space"
    EMPTY = "empty pieces"
    UNSENT = "pieces in the chain that were never sent"
    # --- in receipts ---
    CLAIM_TOKENS = "more tokens than the last piece says"
    CLAIM_PIECES = "a piece more than were sent"
    PROMPT = "a longer prompt"
    PROMPT_A_LITTLE = "some prompt tokens more"
    PRICE = "twice the price"
    COST = "a cost that is not tokens times price"
    SKIP = "a sequence left out"
    REPEAT = "another receipt of the same sequence"
    REWRITE = "another hash"
    AFTER_END = "a receipt after the last one"
    FAILED_BILLED = "a failed job that costs more"
    OTHER_JOB = "another job's name"
    OTHER_SESSION = "another session's name"
    REPLAY = "the receipt before once more"
    EARLY = "a receipt for the prompt at once, and nothing after it"
    # --- by leaving something out ---
    NO_RECEIPTS = "no receipts"
    HOARD = "no receipt before the last one, which is over all"
    STOP = "the stream breaks"
    FAIL = "the job ends with an error"


PROVED = frozenset(
    {
        "AFTER_END",
        "COMPLETION_OVER_BYTES",
        "COMPLETION_OVER_COUNT",
        "COMPLETION_WENT_BACK",
        "EQUIVOCATION",
        "FAILED_BILLED",
        "OUTPUT_REWRITTEN",
        "PIECES_WENT_BACK",
        "PROMPT_OVER_BYTES",
        "PROMPT_OVER_COUNT",
        "PROMPT_WENT_BACK",
        "WRONG_COMPLETION",
        "WRONG_COST",
        "WRONG_FIRST_PIECE",
        "WRONG_PRICE",
    }
)
"""A receipt that is refused so contradicts itself, another one, its quote or its own chain: anybody can be shown it."""
BETWEEN_THE_TWO = frozenset(
    {
        "OUT_OF_ORDER",
        "OVER_LIMIT",
        "OVER_QUOTE",
        "OVER_SLICE",
        "REPLAYED",
        "WRONG_JOB",
        "WRONG_OUTPUT",
        "WRONG_PIECES",
        "WRONG_SESSION",
    }
)
"""A receipt that is refused so may be true elsewhere, nobody else can tell what came, or the context is exceeded. It is
not countersigned."""


def is_proved(reason: str, lie: Lie) -> bool:
    """Whether a refusal for a reason must come with a proof of that very reason."""
    # A piece more than were sent: the host's own chain has it not. A chain over pieces that never came is its word.
    return reason in PROVED or (reason == "WRONG_PIECES" and lie is Lie.CLAIM_PIECES)


@dataclass
class _Story:
    """One job, as the host tells it."""

    chain: OutputChain
    sequence: int = 0
    pieces: int = 0
    extra: int = 0
    """Tokens that were made up."""
    last: Receipt | None = None
    envelope: bytes = b""
    events: int = 0
    real: dict[int, Receipt] = field(default_factory=dict)
    """The honest receipts, by the sequence under which they were told."""


class LyingHost(Boundary):
    """One lie, told from its ``at``-th occasion on.

    Args:
        world: of the host.
        server: does the work.
        lie: what.
        at: after so many pieces and receipts that are true.
        amount: how much more.
    """

    def __init__(self, world: World, server: JobServer, *, lie: Lie, at: int, amount: int) -> None:
        super().__init__(world, server)
        self._lie = lie
        self._at = at
        self._amount = amount
        self._stories: dict[bytes, _Story] = {}
        self.told = 0
        """How often it lied."""

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: Callable[[Any], Any]) -> None:
        facts = self.world.facts[request.chat.messages[-1].content]
        self.world.by_id[request.quote_id] = facts
        story = _Story(
            OutputChain(
                salt=request.salt,
                session_id=SESSION_ID,
                job_id=request.quote_id,
                input_sha256=input_sha256(request.chat),
            )
        )
        self._stories[request.quote_id] = story

        async def tell(response: job_pb2.RunResponse) -> None:
            if self._lie is Lie.HOARD and await self._hoard(story, response, context):
                return
            for each in self._told(story, response):
                await send(each)

        await self.server.run(request, context, tell)

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        # Its own books are right: it goes on as if what it did had been countersigned.
        real = self._stories[request.job_id].real.get(request.sequence)
        if real is None:
            return job_pb2.CountersignResponse()
        return await self.server.countersign(
            job_pb2.CountersignRequest(
                job_id=real.job_id, sequence=real.sequence, signature=CLIENT_WALLET.sign(real, NETWORK)
            ),
            context,
        )

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        response = await self.server.get_receipt(request, context)
        story = self._stories[request.job_id]
        real = open_sealed(response.receipt, network=NETWORK).receipt
        if real in story.real.values():
            return job_pb2.GetReceiptResponse(receipt=story.envelope)
        told = self._receipts(story, real)
        return job_pb2.GetReceiptResponse(receipt=told[-1].receipt if told else response.receipt)

    # --- inside ---

    async def _hoard(self, story: _Story, response: job_pb2.RunResponse, context: CallContext) -> bool:
        """Keep a receipt of a job that goes on from the client, and sign it for its own books in the client's stead."""
        if response.WhichOneof("event") != "receipt" or not self._is_time(story):
            return False
        real = open_sealed(response.receipt, network=NETWORK).receipt
        if real.state != JobState.RUNNING:
            return False
        self.told += 1
        signature = CLIENT_WALLET.sign(real, NETWORK)
        request = job_pb2.CountersignRequest(job_id=real.job_id, sequence=real.sequence, signature=signature)
        await self.server.countersign(request, context)
        return True

    def _is_time(self, story: _Story) -> bool:
        return story.events >= self._at

    def _told(self, story: _Story, response: job_pb2.RunResponse) -> list[job_pb2.RunResponse]:
        story.events += 1
        match response.WhichOneof("event"):
            case "text":
                return self._pieces(story, response.text)
            case "receipt":
                return self._receipts(story, open_sealed(response.receipt, network=NETWORK).receipt)
            case "completed":
                return self._completed(story, response)
        if self._lie is Lie.EARLY:
            # The prompt, of which nobody can tell whether it was read.
            self.told += 1
            return [response, *self._seal(story, self._made_up(response.accepted.job_id, story))]
        return [response]

    def _pieces(self, story: _Story, delta: job_pb2.TextDelta) -> list[job_pb2.RunResponse]:
        if self._is_time(story) and self._lie in (Lie.STOP, Lie.FAIL, Lie.EARLY):
            self.told += 1
            if self._lie is Lie.STOP:
                raise ConnectionLostError("it hung up")
            raise RpcError("the engine failed", status=StatusCode.INTERNAL, reason="ENGINE_FAILED")
        texts = [delta.text]
        if self._is_time(story):
            if self._lie is Lie.MORE_TOKENS:
                story.extra += self._amount
                self.told += 1
            elif self._lie in (Lie.PADDING, Lie.EMPTY):
                texts.append(" " if self._lie is Lie.PADDING else "")
                self.told += 1
        told = []
        for number, text in enumerate(texts):
            story.extra += self._amount if number else 0
            tokens = delta.completion_tokens + story.extra
            if text:
                story.chain.add_text(text, tokens)
            told.append(
                job_pb2.RunResponse(text=job_pb2.TextDelta(index=story.pieces, text=text, completion_tokens=tokens))
            )
            story.pieces += 1
        if self._lie is Lie.UNSENT and self._is_time(story):
            story.chain.add_text("unsent", delta.completion_tokens + story.extra)
            self.told += 1
        return told

    def _made_up(self, job_id: bytes, story: _Story) -> Receipt:
        """A first receipt over a prompt, made of the session's terms."""
        return ReceiptWriter(self.server._desk._running[job_id]._terms, story.chain).write(
            JobState.RUNNING,
            prompt_tokens=self.world.by_id[job_id].prompt_tokens,
            time_to_first_token_ms=0,
            now=self.world.session.authorization.issued_at_unix_s,
        )

    def _receipts(self, story: _Story, real: Receipt) -> list[job_pb2.RunResponse]:
        if self._lie is Lie.NO_RECEIPTS and self._is_time(story):
            self.told += 1
            return []
        chain = story.chain
        honest = replace(
            real,
            output_hash=chain.head,
            output_pieces=chain.pieces,
            completion_tokens=chain.completion_tokens,
            time_to_first_token_ms=real.time_to_first_token_ms if chain.pieces else 0,
        )
        if not self._is_time(story):
            return self._seal(story, honest, real=real)
        more = self._amount
        match self._lie:
            case Lie.CLAIM_TOKENS:
                changed = [replace(honest, completion_tokens=honest.completion_tokens + more)]
            case Lie.CLAIM_PIECES:
                changed = [replace(honest, output_pieces=honest.output_pieces + 1, time_to_first_token_ms=1)]
            case Lie.PROMPT:
                changed = [replace(honest, prompt_tokens=honest.prompt_tokens + more + 1500)]
            case Lie.PROMPT_A_LITTLE:
                changed = [replace(honest, prompt_tokens=honest.prompt_tokens + more)]
            case Lie.PRICE:
                changed = [replace(honest, price_micros_per_mtok=2 * honest.price_micros_per_mtok)]
            case Lie.REWRITE:
                changed = [replace(honest, output_hash=bytes(32))]
            case Lie.FAILED_BILLED if story.last is not None:
                tokens = story.last.completion_tokens + more
                changed = [replace(honest, state=int(JobState.FAILED), completion_tokens=tokens)]
            case Lie.OTHER_JOB:
                changed = [replace(honest, job_id=bytes(16))]
            case Lie.OTHER_SESSION:
                changed = [replace(honest, session_id=bytes(16))]
            case Lie.SKIP:
                story.sequence += 1
                changed = [honest]
            case Lie.REPEAT | Lie.AFTER_END | Lie.COST:
                changed = [honest]
            case Lie.REPLAY if story.envelope:
                self.told += 1
                return [job_pb2.RunResponse(receipt=story.envelope)]
            case _:
                return self._seal(story, honest, real=real)
        self.told += 1
        told = [each for receipt in changed for each in self._seal(story, receipt, real=real)]
        if self._lie is Lie.REPEAT or (self._lie is Lie.AFTER_END and honest.state == JobState.SUCCEEDED):
            if self._lie is Lie.REPEAT:
                story.sequence -= 1
            told += self._seal(story, replace(honest, prompt_tokens=honest.prompt_tokens + more), real=real)
        return told

    def _seal(self, story: _Story, receipt: Receipt, *, real: Receipt | None = None) -> list[job_pb2.RunResponse]:
        """Sign a receipt, with the next sequence and the cost that goes with its numbers."""
        story.sequence += 1
        cost = price(receipt.prompt_tokens + receipt.completion_tokens, receipt.price_micros_per_mtok)
        if self._lie is Lie.COST and self._is_time(story) and real is not None:
            cost += self._amount
        receipt = replace(receipt, sequence=story.sequence, cost_micros=cost)
        story.last = receipt
        story.envelope = seal_receipt(HOST_KEY, receipt, network=NETWORK)
        if real is not None:
            story.real[story.sequence] = real
        return [job_pb2.RunResponse(receipt=story.envelope)]

    @staticmethod
    def _completed(story: _Story, response: job_pb2.RunResponse) -> list[job_pb2.RunResponse]:
        if story.last is not None:
            usage = response.completed.usage
            usage.prompt_tokens = story.last.prompt_tokens
            usage.completion_tokens = story.last.completion_tokens
            usage.cost_micros = story.last.cost_micros
        return [response]
