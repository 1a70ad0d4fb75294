"""A host that lies: about what it has, what it asks, how it is, how far it is, and what a job used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum

import trio

from hostmesh.discovery.description import HostDescription, ModelOffer
from hostmesh.discovery.service import CallFrom
from hostmesh.errors import RpcError, StatusCode
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.engine import Engine
from hostmesh.jobs.server import JobServer
from hostmesh.net.stream import Stream
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.receipt import open_sealed, seal_receipt
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.method import protocol_ids
from hostmesh.rpc.outcome import OK
from hostmesh.rpc.served_call import encode_last
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.sessions.server import SessionServer
from hostmesh.status.server import StatusServer
from hostmesh.status.snapshot import HostStatus, ModelStatus, ServingState
from hostmesh.testing.adversary_node import PROTOCOL_PREFIX, AdversaryNode, open_adversary_node
from hostmesh.testing.engine import FakeEngine, chat_model
from hostmesh.testing.engine_faults import EngineFault, FailsAfter, HangsAfter
from hostmesh.testing.machine import NETWORK_NAME, SimMachine
from hostmesh.testing.records import make_binding, make_description, make_host_record
from hostmesh.testing.wallets import make_wallet
from hostmesh.v1 import discovery_pb2, job_pb2, status_pb2
from hostmesh.v1.envelope_pb2 import SignedEnvelope
from hostmesh.v1.job_hostmesh import JOB_SERVICE
from hostmesh.v1.session_hostmesh import SESSION_SERVICE
from hostmesh.v1.status_hostmesh import STATUS_SERVICE, StatusServiceMethods

_RENEW_S = 60
"""A record older than this is signed anew, as honest hosts do."""
_NEVER_S = 1e9

SendEvent = Callable[[job_pb2.RunResponse], Awaitable[None]]


class PingLie(Enum):
    """What the host does about the round-trip time that is measured of it."""

    NONE = "none"
    EARLY = "early"
    """It answers every call of the status protocol before it has read it, with a nonce of its own making."""
    WRONG_NONCE = "wrong nonce"
    """It answers with another nonce than it was asked with."""


class JobLie(Enum):
    """How the host runs jobs."""

    NONE = "none"
    REFUSED = "refused"
    """Every quote is refused with BUSY, however free the host said it was."""
    FAILS = "fails"
    """The engine fails after three tokens."""
    HANGS = "hangs"
    """Nothing comes after three tokens, for ever."""
    WRONG_COST = "wrong cost"
    """The cost is not tokens times price."""
    NO_USAGE = "no usage"
    """The job ends with OK and without what it used."""
    REPEATS = "repeats"
    """Each piece of the answer comes twice, under the same number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLies:
    """What a lying host says and does otherwise than it is. As it stands: nothing.

    Raises:
        ValueError: a negative number.
    """

    extra_models: tuple[str, ...] = ()
    """Listed in the record at the price of the first model; no engine has them."""
    price_micros_per_mtok: int | None = None
    """Of each model in the record, while quotes ask the true one; None = the true one."""
    extra_uptime_s: int = 0
    """By how much longer it says it has been up."""
    location: str | None = None
    """Where it says it is; None = what its description says."""
    capabilities: tuple[str, ...] = ()
    """Claimed beside those of its description: what a record can say of speed is such a name."""
    is_always_ready: bool = False
    """It says that all its models are loaded and all its slots are free, whatever they are."""
    ping: PingLie = PingLie.NONE
    ping_delay_s: float = 0.0
    """How long it waits before it answers a ping."""
    job_delay_s: float = 0.0
    """How long it waits before it answers anything of sessions and jobs: probes first."""
    job: JobLie = JobLie.NONE
    extra_tokens: int = 0
    """Added to the prompt's tokens of each finished job, at their price."""

    def __post_init__(self) -> None:
        if min(self.extra_uptime_s, self.ping_delay_s, self.job_delay_s, self.extra_tokens) < 0:
            raise ValueError("times and counts of a lie are not negative")

    def claims(self, truth: HostDescription) -> HostDescription:
        """Return what the record of a host says that tells these lies.

        >>> HostLies(extra_models=("huge",)).claims(make_description("small")).model_ids
        ('small', 'huge')
        """
        extra = [model_id for model_id in self.extra_models if model_id not in truth.model_ids]
        models = [*truth.models, *(replace(truth.models[0], model_id=model_id) for model_id in extra)]
        return replace(
            truth,
            models=[self._priced(offer) for offer in models],
            location=self.location or truth.location,
            capabilities=tuple(dict.fromkeys((*truth.capabilities, *self.capabilities))),
        )

    def _priced(self, offer: ModelOffer) -> ModelOffer:
        if self.price_micros_per_mtok is None or offer.price is None:
            return offer
        return replace(offer, price=replace(offer.price, micros_per_mtok=self.price_micros_per_mtok))


