"""What a status is on the wire."""

from __future__ import annotations

import dataclasses

import pytest

from hostmesh.status.snapshot import HostStatus, ModelStatus, ServingState, status_from_proto, status_to_proto
from hostmesh.v1 import status_pb2
from hostmesh.wire.bounds import check_bounds

IDLE = HostStatus(
    state=ServingState.AVAILABLE,
    active_jobs=0,
    queued_jobs=0,
    max_concurrent_jobs=4,
    max_queued_jobs=16,
    models=(ModelStatus(model_id="smollm2-135m-instruct", ready=True), ModelStatus(model_id="m", ready=False)),
    uptime_s=12.5,
    time_unix_s=1_790_000_000.25,
)


def test_a_status_of_a_later_version_is_unknown() -> None:
    assert status_from_proto(status_pb2.StatusSnapshot(state=77)).state is ServingState.UNKNOWN  # type: ignore[arg-type]


@pytest.mark.parametrize("state", list(ServingState))
def test_states_pass_through(state: ServingState) -> None:
    status = dataclasses.replace(IDLE, state=state)
    assert status_from_proto(status_to_proto(status)) == status


def test_a_status_is_always_sendable() -> None:
    wild = dataclasses.replace(
        IDLE,
        active_jobs=-1,
        queued_jobs=2**40,
        uptime_s=-5.0,
        models=tuple(ModelStatus(model_id=f"model {number}", ready=True) for number in range(100)),
    )
    message = status_to_proto(wild)
    check_bounds(message)
    assert (message.active_jobs, message.queued_jobs, message.uptime_ms) == (0, 2**32 - 1, 0)
    assert len(message.models) == 64
