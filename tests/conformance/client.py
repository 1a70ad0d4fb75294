"""hostmesh's own client as a program under test: ``python -m tests.conformance.client ADDRESS``.

What it reads and writes is told in docs/protocols/conformance.md.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import trio
from tests.conformance.schema import METHODS
from tests.conformance.values import bytes_of, from_message, text_of, to_message

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    FrameTooLargeError,
    HostmeshError,
    ProtocolNotSupportedError,
    RemoteProtocolError,
    RpcError,
    UsageError,
)
from hostmesh.net.address import AddressOrigin, split_peer_address
from hostmesh.net.config import NodeConfig
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.rpc import responses as rpc_responses
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.method import AnyMethod, Cardinality
from hostmesh.system import System

_SILENCE_S = rpc_responses.SILENCE_S
_HAS_ENDED = ("finish() has its response", "send before the last response")
"""Remedies of errors that say that the peer has ended the call, and not that a request is outside its bounds."""

Step = Mapping[str, Any]


class _LeftError(Exception):
    """The case says to leave the call here."""


class Call:
    """One call of a case."""

    def __init__(self, rpc: RpcClient, peer_id: PeerId, call: Mapping[str, Any]) -> None:
        self._rpc = rpc
        self._peer_id = peer_id
        self._method: AnyMethod = replace(
            METHODS[call["method"]],
            protocol=call["protocol"],
            versions=tuple(call.get("versions", ("1.0.0",))),
        )
        self._steps: list[Step] = call["steps"]
        timeout_ms = call["timeout_ms"]
        self._options: dict[str, Any] = {
            "timeout_s": None if timeout_ms is None else timeout_ms / 1000,
            "session_id": bytes_of(call.get("session_id", "")),
            "metadata": {text_of(key): text_of(value) for key, value in call.get("metadata", {}).items()},
        }
        if "idempotency_key" in call:
            self._options["idempotency_key"] = bytes_of(call["idempotency_key"])
        self._requests: list[Any] = []
        self._responses: list[dict[str, Any]] = []

    async def run(self) -> dict[str, Any]:
        """Make the call; return what it came to."""
        shapes = {
            Cardinality.UNARY: self._unary,
            Cardinality.SERVER_STREAM: self._server_stream,
            Cardinality.CLIENT_STREAM: self._client_stream,
            Cardinality.BIDI_STREAM: self._bidi_stream,
        }
        try:
            await shapes[self._method.cardinality]()
            end: dict[str, Any] = {"kind": "ok"}
        except _LeftError:
            end = {"kind": "cancelled"}
        except HostmeshError as error:
            end = self._end(error)
        except TypeError as error:
            # A stream has no key, which mypy says too: the function is not even entered.
            if "unexpected keyword argument 'idempotency_key'" not in str(error):
                raise
            end = {"kind": "refused", "may_have_executed": False}
        return {"responses": self._responses, "end": end}

    def _end(self, error: HostmeshError) -> dict[str, Any]:
        if isinstance(error, RpcError):
            return {
                "kind": "status",
                "code": int(error.status),
                "message": error.message,
                "reason": error.reason,
                "retry_after_ms": error.retry_after_ms,
                "details": error.details,
                "may_have_executed": error.may_have_executed,
            }
        kinds = {
            ProtocolNotSupportedError: "not_supported",
            DeadlineExceededError: "deadline",
            ConnectionLostError: "lost",
            UsageError: "refused",
            RemoteProtocolError: "violation",
        }
        kind = next((kind for family, kind in kinds.items() if isinstance(error, family)), "error")
        if isinstance(error, FrameTooLargeError) and error.size_bytes in (each.ByteSize() for each in self._requests):
            kind = "refused"
        if kind == "error":
            return {"kind": kind, "message": repr(error)}
        return {"kind": kind, "may_have_executed": error.may_have_executed}

    def _request(self, step: Step) -> Any:
        request = to_message(self._method.request_type, step["send"])
        self._requests.append(request)
        return request

    def _take(self, response: Any) -> None:
        self._responses.append(from_message(response))

    async def _unary(self) -> None:
        request = self._request(self._steps[0])
        response: Any = None
        failure: HostmeshError | None = None
        is_over = trio.Event()

        async def call() -> None:
            nonlocal response, failure
            try:
                response = await self._rpc.unary(self._peer_id, self._method, request, **self._options)
            except HostmeshError as error:
                failure = error
            is_over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            for step in self._steps[1:]:
                if "cancel" in step:
                    nursery.cancel_scope.cancel()
                elif "pause_ms" in step:
                    await trio.sleep(step["pause_ms"] / 1000)
                else:
                    await is_over.wait()
        if "cancel" in self._steps[-1]:
            # Whatever had come: nobody has looked at it.
            raise _LeftError
        if failure is not None:
            raise failure
        self._take(response)

    async def _server_stream(self) -> None:
        request = self._request(self._steps[0])
        async with self._rpc.server_stream(self._peer_id, self._method, request, **self._options) as responses:
            await self._read(responses, self._steps[1:])

    async def _client_stream(self) -> None:
        async with self._rpc.client_stream(self._peer_id, self._method, **self._options) as call:
            for step in self._steps:
                if "send" in step:
                    await self._send(call.send, step)
                elif "finish" in step:
                    self._take(await call.finish())
                else:
                    # finish() half-closes by itself.
                    await self._pass_time(step)

    async def _bidi_stream(self) -> None:
        async with self._rpc.bidi_stream(self._peer_id, self._method, **self._options) as call:
            for step in self._steps:
                try:
                    if "send" in step:
                        await self._send(call.send, step)
                    elif "half_close" in step:
                        await call.end()
                    else:
                        await self._read(call, [step])
                except ConnectionLostError:
                    if "send" not in step and "half_close" not in step:
                        raise
                    # Reading gives out what came before, and tells how the call ended.
                    await self._read(call, [{"finish": True}])

    async def _send(self, send: Callable[[Any], Awaitable[None]], step: Step) -> None:
        request = self._request(step)
        for _ in range(step.get("times", 1)):
            try:
                await send(request)
            except UsageError as error:
                if error.remedy not in _HAS_ENDED:
                    raise
                return

    async def _read(self, responses: Any, steps: Iterable[Step]) -> None:
        for step in steps:
            if "finish" in step:
                async for response in responses:
                    self._take(response)
            elif "receive" in step:
                for _ in range(step["receive"]):
                    async for response in responses:
                        self._take(response)
                        break
            else:
                await self._pass_time(step)

    async def _pass_time(self, step: Step) -> None:
        if "cancel" in step:
            raise _LeftError
        await trio.sleep(step.get("pause_ms", 0) / 1000)


async def send_raw(node: Node, peer_id: PeerId, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Send bytes on a stream; return what came back."""
    stream = await node.open_stream(peer_id, f"/hostmesh/{raw['protocol']}/1.0.0")
    received, end = bytearray(), ""
    for step in raw["steps"]:
        ((what, value),) = step.items()
        with suppress(ConnectionLostError):
            if what == "send":
                await stream.send(bytes_of(value))
            elif what == "half_close":
                await stream.close_write()
            elif what == "pause_ms":
                await trio.sleep(value / 1000)
            elif what == "reset":
                end = "own_reset"
                await stream.reset()
            else:
                end = "reset"
                while data := await stream.receive():
                    received += data
                end = "half_close"
    with suppress(ConnectionLostError):
        await stream.close()
    return {"received": received.hex(), "end": end}


async def main(address: str) -> None:
    _, peer_id = split_peer_address(address)
    assert peer_id is not None
    node = Node(NodeConfig(listen_addresses=(), enable_dht=False), PeerKey.generate())
    rpc = RpcClient(node, prefix="/hostmesh", system=System())
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await node.connect(peer_id, (address,), origin=AddressOrigin.CONFIGURED)
        async for line in trio.wrap_file(sys.stdin):
            case = json.loads(line)
            if "raw" in case:
                result = await send_raw(node, peer_id, case["raw"])
            else:
                for call in (*case.get("before", ()), case["call"]):
                    # A constant of hostmesh, which no application can choose: the table does, so as to take seconds.
                    rpc_responses.SILENCE_S = call.get("silence_ms", _SILENCE_S * 1000) / 1000
                    result = await Call(rpc, peer_id, call).run()
            print(json.dumps({"name": case["name"], **result}), flush=True)
        await node.stop()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    trio.run(main, sys.argv[1])
