"""A host and a client of jobs without a network: a scripted engine, real wire messages, real sessions' money."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, HostmeshError, RpcError, StatusCode
from hostmesh.identity.structs import Receipt, SessionAuthorization
from hostmesh.identity.wallet import Wallet
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.engine import (
    ChatWork,
    EngineEvent,
    Finished,
    FinishReason,
    ModelInfo,
    TextPiece,
    Vector,
    Work,
)
from hostmesh.jobs.receipt_desk import ClientStandings
from hostmesh.jobs.server import JobServer
from hostmesh.jobs.stats import JobStats
from hostmesh.jobs.verdict import JobVerdict
from hostmesh.model_kind import ModelKind
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import CallContext, RpcServer
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.system import System
from hostmesh.v1 import job_pb2

HOST_KEY = PeerKey(bytes(range(32)))
CLIENT_KEY = PeerKey(bytes(range(1, 33)))
OTHER_KEY = PeerKey(bytes(range(2, 34)))
NETWORK = "testnet"
CHAT = "tiny-chat"
EMBED = "tiny-embed"
CHAT_PRICE = ModelPrice(micros_per_mtok=250_000, currency="USD")
EMBED_PRICE = ModelPrice(micros_per_mtok=0, currency="USD")

CHAT_MODEL = ModelInfo(
    model_id=CHAT,
    kind=ModelKind.CHAT,
    context_tokens=256,
    max_output_tokens=64,
    engine="scripted 1",
    parameters=frozenset({"temperature", "stop", "seed"}),
)
EMBED_MODEL = ModelInfo(model_id=EMBED, kind=ModelKind.EMBEDDING, context_tokens=32, engine="scripted 1")


@dataclass
class Script:
    """What the engine does with the next work."""

    pieces: tuple[str, ...] = ("Hel", "lo", " world")
    delay_s: float = 0.0
    """Before each piece or vector, and before the end."""
    fail_after: int | None = None
    """Raise ``error`` after so many pieces."""
    error: HostmeshError | None = None
    hang_after: int | None = None
    """Be silent for ever after so many pieces."""
    finish: bool = True
    """Make the last event."""
    events: tuple[EngineEvent, ...] | None = None
    """These and nothing else."""
    completion_tokens: int | None = None
    """Told at the end; None = one a piece."""


class ScriptedEngine:
    """An engine with set speed and failure points; a word is a token."""

    def __init__(self, *, counts_prompts: bool = True) -> None:
        self.scripts: list[Script] = []
        """Used up one a generation; the last stays."""
        self.default = Script()
        self.counts_prompts = counts_prompts
        self.count_error: HostmeshError | None = None
        self.count_delay_s = 0.0
        self.running = 0
        self.most_running = 0
        self.works: list[Work] = []
        self.stopped_at: list[float] = []
        """When each generation that was left early was."""
        self.finished = 0

    def models(self) -> tuple[ModelInfo, ...]:
        return (CHAT_MODEL, EMBED_MODEL)

    async def ready(self) -> Mapping[str, bool]:
        return {CHAT: True, EMBED: True}

    async def count_prompt_tokens(self, work: Work) -> int | None:
        await trio.sleep(self.count_delay_s)
        if self.count_error is not None:
            raise self.count_error
        return prompt_tokens(work) if self.counts_prompts else None

    @asynccontextmanager
    async def generate(self, work: Work) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        self.works.append(work)
        script = self.scripts.pop(0) if self.scripts else self.default
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        finished = [False]
        try:
            async with aclosing(self._events(work, script, finished)) as events:
                yield events
        finally:
            self.running -= 1
            if finished[0]:
                self.finished += 1
            else:
                self.stopped_at.append(trio.current_time())

    async def _events(self, work: Work, script: Script, finished: list[bool]) -> AsyncGenerator[EngineEvent, None]:
        made: tuple[EngineEvent, ...]
        if script.events is not None:
            made = script.events
        elif isinstance(work, ChatWork):
            made = tuple(TextPiece(text=piece) for piece in script.pieces)
        else:
            made = tuple(Vector(index=i, values=(float(len(text)), 1.0)) for i, text in enumerate(work.texts))
        for number, event in enumerate(made):
            await self._step(script, number)
            yield event
        await self._step(script, len(made))
        if script.finish and script.events is None:
            finished[0] = True
            counted = len(made) if isinstance(work, ChatWork) else 0
            yield Finished(
                prompt_tokens=prompt_tokens(work),
                completion_tokens=counted if script.completion_tokens is None else script.completion_tokens,
                finish_reason=FinishReason.STOP,
            )

    @staticmethod
    async def _step(script: Script, number: int) -> None:
        if script.error is not None and script.fail_after == number:
            raise script.error
        if script.hang_after == number:
            await trio.sleep_forever()
        await trio.sleep(script.delay_s)


def prompt_tokens(work: Work) -> int:
    """Words, and 2 of a template for each message."""
    if isinstance(work, ChatWork):
        return sum(len(message.content.split()) + 2 for message in work.messages)
    return sum(len(text.split()) for text in work.texts)


CLIENT_WALLET = Wallet.from_private_key(bytes(range(3, 35)))
OPERATOR = bytes(range(20))


def authorization(limit: int, slice_micros: int, model_id: str = CHAT) -> SessionAuthorization:
    return SessionAuthorization(
        client=CLIENT_WALLET.address_bytes,
        operator=OPERATOR,
        client_peer_id=peer_id_to_bytes(CLIENT_KEY.peer_id),
        host_peer_id=peer_id_to_bytes(HOST_KEY.peer_id),
        nonce=bytes(32),
        model_id=model_id,
        max_price_micros_per_mtok=CHAT_PRICE.micros_per_mtok,
        currency="USD",
        spending_limit_micros=limit,
        issued_at_unix_s=1_900_000_000,
        expires_at_unix_s=1_900_003_600,
        slice_micros=slice_micros,
    )


@dataclass
class Purse:
    """One session's money, kept by the plainest means: the model that the server is compared with."""

    limit: int
    signed_limit: int = 10_000
    """What the client authorised; ``limit`` is what the host lets it spend."""
    slice_micros: int = 10_000
    session_id: bytes = b"s" * 16
    model_id: str = CHAT
    peer_id: PeerId = CLIENT_KEY.peer_id
    signer: bytes = CLIENT_WALLET.address_bytes
    price_ceiling: int = CHAT_PRICE.micros_per_mtok
    currency: str = "USD"
    spent: int = 0
    reserved: dict[int, int] = field(default_factory=dict)
    settled: list[int] = field(default_factory=list)
    closed: int = 0
    """Reservations that were settled or released."""
    is_open: bool = True
    _next: int = 0

    @property
    def authorization(self) -> SessionAuthorization:
        return authorization(self.signed_limit, self.slice_micros, self.model_id)

    signed_authorization: bytes = b"signed"
    grant: bytes = b"grant"
    delegation: bytes = b""

    @property
    def spent_micros(self) -> int:
        return self.spent

    @property
    def max_price_micros_per_mtok(self) -> int:
        return self.price_ceiling

    def reserve(self, amount_micros: int) -> _Reserved:
        if self.spent + sum(self.reserved.values()) + amount_micros > self.limit:
            raise RpcError("too little left", status=StatusCode.FAILED_PRECONDITION, reason="SPENDING_LIMIT")
        self._next += 1
        self.reserved[self._next] = amount_micros
        return _Reserved(self, self._next)


