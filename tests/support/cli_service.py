"""A node that serves an application's protocol with a method of each shape: python cli_service.py [--lie].

Prints a line of JSON when it is ready, and for calls that end: how, and what they were about.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from hostmesh import CallContext, RpcError, StatusCode, Wallet, open_sdk
from hostmesh.v1 import options_pb2, reflection_pb2
from hostmesh.v1.reflection_hostmesh import REFLECTION_SERVICE

SHAPES = {"Echo": (False, False), "Count": (False, True), "Join": (True, False), "Shout": (True, True)}


def make_file() -> FileDescriptorProto:
    """Return the .proto of the service, as a descriptor."""
    options: Any = options_pb2
    file = FileDescriptorProto(name="club/v1/club.proto", package="club.v1", syntax="proto3")
    file.dependency.append(options_pb2.DESCRIPTOR.name)
    word = file.message_type.add(name="Word")
    kinds = {"text": FieldDescriptorProto.TYPE_STRING, "blob": FieldDescriptorProto.TYPE_BYTES}
    for number, (name, kind) in enumerate(kinds.items(), start=1):
        field = word.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL, type=kind)
        field.options.Extensions[options.max_bytes] = 1000
    word.field.add(
        name="times_said", number=3, label=FieldDescriptorProto.LABEL_OPTIONAL, type=FieldDescriptorProto.TYPE_UINT64
    )
    service = file.service.add(name="ClubService")
    service.options.Extensions[options.protocol] = "club"
    service.options.Extensions[options.version] = "1.0.0"
    service.options.Extensions[options.calls_per_peer].max_concurrent = 8
    service.options.Extensions[options.calls_per_peer].calls_per_s = 12.5
    for name, (takes_stream, gives_stream) in SHAPES.items():
        method = service.method.add(
            name=name,
            input_type=".club.v1.Word",
            output_type=".club.v1.Word",
            client_streaming=takes_stream,
            server_streaming=gives_stream,
        )
        method.options.Extensions[options.max_request_bytes] = 2048
        method.options.Extensions[options.max_response_bytes] = 4096
        if name == "Echo":
            method.options.Extensions[options.default_timeout_ms] = 20_000
            method.options.idempotency_level = MethodOptions.IDEMPOTENT
    return file


Default().AddSerializedFile(make_file().SerializeToString())
FILE = Default().FindFileByName("club/v1/club.proto")
CLUB = FILE.services_by_name["ClubService"]
Word: Any = GetMessageClass(FILE.message_types_by_name["Word"])


class Liar:
    """A reflection service that lists the club, and describes it by what no .proto file can say."""

    async def list_services(self, request: Any, context: CallContext, send: Any) -> None:
        await send(reflection_pb2.ServiceSummary(full_name=CLUB.full_name, protocol="club", versions=["1.0.0"]))

    async def get_files(self, request: Any, context: CallContext, send: Any) -> None:
        file = make_file()
        file.message_type[0].name = "\x1b]0;pwned\x07"
        await send(reflection_pb2.DescriptorFile(file_descriptor_proto=file.SerializeToString()))


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


@contextmanager
def told(*words: str) -> Iterator[list[str]]:
    """Tell how a call ends, with the words that it was about; more may be added."""
    said = [*words]
    try:
        yield said
    except BaseException as error:
        tell("ended", by=type(error).__name__, words=said)
        raise
    tell("ended", by="return", words=said)


class Club:
    """Does what each request says."""

    async def echo(self, request: Any, context: CallContext) -> Message:
        if request.text == "refuse":
            raise RpcError(
                "not \x1b[2Jhere",
                status=StatusCode.RESOURCE_EXHAUSTED,
                reason="FULL",
                retry_after_ms=70,
                details={"room": "tea"},
            )
        if request.text == "hang":
            with told("hang"):
                await trio.sleep_forever()
        said = " ".join(f"{name}={value}" for name, value in sorted(context.metadata.items()))
        known = (context.idempotency_key.decode(), context.session_id.hex(), said)
        return Word(text=f"{request.text} {'/'.join(known)}", blob=request.blob, times_said=2**53 + 1)

    async def count(self, request: Any, context: CallContext, send: Any) -> None:
        with told(request.text):
            for number in range(request.times_said):
                await send(Word(times_said=number))
            if request.text == "for ever":
                await trio.sleep_forever()

    async def join(self, requests: AsyncIterator[Any], context: CallContext) -> Message:
        words: list[str] = []
        async for request in requests:
            if request.text == "stop":
                break
            words.append(request.text)
        return Word(text="-".join(words))

    async def shout(self, requests: AsyncIterator[Any], context: CallContext, send: Any) -> None:
        with told() as said:
            async for request in requests:
                said.append(request.text)
                await send(Word(text=request.text.upper()))
                if request.text == "refuse":
                    raise RpcError("enough", status=StatusCode.FAILED_PRECONDITION)
                if request.text == "bye":
                    return


async def main() -> None:
    """Run until standard input ends."""
    async with open_sdk(ephemeral_key=True, enable_mdns=False, listen_addresses=["/ip4/127.0.0.1/tcp/0"]) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        sdk.serve(CLUB, Club())
        if "--lie" in sys.argv:
            sdk.withdraw(REFLECTION_SERVICE)
            sdk.serve(REFLECTION_SERVICE, Liar())
        tell("ready", address=discovery.listen_addresses()[0])
        await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main)
