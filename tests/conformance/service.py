"""The handlers of the conformance service, and the journal that they keep of their calls."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from tests.conformance.schema import METHODS, message_type

from hostmesh.errors import RpcError, StatusCode
from hostmesh.rpc.context import CallContext

_Send = Callable[[Any], Any]
_LATE_S = 1.0
_FINISH, _FAIL = 1, 2
_CRASH, _TOO_LARGE = 1, 2
ASKED_TO = "ASKED_TO"


@dataclass
class Entry:
    """One handler's run."""

    method: str
    ended: str = ""
    requests: int = 0
    responses: int = 0


@dataclass
class Journal:
    """What the handlers did since it was cleared, in the order in which they began."""

    entries: list[Entry] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    @contextmanager
    def entry(self, method: str) -> Iterator[Entry]:
        entry = Entry(method)
        self.entries.append(entry)
        try:
            yield entry
            entry.ended = "returned"
        except trio.Cancelled:
            entry.ended = "cancelled"
            raise
        except Exception:
            entry.ended = "raised"
            raise
        finally:
            self.changed.set()

    async def wait_ended(self, count: int) -> None:
        """Return once so many handlers have ended, and none runs."""
        while len(self.entries) < count or not all(entry.ended for entry in self.entries):
            self.changed = trio.Event()
            await self.changed.wait()


def _asked(act: int) -> None:
    if act == _FAIL:
        raise RpcError("as you asked", status=StatusCode.FAILED_PRECONDITION, reason=ASKED_TO)


class ConformanceHandler:
    """The handlers; see the comments in conformance.proto."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def echo(self, request: Any, context: CallContext) -> Any:
        with self._journal.entry("Echo"):
            return request

    async def echo_large(self, request: Any, context: CallContext) -> Any:
        with self._journal.entry("EchoLarge"):
            return request

    async def check(self, request: Any, context: CallContext) -> Any:
        with self._journal.entry("Check"):
            return request

    async def describe(self, request: Any, context: CallContext) -> Any:
        with self._journal.entry("Describe"):
            seen = message_type("Describe")[1](session_id=context.session_id, idempotency_key=context.idempotency_key)
            if context.deadline is not None:
                seen.deadline_left_ms = max(0, round((context.deadline - time.monotonic()) * 1000))
            for key, value in context.metadata.items():
                seen.metadata.add(key=key, value=value)
            return seen

    async def fail(self, request: Any, context: CallContext) -> Any:
        with self._journal.entry("Fail"):
            if request.manner == _CRASH:
                raise ArithmeticError(request.message)
            if request.manner == _TOO_LARGE:
                return message_type("Fail")[1](payload=bytes(METHODS["Fail"].max_response_bytes))
            raise RpcError(
                request.message,
                status=StatusCode(request.code),
                reason=request.reason,
                retry_after_ms=request.retry_after_ms or None,
                details={each.key: each.value for each in request.details},
            )

    async def wait(self, request: Any, context: CallContext) -> Any:
        with self._journal.entry("Wait"):
            await trio.sleep(request.duration_ms / 1000)
            return message_type("Wait")[1]()

    async def generate(self, request: Any, context: CallContext, send: _Send) -> None:
        with self._journal.entry("Generate") as entry:
            for index in range(request.count):
                if request.pause_ms:
                    await trio.sleep(request.pause_ms / 1000)
                payload = bytes([index % 256]) * request.size
                await send(message_type("Generate")[1](index=index, payload=payload))
                entry.responses += 1
            if request.hold:
                await trio.sleep_forever()
            if request.end_code:
                raise RpcError("as you asked", status=StatusCode(request.end_code), reason=request.end_reason)

    async def collect(self, requests: AsyncIterator[Any], context: CallContext) -> Any:
        with self._journal.entry("Collect") as entry:
            return await self._collect(requests, entry)

    async def collect_late(self, requests: AsyncIterator[Any], context: CallContext) -> Any:
        with self._journal.entry("CollectLate") as entry:
            await trio.sleep(_LATE_S)
            return await self._collect(requests, entry)

    async def ignore(self, requests: AsyncIterator[Any], context: CallContext) -> Any:
        with self._journal.entry("Ignore"):
            return message_type("Ignore")[1]()

    async def chat(self, requests: AsyncIterator[Any], context: CallContext, send: _Send) -> None:
        with self._journal.entry("Chat") as entry:
            async for item in requests:
                entry.requests += 1
                _asked(item.act)
                await send(item)
                entry.responses += 1
                if item.act == _FINISH:
                    return

    async def _collect(self, requests: AsyncIterator[Any], entry: Entry) -> Any:
        digest, total_bytes = hashlib.sha256(), 0
        async for item in requests:
            entry.requests += 1
            _asked(item.act)
            digest.update(item.payload)
            total_bytes += len(item.payload)
            if item.act == _FINISH:
                break
        return message_type("Collect")[1](count=entry.requests, total_bytes=total_bytes, sha256=digest.digest())
