"""A generated client calls a generated base, from one simulated node to another."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from tests.unit.protoc.kit import GOLDEN, TALK, run_protoc

from hostmesh import CallContext, ProtocolNotSupportedError, RpcError, StatusCode, UsageError
from hostmesh.testing import SimNetwork, open_nodes, run_sim
from hostmesh.v1.status_hostmesh import StatusServiceBase


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What is generated for the golden .proto, imported."""
    folder = tmp_path_factory.mktemp("talk_modules")
    result = run_protoc(GOLDEN, folder, TALK)
    assert result.returncode == 0, result.stderr
    sys.path.insert(0, str(folder))
    try:
        from talk.v1 import talk_hostmesh

        yield talk_hostmesh
    finally:
        sys.path.remove(str(folder))


def handler_of(talk: Any) -> Any:
    pb = talk.talk_pb2

    class Talk(talk.TalkServiceBase):  # type: ignore[misc, name-defined]
        async def open_room(self, request: Any, context: CallContext) -> Empty:
            if request.name == "full":
                raise RpcError("no room", status=StatusCode.RESOURCE_EXHAUSTED, reason="FULL")
            assert context.metadata == {"lang": "en"}
            return Empty()

        async def listen(self, request: Any, context: CallContext, send: Any) -> None:
            for number in range(request.most_people):
                await send(pb.Line(text=f"{request.name} {number}"))

        async def import_(self, requests: AsyncIterator[Any], context: CallContext) -> Any:
            return pb.Summary(authors=[line.author async for line in requests])

        async def talk(self, requests: AsyncIterator[Any], context: CallContext, send: Any) -> None:
            async for line in requests:
                await send(pb.Line(text=line.text.upper()))

        async def count_the_authors_of_everything_that_was_ever_said(self, request: Any, context: CallContext) -> Any:
            return pb.Summary(lines=len(request.name))

    return Talk()


def test_every_shape_of_a_call(talk: Any) -> None:
    pb = talk.talk_pb2

    async def main(network: SimNetwork) -> None:
        async with open_nodes(network, 3) as (_, server, caller):
            server.sdk.serve(handler := handler_of(talk))
            await caller.sdk.get_discovery_manager().connect_to_peer(server.address, 5)
            client = talk.TalkServiceClient(caller.sdk.get_rpc_client(), server.peer_id)

            assert await client.open_room(pb.Room(name="tea"), timeout_s=5, metadata={"lang": "en"}) == Empty()
            with pytest.raises(RpcError) as refused:
                await client.open_room(pb.Room(name="full"), timeout_s=5)
            assert refused.value.reason == "FULL"
            async with client.listen(pb.Room(name="tea", most_people=3), timeout_s=5) as lines:
                assert [line.text async for line in lines] == ["tea 0", "tea 1", "tea 2"]
            async with client.import_(timeout_s=5) as importing:
                for name in "ab":
                    await importing.send(pb.Line(author=pb.Line.Author(name=name)))
                assert [author.name for author in (await importing.finish()).authors] == ["a", "b"]
            async with client.talk(timeout_s=5) as talking:
                await talking.send(pb.Line(text="hello"))
                assert (await anext(talking)).text == "HELLO"
                await talking.send(pb.Line(text="bye"))
                await talking.end()
                assert [line.text async for line in talking] == ["BYE"]

            server.sdk.withdraw(handler)
            with pytest.raises(ProtocolNotSupportedError):
                await client.open_room(pb.Room(name="tea"), timeout_s=5)

    run_sim(main)


def test_a_handler_that_lacks_a_method_cannot_be_made(talk: Any) -> None:
    class Lazy(talk.TalkServiceBase):  # type: ignore[misc, name-defined]
        async def open_room(self, request: Any, context: CallContext) -> Empty:
            return Empty()

    with pytest.raises(TypeError, match="abstract"):
        Lazy()


def test_the_handler_says_which_service_it_is_of(talk: Any) -> None:
    handler = handler_of(talk)

    class Both(type(handler), StatusServiceBase):  # type: ignore[misc]
        async def ping(self, request: Any, context: CallContext) -> Any: ...

        async def get_snapshot(self, request: Any, context: CallContext) -> Any: ...

        async def watch_status(self, request: Any, context: CallContext, send: Any) -> None: ...

    async def main(network: SimNetwork) -> None:
        async with open_nodes(network, 1) as (node,):
            with pytest.raises(UsageError, match=r"Both serves hostmesh.v1.StatusService, talk.v1.TalkService") as both:
                node.sdk.serve(Both())
            assert both.value.remedy == "name the service: serve(SERVICE, handler)"
            with pytest.raises(UsageError, match=r"talk.v1.TalkService needs a handler"):
                node.sdk.serve(talk.TALK_SERVICE)
            node.sdk.serve(talk.TALK_SERVICE, Both())
            with pytest.raises(UsageError, match=r"/hostmesh/talk/1.0.0 is served already"):
                node.sdk.serve(handler)
            node.sdk.withdraw(handler)
            node.sdk.serve(handler)

    run_sim(main)
