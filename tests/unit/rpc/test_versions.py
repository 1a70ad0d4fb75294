"""Ranges of versions: what a server serves, what a client asks for, what a handler is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.protobuf.wrappers_pb2 import Int64Value
from memory_stream import MemoryNetwork, memory_stream_pair, peer_number
from trio.testing import MockClock

from hostmesh.errors import ProtocolNotSupportedError, UsageError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.method import AnyMethod, method, protocol_ids
from hostmesh.rpc.server import CallContext, RpcServer
from hostmesh.system import System
from hostmesh.testing import make_service

SYSTEM = System()


def chat(version: str, min_version: str = "") -> AnyMethod:
    return method(service_of(version, min_version), "Say", Int64Value, Int64Value)


def service_of(version: str, min_version: str = ""):
    return make_service("chat", version=version, min_version=min_version, Say=(Int64Value, Int64Value))


class Handler:
    """Answers with the minor number that was agreed on."""

    def __init__(self) -> None:
        self.versions: list[str] = []

    async def say(self, request: Int64Value, context: CallContext) -> Int64Value:
        self.versions.append(context.version)
        return Int64Value(value=int(context.version.split(".")[1]))


def serving(*ranges: tuple[str, str]) -> tuple[RpcServer, Handler]:
    server, handler = RpcServer(prefix="/hostmesh", system=SYSTEM), Handler()
    for each in ranges:
        server.add_service(service_of(*each), handler)
    return server, handler


# --- the server ---


def test_every_version_of_a_range_is_served():
    server, _ = serving(("1.2.0", "1.0.0"), ("2.0.0", ""))
    assert list(server.stream_handlers()) == [
        "/hostmesh/chat/1.2.0",
        "/hostmesh/chat/1.1.0",
        "/hostmesh/chat/1.0.0",
        "/hostmesh/chat/2.0.0",
    ]


@pytest.mark.parametrize("other", [("1.4.0", "1.2.0"), ("1.0.0", ""), ("1.1.0", ""), ("1.2.0", "1.0.0")])
def test_a_service_that_overlaps_another_is_refused_and_changes_nothing(other):
    server, handler = serving(("1.2.0", "1.0.0"))
    before = list(server.stream_handlers())
    with pytest.raises(UsageError, match="is served already"):
        server.add_service(service_of(*other), handler)
    assert list(server.stream_handlers()) == before


def test_a_service_is_removed_in_all_its_versions_and_no_other():
    old, new = service_of("1.1.0", "1.0.0"), service_of("1.3.0", "1.2.0")
    server, handler = serving(("1.1.0", "1.0.0"), ("1.3.0", "1.2.0"))
    overlapping = service_of("1.2.0", "1.1.0")
    assert server.remove_service(overlapping) == (), "it was not served"
    assert server.remove_service(old) == ("/hostmesh/chat/1.1.0", "/hostmesh/chat/1.0.0")
    assert list(server.stream_handlers()) == list(protocol_ids("/hostmesh", new))
    server.add_service(old, handler)
    assert len(server.stream_handlers()) == 4


def test_all_versions_of_a_service_share_its_places():
    # A caller that speaks several versions has no more calls for that.
    server, _ = serving(("1.1.0", "1.0.0"))
    assert len({id(each.calls) for each in server._services.values()}) == 1


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
async def test_a_handler_knows_which_version_was_agreed_on(autojump_clock: MockClock, nursery, version):
    server, handler = serving(("1.2.0", "1.0.0"))
    network = MemoryNetwork(nursery)
    far, near = network.node(1), network.node(2)
    far.serve(server.stream_handlers())
    client = RpcClient(near, prefix="/hostmesh", system=SYSTEM)
    response = await client.unary(far.peer_id, chat(version), Int64Value(value=1), timeout_s=1.0)
    assert handler.versions == [version]
    assert f"1.{response.value}.0" == version


# --- the client ---


async def test_a_call_takes_the_highest_common_version(autojump_clock: MockClock, nursery):
    for theirs, expected in [(("1.1.0", ""), "1.1.0"), (("1.5.0", "1.2.0"), "1.3.0"), (("1.3.0", "1.1.0"), "1.3.0")]:
        server, handler = serving(theirs)
        network = MemoryNetwork(nursery)
        far, near = network.node(1), network.node(2)
        far.serve(server.stream_handlers())
        client = RpcClient(near, prefix="/hostmesh", system=SYSTEM)
        await client.unary(far.peer_id, chat("1.3.0", "1.1.0"), Int64Value(), timeout_s=1.0)
        assert handler.versions == [expected]


async def test_none_in_common_is_an_error_with_both_ranges(autojump_clock: MockClock, nursery):
    server, handler = serving(("1.2.0", "1.0.0"))
    network = MemoryNetwork(nursery)
    far, near = network.node(1), network.node(2)
    far.serve(server.stream_handlers())
    client = RpcClient(near, prefix="/hostmesh", system=SYSTEM)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await client.unary(far.peer_id, chat("2.1.0", "2.0.0"), Int64Value(), timeout_s=1.0)
    assert caught.value.message == (
        f"/hostmesh/chat: this node speaks 2.0.0 to 2.1.0, {far.peer_id} speaks 1.0.0 to 1.2.0"
    )
    assert handler.versions == []


async def test_a_method_of_one_version_asks_for_it_and_one_of_several_for_all_the_highest_first(nursery):
    asked: list[str | Sequence[str]] = []
    server, _ = serving(("1.1.0", "1.0.0"))
    handlers = server.stream_handlers()

    class Opener:
        def start_stream(self, *_: object) -> None:
            return None

        async def open_stream(
            self, peer_id: PeerId, protocol_id: str | Sequence[str], *, timeout_s: float | None = None
        ) -> Stream:
            asked.append(protocol_id)
            near, far = memory_stream_pair(peer_number(1), peer_number(2), "/hostmesh/chat/1.0.0")
            nursery.start_soon(handlers["/hostmesh/chat/1.0.0"], far)
            return near

    client = RpcClient(Opener(), prefix="/hostmesh", system=SYSTEM)
    for _ in range(2):
        await client.unary(peer_number(2), chat("1.0.0"), Int64Value(), timeout_s=1.0)
        await client.unary(peer_number(2), chat("1.1.0", "1.0.0"), Int64Value(), timeout_s=1.0)
    assert asked == ["/hostmesh/chat/1.0.0", ("/hostmesh/chat/1.1.0", "/hostmesh/chat/1.0.0")] * 2
    assert asked[1] is asked[3], "made once, not for each call"


# --- the kit ---


@pytest.mark.parametrize(("version", "min_version"), [("1.0.0", "1.1.0"), ("2.0.0", "1.0.0"), ("1.9.0", "1.0.0")])
def test_a_made_service_has_a_range_or_is_refused(version, min_version):
    with pytest.raises(UsageError, match="range"):
        service_of(version, min_version)


def test_made_services_of_other_ranges_are_other_services():
    assert chat("1.1.0", "1.0.0").versions == ("1.1.0", "1.0.0")
    assert chat("1.1.0").versions == ("1.1.0",)
    assert service_of("1.1.0").full_name != service_of("1.1.0", "1.0.0").full_name
