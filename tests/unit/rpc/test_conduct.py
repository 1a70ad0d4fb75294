"""What is told of a peer's conduct on calls: answers, lateness, a broken protocol; and what says nothing of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from memory_stream import MemoryNetwork
from trio.testing import MockClock

from hostmesh.errors import HostmeshError, RpcError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.conduct import Conduct
from hostmesh.rpc.method import AnyMethod, method
from hostmesh.rpc.server import RpcServer
from hostmesh.system import System
from hostmesh.v1 import status_pb2

SERVICE = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
PING = method(SERVICE, "Ping", status_pb2.PingRequest, status_pb2.PingResponse)
WATCH = method(SERVICE, "WatchStatus", status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot)
PROTOCOL = "/hostmesh/status/1.0.0"
SYSTEM = System(monotonic_s=trio.current_time)
NONSENSE = b"\x05\xff\xff\xff\xff\xff"


class Diary:
    """Every conduct that was told."""

    def __init__(self) -> None:
        self.told: list[tuple[PeerId, str, Conduct, float]] = []

    def note_call(self, peer_id: PeerId, method: AnyMethod, conduct: Conduct, waited_s: float) -> None:
        self.told.append((peer_id, method.name, conduct, round(waited_s, 1)))


class Pair:
    def __init__(self, nursery: trio.Nursery) -> None:
        network = MemoryNetwork(nursery)
        self.near, self.far = network.node(1), network.node(2)
        self.diary = Diary()
        self.client = RpcClient(self.near, prefix="/hostmesh", system=SYSTEM, watch=self.diary)

    def answer(self, handler: Callable[[Stream], Awaitable[None]]) -> None:
        self.far.serve({PROTOCOL: handler})

    def serve(self, error: Exception | None = None, *, count: int = 2) -> None:
        class Status:
            async def ping(self, request: object, context: object) -> status_pb2.PingResponse:
                await trio.sleep(1)
                if error is not None:
                    raise error
                return status_pb2.PingResponse()

            async def get_snapshot(self, request: object, context: object) -> status_pb2.StatusSnapshot:
                return status_pb2.StatusSnapshot()

            async def watch_status(
                self, request: object, context: object, send: Callable[[object], Awaitable[None]]
            ) -> None:
                for _ in range(count):
                    await send(status_pb2.StatusSnapshot())

        server = RpcServer(prefix="/hostmesh", system=SYSTEM)
        server.add_service(SERVICE, Status())
        self.far.serve(server.stream_handlers())

    async def ping(self, timeout_s: float = 5.0) -> str:
        try:
            await self.client.unary(self.far.peer_id, PING, status_pb2.PingRequest(), timeout_s=timeout_s)
        except HostmeshError as error:
            return error.code
        return ""

    @property
    def conduct(self) -> list[tuple[str, Conduct, float]]:
        assert {peer_id for peer_id, *_ in self.diary.told} <= {self.far.peer_id}
        return [(name, conduct, waited_s) for _, name, conduct, waited_s in self.diary.told]


@pytest.fixture
def pair(nursery: trio.Nursery, autojump_clock: MockClock) -> Pair:
    return Pair(nursery)


async def test_an_answer(pair: Pair) -> None:
    pair.serve()
    assert await pair.ping() == ""
    assert pair.conduct == [("Ping", Conduct.ANSWERED, 1.0)]


async def test_a_derived_client_tells_too(pair: Pair) -> None:
    pair.serve()
    pair.client = pair.client.with_interceptors()
    await pair.ping()
    assert [conduct for _, conduct, _ in pair.conduct] == [Conduct.ANSWERED]


async def test_a_call_without_an_answer_is_late_by_all_that_it_waited(pair: Pair) -> None:
    async def say_nothing(stream: Stream) -> None:
        await trio.sleep_forever()

    pair.answer(say_nothing)
    assert await pair.ping(timeout_s=4.0) == "DEADLINE_EXCEEDED"
    assert pair.conduct == [("Ping", Conduct.LATE, 4.0)]


@pytest.mark.parametrize("data", [NONSENSE, b"\x02\x12\x00\x02\x12\x00"])
async def test_what_is_no_answer_of_the_protocol_is_broken(pair: Pair, data: bytes) -> None:
    async def talk(stream: Stream) -> None:
        await stream.send(data)
        await stream.close()

    pair.answer(talk)
    await pair.ping()
    async with pair.client.server_stream(
        pair.far.peer_id, WATCH, status_pb2.WatchStatusRequest(), timeout_s=None
    ) as responses:
        with pytest.raises(HostmeshError):
            async for _ in responses:
                pass
    broken = [(name, conduct) for name, conduct, _ in pair.conduct]
    assert broken[0] == ("Ping", Conduct.BROKEN)
    assert broken[1:] in ([("WatchStatus", Conduct.BROKEN)], []), "two messages are no fault of a stream's"


@pytest.mark.parametrize(
    "error",
    [RpcError("no", status=StatusCode.RESOURCE_EXHAUSTED), RpcError("late", status=StatusCode.DEADLINE_EXCEEDED)],
)
async def test_a_refusal_says_nothing_nor_does_a_peer_that_ran_out_of_time_itself(pair: Pair, error: RpcError) -> None:
    pair.serve(error)
    assert await pair.ping()
    assert pair.conduct == []


async def test_who_cannot_be_reached_lacks_the_protocol_or_is_cut_off_is_not_blamed(pair: Pair) -> None:
    async def cut(stream: Stream) -> None:
        stream.break_connection()  # type: ignore[attr-defined]

    assert await pair.ping() == "PROTOCOL_NOT_SUPPORTED"
    pair.answer(cut)
    assert await pair.ping() == "CONNECTION_LOST"
    assert pair.conduct == []


async def test_a_caller_that_leaves_tells_nothing(pair: Pair) -> None:
    async def say_nothing(stream: Stream) -> None:
        await trio.sleep_forever()

    pair.answer(say_nothing)
    with trio.move_on_after(2):
        await pair.ping(timeout_s=60)
    assert pair.conduct == []


async def test_a_stream_read_to_its_end_is_an_answer_and_one_left_early_none(pair: Pair) -> None:
    pair.serve(count=3)
    for most in (3, 1):
        async with pair.client.server_stream(
            pair.far.peer_id, WATCH, status_pb2.WatchStatusRequest(), timeout_s=None
        ) as responses:
            seen = 0
            async for _ in responses:
                seen += 1
                if seen == most and most == 1:
                    break
    assert [(name, conduct) for name, conduct, _ in pair.conduct] == [("WatchStatus", Conduct.ANSWERED)]
