"""A client of reflection against peers that answer anything, and a server with services that do not fit."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from tests.support.peer_files import NAME, add_inner, add_service, add_text, bare_file, echo_file

from hostmesh import PeerId, RpcError, StatusCode
from hostmesh.errors import MalformedMessageError
from hostmesh.reflection.client import MAX_NAMES, ReflectionClient
from hostmesh.reflection.limits import MAX_FILES, MAX_FILES_BYTES, MAX_SERVICES
from hostmesh.reflection.served import MAX_METHODS, files_of, summary_of
from hostmesh.reflection.server import MAX_FILE_BYTES, ReflectionServer
from hostmesh.rpc.method import AnyMethod
from hostmesh.v1 import options_pb2, reflection_pb2
from hostmesh.v1.reflection_pb2 import DescriptorFile, GetFilesRequest, ListServicesRequest, ServiceSummary
from hostmesh.wire.bounds import check_bounds

PEER = PeerId("12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcRzQ4FENEemvpg")


class Peer:
    """Answers every call with the same responses, and counts those that were read."""

    def __init__(self, answers: Iterable[Any]) -> None:
        self._answers = answers
        self.read = 0
        self.requests: list[Any] = []
        self.client = ReflectionClient(self, PEER)  # type: ignore[arg-type]

    @asynccontextmanager
    async def server_stream(
        self, peer_id: PeerId, method: AnyMethod, request: Any, **given: object
    ) -> AsyncIterator[AsyncIterator[Any]]:
        assert given["timeout_s"] == 5
        self.requests.append(request)
        self._left = iter(self._answers)
        yield self

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        for answer in self._left:
            self.read += 1
            check_bounds(answer)  # as the client of calls does
            return answer
        raise StopAsyncIteration


def summary(full_name: str = NAME, **fields: Any) -> ServiceSummary:
    return ServiceSummary(full_name=full_name, **({"protocol": "echo", "versions": ["1.0.0"]} | fields))


async def list_refused(*answers: ServiceSummary) -> MalformedMessageError:
    with pytest.raises(MalformedMessageError) as caught:
        await Peer(answers).client.list_services(timeout_s=5)
    return caught.value


async def test_services_are_listed_by_their_names() -> None:
    methods = [reflection_pb2.MethodSummary(name="Say")]
    peer = Peer([summary("b.B"), summary("a.A", methods=methods, other_methods=3)])
    first, second = await peer.client.list_services(timeout_s=5)
    assert (first.full_name, second.full_name) == ("a.A", "b.B")
    assert (first.protocol, first.versions, first.methods, first.other_methods) == ("echo", ("1.0.0",), ("Say",), 3)


@pytest.mark.parametrize("name", ["a b", ".A", "a..A", "A.", "a.\x1b[2J", "a/A", "ä.A", "A\n"])
async def test_names_that_are_none(name: str) -> None:
    assert "names no service" in (await list_refused(summary(name))).message
    if "." not in name:
        methods = [reflection_pb2.MethodSummary(name=name)]
        assert "names no method" in (await list_refused(summary(methods=methods))).message


async def test_a_service_listed_twice() -> None:
    assert "listed twice" in (await list_refused(summary(), summary("a.A"), summary())).message


async def test_services_without_end() -> None:
    peer = Peer(summary(f"a.A{number}") for number in itertools.count())
    with pytest.raises(MalformedMessageError) as caught:
        await peer.client.list_services(timeout_s=5)
    assert f"more than {MAX_SERVICES} services" in caught.value.message
    assert peer.read == MAX_SERVICES + 1
    assert len(await Peer(summary(f"a.A{each}") for each in range(MAX_SERVICES)).client.list_services(timeout_s=5)) == (
        MAX_SERVICES
    )


async def test_files_without_end() -> None:
    small = bare_file().SerializeToString()
    large = bytes(MAX_FILE_BYTES)
    for data, most in ((small, MAX_FILES + 1), (large, MAX_FILES_BYTES // MAX_FILE_BYTES + 1)):
        peer = Peer(DescriptorFile(file_descriptor_proto=data) for _ in itertools.count())
        with pytest.raises(MalformedMessageError, match="are taken"):
            await peer.client.describe([NAME], timeout_s=5)
        assert peer.read == most


async def test_a_description_of_others_than_were_asked_for() -> None:
    peer = Peer([DescriptorFile(file_descriptor_proto=echo_file().SerializeToString())])
    assert list((await peer.client.describe([NAME], timeout_s=5)).methods[NAME]) == ["Say0"]
    with pytest.raises(MalformedMessageError) as caught:
        await peer.client.describe(["acme.v1.Other"], timeout_s=5)
    assert caught.value.field == "acme.v1.Other"
    assert "withdrawn meanwhile" in caught.value.remedy


async def test_more_names_than_a_request_holds_ask_for_all() -> None:
    file = echo_file()
    names = [f"acme.v1.Service{number}" for number in range(MAX_NAMES + 1)]
    for name in names:
        add_service(file, name.rpartition(".")[2])
    peer = Peer([DescriptorFile(file_descriptor_proto=file.SerializeToString())])
    assert list((await peer.client.describe(names, timeout_s=5)).services) == names
    await peer.client.describe(names[:-1], timeout_s=5)
    assert [len(request.services) for request in peer.requests] == [0, MAX_NAMES]
    for request in peer.requests:
        check_bounds(request)


# --- the server's side ---


def pool_of(*files: descriptor_pb2.FileDescriptorProto) -> DescriptorPool:
    pool = DescriptorPool()
    for known in (descriptor_pb2.DESCRIPTOR.serialized_pb, options_pb2.DESCRIPTOR.serialized_pb):
        pool.AddSerializedFile(known)
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


async def answers_of(server: ReflectionServer, request: ListServicesRequest | GetFilesRequest) -> list[Any]:
    sent: list[Any] = []

    async def send(response: Any) -> None:
        check_bounds(response)
        sent.append(response)

    context: Any = None
    if isinstance(request, GetFilesRequest):
        await server.get_files(request, context, send)
    else:
        await server.list_services(request, context, send)
    return sent


async def test_services_that_do_not_fit_a_summary_are_left_out() -> None:
    file = echo_file()
    add_service(file, "x" * 250)
    add_service(file, "Many", methods=MAX_METHODS + 5)
    pool = pool_of(file)
    services = [pool.FindServiceByName(f"acme.v1.{name}") for name in ("x" * 250, "Many", "EchoService")]
    assert summary_of(services[0]) is None
    many, echo = await answers_of(ReflectionServer(lambda: services), ListServicesRequest())
    assert (many.full_name, len(many.methods), many.other_methods) == ("acme.v1.Many", MAX_METHODS, 5)
    assert (echo.full_name, echo.other_methods) == (NAME, 0)


async def test_a_file_that_does_not_fit_is_told() -> None:
    file = echo_file()
    for part in range(20):
        message = file.message_type.add(name=f"Part{part}")
        for number in range(1, 1000):
            add_text(message, f"a_field_with_a_long_name_{'x' * 40}_{number}", number=number)
    service = pool_of(file).FindServiceByName(NAME)
    with pytest.raises(RpcError) as caught:
        await answers_of(ReflectionServer(lambda: [service]), GetFilesRequest(services=[NAME]))
    assert (caught.value.status, caught.value.reason) == (StatusCode.FAILED_PRECONDITION, "FILE_TOO_LARGE")
    assert int(caught.value.details["size_bytes"]) > int(caught.value.details["limit_bytes"]) == MAX_FILE_BYTES


def test_each_file_comes_once_and_after_its_imports() -> None:
    """A chain of imports, deeper than Python's stack, with a short cut from each file to the first."""
    files = [bare_file("f0.proto", "f0")]
    files[0].message_type.add(name="M")
    for number in range(1, 1500):
        file = bare_file(f"f{number}.proto", f"f{number}")
        file.dependency.extend([f"f{number - 1}.proto", *(["f0.proto"] if number > 1 else [])])
        add_inner(file.message_type.add(name="M"), f".f{number - 1}.M")
        files.append(file)
    add_service(files[-1], message=f".{files[-1].package}.M")
    pool = pool_of(*files)
    found = [file.name for file in files_of([pool.FindServiceByName("f1499.EchoService")] * 2)]
    assert found == [f"f{number}.proto" for number in range(1500)]
