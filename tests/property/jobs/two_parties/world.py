"""A client and a host of jobs over real calls, and beside them the truth: what was made, what crossed, what was signed.

The truth is kept by the engine, by taps on what leaves the host and what arrives at the client, and by the key that
countersigns. Nothing of it comes from the code under test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import trio
from tests.property.jobs.two_parties.truth import Facts, TrueEngine, Words, price
from tests.unit.jobs.kit import (
    CHAT,
    CLIENT_KEY,
    CLIENT_WALLET,
    HOST_KEY,
    NETWORK,
    Clock,
    FakeSession,
    MemoryStream,
    Purse,
)

from hostmesh.errors import ConnectionLostError, RpcError, StatusCode
from hostmesh.identity.structs import Receipt
from hostmesh.identity.typed_data import recover_signer
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.server import JobServer
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.server import RpcServer
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import job_pb2

SESSION_ID = b"s" * 16


class Boundary:
    """The host's handler; notes what leaves. A host that lies changes it here."""

    def __init__(self, world: World, server: JobServer) -> None:
        self.world = world
        self.server = server

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        return await self.server.quote(request, context)

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: Callable[[Any], Any]) -> None:
        world = self.world
        facts = world.facts[request.chat.messages[-1].content]
        world.by_id.setdefault(request.quote_id, facts)

        async def tell(response: job_pb2.RunResponse) -> None:
            kind = response.WhichOneof("event")
            if kind == "text":
                facts.sent_tokens += facts.pieces[facts.sent_pieces]
                facts.sent_pieces += 1
            elif kind == "receipt":
                world.note_issued(facts, response.receipt)
            world.check()
            await send(response)

        try:
            await self.server.run(request, context, tell)
        except RpcError as error:
            if error.reason in ("ENGINE_FAILED", "DRAINING") and facts.is_begun:
                facts.given_up_micros = world.cost_of(facts) - facts.paid_micros
            raise
        finally:
            world.check()

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        response = await self.server.countersign(request, context)
        facts = self.world.by_id[request.job_id]
        receipt = facts.issued[request.sequence]
        if JobState(receipt.state).is_final and not self.world.counts_prompts:
            # Of a prompt that its engine never counted a host takes an estimate, and gives the rest up.
            claimed = price(receipt.prompt_tokens + facts.sent_tokens, self.world.micros_per_mtok)
            facts.given_up_micros = max(facts.given_up_micros, self.world.cost_of(facts) - claimed)
        signer = recover_signer(receipt, request.signature, NETWORK)
        self.world.demand(signer == CLIENT_WALLET.address_bytes, "somebody else's signature was taken")
        facts.paid_micros = max(facts.paid_micros, receipt.cost_micros)
        facts.given_up_micros = min(facts.given_up_micros, self.world.cost_of(facts) - facts.paid_micros)
        self.world.check()
        return response

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        response = await self.server.get_receipt(request, context)
        self.world.note_issued(self.world.by_id[request.job_id], response.receipt)
        return response


class Tapped:
    """Makes calls, and notes the texts that come."""

    def __init__(self, caller: RpcClient, world: World) -> None:
        self._caller = caller
        self._world = world
        self.is_dead = False
        """Its process was killed: nothing leaves it any more."""

    async def unary(self, *args: Any, **options: Any) -> Any:
        self._require_life()
        return await self._caller.unary(*args, **options)

    @asynccontextmanager
    async def server_stream(self, peer_id: PeerId, method: Any, request: Any, **options: Any) -> AsyncIterator[Any]:
        self._require_life()
        facts = self._world.facts[request.chat.messages[-1].content]
        async with self._caller.server_stream(peer_id, method, request, **options) as responses:
            yield _Noting(responses, facts)

    def _require_life(self) -> None:
        if self.is_dead:
            raise ConnectionLostError("killed")


class _Noting:
    def __init__(self, responses: Any, facts: Facts) -> None:
        self._responses = responses
        self._facts = facts

    def __aiter__(self) -> _Noting:
        return self

    async def __anext__(self) -> Any:
        response = await anext(self._responses)
        if response.WhichOneof("event") == "text":
            self._facts.arrived.append(response.text.text)
        return response


@dataclass(frozen=True)
class NotedSession(FakeSession):
    """The client's session, whose key notes what it signs."""

    note: Callable[[Receipt], None] = print
    is_dead: Callable[[], bool] = bool

    def charge(self, amount_micros: int) -> None:
        if self.is_dead():
            raise ConnectionLostError("killed")

    def countersign(self, receipt: Receipt) -> bytes:
        self.note(receipt)
        return super().countersign(receipt)


