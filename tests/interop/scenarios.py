"""What the Python peers of the interop tests serve and try, over any implementation of streams.

The command line, the protocols and the scenarios are those of the peers in Go and JavaScript too:

``PEER serve`` prints ``{"peer_id", "addresses"}`` and serves until standard input ends; ``PEER dial ADDRESS SCENARIO``
prints ``{"ok": true, ...}`` and exits with 0, or ``{"ok": false, "error"}`` and exits with 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import trio
from libp2p.identity.identify.pb.identify_pb2 import Identify as IdentifyMessage
from libp2p.utils.varint import decode_varint_with_size

IDENTIFY = "/ipfs/id/1.0.0"
PING = "/ipfs/ping/1.0.0"
ECHO = "/interop/echo/1"
SOURCE = "/interop/source/1"
SINK = "/interop/sink/1"
SLOW = "/interop/slow/1"
HALF = "/interop/half/1"
RESET = "/interop/reset/1"

BULK_BYTES = 64 << 20
STREAMS_AT_ONCE = 200
PING_BYTES = 32
PIECE_BYTES = 256 * 1024
FIRST_PAUSE_S = 2.0
PAUSE_S = 0.2
PAUSE_EVERY_BYTES = 4 << 20
DIAL_LIMIT_S = 50.0
"""Below the limit of the tests, so that a traceback tells where a scenario hung."""

_PERIOD = 251
_PATTERN = bytes(range(_PERIOD)) * (PIECE_BYTES // _PERIOD + 2)


class PeerStream(Protocol):
    """A stream of the implementation under test. ``receive`` returns ``b""`` at the end."""

    async def send(self, data: bytes, /) -> None: ...
    async def receive(self, max_bytes: int, /) -> bytes: ...
    async def close_write(self) -> None: ...
    async def close(self) -> None: ...
    async def reset(self) -> None: ...


@dataclass(frozen=True)
class Dialer:
    """A connection to the serving peer."""

    open: Callable[[str], Awaitable[PeerStream]]
    lost: type[Exception]
    """What operations on a reset stream raise."""


# --- bytes ---


def pattern(total: int, *, piece_bytes: int = PIECE_BYTES) -> AsyncIterator[bytes]:
    """Yield ``total`` bytes, byte i = i % 251."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, total, piece_bytes):
            start = at % _PERIOD
            yield _PATTERN[start : start + min(piece_bytes, total - at)]

    return pieces()


async def digest(pieces: AsyncIterator[bytes]) -> tuple[bytes, int]:
    """Return SHA-256 and count of what comes."""
    sha, count = hashlib.sha256(), 0
    async for piece in pieces:
        sha.update(piece)
        count += len(piece)
    return sha.digest(), count


async def received(stream: PeerStream) -> AsyncIterator[bytes]:
    """Yield what the peer sends, to its end."""
    while piece := await stream.receive(PIECE_BYTES):
        yield piece


