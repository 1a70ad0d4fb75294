"""Calls that are made again, between two nodes of a simulated network."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.support.simulated import simulated

from hostmesh import SDK, DialError, PeerId, RetryPolicy, RpcClient, RpcError, StatusCode
from hostmesh.rpc.method import method
from hostmesh.testing import SimMachine, SimNetwork, make_service, open_nodes

ASK = make_service("asks", Ask=(Int64Value, Int64Value))
ASK_METHOD = method(ASK, "Ask", Int64Value, Int64Value)
FIVE = RetryPolicy(max_attempts=5, first_backoff_s=1.0)


class Moody:
    """Answers after it has failed as often as it was told."""

    def __init__(self, *failures: RpcError) -> None:
        self.failures = [*failures]
        self.asked_at_s: list[float] = []

    async def ask(self, request: Int64Value, context: Any) -> Int64Value:
        self.asked_at_s.append(trio.current_time())
        if self.failures:
            raise self.failures.pop()
        return request


def busy(retry_after_ms: int | None = None) -> RpcError:
    return RpcError("busy", status=StatusCode.RESOURCE_EXHAUSTED, reason="BUSY", retry_after_ms=retry_after_ms)


async def ask(sdk: SDK, peer_id: PeerId, **options: Any) -> int:
    rpc: RpcClient = sdk.get_rpc_client()
    return (await rpc.unary(peer_id, ASK_METHOD, Int64Value(value=7), **{"timeout_s": 60.0, **options})).value


@simulated()
async def test_a_host_that_is_busy_is_asked_again_and_not_before_it_says(net: SimNetwork) -> None:
    async with open_nodes(net, 2) as (far, near):
        moody = Moody(busy(3000), busy(), busy())
        far.sdk.serve(ASK, moody)
        assert await ask(near.sdk, far.peer_id, retry=FIVE) == 7
        first, second, third, last = moody.asked_at_s
        assert 0.5 <= second - first <= 1.1
        assert 1.0 <= third - second <= 2.1
        assert 3.0 <= last - third <= 4.1


@simulated()
async def test_without_a_policy_and_after_the_last_attempt_the_error_comes_out(net: SimNetwork) -> None:
    async with open_nodes(net, 2) as (far, near):
        moody = Moody(*(busy() for _ in range(10)))
        far.sdk.serve(ASK, moody)
        with pytest.raises(RpcError, match="busy"):
            await ask(near.sdk, far.peer_id)
        assert len(moody.asked_at_s) == 1
        with pytest.raises(RpcError, match="busy"):
            await ask(near.sdk, far.peer_id, retry=RetryPolicy(max_attempts=3))
        assert len(moody.asked_at_s) == 4


@simulated()
async def test_what_may_have_run_is_not_repeated(net: SimNetwork) -> None:
    async with open_nodes(net, 2) as (far, near):
        moody = Moody(RpcError("half done", status=StatusCode.INTERNAL))
        far.sdk.serve(ASK, moody)
        with pytest.raises(RpcError, match="half done"):
            await ask(near.sdk, far.peer_id, retry=FIVE)
        assert len(moody.asked_at_s) == 1


class Relay:
    """Answers with what a further peer answers, and lets the errors of that call pass."""

    def __init__(self, sdk: SDK, peer_id: PeerId) -> None:
        self.further = sdk, peer_id
        self.asked = 0

    async def ask(self, request: Int64Value, context: Any) -> Int64Value:
        self.asked += 1
        return Int64Value(value=await ask(*self.further))


class Counter:
    """Does what it is asked to, and then its machine loses its power."""

    def __init__(self, machine: SimMachine) -> None:
        self.machine = machine
        self.effects: list[int] = []

    async def ask(self, request: Int64Value, context: Any) -> Int64Value:
        self.effects.append(request.value)
        self.machine.kill()
        await trio.sleep_forever()
        raise AssertionError


@simulated()
async def test_what_a_further_peer_may_have_done_is_not_repeated(net: SimNetwork) -> None:
    async with open_nodes(net, 3) as (far, near, further):
        relay, counter = Relay(far.sdk, further.peer_id), Counter(further.machine)
        far.sdk.serve(ASK, relay)
        further.sdk.serve(ASK, counter)
        with pytest.raises(RpcError) as caught:
            await ask(near.sdk, far.peer_id, retry=FIVE)
        assert (caught.value.status, caught.value.reason) == (StatusCode.UNKNOWN, "CONNECTION_LOST")
        assert caught.value.may_have_executed
        assert not caught.value.retry_safe
        assert (relay.asked, counter.effects) == (1, [7])
        # From now on the further peer is not reached at all: such a call does no harm when it is made again.
        with pytest.raises(RpcError) as caught:
            await ask(near.sdk, far.peer_id, retry=FIVE)
        assert (caught.value.status, caught.value.reason) == (StatusCode.UNAVAILABLE, "DIAL_FAILED")
        assert (relay.asked, counter.effects) == (6, [7])


@simulated()
async def test_a_peer_that_comes_back_in_time_is_reached(net: SimNetwork) -> None:
    async with open_nodes(net, 2) as (far, near):
        moody = Moody()
        far.sdk.serve(ASK, moody)
        net.cut(far.machine, near.machine)
        net.agenda.at(trio.current_time() + 4.0, net.heal)
        with pytest.raises(DialError):
            await ask(near.sdk, far.peer_id)
        assert await ask(near.sdk, far.peer_id, retry=FIVE) == 7
        assert len(moody.asked_at_s) == 1


@simulated()
async def test_all_attempts_together_keep_the_deadline(net: SimNetwork) -> None:
    async with open_nodes(net, 2) as (far, near):
        moody = Moody(*(busy(1500) for _ in range(10)))
        far.sdk.serve(ASK, moody)
        began = trio.current_time()
        with pytest.raises(RpcError, match="busy"):
            await ask(near.sdk, far.peer_id, retry=FIVE, timeout_s=4.0)
        assert trio.current_time() - began < 4.0
        assert len(moody.asked_at_s) == 3


@simulated()
async def test_many_failures_end_the_retries_of_all_calls(net: SimNetwork) -> None:
    async with open_nodes(net, 2) as (far, near):
        moody = Moody(*(busy() for _ in range(1000)))
        far.sdk.serve(ASK, moody)
        for _ in range(50):
            with pytest.raises(RpcError, match="busy"):
                await ask(near.sdk, far.peer_id, retry=FIVE)
        assert 50 < len(moody.asked_at_s) < 65, "one attempt a call, and the budget's in all"
