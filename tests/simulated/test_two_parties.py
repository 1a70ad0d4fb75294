"""A host that lies and a client that never countersigns, through real sessions: neither takes more than one slice.

What was done is the engine's count, what came is what was read, and what was signed is what reached the host.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import Any

import pytest
import trio
from tests.simulated.world import join
from tests.support.simulated import simulated

from hostmesh import SDK, HostCriteria, HostDescription, HostmeshError, JobLimits, ModelOffer, Price, RpcError, Session
from hostmesh.errors import StatusCode
from hostmesh.identity.structs import Receipt
from hostmesh.identity.typed_data import recover_signer
from hostmesh.jobs.countersigning import Countersigner
from hostmesh.jobs.server import JobServer
from hostmesh.receipts.chain import OutputChain, input_sha256
from hostmesh.receipts.receipt import JobState, open_sealed, seal_receipt
from hostmesh.receipts.writer import ReceiptWriter
from hostmesh.rpc.context import CallContext
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, chat_model
from hostmesh.testing.engine import prompt_tokens
from hostmesh.v1 import job_pb2

CHAT = "tiny-chat"
# A token costs a micro-unit.
OFFER = HostDescription(models=[ModelOffer(model_id=CHAT, price=Price(micros_per_mtok=1_000_000, currency="USD"))])
SLICE = 4_000
JOBS = 12
CLAIMED = 1_000
"""Tokens for a prompt of two words: what a client without a tokenizer cannot refute."""


class Lie(StrEnum):
    """What the host does with every job."""

    EARLY = "early"
    """It claims the prompt at once, as long as can be, and never answers."""
    CLAIMS = "claims"
    """The last receipt of every second job claims more tokens than came."""


class LyingServer(JobServer):
    """The shipped host, whose words are changed on their way out."""

    lie = Lie.EARLY

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.told: dict[tuple[bytes, int], Receipt] = {}
        self.paid: dict[bytes, int] = {}
        self.lies = 0
        LyingServer.last = self

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: Callable[[Any], Any]) -> None:
        async def tell(response: job_pb2.RunResponse) -> None:
            kind = response.WhichOneof("event")
            if kind == "text" and self.lie is Lie.EARLY:
                raise RpcError("the engine failed", status=StatusCode.INTERNAL, reason="ENGINE_FAILED")
            if kind == "receipt":
                receipt = open_sealed(response.receipt, network=self._network).receipt
                if self.lie is Lie.CLAIMS and receipt.state == JobState.SUCCEEDED and len(self.told) % 2:
                    more = receipt.completion_tokens + 5
                    receipt = replace(receipt, completion_tokens=more, cost_micros=receipt.prompt_tokens + more)
                    self.lies += 1
                response = self._told(receipt)
            await send(response)
            if kind == "accepted" and self.lie is Lie.EARLY:
                self.lies += 1
                await send(self._told(self._early(request)))

        await super().run(request, context, tell)

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        receipt = self.told[request.job_id, request.sequence]
        if recover_signer(receipt, request.signature, self._network) == receipt.client:
            self.paid[receipt.job_id] = max(receipt.cost_micros, self.paid.get(receipt.job_id, 0))
        return job_pb2.CountersignResponse() if self.lie is Lie.EARLY else await super().countersign(request, context)

    def _early(self, request: job_pb2.RunRequest) -> Receipt:
        terms = self._desk._running[request.quote_id]._terms
        chain = OutputChain(
            salt=request.salt,
            session_id=terms.session.session_id,
            job_id=request.quote_id,
            input_sha256=input_sha256(request.chat),
        )
        return ReceiptWriter(terms, chain).write(
            JobState.RUNNING, prompt_tokens=CLAIMED, time_to_first_token_ms=0, now=self._system.unix_s()
        )

    def _told(self, receipt: Receipt) -> job_pb2.RunResponse:
        self.told[receipt.job_id, receipt.sequence] = receipt
        return job_pb2.RunResponse(receipt=seal_receipt(self._key, receipt, network=self._network))


async def serve(machine: SimMachine, engine: FakeEngine, *, task_status: trio.TaskStatus[str]) -> None:
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as sdk:
        address = await join(sdk, machine)
        async with sdk.get_host_manager().serve(OFFER, engine, limits=JobLimits()):
            task_status.started(address)
            await trio.sleep_forever()


async def ask_at_once(client: SDK, session: Session) -> list[str]:
    """Run jobs in parallel; return the pieces that came."""
    came: list[str] = []

    async def one() -> None:
        with suppress(HostmeshError):
            async with client.get_job_manager().run(session, prompt="Hi there") as job:
                async for piece in job:
                    came.append(piece.text)  # noqa: PERF401 - what came before an error counts

    async with trio.open_nursery() as nursery:
        for _ in range(JOBS):
            nursery.start_soon(one)
    return came


async def play(net: SimNetwork, engine: FakeEngine) -> int:
    """Ask twice in one session, all at once; return the tokens that came."""
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve, net.machine("host"), engine)
        machine = net.machine("client")
        async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as client:
            await join(client, machine)
            discovery = client.get_discovery_manager()
            await discovery.connect_to_peer(address)
            host = await discovery.find_host(HostCriteria(required_models=[CHAT]))
            async with client.get_session_manager().open_session(
                host, spending_limit_micros=100_000, slice_micros=SLICE
            ) as session:
                came = [piece for _ in range(2) for piece in await ask_at_once(client, session)]
        nursery.cancel_scope.cancel()
    return len(came)


@pytest.mark.parametrize("lie", Lie)
@simulated()
async def test_a_lying_host_is_paid_a_slice_more_than_came(
    net: SimNetwork, lie: Lie, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostmesh.hosting.JobServer", LyingServer)
    monkeypatch.setattr(LyingServer, "lie", lie)
    engine = FakeEngine([chat_model(CHAT)], first_token_s=1.0, answer=lambda work: "word " * 20)
    came = await play(net, engine)
    host = LyingServer.last
    signed = sum(host.paid.values())
    if lie is Lie.EARLY:
        assert (came, signed) == (0, SLICE)
        assert host.lies == SLICE // CLAIMED, "once the slice is used up no prompt leaves"
        return
    assert (host.lies, len(host.paid)) == (JOBS, JOBS)
    done = came + sum(prompt_tokens(job.work) for job in engine.jobs)
    assert 0 < signed <= done, "what it countersigned is what came"


@simulated()
async def test_a_client_that_never_countersigns_is_served_a_slice(
    net: SimNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Countersigner) -> None:
        """Keep it."""

    monkeypatch.setattr(Countersigner, "_deliver", never)
    engine = FakeEngine([chat_model(CHAT)], answer=lambda work: "word " * 500)
    came = await play(net, engine)
    prompts = sum(prompt_tokens(job.work) for job in engine.jobs)
    assert SLICE // 2 < came + prompts <= SLICE
    # One piece each was made, and waited for room.
    assert engine.counts.tokens - engine.counts.started <= came