async def slowly(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same with pauses: before the first read, and every 4 MiB."""
    await trio.sleep(FIRST_PAUSE_S)
    count = 0
    async for piece in pieces:
        yield piece
        if (count + len(piece)) // PAUSE_EVERY_BYTES > count // PAUSE_EVERY_BYTES:
            await trio.sleep(PAUSE_S)
        count += len(piece)


async def receive_exactly(stream: PeerStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await stream.receive(min(size - len(data), PIECE_BYTES))
        check(piece, f"the end after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


async def receive_all(stream: PeerStream) -> bytes:
    return b"".join([piece async for piece in received(stream)])


def check(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


# --- what is served ---


async def serve_echo(stream: PeerStream) -> None:
    async for piece in received(stream):
        await stream.send(piece)


async def serve_source(stream: PeerStream) -> None:
    count = int.from_bytes(await receive_exactly(stream, 8), "big")
    async for piece in pattern(count):
        await stream.send(piece)


async def serve_sink(stream: PeerStream) -> None:
    await _tell_digest(stream, received(stream))


async def serve_slow(stream: PeerStream) -> None:
    await _tell_digest(stream, slowly(received(stream)))


async def _tell_digest(stream: PeerStream, pieces: AsyncIterator[bytes]) -> None:
    sha, count = await digest(pieces)
    await stream.send(sha + count.to_bytes(8, "big"))


async def serve_half(stream: PeerStream) -> None:
    _, count = await digest(received(stream))
    for number in range(3):
        if number:
            await trio.sleep(0.1)
        await stream.send(str(count).encode())


async def serve_reset(stream: PeerStream) -> None:
    await receive_exactly(stream, 1)
    await stream.reset()


HANDLERS: dict[str, Callable[[PeerStream], Awaitable[None]]] = {
    ECHO: serve_echo,
    SOURCE: serve_source,
    SINK: serve_sink,
    SLOW: serve_slow,
    HALF: serve_half,
    RESET: serve_reset,
}
"""They leave it to the peer to close the stream afterwards."""


# --- what is tried ---


async def identify(dialer: Dialer) -> dict[str, Any]:
    stream = await dialer.open(IDENTIFY)
    data = await receive_all(stream)
    await stream.close()
    size, at = decode_varint_with_size(data)
    check(size == len(data) - at, f"a message of {size} bytes in {len(data) - at}")
    message = IdentifyMessage.FromString(data[at:])
    return {"protocols": list(message.protocols), "agent": message.agent_version}


async def ping(dialer: Dialer) -> dict[str, Any]:
    stream = await dialer.open(PING)
    times_us = []
    for _ in range(10):
        block = os.urandom(PING_BYTES)
        started = time.perf_counter()
        await stream.send(block)
        check(await receive_exactly(stream, PING_BYTES) == block, "other bytes came back")
        times_us.append((time.perf_counter() - started) * 1e6)
    await stream.close_write()
    check(await stream.receive(1) == b"", "bytes after the last pong")
    await stream.close()
    return {"rtt_us": round(median(times_us))}


async def _echo(dialer: Dialer, size: int) -> None:
    stream = await dialer.open(ECHO)

    async def send() -> None:
        async for piece in pattern(size):
            await stream.send(piece)
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        got = await digest(received(stream))
    check(got == await digest(pattern(size)), f"of {size} bytes {got[1]} came back, or others")
    await stream.close()


async def echo(dialer: Dialer) -> dict[str, Any]:
    await _echo(dialer, 1024)
    await _echo(dialer, 1 << 20)
    return {}


async def _upload(dialer: Dialer, protocol: str) -> dict[str, Any]:
    stream = await dialer.open(protocol)
    started = time.perf_counter()
    async for piece in pattern(BULK_BYTES):
        await stream.send(piece)
    await stream.close_write()
    answer = await receive_all(stream)
    seconds = time.perf_counter() - started
    await stream.close()
    sha, count = await digest(pattern(BULK_BYTES))
    check(answer == sha + count.to_bytes(8, "big"), f"the peer hashed {answer.hex()}")
    return {"bytes": count, "seconds": round(seconds, 3)}


async def _download(dialer: Dialer, pace: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]) -> dict[str, Any]:
    stream = await dialer.open(SOURCE)
    started = time.perf_counter()
    await stream.send(BULK_BYTES.to_bytes(8, "big"))
    got = await digest(pace(received(stream)))
    seconds = time.perf_counter() - started
    await stream.close()
    check(got == await digest(pattern(BULK_BYTES)), f"of {BULK_BYTES} bytes {got[1]} came, or others")
    return {"bytes": got[1], "seconds": round(seconds, 3)}


async def bulk_up(dialer: Dialer) -> dict[str, Any]:
    return await _upload(dialer, SINK)


async def slow(dialer: Dialer) -> dict[str, Any]:
    return await _upload(dialer, SLOW)


async def bulk_down(dialer: Dialer) -> dict[str, Any]:
    return await _download(dialer, lambda pieces: pieces)


async def slow_reader(dialer: Dialer) -> dict[str, Any]:
    return await _download(dialer, slowly)


async def streams(dialer: Dialer) -> dict[str, Any]:
    answered = 0
    all_answered = trio.Event()

    async def one(number: int) -> None:
        nonlocal answered
        stream = await dialer.open(ECHO)
        data = number.to_bytes(4, "big") * 256
        await stream.send(data)
        check(await receive_exactly(stream, len(data)) == data, f"stream {number} got other bytes")
        answered += 1
        if answered == STREAMS_AT_ONCE:
            all_answered.set()
        await all_answered.wait()
        await stream.close_write()
        check(await stream.receive(1) == b"", f"stream {number} got more bytes")
        await stream.close()

    async with trio.open_nursery() as nursery:
        for number in range(STREAMS_AT_ONCE):
            nursery.start_soon(one, number)
    return {"streams": answered}


async def half_close(dialer: Dialer) -> dict[str, Any]:
    stream = await dialer.open(HALF)
    await stream.send(bytes(1000))
    await stream.close_write()
    answer = await receive_all(stream)
    await stream.close()
    check(answer == b"1000" * 3, f"{answer!r}")
    return {"answer": answer.decode()}


async def reset(dialer: Dialer) -> dict[str, Any]:
    stream = await dialer.open(RESET)
    await stream.send(b"!")
    try:
        data = await stream.receive(1)
    except dialer.lost as error:
        outcome = repr(error)
    else:
        raise AssertionError(f"read {data!r} instead of a reset")
    # A reset ends its stream and no other.
    await _echo(dialer, 1024)
    return {"outcome": outcome}


SCENARIOS: dict[str, Callable[[Dialer], Awaitable[dict[str, Any]]]] = {
    "identify": identify,
    "ping": ping,
    "echo": echo,
    "bulk-up": bulk_up,
    "bulk-down": bulk_down,
    "streams": streams,
    "half-close": half_close,
    "reset": reset,
    "slow": slow,
    "slow-reader": slow_reader,
}


# --- the command line ---


async def serve_until_stdin_ends(peer_id: str, addresses: Sequence[str]) -> None:
    print(json.dumps({"peer_id": peer_id, "addresses": list(addresses)}), flush=True)
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        async for _ in stdin:
            pass


def main(serve: Callable[[], Awaitable[None]], dial: Callable[[str, str], Awaitable[dict[str, Any]]]) -> None:
    """Run the command that the arguments name.

    Args:
        serve: starts a peer, and calls :func:`serve_until_stdin_ends`.
        dial: dials an address, runs a scenario and returns its facts.
    """
    match sys.argv[1:]:
        case ["serve"]:
            trio.run(serve)
        case ["dial", address, scenario] if scenario in SCENARIOS:
            trio.run(_dial, dial, address, scenario)
        case _:
            sys.exit(f"usage: {sys.argv[0]} serve | dial ADDRESS {{{','.join(SCENARIOS)}}}")


async def _dial(dial: Callable[[str, str], Awaitable[dict[str, Any]]], address: str, scenario: str) -> None:
    try:
        with trio.fail_after(DIAL_LIMIT_S):
            facts = await dial(address, scenario)
    except Exception as error:  # noqa: BLE001 # whatever it is, the test is to be told
        traceback.print_exc()
        print(json.dumps({"ok": False, "error": repr(error)}))
        sys.exit(1)
    print(json.dumps({"ok": True, **facts}))
