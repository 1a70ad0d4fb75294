"""Of a call that somebody records on the way, no byte of the payload can be read."""

from __future__ import annotations

import secrets
import string
from collections.abc import Awaitable, Callable

import pytest
import trio
from tests.integration.transport import kit
from tests.support.jobs_unsigned import UnsignedJobs

from hostmesh.net.address import join_peer_address
from hostmesh.net.node import Node
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.system import System
from hostmesh.v1 import job_pb2, message_pb2
from hostmesh.v1.message_hostmesh import MESSAGE_SERVICE, MessageServiceMethods

PAYLOAD_BYTES = 64
WINDOW_BYTES = 8
"""What counts as a trace: by chance, one shows up in 2**64 bytes."""


def traces(payload: bytes, recording: bytes) -> list[int]:
    """Return where in the payload the windows begin that the recording holds."""
    return [
        start for start in range(len(payload) - WINDOW_BYTES + 1) if payload[start : start + WINDOW_BYTES] in recording
    ]


class Recorder:
    """Stands between a client and a server, and keeps all that passes.

    Args:
        port: the server's, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.requests = bytearray()
        """From those who connect."""
        self.responses = bytearray()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._pass_on, listeners)

    async def _pass_on(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._target)

        async def copy(source: trio.SocketStream, target: trio.SocketStream, recording: bytearray) -> None:
            async for data in source:
                recording += data
                await target.send_all(data)
            await target.send_eof()

        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(copy, near, far, self.requests)
            nursery.start_soon(copy, far, near, self.responses)


class Recalling(UnsignedJobs):
    """Services that answer with what they were told."""

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        return job_pb2.QuoteResponse(quote=request.model_id.encode())

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse) -> None:
        (message,) = request.chat.messages
        for _ in range(3):
            await send(job_pb2.RunResponse(text=job_pb2.TextDelta(index=0, text=message.content)))

    async def send(self, request: message_pb2.SendRequest, context: CallContext) -> message_pb2.SendResponse:
        self.data = request.data
        return message_pb2.SendResponse()


def text() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(PAYLOAD_BYTES))


async def raw_stream(client: Node, server: Node, served: Recalling) -> bytes:
    payload = secrets.token_bytes(PAYLOAD_BYTES)
    await kit.echo_works(client, server.peer_id, payload)
    return payload


async def unary_bytes(client: Node, server: Node, served: Recalling) -> bytes:
    payload = secrets.token_bytes(PAYLOAD_BYTES)
    request = message_pb2.SendRequest(message_id=bytes(16), data=payload)
    await RpcClient(client, prefix="/hostmesh", system=System()).unary(
        server.peer_id, MessageServiceMethods.SEND, request, timeout_s=5
    )
    assert served.data == payload
    return payload


async def unary_there_and_back(client: Node, server: Node, served: Recalling) -> bytes:
    payload = text()
    request = job_pb2.QuoteRequest(model_id=payload)
    rpc = RpcClient(client, prefix="/hostmesh", system=System())
    response = await rpc.unary(server.peer_id, kit.QUOTE, request, timeout_s=5)
    assert response.quote == payload.encode()
    return payload.encode()


async def server_stream(client: Node, server: Node, served: Recalling) -> bytes:
    payload = text()
    request = job_pb2.RunRequest(
        quote_id=bytes(16), chat=job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="user", content=payload)])
    )
    rpc = RpcClient(client, prefix="/hostmesh", system=System())
    async with rpc.server_stream(server.peer_id, kit.RUN, request, timeout_s=5) as responses:
        assert [response.text.text async for response in responses] == [payload] * 3
    return payload.encode()


Call = Callable[[Node, Node, Recalling], Awaitable[bytes]]


TCP, WEBSOCKET = "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"


@pytest.mark.parametrize(
    ("listen", "call"),
    [
        (TCP, raw_stream),
        (TCP, unary_bytes),
        (TCP, unary_there_and_back),
        (TCP, server_stream),
        # What a WebSocket's client sends is masked, which would hide it from the search; what comes back is not.
        (WEBSOCKET, raw_stream),
    ],
)
async def test_no_byte_of_a_payload_is_on_the_wire(start_node, nursery, listen: str, call: Call):
    server, client = await start_node(listen_addresses=(listen,)), await start_node(listen_addresses=())
    served = Recalling()
    rpc = RpcServer(prefix="/hostmesh", system=System())
    rpc.add_service(kit.JOBS, served)
    rpc.add_service(MESSAGE_SERVICE, served)
    for protocol_id, handler in rpc.stream_handlers().items():
        server.set_stream_handler(protocol_id, handler)
    (address,) = server.listen_addresses()
    port = address.split("/")[4]
    recorder = Recorder(int(port))
    await nursery.start(recorder.run)
    through = address.replace(f"/tcp/{port}", f"/tcp/{recorder.port}")
    with trio.fail_after(10):
        await kit.connect_to(client, join_peer_address(through, server.peer_id))
        payload = await call(client, server, served)
        await client.disconnect(server.peer_id)
    assert len(recorder.requests) > PAYLOAD_BYTES
    assert len(recorder.responses) > PAYLOAD_BYTES
    assert traces(payload, recorder.requests) == []
    assert traces(payload, recorder.responses) == []


async def test_the_search_finds_what_is_sent_in_the_clear(nursery):
    """The same recorder and the same search, between two ends that do not seal."""

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    listeners = await nursery.start(trio.serve_tcp, echo, 0)
    recorder = Recorder(listeners[0].socket.getsockname()[1])
    await nursery.start(recorder.run)
    payload = secrets.token_bytes(PAYLOAD_BYTES)
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", recorder.port) as stream:
            # With other bytes around it, in two writes.
            await stream.send_all(b"before" + payload[:20])
            await stream.send_all(payload[20:] + b"after")
            received = b""
            while len(received) < PAYLOAD_BYTES + 11:
                received += await stream.receive_some()
    everywhere = list(range(PAYLOAD_BYTES - WINDOW_BYTES + 1))
    assert traces(payload, recorder.requests) == everywhere
    assert traces(payload, recorder.responses) == everywhere
    assert traces(secrets.token_bytes(PAYLOAD_BYTES), recorder.requests) == []
