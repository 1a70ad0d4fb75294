"""A node tells another what it serves, on a simulated network; what is called by it is called for real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.empty_pb2 import Empty
from tests.support.cli_service import CLUB, SHAPES, Club, Word
from tests.support.peer_files import add_inner, add_service, add_text, bare_file
from tests.support.simulated import simulated

from hostmesh import ProtocolNotSupportedError, RpcError, StatusCode
from hostmesh.reflection.client import ReflectionClient
from hostmesh.reflection.peer_schema import PeerSchema
from hostmesh.rpc.method import methods_of
from hostmesh.testing import SimNetwork, SimNode, make_service, open_nodes
from hostmesh.v1 import options_pb2
from hostmesh.v1.reflection_hostmesh import REFLECTION_SERVICE

NAME = "club.v1.ClubService"
OWN = {f"hostmesh.v1.{each}Service" for each in ("Discovery", "Message", "Reflection", "Status")}


class World:
    """A node that serves, and one that asks."""

    def __init__(self, near: SimNode, far: SimNode) -> None:
        self.near, self.far = near, far
        self.rpc = near.sdk.get_rpc_client()
        self.reflection = ReflectionClient(self.rpc, far.peer_id)

    async def names(self) -> set[str]:
        return {service.full_name for service in await self.reflection.list_services(timeout_s=5)}

    async def describe(self, name: str) -> PeerSchema:
        return await self.reflection.describe([name], timeout_s=5)


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 2) as (far, near):
        yield World(near, far)


@simulated(world_on)
async def test_services_come_and_go(world: World) -> None:
    assert await world.names() == OWN
    world.far.sdk.serve(CLUB, Club())
    assert await world.names() == OWN | {NAME}
    (club,) = [each for each in await world.reflection.list_services(timeout_s=5) if each.full_name == NAME]
    assert (club.protocol, club.versions, club.methods, club.other_methods) == ("club", ("1.0.0",), (*SHAPES,), 0)
    assert (await world.describe(NAME)).methods[NAME].keys() == SHAPES.keys()
    world.far.sdk.withdraw(CLUB)
    assert await world.names() == OWN
    with pytest.raises(RpcError) as caught:
        await world.describe(NAME)
    assert (caught.value.status, caught.value.reason) == (StatusCode.NOT_FOUND, "UNKNOWN_SERVICE")
    assert caught.value.details == {"service": NAME}


@simulated(world_on)
async def test_each_shape_is_called_by_its_description(world: World) -> None:
    world.far.sdk.serve(CLUB, Club())
    methods = (await world.describe(NAME)).methods[NAME]
    assert {name: (each.takes_stream, each.gives_stream) for name, each in methods.items()} == SHAPES
    assert methods["Echo"].default_timeout_s == 20
    word: Any = methods["Echo"].request_type
    assert word is not Word
    peer, rpc = world.far.peer_id, world.rpc
    assert (await rpc.unary(peer, methods["Echo"], word(text="hi", blob=b"\0"), timeout_s=5)).blob == b"\0"
    async with rpc.server_stream(peer, methods["Count"], word(times_said=3), timeout_s=5) as counted:
        assert [each.times_said async for each in counted] == [0, 1, 2]
    async with rpc.client_stream(peer, methods["Join"], timeout_s=5) as joining:
        for text in "abc":
            await joining.send(word(text=text))
        assert (await joining.finish()).text == "a-b-c"
    async with rpc.bidi_stream(peer, methods["Shout"], timeout_s=5) as shouting:
        await shouting.send(word(text="a"))
        assert (await shouting.__anext__()).text == "A"
        await shouting.end()
        assert [each async for each in shouting] == []


@simulated(world_on)
async def test_a_node_describes_hostmesh_itself_as_it_is(world: World) -> None:
    schema = await world.reflection.describe(sorted(OWN), timeout_s=5)
    assert schema.methods["hostmesh.v1.ReflectionService"].keys() == methods_of(REFLECTION_SERVICE).keys()
    sent = {file.name: file for file in schema.files}
    assert sent.keys() == {f"hostmesh/v1/{each}.proto" for each in ("discovery", "message", "reflection", "status")}
    ping = schema.methods["hostmesh.v1.StatusService"]["Ping"]
    assert (await world.rpc.unary(world.far.peer_id, ping, ping.request_type(nonce=b"x"), timeout_s=5)).nonce == b"x"


@simulated(world_on)
async def test_descriptors_of_more_than_a_message_can_hold(world: World) -> None:
    """On the server they stand in a pool of their own too: nothing but what was sent can give them to the client."""
    pool, main, size_bytes = DescriptorPool(), bare_file(), 0
    pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(options_pb2.DESCRIPTOR.serialized_pb)
    word = main.message_type.add(name="Word")
    for number in range(1, 16):
        file = bare_file(f"acme/v1/part{number}.proto", f"acme.v1.part{number}")
        part = file.message_type.add(name="Part")
        for field in range(1, 1500):
            add_text(part, f"a_field_with_a_long_name_{'x' * 40}_{field}", number=field)
        data = file.SerializeToString()
        pool.AddSerializedFile(data)
        size_bytes += len(data)
        main.dependency.append(file.name)
        add_inner(word, f".{file.package}.Part", f"part{number}", number=number)
    add_service(main)
    pool.AddSerializedFile(main.SerializeToString())
    assert size_bytes > 1.5 * 1024 * 1024
    service = pool.FindServiceByName("acme.v1.EchoService")

    class Echo:
        async def say0(self, request: Any, context: Any) -> Any:
            return request

    world.far.sdk.serve(service, Echo())
    schema = await world.reflection.describe(["acme.v1.EchoService"], timeout_s=60)
    assert len(schema.files) == 16
    assert sum(file.ByteSize() for file in schema.files) > size_bytes
    method = schema.methods["acme.v1.EchoService"]["Say0"]
    request = method.request_type()
    setattr(request.part3, f"a_field_with_a_long_name_{'x' * 40}_7", "seven")
    response = await world.rpc.unary(world.far.peer_id, method, request, timeout_s=5)
    assert response == request


@simulated(world_on)
async def test_more_services_than_one_request_names(world: World) -> None:
    class Nothing:
        async def do(self, request: Empty, context: Any) -> Empty:
            return request

    for number in range(70):
        letters = f"{chr(97 + number // 26)}{chr(97 + number % 26)}"
        world.far.sdk.serve(make_service(f"many{letters}", Do=(Empty, Empty)), Nothing())
    names = await world.names()
    assert len(names) == 74
    schema = await world.reflection.describe(names, timeout_s=5)
    assert schema.services.keys() == names


@simulated(world_on)
async def test_a_node_may_keep_it_to_itself(world: World) -> None:
    world.far.sdk.withdraw(REFLECTION_SERVICE)
    with pytest.raises(ProtocolNotSupportedError):
        await world.names()


@simulated(world_on)
async def test_a_peer_that_asks_too_often_is_told_so(world: World) -> None:
    async def ask_for_ever() -> None:
        while True:
            await world.reflection.list_services(timeout_s=5)

    with pytest.raises(RpcError) as caught:
        await ask_for_ever()
    assert (caught.value.status, caught.value.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
