"""Measures hosts from here: round-trip time and readiness, over the path that a job will take."""

from __future__ import annotations

import statistics
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import trio

from hostmesh.discovery.description import HostState
from hostmesh.discovery.matching import ProbeResult, Readiness
from hostmesh.discovery.measurement import Measurement, Origin, Path
from hostmesh.errors import DeadlineExceededError, HostmeshError, ProtocolNotSupportedError, RpcError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.net.room import once_there_is_room
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2, status_pb2

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
    """How hosts are probed. Chosen here; a probe is five short calls."""

    samples: int = 3
    """Round trips that count; one more goes first and is thrown away (it opens the connection)."""
    timeout_s: float = 5.0
    """For the whole probe of one host, the dial included."""
    max_age_s: float = 30.0
    """A measurement this young is used again while the host stays connected."""
    max_parallel: int = 5
    """Not counting the slow ones."""
    slow_after_s: float = 0.5
    """A probe that takes longer lets the next one begin, and goes on."""
    gives_way_after_s: float = 1.0
    """One that takes longer is put off when others wait for its place."""
    max_probes: int = 32
    """Most hosts in one search that answer or may yet do so."""
    max_attempts: int = 128
    """Most hosts probed in one search: those that do not answer keep no place from those that would."""
    max_remembered: int = 4096

    def __post_init__(self) -> None:
        if (
            min(self.samples, self.max_parallel, self.max_probes, self.max_attempts, self.max_remembered) < 1
            or self.timeout_s <= 0
        ):
            raise ValueError("a probe takes at least one sample of at least one host in some time")


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
        system: the clock that measurements are stamped with.
        config: samples, times and bounds.
    """

    def __init__(
        self,
        status: StatusProbe,
        connections: Connections,
        *,
        system: System | None = None,
        config: ProbeConfig | None = None,
    ) -> None:
        self._status = status
        self._connections = connections
        self._system = system or System()
        self.config = config or ProbeConfig()
        self._remembered: OrderedDict[PeerId, tuple[float, ProbeResult]] = OrderedDict()
        self._hits = 0
        self._misses = 0

    @property
    def cache_hit_rate(self) -> float | None:
        """Part of the questions that memory answered, 0 to 1; None before the first."""
        asked = self._hits + self._misses
        return self._hits / asked if asked else None

    def recall(self, peer_id: PeerId) -> ProbeResult | None:
        """Return a measurement that is still good: young, of a reachable host, over a connection that still stands."""
        taken_at, result = self._remembered.get(peer_id, (0.0, None))
        if result is None or not self._connections.is_connected(peer_id):
            return None
        age_s = self._system.monotonic_s() - taken_at
        return result if age_s <= self.config.max_age_s else None

    def forget(self, peer_id: PeerId) -> None:
        """Measure this host anew the next time."""
        self._remembered.pop(peer_id, None)

    async def probe(self, peer_id: PeerId, *, timeout_s: float | None = None) -> ProbeResult:
        """Measure a host, or return what was measured a moment ago.

        Args:
            peer_id: the host; its addresses are known to the node.
            timeout_s: seconds for everything; None = as configured, which is also the most.

        Returns:
            What came out; a host that does not answer is a result, not an error.

        Cancellation: safe.

        Cost: ``samples + 1`` pings one after another, and one snapshot beside them.
        """
        known = self.recall(peer_id)
        if known is not None:
            self._hits += 1
            return known
        self._misses += 1
        allowed_s = self.config.timeout_s if timeout_s is None else min(timeout_s, self.config.timeout_s)
        result = await self._measure(peer_id, max(allowed_s, 0.001))
        self._remembered.pop(peer_id, None)
        if not result.unreachable:
            self._remembered[peer_id] = (self._system.monotonic_s(), result)
            while len(self._remembered) > self.config.max_remembered:
                self._remembered.popitem(last=False)
        return result

    async def _measure(self, peer_id: PeerId, timeout_s: float) -> ProbeResult:
        deadline = trio.current_time() + timeout_s
        samples: list[float] = []
        readiness: Readiness | None = None
        try:
            # The first ping opens the connection; what it took says nothing about a job's round trips.
            await once_there_is_room(lambda left_s: self._status.ping(peer_id, timeout_s=left_s), _left(deadline))
            readiness = _readiness(await self._status.get_snapshot(peer_id, timeout_s=_left(deadline)))
            for _ in range(self.config.samples):
                rtt_s = await self._status.ping(peer_id, timeout_s=_left(deadline))
                samples.append(rtt_s)
        except ProtocolNotSupportedError:
            return ProbeResult(latency=None, readiness=None)
        except RpcError as error:
            if error.status is StatusCode.UNIMPLEMENTED:
                return ProbeResult(latency=None, readiness=None)
            return ProbeResult(latency=None, readiness=readiness, unreachable=f"{error.code}: {error.status.name}")
        except HostmeshError as error:
            if not samples or not isinstance(error, DeadlineExceededError):
                return ProbeResult(latency=None, readiness=readiness, unreachable=f"{error.code}: {error.message}")
            # Slow, but it answered some: measured, if thinly.
        return ProbeResult(latency=self._latency(samples), readiness=readiness)

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


def _readiness(snapshot: status_pb2.StatusSnapshot) -> Readiness | None:
    if snapshot.state == discovery_pb2.HOST_STATE_UNSPECIFIED:
        return None  # it answers, and says nothing of being a host; the record stands alone then
    limit = snapshot.max_concurrent_jobs
    return Readiness(
        state=_STATES.get(snapshot.state, HostState.UNKNOWN),
        ready_models=frozenset(model.model_id for model in snapshot.models if model.ready),
        free_slots=max(0, limit - snapshot.active_jobs) if limit else None,
    )
