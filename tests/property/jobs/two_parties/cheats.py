"""A client that signs what it likes, when it likes: the generated stubs, and no code of an honest client."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import trio
from tests.property.jobs.two_parties.truth import MAX_OUTPUT_TOKENS
from tests.property.jobs.two_parties.world import SESSION_ID, World
from tests.unit.jobs.kit import CHAT, CLIENT_WALLET, HOST_KEY, NETWORK

from hostmesh.errors import HostmeshError
from hostmesh.identity.structs import Receipt
from hostmesh.receipts.receipt import open_sealed
from hostmesh.v1 import envelope_pb2, job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient

TIMEOUT_S = 5.0


class Answer(StrEnum):
    """What a client does with a receipt."""

    SIGN = "sign"
    LATE = "late"
    """After 20 s."""
    NEVER = "never"
    GARBAGE = "garbage"
    OLD = "old"
    """The signature of the job's first receipt, as if it were of this one."""
    OTHER = "other"
    """The signature of another job's receipt."""


@dataclass(frozen=True)
class Cheat:
    """One job of a client that cheats."""

    prompt_words: int
    pieces: tuple[int, ...]
    answers: tuple[Answer, ...]
    """To its receipts, in turn; the last one to all that follow."""
    leave_after: int | None
    """Leaves after so many responses."""
    asks: tuple[int, ...]
    """Says, at the end and one after the other, that so many pieces came."""
    signs_last: bool
    """What these calls return."""
    is_run_twice: bool = False
    asks_early: bool = False
    """Asks for the last receipt after the first response, too."""
    fail_after: int | None = None
    delay_s: float = 0.0


class CheatingClient:
    """Runs cheats in a world's session."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stub = JobServiceClient(world.caller, HOST_KEY.peer_id)  # type: ignore[arg-type]
        self._sent: list[job_pb2.CountersignRequest] = []
        self._first: dict[bytes, bytes] = {}

    async def run(self, cheat: Cheat) -> None:
        """Run one job to whatever end it comes to."""
        facts = self._world.plan(cheat.prompt_words, cheat.pieces, fail_after=cheat.fail_after, delay_s=cheat.delay_s)
        with suppress(HostmeshError):
            response = await self._stub.quote(
                job_pb2.QuoteRequest(model_id=CHAT, max_output_tokens=MAX_OUTPUT_TOKENS), timeout_s=TIMEOUT_S
            )
            quote = job_pb2.Quote.FromString(envelope_pb2.SignedEnvelope.FromString(response.quote).payload)
            request = job_pb2.RunRequest(quote_id=quote.quote_id, salt=b"x" * 16)
            request.chat.messages.add(role="user", content=facts.prompt)
            if cheat.is_run_twice:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._run_and_ask, cheat, request)
                    nursery.start_soon(self._run_and_ask, cheat, request)
            await self._run_and_ask(cheat, request)

    async def replay(self) -> None:
        """Send every signature that was ever sent once more."""
        for request in list(self._sent):
            await self._countersign(request)

    async def _run_and_ask(self, cheat: Cheat, request: job_pb2.RunRequest) -> None:
        with suppress(HostmeshError):
            await self._read(cheat, request)
        for pieces in cheat.asks:
            await self._ask(request.quote_id, pieces, signs=cheat.signs_last)

    async def _read(self, cheat: Cheat, request: job_pb2.RunRequest) -> None:
        answers = list(cheat.answers)
        came = 0
        async with self._stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
            async for response in responses:
                came += 1
                if response.WhichOneof("event") == "receipt":
                    answer = answers.pop(0) if len(answers) > 1 else answers[0]
                    await self._answer(open_sealed(response.receipt, network=NETWORK).receipt, answer)
                if came == 1 and cheat.asks_early:
                    await self._ask(request.quote_id, 0, signs=False)
                if came == cheat.leave_after:
                    return

    async def _ask(self, job_id: bytes, pieces: int, *, signs: bool) -> None:
        with suppress(HostmeshError):
            response = await self._stub.get_receipt(
                job_pb2.GetReceiptRequest(job_id=job_id, delivered_pieces=pieces),
                timeout_s=TIMEOUT_S,
                session_id=SESSION_ID,
            )
            if signs:
                await self._answer(open_sealed(response.receipt, network=NETWORK).receipt, Answer.SIGN)

    async def _answer(self, receipt: Receipt, answer: Answer) -> None:
        own = CLIENT_WALLET.sign(receipt, NETWORK)
        first = self._first.setdefault(receipt.job_id, own)
        others = [signature for job_id, signature in self._first.items() if job_id != receipt.job_id]
        match answer:
            case Answer.NEVER:
                return
            case Answer.LATE:
                await trio.sleep(20.0)
                signature = own
            case Answer.GARBAGE:
                signature = own[:-2] + bytes([own[-2] ^ 1]) + own[-1:]
            case Answer.OLD:
                signature = first
            case Answer.OTHER:
                signature = others[0] if others else bytes(65)
            case _:
                signature = own
        request = job_pb2.CountersignRequest(job_id=receipt.job_id, sequence=receipt.sequence, signature=signature)
        self._sent.append(request)
        await self._countersign(request)

    async def _countersign(self, request: job_pb2.CountersignRequest) -> None:
        with suppress(HostmeshError):
            await self._stub.countersign(request, timeout_s=TIMEOUT_S, session_id=SESSION_ID)


def greedy(prompt_words: int) -> Cheat:
    """Take what there is and sign nothing."""
    return Cheat(
        prompt_words=prompt_words,
        pieces=(1,) * 40,
        answers=(Answer.NEVER,),
        leave_after=None,
        asks=(),
        signs_last=False,
    )


def faithful(prompt_words: int, pieces: tuple[int, ...]) -> Cheat:
    """Sign everything."""
    return Cheat(
        prompt_words=prompt_words,
        pieces=pieces,
        answers=(Answer.SIGN,),
        leave_after=None,
        asks=(),
        signs_last=True,
    )