@dataclass
class _Reserved:
    purse: Purse
    number: int

    def advance(self, cost_micros: int) -> int:
        assert cost_micros <= self.purse.reserved[self.number], "a job cost more than was reserved for it"
        return cost_micros

    def settle(self, cost_micros: int) -> int:
        reserved = self.purse.reserved.pop(self.number)
        assert cost_micros <= reserved, "a job cost more than was reserved for it"
        self.purse.spent += cost_micros
        self.purse.settled.append(cost_micros)
        self.purse.closed += 1
        return cost_micros

    def release(self) -> None:
        del self.purse.reserved[self.number]
        self.purse.closed += 1


@dataclass(frozen=True)
class FakeSession:
    """The client's view of a purse."""

    peer_id: PeerId = HOST_KEY.peer_id
    model_id: str = CHAT
    session_id: bytes = b"s" * 16
    max_price_micros_per_mtok: int = CHAT_PRICE.micros_per_mtok
    currency: str = "USD"
    spending_limit_micros: int = 10_000
    slice_micros: int = 10_000
    signer: bytes = CLIENT_WALLET.address_bytes
    is_closed: bool = False
    end_reason: str = ""
    charged: list[int] = field(default_factory=list)
    signed_authorization: bytes = b"signed"
    grant: bytes = b"grant"
    delegation: bytes = b""

    @property
    def authorization(self) -> SessionAuthorization:
        return authorization(self.spending_limit_micros, self.slice_micros, self.model_id)

    def countersign(self, receipt: Receipt) -> bytes:
        return CLIENT_WALLET.sign(receipt, NETWORK)

    def charge(self, amount_micros: int) -> None:
        self.charged.append(amount_micros)


