"""open_sdk as a block: what leaves it is what its body raised, and nothing is left behind."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio

from hostmesh import (
    SDK,
    Advert,
    AlreadyRunningError,
    Candidate,
    NodeNotRunningError,
    PeerId,
    SourceQuery,
    StoreError,
    UsageError,
    Wallet,
    open_sdk,
)
from hostmesh.net.node import Node

PEER = PeerId("12D3KooWEZXjE41uU4EL2gpkAQeDXYok6wghN7wwNVPF5bwkaNfS")

Open = Callable[..., AbstractAsyncContextManager[SDK]]


class Silent:
    """A source that finds nobody and notes when its task begins and ends."""

    name = "silent"

    def __init__(self) -> None:
        self.running = 0
        self.ended = 0

    async def run(self, *, task_status: Any) -> None:
        self.running += 1
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self.running -= 1
            self.ended += 1

    async def find(self, query: SourceQuery) -> Any:
        return
        yield Candidate

    async def advertise(self, advert: Advert | None) -> None:
        pass


@pytest.fixture
def source() -> Silent:
    return Silent()


@pytest.fixture
def open_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Silent) -> Open:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))

    def sources(_node: Node, _rpc: object) -> Sequence[Silent]:
        return [source]

    def make(**overrides: object) -> AbstractAsyncContextManager[SDK]:
        return open_sdk(**({"enable_dht": False, "sources": sources} | overrides))  # type: ignore[arg-type]

    return make


async def start(sdk: SDK) -> None:
    await sdk.authenticate(wallet=Wallet.generate())
    await sdk.get_discovery_manager().create_node()


def fail(error: BaseException) -> NoReturn:
    raise error


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("with_node", [False, True])
@pytest.mark.parametrize(
    "error", [ValueError("mine"), ExceptionGroup("mine", [ValueError("a")]), StopAsyncIteration(), KeyboardInterrupt()]
)
async def test_the_bodys_own_error_is_not_wrapped(
    open_one: Open, source: Silent, error: BaseException, with_node: bool
) -> None:
    before = tasks()
    caught: BaseException | None = None
    try:
        async with open_one() as sdk:
            if with_node:
                await start(sdk)
            fail(error)
    except BaseException as raised:  # noqa: BLE001 - looked at below
        caught = raised
    assert caught is error
    assert caught.__cause__ is None
    assert source.running == 0
    assert source.ended == with_node
    assert tasks() == before


async def test_cancellation_leaves_nothing_running(open_one: Open, source: Silent) -> None:
    before = tasks()
    with trio.move_on_after(60) as scope:
        async with open_one() as sdk:
            await start(sdk)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert source.running == 0
    assert source.ended == 1
    assert tasks() == before


async def test_cancellation_inside_nurseries_of_the_body_leaves_nothing_running(open_one: Open) -> None:
    before = tasks()
    with trio.CancelScope() as scope:
        async with open_one() as sdk:
            await start(sdk)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)
                scope.cancel()
    assert scope.cancelled_caught
    assert tasks() == before


async def test_a_crash_of_a_background_task_surfaces_unwrapped(open_one: Open) -> None:
    class CrashError(Exception):
        pass

    async def crash() -> None:
        raise CrashError

    was_cancelled = False

    async def body() -> None:
        nonlocal was_cancelled
        async with open_one() as sdk:
            await start(sdk)
            sdk._nursery.start_soon(crash)
            try:
                await trio.sleep_forever()
            finally:
                was_cancelled = True

    with pytest.raises(CrashError) as caught:
        await body()
    assert was_cancelled
    assert caught.value.__cause__ is None
    assert not isinstance(caught.value.__context__, BaseExceptionGroup)


async def test_a_failing_goodbye_ends_the_block_all_the_same(open_one: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """No task of the SDK hears a cancellation from outside, so the block itself must end them."""

    async def close(self: SDK) -> None:
        raise StoreError("the disk is gone", path="/gone")

    before = tasks()
    monkeypatch.setattr(SDK, "close", close)
    with pytest.raises(StoreError):
        async with open_one():
            pass
    assert tasks() == before


async def test_an_sdk_that_cannot_be_made_leaves_nothing(open_one: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**arguments: object) -> None:
        raise StoreError("no records", path="/gone")

    before = tasks()
    monkeypatch.setattr("hostmesh.sdk.RecordBook", broken)
    with pytest.raises(StoreError):
        async with open_one():
            pytest.fail("the block was entered")
    assert tasks() == before


async def test_an_error_that_left_the_block_is_in_no_cycle(open_one: Open) -> None:
    """Else what the body held (a secret in a local) would stay until the garbage collector comes."""

    class Held:
        alive = 0

        def __init__(self) -> None:
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    async def body() -> None:
        async with open_one():
            held = Held()
            raise ValueError(id(held))

    gc.collect()
    gc.disable()
    try:
        await caught_and_gone(body)
        assert Held.alive == 0
    finally:
        gc.enable()


async def caught_and_gone(body: Callable[[], Awaitable[None]]) -> None:
    try:
        await body()
    except ValueError:
        pass
    else:
        pytest.fail("nothing was raised")


async def test_a_second_node_is_refused_and_a_stopped_one_can_be_made_again(open_one: Open, source: Silent) -> None:
    async with open_one() as sdk:
        await start(sdk)
        discovery = sdk.get_discovery_manager()
        jobs, sessions, hosts = sdk.get_job_manager(), sdk.get_session_manager(), sdk.get_host_manager()
        assert sdk.get_job_manager() is jobs
        assert sdk.get_session_manager() is sessions
        addresses = discovery.listen_addresses()
        with pytest.raises(AlreadyRunningError):
            await discovery.create_node()
        assert discovery.listen_addresses() == addresses

        await discovery.stop()
        await discovery.stop()
        assert not discovery.is_running()
        assert source.running == 0
        for getter in (sdk.get_job_manager, sdk.get_session_manager, sdk.get_status_client):
            with pytest.raises(NodeNotRunningError):
                getter()

        again = await discovery.create_node()
        assert addresses[0].endswith(again)  # the key file gives the same peer id
        assert sdk.get_discovery_manager() is discovery
        assert sdk.get_host_manager() is hosts
        # These speak for the new node.
        assert sdk.get_job_manager() is not jobs
        assert sdk.get_session_manager() is not sessions


async def test_two_in_one_process(open_one: Open) -> None:
    before = tasks()
    async with open_one(ephemeral_key=True) as first, open_one(ephemeral_key=True) as second:
        await start(first)
        await start(second)
        one, two = first.get_discovery_manager(), second.get_discovery_manager()
        peer_id = await one.connect_to_peer(two.listen_addresses()[0])
        assert peer_id in one.get_connected_peers()
        await one.stop()
        assert two.is_running()
    assert tasks() == before


async def test_stores_are_closed_on_leaving(open_one: Open, tmp_path: Path) -> None:
    async with open_one() as sdk:
        await start(sdk)
        book = sdk._files.reputation
        book.record_outcome(PEER, "0x" + "ab" * 20, good=True)
        sequences = sdk._files.sequences
    with pytest.raises(StoreError):
        book.of(PEER, "0x" + "ab" * 20)
    with pytest.raises(StoreError):
        sequences.next_sequence("n", PEER, now=1.0)
    # A closed WAL database leaves no side files behind.
    assert not list((tmp_path / "home").rglob("*-wal"))
    # What was counted is there for the next one.
    async with open_one() as sdk:
        await start(sdk)
        assert sdk._files.reputation.of(PEER, "0x" + "ab" * 20).good == 1


async def test_a_node_after_the_block_is_a_typed_error(open_one: Open) -> None:
    async with open_one() as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        discovery = sdk.get_discovery_manager()
    with pytest.raises(UsageError, match="closed"):
        await discovery.create_node()


async def test_in_memory_nothing_is_on_disk_but_the_key_and_all_is_lost(open_one: Open, tmp_path: Path) -> None:
    async with open_one(in_memory=True) as sdk:
        await start(sdk)
        sdk._files.reputation.record_outcome(PEER, "0x" + "ab" * 20, good=True)
        assert sdk._files.reputation.of(PEER, "0x" + "ab" * 20).good == 1
        assert sdk._files.canaries.add_sent(bytes(16))
        assert not sdk._files.shares_receipts()
        assert [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()] == ["peer.key"]
    async with open_one() as sdk:
        await start(sdk)
        assert sdk._files.reputation.of(PEER, "0x" + "ab" * 20).good == 0