@dataclass(frozen=True)
class ClientProcess:
    """A client that runs. One that was killed says and signs nothing more."""

    jobs: JobManager
    session: NotedSession
    caller: Tapped
    scopes: set[trio.CancelScope] = field(default_factory=set)
    """Of its jobs."""

    def kill(self) -> None:
        """End it where it stands; what it wrote is on its disk."""
        self.caller.is_dead = True
        for scope in self.scopes:
            scope.cancel()


class World:
    """One session between one client and one host, with a slice.

    Args:
        nursery: runs the host's calls.
        slice_micros: of the session.
        micros_per_mtok: the price.
        limit_micros: of the session.
        make_boundary: the host's handler in front of its job server.
        counts_prompts: its engine counts prompts before they are answered.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        slice_micros: int,
        micros_per_mtok: int,
        limit_micros: int = 1_000_000,
        make_boundary: Callable[[World, JobServer], Boundary] = Boundary,
        counts_prompts: bool = True,
    ) -> None:
        self.nursery = nursery
        self.slice_micros = slice_micros
        self.micros_per_mtok = micros_per_mtok
        self.limit_micros = limit_micros
        self.counts_prompts = counts_prompts
        self.facts: dict[str, Facts] = {}
        self.by_id: dict[bytes, Facts] = {}
        self.host_files, self.client_files = ReceiptStore(None), ReceiptStore(None)
        self.check: Callable[[], None] = lambda: None
        self.broken: list[str] = []
        """What must never be and was."""
        self.is_closed = False
        self.session = NotedSession(
            max_price_micros_per_mtok=10**9,
            spending_limit_micros=limit_micros,
            slice_micros=slice_micros,
            note=self._note_signed,
        )
        self._make_boundary = make_boundary
        self._clock = Clock()
        self._system = self._clock.system()
        self._streams: list[MemoryStream] = []
        self._purse = Purse(
            limit=limit_micros, signed_limit=limit_micros, slice_micros=slice_micros, price_ceiling=10**9
        )
        self.boot_host()
        self.caller = self._tapped()

    def boot_host(self) -> None:
        """Start the host's process; its files are there."""
        self.server = JobServer(
            engine=TrueEngine(self.facts, self._note_begun, counts_prompts=self.counts_prompts),
            key=HOST_KEY,
            network=NETWORK,
            prices={CHAT: ModelPrice(micros_per_mtok=self.micros_per_mtok, currency="USD")},
            require_session=self._require_session,
            receipts=self.host_files,
            limits=JobLimits(max_concurrent_jobs=3, max_queued_jobs=2, engine_silence_s=200.0, max_job_s=1000.0),
            system=self._system,
        )
        rpc = RpcServer(prefix="/hostmesh", system=self._system)
        self.boundary = self._make_boundary(self, self.server)
        rpc.add_service(job_pb2.DESCRIPTOR.services_by_name["JobService"], self.boundary)
        self._handlers = rpc.stream_handlers()
        self.nursery.start_soon(rpc.run)

    async def restart_host(self) -> None:
        """Kill the host's process, and start it again. What no receipt covers of its jobs is forgotten with it."""
        for facts in self.facts.values():
            if not facts.given_up_micros:
                issued = max((receipt.cost_micros for receipt in facts.issued.values()), default=0)
                facts.given_up_micros = max(0, self.cost_of(facts) - max(issued, facts.paid_micros))
        await self.break_streams()
        self.boot_host()
        self.check()

    async def break_streams(self) -> None:
        """Break the connection between the two."""
        streams, self._streams = self._streams, []
        for stream in streams:
            await stream.reset()

    def client(self, *, has_tokenizer: bool = True) -> JobManager:
        """Start the client's process; its files are there."""
        return self.start_client(has_tokenizer=has_tokenizer).jobs

    def start_client(self, *, has_tokenizer: bool) -> ClientProcess:
        """Start the client's process, which can be killed; its files are there."""
        caller = self._tapped()
        jobs = JobManager(
            caller=caller,  # type: ignore[arg-type]
            peer_id=CLIENT_KEY.peer_id,
            network=NETWORK,
            receipts=self.client_files,
            counter_of=(lambda digest: Words()) if has_tokenizer else None,
            system=self._system,
        )
        return ClientProcess(jobs, replace(self.session, is_dead=lambda: caller.is_dead), caller)

    def _tapped(self) -> Tapped:
        return Tapped(RpcClient(self, prefix="/hostmesh", system=self._system), self)  # type: ignore[arg-type]

    def plan(
        self, prompt_words: int, pieces: tuple[int, ...], *, fail_after: int | None = None, delay_s: float = 0.0
    ) -> Facts:
        """Make up a job."""
        name = f"job{len(self.facts)}"
        facts = Facts(" ".join([name, *["word"] * prompt_words]), pieces, fail_after, delay_s)
        self.facts[facts.prompt] = facts
        return facts

    def cost_of(self, facts: Facts) -> int:
        """What the host did for a job."""
        begun = facts.prompt_tokens if facts.is_begun else 0
        return price(begun + facts.sent_tokens, self.micros_per_mtok)

    def demand(self, holds: bool, what: str) -> None:
        """Note what must never be; a handler's own error would not leave its call."""
        if not holds:
            self.broken.append(what)

    def check_host(self) -> None:
        """An honest host is never owed more than a slice, and never has a signature for more than it did."""
        owed = 0
        for facts in self.facts.values():
            left = self.cost_of(facts) - facts.paid_micros - facts.given_up_micros
            self.demand(left >= 0, "more was countersigned than done")
            owed += left
        self.demand(owed <= self.slice_micros, f"{owed} are owed")

    def check_client(self, *, has_tokenizer: bool) -> None:
        """An honest client never signs more than its limit, and no more than a slice for what it did not get."""
        all_signed = 0
        prompts = []
        for facts in self.facts.values():
            all_signed += facts.signed_micros
            if not facts.arrived:
                prompts.append(facts.signed_micros)
                continue
            answer = "".join(facts.arrived)
            words = len(answer.split())
            most = facts.prompt_tokens + 8 + words + words // 16 + 8
            if not has_tokenizer:
                # docs/protocols/receipt.md: a token a byte, a template, marks.
                most = len(facts.prompt.encode()) + 64 + 1024 + len(answer.encode()) + 8
            self.demand(facts.signed_micros <= price(most, self.micros_per_mtok), "signed for what did not come")
        unanswered = sum(prompts)
        self.demand(unanswered <= self.slice_micros, f"{unanswered} signed for no answer")
        self.demand(all_signed <= self.limit_micros, f"{all_signed} signed, above the limit")

    def note_issued(self, facts: Facts, envelope: bytes) -> None:
        """A receipt left the host."""
        receipt = open_sealed(envelope, network=NETWORK).receipt
        before = facts.issued.setdefault(receipt.sequence, receipt)
        self.demand(before == receipt, "two receipts of one sequence")

    async def until_idle(self) -> None:
        """Let everything that goes on come to its end."""
        with trio.fail_after(2000):
            while self.server.stats().active_jobs + self.server.stats().queued_jobs:  # noqa: ASYNC110 - of any boot
                await trio.sleep(1.0)

    # --- what the nodes would do ---

    def start_stream(self, *_: object) -> None:
        return None

    async def open_stream(self, peer_id: PeerId, protocol_id: str, *, timeout_s: float | None = None) -> Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = MemoryStream.pair(CLIENT_KEY.peer_id, HOST_KEY.peer_id, protocol_id)
        self._streams.append(ours)
        self.nursery.start_soon(self._serve, self._handlers[protocol_id], theirs)
        return ours

    async def _serve(self, handler: Any, stream: MemoryStream) -> None:
        with suppress(ConnectionLostError):
            await handler(stream)

    def _require_session(self, context: CallContext, model_id: str) -> Purse:
        if context.session_id != SESSION_ID or self.is_closed:
            raise RpcError("no session", status=StatusCode.UNAUTHENTICATED, reason="UNAUTHORIZED")
        return self._purse

    def _note_begun(self, facts: Facts) -> None:
        self.demand(not facts.is_begun, "a job was executed twice")
        facts.is_begun = True
        self.check()

    def _note_signed(self, receipt: Receipt) -> None:
        facts = self.by_id[receipt.job_id]
        step = receipt.cost_micros - facts.signed_micros
        self.demand(step <= self.slice_micros, f"{step} signed at once")
        facts.signed_micros = max(facts.signed_micros, receipt.cost_micros)
        self.check()
