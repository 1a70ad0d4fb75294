"""The measuring client: commands from standard input, one JSON line each, answered by one JSON line each."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
from tests.benchmarks.transport.peers.endpoint import Call, Endpoint, Stack
from tests.benchmarks.transport.peers.payload import (
    DIGESTS,
    FRAME_BYTES,
    MESSAGE_BYTES,
    REQUEST,
    RESPONSE_BYTES,
    age_us,
)

WARMUP_CALLS = 200
WARMUP_FRAMES = 4


class WrongAnswerError(Exception):
    """The server sent something else than it should have."""


async def read_commands() -> AsyncIterator[dict[str, Any]]:
    """Yield the commands until standard input ends."""
    while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        yield json.loads(line)


def tell(answer: Mapping[str, Any]) -> None:
    """Write one answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def describe_error(error: BaseException) -> str:
    """Return an error in a line; of a group's, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:2000]


def percentiles(latencies_us: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile, each one of the values."""
    ordered = sorted(latencies_us)
    last = len(ordered) - 1
    return {"p50": ordered[round(last * 0.5)], "p99": ordered[round(last * 0.99)]}


class Client:
    """One endpoint, connected at the first command, and what is held beside it."""

    def __init__(self, stack: Stack, address: str) -> None:
        self._stack = stack
        self._address = address
        self._endpoint: Endpoint | None = None
        self._open = AsyncExitStack()
        self._held = AsyncExitStack()
        self._holds = False

    async def run(self) -> None:
        """Answer commands until there are no more."""
        try:
            async for command in read_commands():
                try:
                    answer = await self._answer(command)
                except Exception as error:  # noqa: BLE001 - whatever a stack raises fails this run and is told
                    tell({"ok": False, "error": describe_error(error)})
                else:
                    tell({"ok": True, **answer})
        finally:
            await self._held.aclose()
            await self._open.aclose()

    async def _answer(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        match command["cmd"]:
            case "warmup":
                return await self._warm_up()
            case "hold_connections":
                return await self._hold_connections(command["count"])
            case "hold_streams":
                return await self._hold_streams(command["count"])
            case "release":
                await self._held.aclose()
                self._holds = False
                return {}
            case "run":
                return await self._run(command)
        raise ValueError(f"unknown command {command['cmd']}")

    async def _run(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        endpoint = await self._connected()
        match command["work"]:
            case "unary":
                return await run_unary(endpoint, command["concurrency"], command["seconds"])
            case "stream_burst":
                return await run_stream(endpoint, Call.BURST, command["messages"], MESSAGE_BYTES)
            case "bulk":
                measured = await run_stream(endpoint, Call.BULK, command["frames"], FRAME_BYTES)
                return {**measured, "bytes": command["frames"] * FRAME_BYTES}
            case "stream_paced":
                return await run_paced(endpoint, command["messages"])
            case "connect":
                return await run_connects(self._stack, self._address, command["count"])
            case "verify":
                await verify(endpoint)
                return {}
        raise ValueError(f"unknown work {command['work']}")

    async def _connected(self) -> Endpoint:
        if self._endpoint is None:
            if self._holds:
                raise RuntimeError("release what is held first: contexts end in the reverse of their order")
            endpoint = await self._open.enter_async_context(self._stack.endpoint())
            await endpoint.dial(self._address)
            await endpoint.settle()
            self._endpoint = endpoint
        return self._endpoint

    async def _warm_up(self) -> Mapping[str, Any]:
        endpoint = await self._connected()
        for _ in range(WARMUP_CALLS):
            _check(await endpoint.unary(REQUEST), RESPONSE_BYTES)
        for call in (Call.BURST, Call.PACED):
            for _ in range(WARMUP_CALLS):
                await run_stream(endpoint, call, 1, MESSAGE_BYTES)
        await run_stream(endpoint, Call.BULK, WARMUP_FRAMES, FRAME_BYTES)
        return {}

    async def _hold_connections(self, count: int) -> Mapping[str, Any]:
        self._holds = True
        for _ in range(count):
            endpoint = await self._held.enter_async_context(self._stack.endpoint())
            await endpoint.dial(self._address)
            await endpoint.settle()
            _check(await endpoint.unary(REQUEST), RESPONSE_BYTES)
        return {}

    async def _hold_streams(self, count: int) -> Mapping[str, Any]:
        endpoint = await self._connected()
        self._holds = True
        for _ in range(count):
            messages = await self._held.enter_async_context(endpoint.stream(Call.HOLD, 1))
            _check(await anext(messages), MESSAGE_BYTES)
        return {}


async def run_unary(endpoint: Endpoint, concurrency: int, seconds: float) -> dict[str, Any]:
    """Let so many callers call without a pause, each with one call outstanding."""
    latencies_us: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    end = started + seconds

    async def call_on() -> None:
        begun = time.perf_counter()
        while begun < end:
            _check(await endpoint.unary(REQUEST), RESPONSE_BYTES)
            now = time.perf_counter()
            latencies_us.append((now - begun) * 1e6)
            begun = now

    await _together([call_on] * concurrency)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return {"ops": len(latencies_us), "wall_s": wall_s, "cpu_s": cpu_s, "latency_us": percentiles(latencies_us)}


async def run_stream(endpoint: Endpoint, call: Call, count: int, size: int) -> dict[str, Any]:
    """Make one call with so many responses of one size."""
    started, cpu = time.perf_counter(), time.process_time()
    received = 0
    async with endpoint.stream(call, count) as messages:
        async for message in messages:
            if len(message) != size:
                raise WrongAnswerError(f"{len(message)} bytes instead of {size}")
            received += 1
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    if received != count:
        raise WrongAnswerError(f"{received} messages instead of {count}")
    return {"ops": received, "wall_s": wall_s, "cpu_s": cpu_s}


async def run_paced(endpoint: Endpoint, count: int) -> dict[str, Any]:
    """Make one call whose server sends slowly, and note how old each message is when it is there."""
    started, cpu = time.perf_counter(), time.process_time()
    ages_us: list[float] = []
    async with endpoint.stream(Call.PACED, count) as messages:
        async for message in messages:
            ages_us.append(age_us(message))
            _check(message, MESSAGE_BYTES)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    if len(ages_us) != count:
        raise WrongAnswerError(f"{len(ages_us)} messages instead of {count}")
    return {"ops": count, "wall_s": wall_s, "cpu_s": cpu_s, "latency_us": percentiles(ages_us)}


async def run_connects(stack: Stack, address: str, count: int) -> dict[str, Any]:
    """So often: a new client, which dials, calls once and closes; its making and closing are not in the latency."""
    latencies_us: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        async with stack.endpoint() as endpoint:
            begun = time.perf_counter()
            await endpoint.dial(address)
            _check(await endpoint.unary(REQUEST), RESPONSE_BYTES)
            latencies_us.append((time.perf_counter() - begun) * 1e6)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return {"ops": count, "wall_s": wall_s, "cpu_s": cpu_s, "latency_us": percentiles(latencies_us)}


async def verify(endpoint: Endpoint) -> None:
    """Check every byte of 50 calls, 2000 messages and 16 frames."""
    for _ in range(50):
        _check_digest(await endpoint.unary(REQUEST), RESPONSE_BYTES)
    for call, count, size in ((Call.BURST, 2000, MESSAGE_BYTES), (Call.BULK, 16, FRAME_BYTES)):
        received = 0
        async with endpoint.stream(call, count) as messages:
            async for message in messages:
                _check_digest(message, size)
                received += 1
        if received != count:
            raise WrongAnswerError(f"{received} messages instead of {count}")


async def _together(tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run tasks at once; a lone one without the cost of a task."""
    if len(tasks) == 1:
        await tasks[0]()
        return
    async with anyio.create_task_group() as group:
        for task in tasks:
            group.start_soon(task)


def _check(message: bytes, size: int) -> None:
    if len(message) != size:
        raise WrongAnswerError(f"{len(message)} bytes instead of {size}")


def _check_digest(message: bytes, size: int) -> None:
    if hashlib.sha256(message).digest() != DIGESTS[size]:
        raise WrongAnswerError(f"a message of {len(message)} bytes is not what was sent")