class LyingHost:
    """A host that lies as it is told to. :func:`run_lying_host` makes it.

    Args:
        adversary: the node that it runs on.
        description: what it really offers; every model has a price.
        lies: what it says instead.
        engine: does the work.
    """

    def __init__(self, adversary: AdversaryNode, description: HostDescription, lies: HostLies, engine: Engine) -> None:
        self.adversary = adversary
        self.description = description
        self.lies = lies
        """May be replaced at any time; the record's part counts from the next record on."""
        self.engine = engine
        self._began_unix_s = int(adversary.machine.system.unix_s())
        self._record: discovery_pb2.SignedHostRecord | None = None
        self._issued_at_unix_s = 0
        wallet = make_wallet(adversary.machine.name)
        self._binding = make_binding(
            adversary.key, wallet, network=NETWORK_NAME, issued_at_unix_s=self._began_unix_s - 10
        )
        system = adversary.machine.system
        prices = {
            offer.model_id: ModelPrice(micros_per_mtok=offer.price.micros_per_mtok, currency=offer.price.currency)
            for offer in description.models
            if offer.price is not None
        }
        self.sessions = SessionServer(
            key=adversary.key,
            binding=lambda: self._binding,
            network=NETWORK_NAME,
            price_of=lambda model_id, peer_id: self.jobs.price_of(model_id, peer_id),
            system=system,
        )
        self.jobs = JobServer(
            engine=engine,
            key=adversary.key,
            network=NETWORK_NAME,
            prices=prices,
            require_session=self.sessions.require_session,
            receipts=ReceiptStore(None),
            # An honest host would give a silent engine up; this one lets its clients wait.
            limits=JobLimits(
                max_concurrent_jobs=description.max_concurrent_jobs,
                max_queued_jobs=description.max_queued_jobs,
                max_job_s=_NEVER_S,
                engine_silence_s=_NEVER_S,
            ),
            system=system,
        )
        self._ready: dict[str, bool] = {}
        adversary.serve_records(self)
        adversary.serve(STATUS_SERVICE, _LyingStatus(self))
        adversary.serve(SESSION_SERVICE, _SlowSessions(self))
        adversary.serve(JOB_SERVICE, _LyingJobs(self))
        status_id = protocol_ids(PROTOCOL_PREFIX, STATUS_SERVICE)[0]
        self._answer_status = adversary.server.stream_handlers()[status_id]
        adversary.node.set_stream_handler(status_id, self._serve_status)

    # --- the record ---

    @property
    def claims(self) -> HostDescription:
        """What its record says."""
        return self.lies.claims(self.description)

    async def get_record(
        self, _request: discovery_pb2.GetRecordRequest, _context: CallFrom
    ) -> discovery_pb2.GetRecordResponse:
        """Serve the record, signed anew each minute."""
        now = self.adversary.machine.system.unix_s()
        if self._record is None or now - self._issued_at_unix_s > _RENEW_S:
            self._issued_at_unix_s = int(now)
            self._record = make_host_record(
                description=self.claims,
                key=self.adversary.key,
                wallet=make_wallet(self.adversary.machine.name),
                binding=self._binding,
                network=NETWORK_NAME,
                sequence=int(now * 1000),
                issued_at_unix_s=int(now),
                started_at_unix_s=max(self._began_unix_s - self.lies.extra_uptime_s, 1),
                addresses=(self.adversary.address,),
            )
        return discovery_pb2.GetRecordResponse(record=self._record)

    async def announce(
        self, _request: discovery_pb2.AnnounceRequest, _context: CallFrom
    ) -> discovery_pb2.AnnounceResponse:
        """Take what others push, and keep nothing."""
        return discovery_pb2.AnnounceResponse()

    async def query(self, _request: discovery_pb2.QueryRequest, _context: CallFrom) -> discovery_pb2.QueryResponse:
        """Tell of nobody."""
        return discovery_pb2.QueryResponse()

    # --- status ---

    async def check_engine(self) -> None:
        """Ask the engine which models are ready."""
        self._ready = dict(await self.engine.ready())

    def status(self) -> HostStatus:
        """Return what it says of its load."""
        stats, system = self.jobs.stats(), self.adversary.machine.system
        lies = self.lies.is_always_ready
        models = {offer.model_id: True for offer in self.claims.models} if lies else self._ready
        return HostStatus(
            state=ServingState.AVAILABLE,
            active_jobs=0 if lies else stats.active_jobs,
            queued_jobs=0 if lies else stats.queued_jobs,
            max_concurrent_jobs=stats.max_concurrent_jobs,
            max_queued_jobs=stats.max_queued_jobs,
            models=tuple(ModelStatus(model_id=model_id, ready=ready) for model_id, ready in models.items()),
            uptime_s=system.unix_s() - self._began_unix_s + self.lies.extra_uptime_s,
            time_unix_s=system.unix_s(),
        )

    async def _serve_status(self, stream: Stream) -> None:
        if self.lies.ping is not PingLie.EARLY:
            await self._answer_status(stream)
            return
        guess = self.adversary.machine.system.random_bytes(8)
        response = status_pb2.PingResponse(nonce=guess)
        await stream.send(encode_last(StatusServiceMethods.PING, OK, response), end=True)


