"""What tests of receipts share. A token costs one micro-unit; the prompt ``Hi there`` has four tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    CLIENT_WALLET,
    EMBED,
    HOST_KEY,
    NETWORK,
    FakeSession,
    Host,
    Liar,
    Purse,
    Script,
    make_client,
    make_host,
)

from hostmesh.identity.structs import Receipt
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.server import JobServer
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import envelope_pb2, job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient

SESSION_ID = b"s" * 16
PROMPT = "Hi there"
EVERYTHING = 2**64 - 1


class Slow(Liar):
    """A host whose calls for countersignatures wait until they are let through, or for ever."""

    def __init__(self, honest: JobServer) -> None:
        super().__init__(honest)
        self.opened = trio.Event()
        self.asked = trio.Event()

    async def countersign(self, request: Any, context: Any) -> Any:
        self.asked.set()
        await self.opened.wait()
        return await super().countersign(request, context)


def setting(
    nursery: trio.Nursery,
    slice_micros: int,
    *,
    handler: Callable[[JobServer], Liar] = Liar,
    price: int = 1_000_000,
    **options: Any,
) -> tuple[Host, JobManager, FakeSession, Liar]:
    rate = ModelPrice(micros_per_mtok=price, currency="USD")
    host = make_host(
        purse=Purse(limit=10_000, slice_micros=slice_micros, price_ceiling=10**7),
        prices={CHAT: rate, EMBED: rate},
        **options,
    )
    front = handler(host.server)
    manager, _ = make_client(host, nursery, handler=front)
    return host, manager, session_of(slice_micros), front


def session_of(slice_micros: int, **changes: Any) -> FakeSession:
    return FakeSession(slice_micros=slice_micros, max_price_micros_per_mtok=10**7, **changes)


def receipts_of(host: Host, job_id: bytes) -> list[Receipt]:
    """As they are on the host's disk, all of them in order."""
    found = []
    while row := host.receipts.issued(SESSION_ID, job_id, len(found) + 1):
        found.append(row.receipt)
    return found


def numbers(receipts: list[Receipt]) -> list[tuple[int, int, int, JobState]]:
    """Prompt tokens, completion tokens, pieces, state."""
    return [(r.prompt_tokens, r.completion_tokens, r.output_pieces, JobState(r.state)) for r in receipts]


async def begin(manager: JobManager) -> tuple[JobServiceClient, job_pb2.RunRequest]:
    """Ask for a quote by the bare stub, and return the request for its job."""
    stub = JobServiceClient(manager._caller, HOST_KEY.peer_id)
    answer = await stub.quote(job_pb2.QuoteRequest(model_id=CHAT), timeout_s=5)
    quote = job_pb2.Quote.FromString(envelope_pb2.SignedEnvelope.FromString(answer.quote).payload)
    request = job_pb2.RunRequest(quote_id=quote.quote_id, salt=bytes(16))
    request.chat.messages.add(role="user", content=PROMPT)
    return stub, request


async def cut(manager: JobManager, host: Host, *, after: int) -> tuple[JobServiceClient, bytes]:
    """Run a job by the bare stub, hang up after so many pieces, and countersign nothing."""
    stub, request = await begin(manager)
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "text" and response.text.index == after - 1:
                break
    await host.until_idle()
    return stub, request.quote_id


async def ask(stub: JobServiceClient, job_id: bytes, pieces: int, *, session_id: bytes = SESSION_ID) -> Receipt:
    response = await stub.get_receipt(
        job_pb2.GetReceiptRequest(job_id=job_id, delivered_pieces=pieces), timeout_s=10, session_id=session_id
    )
    return open_sealed(response.receipt, network=NETWORK).receipt


async def sign(stub: JobServiceClient, receipt: Receipt) -> None:
    signature = CLIENT_WALLET.sign(receipt, NETWORK)
    await stub.countersign(
        job_pb2.CountersignRequest(job_id=receipt.job_id, sequence=receipt.sequence, signature=signature),
        timeout_s=10,
        session_id=SESSION_ID,
    )


async def assert_free(manager: JobManager, host: Host, slice_micros: int) -> None:
    """The slice is free: a prompt that takes all of it at once runs."""
    host.engine.scripts.insert(0, Script(pieces=()))
    started = trio.current_time()
    async with manager.run(session_of(slice_micros), prompt="x " * (slice_micros - 2)) as job:
        await job.read_text()
    assert job.usage.cost_micros == slice_micros
    assert trio.current_time() == started
    assert host.receipts.unpaid(SESSION_ID) == ()


async def run_to_end(manager: JobManager, session: FakeSession, prompt: str) -> None:
    async with manager.run(session, prompt=prompt) as job:
        await job.read_text()
