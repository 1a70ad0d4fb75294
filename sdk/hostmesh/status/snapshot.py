"""What a host says of its load, as a value, and its codec. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from hostmesh.v1 import discovery_pb2, status_pb2

_UINT32_MAX = 2**32 - 1
_MAX_MODELS = 64


class ServingState(Enum):
    """Whether a host takes jobs."""

    UNKNOWN = "unknown"
    AVAILABLE = "available"
    DRAINING = "draining"
    """Finishes its jobs, takes no new ones."""
    WITHDRAWN = "withdrawn"


_TO_WIRE = {
    ServingState.UNKNOWN: discovery_pb2.HOST_STATE_UNSPECIFIED,
    ServingState.AVAILABLE: discovery_pb2.HOST_STATE_AVAILABLE,
    ServingState.DRAINING: discovery_pb2.HOST_STATE_DRAINING,
    ServingState.WITHDRAWN: discovery_pb2.HOST_STATE_WITHDRAWN,
}
_FROM_WIRE = {number: state for state, number in _TO_WIRE.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model of a host."""

    model_id: str
    ready: bool
    """Loaded and answering, as the engine's own health check says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """A host's own word about its load at one moment: claimed, not measured."""

    state: ServingState
    active_jobs: int
    queued_jobs: int
    max_concurrent_jobs: int
    max_queued_jobs: int
    models: tuple[ModelStatus, ...]
    uptime_s: float
    time_unix_s: float
    """The host's clock."""

    @property
    def free_slots(self) -> int:
        """Jobs that would start at once."""
        return max(self.max_concurrent_jobs - self.active_jobs, 0)

    def same_load(self, other: HostStatus) -> bool:
        """Return whether the two differ in their times alone."""
        return replace(self, uptime_s=other.uptime_s, time_unix_s=other.time_unix_s) == other


def status_to_proto(status: HostStatus) -> status_pb2.StatusSnapshot:
    """Return the message; counts and models beyond its bounds are cut."""
    return status_pb2.StatusSnapshot(
        state=_TO_WIRE[status.state],
        active_jobs=_uint32(status.active_jobs),
        queued_jobs=_uint32(status.queued_jobs),
        max_concurrent_jobs=_uint32(status.max_concurrent_jobs),
        max_queued_jobs=_uint32(status.max_queued_jobs),
        models=[
            status_pb2.ModelStatus(model_id=model.model_id, ready=model.ready) for model in status.models[:_MAX_MODELS]
        ],
        uptime_ms=max(round(status.uptime_s * 1000), 0),
        time_unix_ms=max(round(status.time_unix_s * 1000), 0),
    )


def status_from_proto(message: status_pb2.StatusSnapshot) -> HostStatus:
    """Return the value of a message whose bounds were checked; a state of a later version is UNKNOWN."""
    return HostStatus(
        state=_FROM_WIRE.get(message.state, ServingState.UNKNOWN),
        active_jobs=message.active_jobs,
        queued_jobs=message.queued_jobs,
        max_concurrent_jobs=message.max_concurrent_jobs,
        max_queued_jobs=message.max_queued_jobs,
        models=tuple(ModelStatus(model_id=model.model_id, ready=model.ready) for model in message.models),
        uptime_s=message.uptime_ms / 1000,
        time_unix_s=message.time_unix_ms / 1000,
    )


def _uint32(number: int) -> int:
    return min(max(number, 0), _UINT32_MAX)
