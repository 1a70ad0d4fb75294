"""Calls with idempotency keys whose server dies, or whose disk fails: the effect happens once, or is not known.

What happened is counted by the service itself, where the effect is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.simulated.keyed import ADD, COUNT, IDEMPOTENT, KEY, LINK, TEN, Counter, World, once, world_on
from tests.support.simulated import eventually, simulated

from hostmesh import RpcError, StatusCode
from hostmesh.rpc.keys import KEPT_S, KeyState
from hostmesh.testing import SimNetwork, make_wallet, open_nodes


@asynccontextmanager
async def next_life(world: World, counter: Counter) -> AsyncIterator[None]:
    """Kill the process of the counting node, and run another with its disk."""
    await world.far.machine.restart()
    async with world.far.machine.open_sdk(serve_dht=True) as sdk:
        await sdk.authenticate(wallet=make_wallet(world.far.machine.name))
        assert await sdk.get_discovery_manager().create_node() == world.far.peer_id
        sdk.serve(COUNT, counter)
        yield


def file_of(world: World) -> Path:
    (path,) = world.far.machine.folder.rglob("calls.sqlite3")
    return path


def on_disk(world: World, statement: str) -> list[Any]:
    with closing(sqlite3.connect(file_of(world))) as db, db:
        return db.execute(statement).fetchall()


@simulated(world_on, network=LINK)
async def test_an_answer_outlives_the_process(world: World) -> None:
    assert await world.add() == 7
    counter = Counter()
    async with next_life(world, counter):
        assert await world.add(retry=TEN) == 7
        assert await world.refusal(value=8) == (StatusCode.INVALID_ARGUMENT, "KEY_REUSED", False)
        assert await world.add(8, key=b"another") == 8
    assert (world.counter.effects, counter.effects) == ([7], [8])


@pytest.mark.parametrize("is_idempotent", [False, True])
@simulated(world_on, network=LINK)
async def test_a_call_that_died_with_its_process_is_made_again_only_where_the_method_says_so(
    world: World, is_idempotent: bool
) -> None:
    service = IDEMPOTENT if is_idempotent else COUNT
    world.far.sdk.withdraw(COUNT)
    world.far.sdk.serve(service, world.counter)
    world.counter.after = trio.sleep_forever
    results: list[Any] = []
    counter = Counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(once, partial(world.add, retry=TEN, service=service), results)
        await eventually(lambda: world.counter.effects)
        await world.far.machine.restart()
        async with world.far.machine.open_sdk(serve_dht=True) as sdk:
            await sdk.authenticate(wallet=make_wallet(world.far.machine.name))
            await sdk.get_discovery_manager().create_node()
            sdk.serve(service, counter)
            await eventually(lambda: results)
    if is_idempotent:
        assert (results, counter.effects, counter.keys) == ([7], [7], [KEY])
    else:
        (error,) = results
        assert (error.status, error.reason) == (StatusCode.ABORTED, "OUTCOME_UNKNOWN")
        assert (error.may_have_executed, error.retry_safe) == (True, False)
        assert counter.effects == []
    assert world.counter.effects == [7]


@simulated(world_on, network=LINK)
async def test_a_day_later_the_key_is_free(world: World) -> None:
    assert await world.add() == 7
    world.far.machine.clock.skew_s += KEPT_S - 60.0
    assert await world.add() == 7
    world.far.machine.clock.skew_s += 60.0
    assert await world.add() == 14


@simulated(network=LINK)
async def test_a_node_whose_key_is_not_kept_keeps_its_calls_in_memory(net: SimNetwork) -> None:
    counter = Counter()
    async with open_nodes(net, 1) as (first,), net.machine("passing").open_sdk(ephemeral_key=True) as sdk:
        await sdk.authenticate(wallet=make_wallet("passing"))
        peer_id = await sdk.get_discovery_manager().create_node(bootstrap=(first.address,))
        sdk.serve(COUNT, counter)
        await first.sdk.get_discovery_manager().wait_ready(1)
        rpc = first.sdk.get_rpc_client()
        for _ in range(2):
            response = await rpc.unary(peer_id, ADD, Int64Value(value=7), timeout_s=5.0, idempotency_key=KEY)
            assert response.value == 7
        assert [*first.machine.folder.rglob("calls.sqlite3")]
        assert not [*first.machine.folder.parent.rglob("passing/**/calls.sqlite3")]
    assert counter.effects == [7]


FAIL = "CREATE TRIGGER full BEFORE {} ON calls BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"


@simulated(world_on, network=LINK)
async def test_a_full_disk_lets_no_handler_run_that_has_a_key(world: World) -> None:
    on_disk(world, FAIL.format("INSERT"))
    error = await world.error()
    assert isinstance(error, RpcError)
    assert (error.status, error.reason) == (StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE")
    assert (error.may_have_executed, error.retry_safe) == (False, True)
    assert world.counter.effects == []
    assert await world.add(key=b"") == 7
    on_disk(world, "DROP TRIGGER full")
    assert await world.add() == 14


@simulated(world_on, network=LINK)
async def test_an_answer_that_could_not_be_kept_is_not_given(world: World) -> None:
    async def fill() -> None:
        on_disk(world, FAIL.format("UPDATE"))

    world.counter.after = fill
    assert await world.refusal() == (StatusCode.ABORTED, "OUTCOME_UNKNOWN", True)
    on_disk(world, "DROP TRIGGER full")
    assert await world.refusal() == (StatusCode.ABORTED, "OUTCOME_UNKNOWN", True)
    assert world.counter.effects == [7]


@simulated(world_on, network=LINK)
async def test_what_a_caller_sees_was_on_disk_before(world: World) -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.extend(on_disk(world, "SELECT state FROM calls"))

    world.counter.after = look
    assert await world.add() == 7
    assert seen == [(KeyState.RUNNING,)]
    assert on_disk(world, "SELECT state, response FROM calls") == [
        (KeyState.DONE, Int64Value(value=7).SerializeToString())
    ]


@simulated(world_on, network=LINK)
async def test_a_node_that_stops_cuts_its_calls_off(world: World) -> None:
    world.counter.after = trio.sleep_forever
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(once, world.add, results)
        await eventually(lambda: world.counter.effects)
        await world.far.sdk.get_discovery_manager().stop()
    (error,) = results
    assert error.may_have_executed
    assert on_disk(world, "SELECT state FROM calls") == [(KeyState.CUT_OFF,)]