@dataclass
class Book:
    """Outcomes as they are recorded."""

    outcomes: list[tuple[PeerId, bool]] = field(default_factory=list)

    verdicts: list[JobVerdict] = field(default_factory=list)

    operators: list[bytes] = field(default_factory=list)
    """Under whose wallet each was."""

    details: list[str] = field(default_factory=list)

    def record_job(self, peer_id: PeerId, operator: bytes, verdict: JobVerdict, detail: str) -> None:
        self.operators.append(operator)
        self.outcomes.append((peer_id, verdict.is_good))
        self.verdicts.append(verdict)
        self.details.append(detail)


@dataclass
class Host:
    """A job server and what stands behind it."""

    server: JobServer
    engine: ScriptedEngine
    purses: dict[bytes, Purse]
    """By session id."""
    clock: Clock
    receipts: ReceiptStore

    async def until(self, holds: Callable[[JobStats], bool]) -> None:
        """Wait for the load to be so."""
        changed = trio.Event()

        def note() -> None:
            nonlocal changed
            changed.set()
            changed = trio.Event()

        stop = self.server.on_change(note)
        with trio.fail_after(60):
            while not holds(self.server.stats()):
                await changed.wait()
        stop()

    async def until_idle(self) -> None:
        await self.until(lambda stats: stats.active_jobs + stats.queued_jobs == 0)

    async def until_accepted(self, jobs: int) -> None:
        await self.until(lambda stats: stats.accepted >= jobs)


@dataclass
class Clock:
    """Trio's clock, which a test may replace, and a wall clock that starts in 2030."""

    offset_s: float = 1_900_000_000.0

    def system(self) -> System:
        draws = iter(range(1, 1 << 30))
        return System(
            unix_s=lambda: trio.current_time() + self.offset_s,
            monotonic_s=trio.current_time,
            random_bytes=lambda size: next(draws).to_bytes(size, "big"),
        )


def make_host(
    *,
    limits: JobLimits | None = None,
    prices: Mapping[str, ModelPrice] | None = None,
    purse: Purse | None = None,
    engine: ScriptedEngine | None = None,
    receipts: ReceiptStore | None = None,
    clients: ClientStandings | None = None,
) -> Host:
    engine = engine or ScriptedEngine()
    purses = {FakeSession().session_id: purse or Purse(limit=10_000)}
    clock = Clock()
    receipts = receipts or ReceiptStore(None)

    def require_session(context: CallContext, model_id: str) -> Purse:
        found = purses.get(context.session_id)
        if found is None:
            raise RpcError("no session", status=StatusCode.UNAUTHENTICATED, reason="UNAUTHORIZED")
        found.model_id = model_id
        return found

    server = JobServer(
        engine=engine,
        key=HOST_KEY,
        network=NETWORK,
        prices={CHAT: CHAT_PRICE, EMBED: EMBED_PRICE} if prices is None else prices,
        require_session=require_session,
        receipts=receipts,
        limits=limits,
        system=clock.system(),
        clients=clients,
    )
    return Host(server, engine, purses, clock, receipts)


def context(peer_id: PeerId = CLIENT_KEY.peer_id, *, session_id: bytes = b"s" * 16, method: str = "Run") -> CallContext:
    return CallContext(peer_id=peer_id, method=f"JobService.{method}", deadline=None, session_id=session_id)