class _LyingStatus(StatusServer):
    def __init__(self, host: LyingHost) -> None:
        super().__init__(host.status, host.adversary.machine.system)
        self._host = host

    async def ping(self, request: status_pb2.PingRequest, context: CallContext) -> status_pb2.PingResponse:
        lies = self._host.lies
        if lies.ping_delay_s:
            await trio.sleep(lies.ping_delay_s)
        if lies.ping is PingLie.WRONG_NONCE:
            return status_pb2.PingResponse(nonce=bytes(byte ^ 1 for byte in request.nonce))
        return status_pb2.PingResponse(nonce=request.nonce)

    async def get_snapshot(
        self, request: status_pb2.GetSnapshotRequest, context: CallContext
    ) -> status_pb2.StatusSnapshot:
        await self._host.check_engine()
        return await super().get_snapshot(request, context)


class _SlowSessions:
    """The host's real sessions, late."""

    def __init__(self, host: LyingHost) -> None:
        self._host = host

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        serve: Callable[..., Awaitable[object]] = getattr(self._host.sessions, name)

        async def late(request: object, context: CallContext) -> object:
            await trio.sleep(self._host.lies.job_delay_s)
            return await serve(request, context)

        return late


class _LyingJobs:
    """The host's real jobs, late, and told wrongly."""

    def __init__(self, host: LyingHost) -> None:
        self._host = host
        self._prices: dict[bytes, int] = {}
        """Of quotes that were given, until a job uses them."""

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        await trio.sleep(self._host.lies.job_delay_s)
        if self._host.lies.job is JobLie.REFUSED:
            raise RpcError("no slot is free", status=StatusCode.RESOURCE_EXHAUSTED, reason="BUSY")
        response = await self._host.jobs.quote(request, context)
        terms = job_pb2.Quote.FromString(SignedEnvelope.FromString(response.quote).payload)
        self._prices[terms.quote_id] = terms.price_micros_per_mtok
        return response

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendEvent) -> None:
        lies, price = self._host.lies, self._prices.pop(request.quote_id, 0)
        await trio.sleep(lies.job_delay_s)

        async def tell(response: job_pb2.RunResponse) -> None:
            kind = response.WhichOneof("event")
            if kind == "completed":
                if lies.job is JobLie.NO_USAGE:
                    return
                usage = response.completed.usage
                usage.prompt_tokens += lies.extra_tokens
                usage.cost_micros = cost_micros(usage.prompt_tokens + usage.completion_tokens, price)
                usage.cost_micros += lies.job is JobLie.WRONG_COST
            elif kind == "receipt" and lies.extra_tokens:
                response.receipt = self._inflated(response.receipt)
            await send(response)
            if kind in ("text", "vector") and lies.job is JobLie.REPEATS:
                await send(response)

        await self._host.jobs.run(request, context, tell)

    def _inflated(self, envelope: bytes) -> bytes:
        """Return a receipt that claims more of the prompt, signed like the true one."""
        true = open_sealed(envelope, network=NETWORK_NAME).receipt
        prompt_tokens = true.prompt_tokens + self._host.lies.extra_tokens
        cost = cost_micros(prompt_tokens + true.completion_tokens, true.price_micros_per_mtok)
        return seal_receipt(
            self._host.adversary.key,
            replace(true, prompt_tokens=prompt_tokens, cost_micros=cost),
            network=NETWORK_NAME,
        )

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        return await self._host.jobs.countersign(request, context)

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        return await self._host.jobs.get_receipt(request, context)


@asynccontextmanager
async def run_lying_host(
    machine: SimMachine,
    lies: HostLies,
    *,
    description: HostDescription | None = None,
    engine: Engine | None = None,
    bootstrap: Sequence[str] = (),
) -> AsyncIterator[LyingHost]:
    """Run a host that lies, for the life of the block. The DHT names it, as it names others.

    Args:
        machine: where it runs; its name gives key and wallet.
        lies: what it says and does.
        description: what it really offers, each model at a price; None = :func:`make_description`.
        engine: does the work; None = a :class:`FakeEngine` of these models, with the fault that ``lies.job`` names.
        bootstrap: where it joins the network: addresses with ``/p2p``.

    Raises:
        UsageError: the machine is off, or has a process already.
    """
    truth = description or make_description()
    faults: dict[JobLie, EngineFault] = {JobLie.FAILS: FailsAfter(3), JobLie.HANGS: HangsAfter(3)}
    engine = engine or FakeEngine([chat_model(model_id) for model_id in truth.model_ids], fault=faults.get(lies.job))
    async with open_adversary_node(machine, bootstrap=bootstrap) as adversary:
        host = LyingHost(adversary, truth, lies, engine)
        await host.check_engine()
        place = host.claims.place
        await adversary.advertise(host.claims.model_ids, None if place is None else place.country_code)
        yield host
