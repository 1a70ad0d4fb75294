"""Calls with idempotency keys, between nodes of a simulated network: the effect happens once, and is answered.

What happened is counted by the service itself, where the effect is.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.simulated.keyed import ADD, COUNT, KEY, LINK, TEN, World, once, world_on
from tests.support.simulated import eventually, simulated

from hostmesh import (
    ConnectionLostError,
    DeadlineExceededError,
    RetryPolicy,
    RpcError,
    StatusCode,
)
from hostmesh.rpc.keyed import ALONE_S
from hostmesh.rpc.keys import ROW_BYTES, KeyLimits


@simulated(world_on, network=LINK)
async def test_a_second_call_gets_the_answer_of_the_first(world: World) -> None:
    assert [await world.add() for _ in range(3)] == [7, 7, 7]
    assert world.counter.effects == [7]
    assert world.counter.keys == [KEY]
    assert await world.add(key=b"another") == 14


@simulated(world_on, network=LINK)
async def test_calls_without_a_key_are_all_executed_and_nothing_is_kept(world: World) -> None:
    assert [await world.add(key=b"") for _ in range(2)] == [7, 14]
    assert world.far.sdk._running().server._keyed._store is None


@simulated(world_on, network=LINK)
async def test_the_keys_of_two_callers_are_two(world: World) -> None:
    assert await world.add() == 7
    assert await world.add(by=world.other) == 14
    assert await world.add(9, by=world.near, key=b"x") == 23
    assert (await world.add(), await world.add(by=world.other)) == (7, 14)


@simulated(world_on, network=LINK)
async def test_another_request_under_the_key_is_refused(world: World) -> None:
    refused = (StatusCode.INVALID_ARGUMENT, "KEY_REUSED", False)
    release = trio.Event()
    world.counter.after = release.wait
    answers: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(once, world.add, answers)
        await eventually(lambda: world.counter.effects)
        assert await world.refusal(value=8) == refused
        release.set()
    assert await world.refusal(value=8) == refused
    assert (answers, world.counter.effects) == ([7], [7])


@simulated(world_on, network=LINK)
async def test_callers_at_once_wait_for_one_run_and_one_that_gives_up_stops_nobody(world: World) -> None:
    release = trio.Event()
    world.counter.after = release.wait
    answers: list[Any] = []
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(once, world.add, answers)
        error = await world.error(timeout_s=5.0)
        assert isinstance(error, DeadlineExceededError)
        assert (answers, error.may_have_executed) == ([], True)
        release.set()
    assert (answers, world.counter.effects) == ([7] * 20, [7])


@simulated(world_on, network=LINK)
async def test_a_connection_that_is_lost_in_the_middle_costs_no_second_effect(world: World) -> None:
    async def lose() -> None:
        world.lose_connections()
        await trio.sleep(3.0)

    world.counter.after = lose
    assert await world.add(retry=TEN) == 7
    assert (world.counter.effects, world.counter.cancelled) == ([7], 0)
    # Without a key it is not made again.
    error = await world.error(retry=TEN, key=b"")
    assert isinstance(error, ConnectionLostError)
    assert (error.may_have_executed, error.retry_safe) == (True, False)
    await eventually(lambda: world.counter.cancelled)
    assert world.counter.effects == [7, 7]


@simulated(world_on, network=LINK)
async def test_the_answer_that_was_lost_is_there_when_its_caller_comes_back(world: World) -> None:
    async def lose() -> None:
        world.lose_connections()

    world.counter.after = lose
    error = await world.error()
    assert isinstance(error, ConnectionLostError)
    assert (error.may_have_executed, error.retry_safe) == (True, True)
    assert await world.add() == 7
    assert world.counter.effects == [7]


@simulated(world_on, network=LINK)
async def test_the_last_error_tells_of_every_attempt(world: World) -> None:
    async def cut() -> None:
        world.network.cut(world.far.machine, world.near.machine)
        world.lose_connections()

    world.counter.after = cut
    error = await world.error(retry=RetryPolicy(max_attempts=3), timeout_s=120.0)
    assert type(error).__name__ == "DialError"
    assert (error.may_have_executed, error.retry_safe) == (True, True)
    assert world.counter.effects == [7]


@simulated(world_on, network=LINK)
async def test_a_handler_outlives_its_caller_until_the_calls_deadline(world: World) -> None:
    world.counter.after = trio.sleep_forever
    with trio.move_on_after(1.0):
        await world.add(timeout_s=30.0)
    await trio.sleep(28.0)
    assert world.counter.cancelled == 0
    await eventually(lambda: world.counter.cancelled, within_s=2.0)
    assert await world.refusal() == (StatusCode.ABORTED, "OUTCOME_UNKNOWN", True)
    assert world.counter.effects == [7]


@simulated(world_on, network=LINK)
async def test_a_handler_that_is_left_alone_has_ten_minutes_whatever_its_deadline(world: World) -> None:
    world.counter.after = trio.sleep_forever
    with trio.move_on_after(1.0):
        await world.add(timeout_s=1e6)
    await trio.sleep(ALONE_S - 5.0)
    # One that comes back stays as long as it likes; when it leaves, the time begins anew.
    with trio.move_on_after(3 * ALONE_S):
        await world.add(timeout_s=1e6)
    await trio.sleep(ALONE_S - 5.0)
    assert world.counter.cancelled == 0
    await eventually(lambda: world.counter.cancelled, within_s=10.0)
    assert world.counter.effects == [7]


@simulated(world_on, network=LINK)
async def test_a_call_cut_off_by_its_deadline_is_not_made_again(world: World) -> None:
    world.counter.after = trio.sleep_forever
    answers: list[Any] = []
    async with trio.open_nursery() as nursery:
        for timeout_s in (5.0, 60.0):
            nursery.start_soon(once, partial(world.add, timeout_s=timeout_s), answers)
            await trio.sleep(1.0)
    first, second = answers
    assert isinstance(first, DeadlineExceededError)
    assert (second.status, second.reason, second.may_have_executed) == (StatusCode.ABORTED, "OUTCOME_UNKNOWN", True)
    assert world.counter.effects == [7]


# --- how the handler ends, and what its key is then ---


NOTHING_DONE = [
    StatusCode.UNAVAILABLE,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.UNIMPLEMENTED,
    StatusCode.UNAUTHENTICATED,
]
CUT_OFF = [
    StatusCode.INTERNAL,
    StatusCode.UNKNOWN,
    StatusCode.CANCELLED,
    StatusCode.DATA_LOSS,
    StatusCode.DEADLINE_EXCEEDED,
]
ANSWERS = [code for code in StatusCode if code not in (*NOTHING_DONE, *CUT_OFF, StatusCode.OK)]


def rpc_error(status: StatusCode) -> RpcError:
    return RpcError("no", status=status, reason="WORD", retry_after_ms=17, details={"key": "value"})


@pytest.mark.parametrize("status", ANSWERS, ids=lambda status: status.name)
@simulated(world_on, network=LINK)
async def test_an_error_that_is_an_answer_is_kept_word_for_word(world: World, status: StatusCode) -> None:
    world.counter.fail_once(rpc_error(status))
    for _ in range(2):
        error = await world.error()
        assert isinstance(error, RpcError)
        assert (error.status, error.message, error.reason) == (status, "no", "WORD")
        assert (error.retry_after_ms, error.details) == (17, {"key": "value"})
    assert world.counter.effects == [7]


@pytest.mark.parametrize("status", NOTHING_DONE, ids=lambda status: status.name)
@simulated(world_on, network=LINK)
async def test_a_handler_that_did_nothing_leaves_its_key_free(world: World, status: StatusCode) -> None:
    world.counter.fail_once(rpc_error(status))
    assert await world.refusal() == (status, "WORD", False)
    assert await world.add(8) == 15, "also for another request"


@pytest.mark.parametrize(
    "raised",
    [*(rpc_error(status) for status in CUT_OFF), KeyError("a bug"), ConnectionLostError("of another peer")],
    ids=lambda error: str(getattr(error, "status", error)),
)
@simulated(world_on, network=LINK)
async def test_a_handler_that_knows_not_what_it_did_is_not_run_again(world: World, raised: Exception) -> None:
    world.counter.fail_once(raised)
    assert (await world.error()).may_have_executed
    assert await world.refusal() == (StatusCode.ABORTED, "OUTCOME_UNKNOWN", True)
    assert world.counter.effects == [7]


@simulated(world_on, network=LINK)
async def test_a_response_that_is_none_is_internal_and_its_call_cut_off(world: World) -> None:
    async def answer(request: Int64Value, context: Any) -> Any:
        world.counter.effects.append(request.value)
        return "no message"

    world.counter.add = answer  # type: ignore[method-assign]
    world.far.sdk.withdraw(COUNT)
    world.far.sdk.serve(COUNT, world.counter)
    assert await world.refusal() == (StatusCode.INTERNAL, "", True)
    assert await world.refusal() == (StatusCode.ABORTED, "OUTCOME_UNKNOWN", True)
    counters = world.far.sdk._running().server.counters
    assert (world.counter.effects, counters.handler_failures) == ([7], {"CountingService.Add": 1})


@simulated(world_on, network=LINK)
async def test_a_handler_that_fails_while_its_node_ends_goes_no_further(world: World) -> None:
    """What came out of it would come out of the node's own block, as here of the test."""
    failed: list[str] = []

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            failed.append("yes")
            raise ValueError("trouble of the handler's own")

    async def answer_never() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            nursery.start_soon(trio.sleep_forever)

    world.counter.after = answer_never
    with trio.move_on_after(1.0):
        await world.add()
    assert world.counter.effects == [7]
    await world.far.sdk.close()
    assert failed == ["yes"]


# --- bounds ---


@simulated(world_on, network=LINK)
async def test_more_calls_than_may_run_are_refused_while_their_callers_are_gone(world: World) -> None:
    world.counter.after = trio.sleep_forever
    limits = KeyLimits()
    # A response of this method has a mebibyte reserved.
    most = limits.max_bytes_per_peer // (ADD.max_response_bytes + ROW_BYTES)
    with trio.move_on_after(2.0):
        async with trio.open_nursery() as nursery:
            for number in range(most):
                nursery.start_soon(partial(world.add, key=b"%d" % number))
    assert len(world.counter.effects) == most
    error = await world.error(key=b"one more")
    assert isinstance(error, RpcError)
    assert (error.reason, error.retry_after_ms, error.may_have_executed) == ("BUSY", 250, False)
    assert world.far.sdk._running().server.active_calls(world.near.peer_id) == 0
    world.counter.after = trio.lowlevel.checkpoint
    assert await world.add(by=world.other) == 7 * (most + 1)