class MemoryStream:
    """One end of a stream in memory; ``peer`` is the other. Each direction holds 16 writes, then the writer waits."""

    def __init__(self, peer_id: PeerId, protocol_id: str) -> None:
        self.peer_id = peer_id
        self.protocol_id = protocol_id
        self.sent = b""
        self._buffer = b""
        self._put, self._theirs = trio.open_memory_channel[bytes](16)
        self._is_reset = trio.Event()
        self._on_lost: Callable[[], None] | None = None
        self._waiting: set[trio.CancelScope] = set()
        self._read_deadline = math.inf
        self.peer: MemoryStream = self

    @classmethod
    def pair(cls, client: PeerId, host: PeerId, protocol_id: str) -> tuple[MemoryStream, MemoryStream]:
        ours, theirs = cls(host, protocol_id), cls(client, protocol_id)
        ours.peer, theirs.peer = theirs, ours
        return ours, theirs

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        data = head + data
        self.sent += data
        await self._or_reset(self._put.send, data)
        if end:
            self._put.close()

    async def receive(self, max_bytes: int = 1 << 20) -> bytes:
        if not self._buffer:
            try:
                self._buffer = await self._or_reset(self.peer._theirs.receive)
            except trio.EndOfChannel:
                return b""
        data, self._buffer = self._buffer[:max_bytes], self._buffer[max_bytes:]
        return data

    async def receive_chunk(self) -> bytes | memoryview:
        with trio.CancelScope(deadline=self._read_deadline):
            return await self.receive()
        raise DeadlineExceededError("the peer sent nothing in time")

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        return False

    def receive_nowait(self) -> bytes | memoryview | None:
        return None

    @property
    def heard_bytes(self) -> int:
        return 0

    def set_read_deadline(self, deadline: float) -> None:
        self._read_deadline = deadline

    async def wait_reset(self) -> None:
        await self._is_reset.wait()

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        self._on_lost = callback
        if callback is not None and self._is_reset.is_set():
            callback()

    async def close_write(self) -> None:
        self._put.close()

    async def close(self) -> None:
        self._put.close()

    async def reset(self) -> None:
        told = self.peer._is_reset.is_set()
        for end in (self, self.peer):
            end._is_reset.set()
            for scope in end._waiting:
                scope.cancel()
        if self.peer._on_lost is not None and not told:
            self.peer._on_lost()

    async def _or_reset(self, step: Callable[..., Any], *args: Any) -> Any:
        """Do one step, or fail once either end was reset."""
        await trio.lowlevel.checkpoint()
        if not self._is_reset.is_set():
            with trio.CancelScope() as scope:
                self._waiting.add(scope)
                try:
                    return await step(*args)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    pass
                finally:
                    self._waiting.discard(scope)
        raise ConnectionLostError("the stream was reset")


class Wire:
    """Opens streams in memory to a host, as a node does over the network. Keeps both ends of each."""

    def __init__(self, host: Host, nursery: trio.Nursery, *, peer_id: PeerId, handler: object | None = None) -> None:
        rpc = RpcServer(prefix="/hostmesh", system=host.clock.system())
        rpc.add_service(job_pb2.DESCRIPTOR.services_by_name["JobService"], handler or host.server)
        self._handlers = rpc.stream_handlers()
        self._nursery = nursery
        self._peer_id = peer_id
        self.ours: list[MemoryStream] = []

    def start_stream(self, *_: object) -> None:
        return None

    async def open_stream(self, peer_id: PeerId, protocol_id: str, *, timeout_s: float | None = None) -> Stream:
        await trio.lowlevel.checkpoint()
        assert peer_id == HOST_KEY.peer_id, "there is one host"
        ours, theirs = MemoryStream.pair(self._peer_id, HOST_KEY.peer_id, protocol_id)
        self.ours.append(ours)
        self._nursery.start_soon(self._handlers[protocol_id], theirs)
        return ours


class Liar:
    """A host that changes what it answers: ``edit`` gets each response and returns those that are sent instead."""

    def __init__(self, honest: JobServer) -> None:
        self.honest = honest
        self.edit: Callable[[Any], list[Any]] = lambda response: [response]
        self.edit_quote: Callable[[bytes], bytes] = lambda quote: quote

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        response = await self.honest.quote(request, context)
        return job_pb2.QuoteResponse(quote=self.edit_quote(response.quote))

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: Callable[[Any], Any]) -> None:
        async def tell(response: job_pb2.RunResponse) -> None:
            for edited in self.edit(response):
                await send(edited)

        await self.honest.run(request, context, tell)

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        return await self.honest.countersign(request, context)

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        return await self.honest.get_receipt(request, context)


def make_client(
    host: Host,
    nursery: trio.Nursery,
    *,
    key: PeerKey = CLIENT_KEY,
    book: Book | None = None,
    handler: object | None = None,
    says_draining: Callable[[PeerId], bool] | None = None,
) -> tuple[JobManager, Wire]:
    """Return a client whose calls go through the real RPC client and server."""
    wire = Wire(host, nursery, peer_id=key.peer_id, handler=handler)
    system = host.clock.system()
    caller = RpcClient(wire, prefix="/hostmesh", system=system)
    manager = JobManager(
        caller=caller,
        peer_id=key.peer_id,
        network=NETWORK,
        receipts=ReceiptStore(None),
        outcomes=book,
        says_draining=says_draining,
        system=system,
    )
    return manager, wire
