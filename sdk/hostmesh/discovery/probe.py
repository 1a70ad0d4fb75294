"""Measures hosts from here: round-trip time, readiness and a quote, over the path that a job will take."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.description import HostState, ModelOffer
from hostmesh.discovery.geography import refutes
from hostmesh.discovery.measurement import Measurement, Origin, Path, QuotedPrice, QuoteRefusal, Throttling
from hostmesh.discovery.probe_memory import ProbeMemory, Quoted
from hostmesh.discovery.terms import Place
from hostmesh.discovery.view import ProbeResult, Readiness
from hostmesh.errors import (
    DeadlineExceededError,
    DialError,
    HostmeshError,
    ProtocolNotSupportedError,
    RemoteProtocolError,
    RpcError,
    StatusCode,
)
from hostmesh.net.peer_id import PeerId
from hostmesh.net.room import once_there_is_room
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2, status_pb2

if TYPE_CHECKING:
    from hostmesh.discovery.collaborators import RunningNode

_STATES = {
    discovery_pb2.HOST_STATE_AVAILABLE: HostState.AVAILABLE,
    discovery_pb2.HOST_STATE_DRAINING: HostState.DRAINING,
    discovery_pb2.HOST_STATE_WITHDRAWN: HostState.WITHDRAWN,
}


class StatusProbe(Protocol):
    """Asks a peer for its status; the status feature's client is one."""

    async def ping(self, peer_id: PeerId, *, timeout_s: float) -> float:
        """Return the round-trip time in seconds.

        Raises:
            HostmeshError: no answer.
        """
        ...

    async def get_snapshot(self, peer_id: PeerId, *, timeout_s: float) -> status_pb2.StatusSnapshot:
        """Return the peer's state, load and models.

        Raises:
            HostmeshError: no answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """How hosts are probed. Chosen here; a probe is five short calls, and one more where there is no connection."""

    samples: int = 3
    """Round trips that count."""
    timeout_s: float = 5.0
    """For the whole probe of one host, the dial included."""
    max_age_s: float = 30.0
    """A watch takes a measurement this young for a new one while the host stays connected; a find never does."""
    max_parallel: int = 5
    """Not counting the slow ones."""
    slow_after_s: float = 0.5
    """A probe that takes longer lets the next one begin, and goes on."""
    gives_way_after_s: float = 1.0
    """One that takes longer is put off when others wait for its place."""
    max_probes: int = 32
    """Most hosts in one search that fit, with those that are being asked and may."""
    max_attempts: int = 128
    """Most hosts probed in one search: those that do not fit keep no place from those that do."""
    max_remembered: int = 4096

    def __post_init__(self) -> None:
        if (
            min(self.samples, self.max_parallel, self.max_probes, self.max_attempts, self.max_remembered) < 1
            or self.timeout_s <= 0
        ):
            raise ValueError("a probe takes at least one sample of at least one host in some time")


class QuoteProbe(Protocol):
    """Asks a host what a job would cost; ``hostmesh.node_stack.QuoteCalls`` is one."""

    async def request_quote(self, peer_id: PeerId, model_id: str, *, timeout_s: float) -> QuotedPrice | QuoteRefusal:
        """Ask for a quote without a prompt or a token, and verify it: signed by the host, for us.

        Returns:
            The price; or why the host gives none.

        Raises:
            RemoteProtocolError: what it gave proves nothing.
            HostmeshError: no answer.
        """
        ...


class Connections(Protocol):
    """Knows which peers are connected."""

    def is_connected(self, peer_id: PeerId) -> bool:
        """Tell whether a connection to the peer is open."""
        ...


class Prober:
    """Probes hosts and remembers what came out, for a short time.

    Args:
        status: makes the calls.
        connections: what was measured over a connection that is gone is not used again.
        quotes: asks for quotes; None = none are asked for.
        own_place: where this node is, by its settings; None = no host's place is refuted.
        address_of: says where the connection to a peer goes; empty = not known.
        system: the clock that measurements are stamped with.
        config: samples, times and bounds.
    """

    def __init__(
        self,
        status: StatusProbe,
        connections: Connections,
        *,
        quotes: QuoteProbe | None = None,
        own_place: Place | None = None,
        address_of: Callable[[PeerId], str] = lambda peer_id: "",
        system: System | None = None,
        config: ProbeConfig | None = None,
    ) -> None:
        self._status = status
        self._connections = connections
        self._quotes = quotes
        self._own_place = own_place
        self._address_of = address_of
        self._system = system or System()
        self.config = config or ProbeConfig()
        self._memory = ProbeMemory(max_hosts=self.config.max_remembered)
        self._hits = 0
        self._misses = 0

    @classmethod
    def over(cls, running: RunningNode, *, system: System, config: ProbeConfig) -> Prober:
        """Return a prober of what a running node can measure."""
        return cls(
            running.status,
            running.node,
            quotes=running.quotes,
            own_place=running.place,
            address_of=running.address_of,
            system=system,
            config=config,
        )

    @property
    def cache_hit_rate(self) -> float | None:
        """Part of the questions that memory answered, 0 to 1; None before the first."""
        asked = self._hits + self._misses
        return self._hits / asked if asked else None

    def recall(
        self,
        peer_id: PeerId,
        *,
        offer: ModelOffer | None = None,
        place: Place | None = None,
        since_s: float | None = None,
    ) -> ProbeResult | None:
        """Return a measurement that is still good: young, of a reachable host, over a connection that still stands.

        Args:
            peer_id: the host.
            offer: what a quote is wanted for; None = none is.
            place: where the host claims to be.
            since_s: it began at this time of the monotonic clock or later; None = at most ``max_age_s`` ago.
        """
        if not self._connections.is_connected(peer_id):
            return None
        oldest_s = self._system.monotonic_s() - self.config.max_age_s
        since_s = oldest_s if since_s is None else max(since_s, oldest_s)
        return self._memory.recall(peer_id, self._to_quote(offer), place, since_s=since_s)

    def is_connected(self, peer_id: PeerId) -> bool:
        """Tell whether a connection to a peer stands."""
        return self._connections.is_connected(peer_id)

    def last_latency(self, peer_id: PeerId) -> Measurement | None:
        """Return what was measured last of a host that answered, however long ago; None = nothing, or forgotten."""
        return self._memory.last_latency(peer_id)

    def forget(self, peer_id: PeerId) -> None:
        """Measure this host anew the next time."""
        self._memory.forget(peer_id)

    async def probe(
        self,
        peer_id: PeerId,
        *,
        offer: ModelOffer | None = None,
        place: Place | None = None,
        since_s: float | None = None,
        timeout_s: float | None = None,
        answered: Callable[[], None] = lambda: None,
    ) -> ProbeResult:
        """Measure a host, or return what was measured a moment ago.

        Args:
            peer_id: the host; its addresses are known to the node.
            offer: what a job would use: a quote is asked for, unless the offer names no price. None = no quote.
            place: where the host claims to be, for the measured time to refute; None = nowhere.
            since_s: what was measured from this time of the monotonic clock on stands for a new measurement; None =
                what was measured at most ``max_age_s`` ago does.
            timeout_s: seconds for everything; None = as configured, which is also the most.
            answered: called when the first answer has come; not where memory answers.

        Returns:
            What came out; a host that does not answer is a result, not an error.

        Cancellation: safe.

        Cost: one snapshot and one quote at the same time, then ``samples`` pings one after another and nothing beside
        them. Before it all one more ping where there is no connection yet: it opens one, and does not count. The quote
        alone where the rest was measured a moment ago.
        """
        known = self.recall(peer_id, offer=offer, place=place, since_s=since_s)
        if known is not None:
            self._hits += 1
            return known
        self._misses += 1
        allowed_s = self.config.timeout_s if timeout_s is None else min(timeout_s, self.config.timeout_s)
        deadline = trio.current_time() + max(allowed_s, 0.001)
        quoted = self._to_quote(offer)
        model_id = "" if quoted is None else quoted[0]
        measured, began_s = self.recall(peer_id, place=place, since_s=since_s), self._system.monotonic_s()
        if measured is None:
            measured_now = await self._measure(peer_id, model_id, deadline, answered)
            result = self._judged(replace(measured_now, address=self._address_of(peer_id)), place)
        else:
            result = await self._quoted(measured, peer_id, model_id, deadline)
        if result.unreachable:
            self.forget(peer_id)
        elif not result.unasked and result.throttling is None:
            if measured is None:
                self._memory.remember(peer_id, quoted, result, place, began_s=began_s)
            else:
                self._memory.add_quote(peer_id, quoted, result)
        return result

    def _to_quote(self, offer: ModelOffer | None) -> Quoted:
        """Return what to ask a quote for; None = nothing. Who claims no price has none to be held to."""
        if self._quotes is None or offer is None or offer.price is None:
            return None
        return offer.model_id, offer.price

    async def _measure(
        self, peer_id: PeerId, model_id: str, deadline: float, answered: Callable[[], None]
    ) -> ProbeResult:
        samples: list[float] = []
        said = ProbeResult(latency=None, readiness=None)
        try:
            if not self._connections.is_connected(peer_id):
                # It opens the connection; what it took says nothing about a job's round trips.
                await once_there_is_room(lambda left_s: self._status.ping(peer_id, timeout_s=left_s), _left(deadline))
                answered()
            said = await self._ask(peer_id, model_id, deadline)
            answered()
            if said.unreachable:
                return said
            for _ in range(self.config.samples):
                rtt_s = await self._status.ping(peer_id, timeout_s=_left(deadline))
                samples.append(rtt_s)
        except HostmeshError as error:
            if _is_not_served(error):
                return said  # what it said by then binds it; one that serves no status at all has said nothing
            throttling = _throttling(error)
            # Slow, or asked too often, but it answered some: measured, if thinly.
            if not samples or (throttling is None and not isinstance(error, DeadlineExceededError)):
                return _failed(said, error) if throttling is None else replace(said, throttling=throttling)
        return replace(said, latency=self._latency(samples))

    async def _ask(self, peer_id: PeerId, model_id: str, deadline: float) -> ProbeResult:
        """Ask for snapshot and quote at once: one round trip. Raises HostmeshError where no snapshot came."""
        answered: list[ProbeResult] = []
        failure: HostmeshError | None = None

        async def ask_quote() -> None:
            answered.append(await self._quoted(nothing, peer_id, model_id, deadline))

        nothing = ProbeResult(latency=None, readiness=None)
        async with trio.open_nursery() as nursery:
            if model_id:
                nursery.start_soon(ask_quote)
            else:
                answered.append(nothing)
            try:
                snapshot = await self._status.get_snapshot(peer_id, timeout_s=_left(deadline))
            except HostmeshError as error:
                failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return _sober(replace(answered[0], readiness=_readiness(snapshot)))

    async def _quoted(self, known: ProbeResult, peer_id: PeerId, model_id: str, deadline: float) -> ProbeResult:
        """Ask for a quote, and return what is known with it."""
        assert self._quotes is not None, "a model to quote is named only where quotes are asked for"
        try:
            answer = await self._quotes.request_quote(peer_id, model_id, timeout_s=_left(deadline))
        except RemoteProtocolError:
            answer = QuoteRefusal(reason=QuoteRefusal.BROKEN)
        except HostmeshError as error:
            return _failed(known, error)
        if isinstance(answer, QuoteRefusal):
            return replace(known, unquoted=answer)
        return _sober(replace(known, quote=answer))

    def _judged(self, result: ProbeResult, place: Place | None) -> ProbeResult:
        if result.latency is None or place is None:
            return result
        return replace(result, refuted=refutes(result.latency.value, self._own_place, place))

    def _latency(self, samples: list[float]) -> Measurement:
        middle = statistics.median(samples)
        return Measurement(
            value=middle * 1000,
            unit="ms",
            at_unix_s=self._system.unix_s(),
            samples=len(samples),
            origin=Origin.MEASURED,
            spread=statistics.median(abs(sample - middle) for sample in samples) * 1000,
            path=Path.DIRECT,
        )


def _left(deadline: float) -> float:
    return max(0.001, deadline - trio.current_time())


def _why(error: HostmeshError) -> str:
    return f"{error.code}: {error.status.name if isinstance(error, RpcError) else error.message}"


def _failed(known: ProbeResult, error: HostmeshError) -> ProbeResult:
    """Return what a probe comes to that ended with an error, given what the host had said by then."""
    result = ProbeResult(latency=None, readiness=known.readiness)
    # We have no connection or stream left, or dial too often: that is no fault of the host's.
    is_ours = isinstance(error, DialError) and error.stage == "limit"
    return replace(result, unasked=_why(error)) if is_ours else replace(result, unreachable=_why(error))


def _throttling(error: HostmeshError) -> Throttling | None:
    if not isinstance(error, RpcError) or error.status is not StatusCode.RESOURCE_EXHAUSTED:
        return None
    return Throttling(reason=error.reason or error.status.name, retry_after_ms=error.retry_after_ms)


def _is_not_served(error: HostmeshError) -> bool:
    is_unknown_method = isinstance(error, RpcError) and error.status is StatusCode.UNIMPLEMENTED
    return is_unknown_method or isinstance(error, ProtocolNotSupportedError)


def _sober(result: ProbeResult) -> ProbeResult:
    """Return the result without the free slots of a host whose quote says that a job would have to wait."""
    readiness, quote = result.readiness, result.quote
    if readiness is None or quote is None or not quote.jobs_ahead or not readiness.free_slots:
        return result
    return replace(result, readiness=replace(readiness, free_slots=0))


def _readiness(snapshot: status_pb2.StatusSnapshot) -> Readiness | None:
    if snapshot.state == discovery_pb2.HOST_STATE_UNSPECIFIED:
        return None  # it answers, and says nothing of being a host; the record stands alone then
    limit = snapshot.max_concurrent_jobs
    return Readiness(
        state=_STATES.get(snapshot.state, HostState.UNKNOWN),
        ready_models=frozenset(model.model_id for model in snapshot.models if model.ready),
        free_slots=max(0, limit - snapshot.active_jobs) if limit else None,
    )
