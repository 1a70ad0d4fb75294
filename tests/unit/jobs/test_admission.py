"""Slots, queue and shares."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.errors import ConfigError, JobError
from hostmesh.jobs.admission import Admission, JobLimits
from hostmesh.net.peer_id import PeerId

ANN, BOB = PeerId("ann"), PeerId("bob")


def refused(admission: Admission, peer: PeerId) -> JobError:
    before = (admission.active, admission.queued)
    with pytest.raises(JobError) as caught:
        admission.submit(b"late", peer)
    assert (admission.active, admission.queued) == before
    return caught.value


def test_jobs_take_slots_then_places_and_leave_in_the_order_they_came() -> None:
    admission = Admission(JobLimits(max_concurrent_jobs=2, max_queued_jobs=3))
    assert [admission.submit(bytes([n]), ANN) for n in range(5)] == [0, 0, 1, 2, 3]
    assert (admission.active, admission.queued) == (2, 3)
    assert admission.leave(b"\x01") == b"\x02"
    assert admission.leave(b"\x03") is None, "it only waited"
    assert admission.leave(b"\x00") == b"\x04"
    assert admission.leave(b"\x02") is None
    assert admission.leave(b"\x04") is None
    assert (admission.active, admission.queued, admission.jobs_ahead) == (0, 0, 0)


def test_a_full_host_says_when_to_come_back() -> None:
    admission = Admission(JobLimits(max_concurrent_jobs=1, max_queued_jobs=1, retry_after_ms=1500))
    admission.submit(b"a", ANN)
    assert admission.jobs_ahead == 1
    admission.submit(b"b", ANN)
    error = refused(admission, BOB)
    assert (error.reason, error.retry_after_ms, error.retry_safe) == ("BUSY", 1500, True)


def test_no_peer_takes_more_than_its_share() -> None:
    admission = Admission(JobLimits(max_concurrent_jobs=2, max_queued_jobs=10, max_jobs_per_peer=3))
    for job in (b"a", b"b", b"c"):
        admission.submit(job, ANN)
    assert refused(admission, ANN).reason == "BUSY"
    assert admission.submit(b"d", BOB) == 2
    admission.leave(b"c")
    assert admission.submit(b"e", ANN) == 2


def test_a_draining_host_keeps_what_it_has_and_takes_nothing_new() -> None:
    admission = Admission(JobLimits(max_concurrent_jobs=1))
    admission.submit(b"a", ANN)
    admission.submit(b"b", ANN)
    admission.drain()
    assert refused(admission, BOB).reason == "DRAINING"
    assert admission.leave(b"a") == b"b"
    assert refused(admission, BOB).reason == "DRAINING"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrent_jobs", 0),
        ("max_queued_jobs", -1),
        ("max_jobs_per_peer", 0),
        ("max_output_tokens", 0),
        ("quote_lifetime_s", 0.5),
        ("quote_lifetime_s", 3601),
        ("max_job_s", 0),
        ("engine_silence_s", float("nan")),
        ("retry_after_ms", -1),
    ],
)
def test_limits_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        JobLimits(**{name: value})
    assert caught.value.name == name
