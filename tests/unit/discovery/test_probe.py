"""The prober: which samples count, what memory answers, and how failures read."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from discovery_world import FakeNetwork, FakeNode, FakePeer, make_description, trio_system
from trio.testing import MockClock

from hostmesh.discovery.description import HostState
from hostmesh.discovery.measurement import Origin, Path, Throttling
from hostmesh.discovery.probe import ProbeConfig, Prober
from hostmesh.errors import ConnectionLostError, DialError, RpcError, StatusCode
from hostmesh.v1 import discovery_pb2 as pb


def setup(**config: Any) -> tuple[Prober, FakeNode, FakePeer]:
    network = FakeNetwork()
    peer = network.add_host("host", make_description("m"))
    node = FakeNode(network)
    return Prober(node, node, system=trio_system(), config=ProbeConfig(**config)), node, peer


def answer_with(node: FakeNode, rtts_s: list[float | Exception]) -> None:
    """Have pings take these times, or fail so."""
    answers = iter(rtts_s)

    async def ping(peer_id: Any, *, timeout_s: float) -> float:
        await trio.lowlevel.checkpoint()
        node.connected[peer_id] = None
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    node.ping = ping  # type: ignore[method-assign]


async def test_the_first_sample_is_thrown_away(autojump_clock: MockClock) -> None:
    prober, node, peer = setup(samples=3)
    answer_with(node, [5.0, 0.030, 0.010, 0.020])
    result = await prober.probe(peer.peer_id)
    assert result.latency is not None
    assert result.latency.value == pytest.approx(20)
    assert result.latency.spread == pytest.approx(10)
    assert result.latency.samples == 3
    assert result.latency.origin is Origin.MEASURED
    assert result.latency.path is Path.DIRECT
    assert result.readiness is not None
    assert (result.readiness.state, result.readiness.free_slots) == (HostState.AVAILABLE, 2)
    assert result.readiness.ready_models == {"m"}


async def test_over_a_connection_that_stands_every_sample_counts(autojump_clock: MockClock) -> None:
    prober, node, peer = setup(samples=3)
    await node.connect(peer.peer_id)
    answer_with(node, [0.030, 0.010, 0.020])
    result = await prober.probe(peer.peer_id)
    assert result.latency is not None
    assert (result.latency.value, result.latency.samples) == (pytest.approx(20), 3)


async def test_one_slow_sample_does_not_move_the_median(autojump_clock: MockClock) -> None:
    prober, node, peer = setup(samples=5)
    answer_with(node, [9.0, 0.010, 0.010, 8.0, 0.012, 0.011])
    result = await prober.probe(peer.peer_id)
    assert result.latency is not None
    assert result.latency.value == pytest.approx(11)


async def test_memory_answers_while_young_and_connected(autojump_clock: MockClock) -> None:
    prober, node, peer = setup(max_age_s=30)
    first = await prober.probe(peer.peer_id)
    await trio.sleep(29)
    assert await prober.probe(peer.peer_id) is first
    assert prober.cache_hit_rate == 0.5
    await trio.sleep(2)
    assert await prober.probe(peer.peer_id) is not first
    second = await prober.probe(peer.peer_id)
    await node.disconnect(peer.peer_id)
    assert prober.recall(peer.peer_id) is None
    assert await prober.probe(peer.peer_id) is not second
    prober.forget(peer.peer_id)
    assert prober.recall(peer.peer_id) is None


async def test_what_began_before_it_was_asked_for_is_measured_anew(autojump_clock: MockClock) -> None:
    prober, _, peer = setup(max_age_s=30)
    began_s = trio.current_time()
    first = await prober.probe(peer.peer_id)
    ended_s = trio.current_time()
    assert await prober.probe(peer.peer_id, since_s=began_s) is first
    assert prober.recall(peer.peer_id, since_s=ended_s) is None
    second = await prober.probe(peer.peer_id, since_s=ended_s)
    assert second is not first
    assert prober.recall(peer.peer_id) is second
    await trio.sleep(31)
    assert prober.recall(peer.peer_id, since_s=began_s) is None, "nothing is good for ever"


async def test_an_unreachable_host_is_not_remembered(autojump_clock: MockClock) -> None:
    prober, _, peer = setup()
    peer.is_dead = True
    result = await prober.probe(peer.peer_id)
    assert result.unreachable == "DIAL_FAILED: no such peer"
    assert result.latency is None
    peer.is_dead = False
    assert (await prober.probe(peer.peer_id)).unreachable == ""


async def test_a_host_is_not_unreachable_because_our_connections_are_all_in_use(autojump_clock: MockClock) -> None:
    prober, node, peer = setup(samples=1)
    busy = DialError("all 10 connections are in use", stage="limit")
    answer_with(node, [busy, busy, 0.020, 0.010])
    result = await prober.probe(peer.peer_id)
    assert result.unreachable == ""
    assert result.latency is not None
    assert result.latency.value == pytest.approx(10)


async def test_a_silent_host_costs_the_timeout(autojump_clock: MockClock) -> None:
    prober, _, peer = setup(timeout_s=2)
    peer.is_silent = True
    began = trio.current_time()
    assert (await prober.probe(peer.peer_id)).unreachable.startswith("DEADLINE_EXCEEDED")
    assert trio.current_time() - began == pytest.approx(2)
    began = trio.current_time()
    await prober.probe(peer.peer_id, timeout_s=0.5)
    assert trio.current_time() - began == pytest.approx(0.5)


async def test_a_slow_host_is_measured_by_the_samples_there_are(autojump_clock: MockClock) -> None:
    prober, _, peer = setup(timeout_s=4.5)
    peer.rtt_s = 1.0
    result = await prober.probe(peer.peer_id)
    assert result.latency is not None
    assert (result.latency.samples, result.latency.value) == (2, pytest.approx(1000))


async def test_a_host_that_dies_while_it_is_measured_is_unreachable(autojump_clock: MockClock) -> None:
    prober, node, peer = setup()
    answer_with(node, [0.01, 0.01, ConnectionLostError("gone")])
    assert (await prober.probe(peer.peer_id)).unreachable == "CONNECTION_LOST: gone"


def refusal(retry_after_ms: int | None = 40) -> RpcError:
    return RpcError(
        "slower", status=StatusCode.RESOURCE_EXHAUSTED, reason="RATE_LIMITED", retry_after_ms=retry_after_ms
    )


async def test_a_host_that_is_asked_too_often_is_throttling_and_not_unreachable(autojump_clock: MockClock) -> None:
    prober, node, peer = setup(samples=3)
    measured = await prober.probe(peer.peer_id)
    ended_s = trio.current_time()
    answer_with(node, [refusal()])
    result = await prober.probe(peer.peer_id, since_s=ended_s)
    assert result.throttling == Throttling(reason="RATE_LIMITED", retry_after_ms=40)
    assert (result.unreachable, result.latency, result.is_answer) == ("", None, True)
    assert result.readiness is not None, "what it said before is known"
    assert prober.recall(peer.peer_id) is measured, "it took nothing away of what was measured before"


async def test_what_was_measured_before_it_throttled_counts(autojump_clock: MockClock) -> None:
    prober, node, peer = setup(samples=3)
    answer_with(node, [9.0, 0.010, 0.030, refusal()])
    result = await prober.probe(peer.peer_id)
    assert result.throttling is None
    assert result.latency is not None
    assert (result.latency.value, result.latency.samples) == (pytest.approx(20), 2)


async def test_a_host_that_refuses_for_another_reason_is_unreachable(autojump_clock: MockClock) -> None:
    prober, node, peer = setup()
    answer_with(node, [RpcError("go away", status=StatusCode.PERMISSION_DENIED)])
    assert (await prober.probe(peer.peer_id)).unreachable == "RPC: PERMISSION_DENIED"


@pytest.mark.parametrize("attempts", [{}, {"/ip4/192.0.2.1/tcp/1": "limit: dialled too often lately"}])
async def test_where_we_may_not_dial_the_host_was_not_asked(
    attempts: dict[str, str], autojump_clock: MockClock
) -> None:
    prober, node, peer = setup()
    answer_with(node, [DialError("all 10 connections are in use", stage="limit", attempts=attempts)] * 9)
    result = await prober.probe(peer.peer_id)
    assert (result.unreachable, result.unasked) == ("", "DIAL_FAILED: all 10 connections are in use")
    assert not result.is_answer


async def test_a_host_without_status_is_reachable_and_unmeasured(autojump_clock: MockClock) -> None:
    prober, _, peer = setup()
    peer.serves_status = False
    result = await prober.probe(peer.peer_id)
    assert (result.latency, result.readiness, result.unreachable) == (None, None, "")


async def test_a_node_that_says_nothing_of_being_a_host_is_taken_by_its_record(autojump_clock: MockClock) -> None:
    prober, _, peer = setup()
    peer.state = pb.HOST_STATE_UNSPECIFIED
    result = await prober.probe(peer.peer_id)
    assert result.readiness is None
    assert result.latency is not None


async def test_an_unknown_state_is_not_available(autojump_clock: MockClock) -> None:
    prober, _, peer = setup()
    peer.state = 99
    result = await prober.probe(peer.peer_id)
    assert result.readiness is not None
    assert result.readiness.state is HostState.UNKNOWN


async def test_memory_is_bounded(autojump_clock: MockClock) -> None:
    prober, node, _ = setup(max_remembered=2)
    peers = [node.network.add_host(f"h{index}") for index in range(4)]
    for peer in peers:
        await prober.probe(peer.peer_id)
    assert [prober.recall(peer.peer_id) is not None for peer in peers] == [False, False, True, True]


@pytest.mark.parametrize("config", [{"samples": 0}, {"timeout_s": 0}, {"max_probes": 0}, {"max_parallel": 0}])
def test_a_probe_needs_samples_and_time(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        ProbeConfig(**config)
