"""What a call through a generated client and server costs over a framed protobuf echo on the same node.

Run it from the root of the checkout: ``python -m tests.benchmarks.call_overhead [--json]``.

Two processes on loopback, one connection, 32 callers at once, a new stream for every exchange, its protocol proposed
with the first bytes. The echo is the least that a careful programmer writes on a stream: a length and a message there,
a length and a message back; no deadline, no status, no limits. The call carries the same messages through what
``protoc-gen-hostmesh`` writes, with a deadline, under the limits that an application's services have.

A round is a block of each, in turns of which comes first; CPU is user and system time of both processes. The overhead
of a round is what the block of calls took over the block of echoes beside it: what else the machine does is in both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from tests.benchmarks.transport import machine
from tests.benchmarks.transport.peers.client import read_commands, tell
from tests.benchmarks.transport.peers.messages import Payload, import_generated
from tests.benchmarks.transport.peers.payload import REQUEST, RESPONSE
from tests.benchmarks.transport.process import PeerProcess, open_peer

from hostmesh.errors import ConnectionLostError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.config import NodeConfig
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.server import RpcServer
from hostmesh.system import System
from hostmesh.wire.framing import encode_length

ROUNDS, CALLS, WARMUP_CALLS = 15, 2000, 3000
CONCURRENCY = 32
TIMEOUT_S = 30.0
PREFIX = "/hostmesh"
ECHO_ID = f"{PREFIX}/bench-echo/1.0.0"
_ANSWER_S = 20.0

BENCH: Any = import_generated("bench_hostmesh")

Exchange = Callable[[], Awaitable[Any]]
"""Sends the request and returns the response."""


# --- the echo ---


def framed(message: Any) -> bytes:
    """Return a message with its length before it."""
    data: bytes = message.SerializeToString()
    return encode_length(len(data)) + data


async def read_framed(stream: Stream, message_type: Any) -> Any:
    """Return the one message of a stream.

    Raises:
        ConnectionLostError: the stream ended before it was whole.
    """
    data = await stream.receive()
    while True:
        size = shift = 0
        for at, byte in enumerate(data[:5], 1):
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if len(data) >= at + size:
                    return message_type.FromString(data[at : at + size])
                break
        more = await stream.receive()
        if not more:
            raise ConnectionLostError("the stream ended before the message")
        data += more


async def serve_echo(stream: Stream) -> None:
    """Answer one message. The node resets the stream if this fails."""
    request = await read_framed(stream, Payload)
    await stream.send(framed(Payload(data=response_to(request.data))), end=True)
    await stream.close()


async def echo(node: Node, peer_id: PeerId, request: Any) -> Any:
    """Send one message, and return the one that comes back."""
    stream = await node.open_stream(peer_id, ECHO_ID)
    try:
        await stream.send(framed(request), end=True)
        response = await read_framed(stream, Payload)
    except BaseException:
        await stream.reset()
        raise
    await stream.close()
    return response


# --- the call ---


class Handler(BENCH.BenchServiceBase):  # type: ignore[misc]
    """Answers unary calls; nobody makes the others."""

    async def unary(self, request: Any, context: CallContext) -> Any:
        return Payload(data=response_to(request.data))

    async def burst(self, request: Any, context: CallContext, send: Any) -> None:
        raise NotImplementedError

    async def paced(self, request: Any, context: CallContext, send: Any) -> None:
        raise NotImplementedError

    async def bulk(self, request: Any, context: CallContext, send: Any) -> None:
        raise NotImplementedError

    async def hold(self, request: Any, context: CallContext, send: Any) -> None:
        raise NotImplementedError


def response_to(request: bytes) -> bytes:
    """Return the payload of the response.

    Raises:
        ValueError: the request did not arrive as it was sent.
    """
    if request != REQUEST:
        raise ValueError("the request is not the benchmark's")
    return RESPONSE


# --- both, on one node ---


@asynccontextmanager
async def running_server() -> AsyncIterator[Node]:
    """Run a node that answers echoes and calls."""
    node = Node(NodeConfig(enable_dht=False), PeerKey.generate())
    server = RpcServer(prefix=PREFIX, system=System())
    server.add_service(Handler())
    for protocol_id, handler in {ECHO_ID: serve_echo, **server.stream_handlers()}.items():
        node.set_stream_handler(protocol_id, handler)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await nursery.start(server.run)
        yield node
        await node.stop()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def running_client(address: str) -> AsyncIterator[dict[str, Exchange]]:
    """Run a node that knows what the server speaks, and yield its ways to ask it."""
    peer_id = PeerId(address.rpartition("/")[2])
    node = Node(NodeConfig(listen_addresses=(), enable_dht=False), PeerKey.generate())
    client = BENCH.BenchServiceClient(RpcClient(node, prefix=PREFIX, system=System()), peer_id)

    async def by_echo() -> Any:
        return await echo(node, peer_id, Payload(data=REQUEST))

    async def by_call() -> Any:
        return await client.unary(Payload(data=REQUEST), timeout_s=TIMEOUT_S)

    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await node.connect(peer_id, (address,), origin=AddressOrigin.CONFIGURED)
        yield {"echo": by_echo, "call": by_call}
        await node.stop()


async def exchange(once: Exchange, count: int, concurrency: int = CONCURRENCY) -> None:
    """Make so many exchanges, so many at once.

    Raises:
        ValueError: a response is not the benchmark's.
    """
    left = count

    async def go_on() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if (await once()).data != RESPONSE:
                raise ValueError("the response is not the benchmark's")

    async with trio.open_nursery() as nursery:
        for _ in range(concurrency):
            nursery.start_soon(go_on)


async def serve() -> None:
    """Be the server's process: tell the address, then the CPU time used so far whenever asked, until input ends."""
    async with running_server() as node:
        tell({"address": node.peer_addresses()[0]})
        async for _ in read_commands():
            tell({"cpu_s": time.process_time()})


# --- the measuring ---


@dataclass(frozen=True, slots=True)
class Round:
    """CPU of one exchange, both processes together, in microseconds."""

    echo_us: float
    call_us: float

    @property
    def overhead(self) -> float:
        """What a call takes over an echo, as a part of the echo."""
        return self.call_us / self.echo_us - 1


async def measure(rounds: int, calls: int, report: Callable[[str], None]) -> list[Round]:
    """Measure so many rounds of so many exchanges each way."""
    argv = [sys.executable, "-m", "tests.benchmarks.call_overhead", "--serve"]
    with tempfile.TemporaryDirectory(prefix="hostmesh-bench-") as folder:
        async with open_peer("server", argv, Path(folder)) as server:
            address = (await server.read(within_s=_ANSWER_S))["address"]
            async with running_client(address) as ways:
                for once in ways.values():
                    await exchange(once, WARMUP_CALLS)
                done = []
                for number in range(rounds):
                    names = sorted(ways, reverse=bool(number % 2))
                    took = {name: await _block_us(server, ways[name], calls) for name in names}
                    done.append(Round(took["echo"], took["call"]))
                    report(f"round {number + 1}: {done[-1].overhead:+.1%}")
                return done


async def _block_us(server: PeerProcess, once: Exchange, count: int) -> float:
    async def used_s() -> float:
        there: float = (await server.ask({}, within_s=_ANSWER_S))["cpu_s"]
        return there + time.process_time()

    before_s = await used_s()
    await exchange(once, count)
    return (await used_s() - before_s) / count * 1e6


def summary(values: list[float]) -> dict[str, float]:
    """Return the median of the rounds, and the least and the greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def figures_of(rounds: list[Round]) -> dict[str, dict[str, float]]:
    """Return what the rounds come to."""
    return {
        "echo, us": summary([each.echo_us for each in rounds]),
        "call, us": summary([each.call_us for each in rounds]),
        "overhead": summary([each.overhead for each in rounds]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON line instead of a table")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} by default")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"of a block; {CALLS} by default")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(serve)
        return
    meter = machine.LoadMeter()
    load = meter.before_run()
    rounds = trio.run(measure, arguments.rounds, arguments.calls, lambda line: print(line, file=sys.stderr))
    load |= meter.after_run()
    figures = figures_of(rounds)
    if arguments.json:
        sizes = {"rounds": len(rounds), "calls": arguments.calls, "concurrency": CONCURRENCY}
        print(json.dumps({"machine": machine.describe(), "load": load, **sizes, "figures": figures}))
        return
    for name, values in figures.items():
        form = "8.1%" if name == "overhead" else "8.1f"
        print(f"{name:10}", *(f"{key} {value:{form}}" for key, value in values.items()))


if __name__ == "__main__":
    main()
