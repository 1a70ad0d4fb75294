"""Serves calls with idempotency keys: each is executed once, and answered as often as its caller asks.

A run belongs to the node and not to the call that started it: when its caller leaves, the handler goes on, and the next
call under the same key waits for it, or gets what was kept of it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from google.protobuf.message import Message

from hostmesh.errors import StatusCode, StoreError
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.key_store import KeyStore
from hostmesh.rpc.keys import (
    KEY_REUSED,
    NOT_KEPT,
    OUTCOME_UNKNOWN,
    STOPPING,
    STORE_FAILED,
    CallName,
    KeptCall,
    KeyState,
    call_name,
    state_after,
)
from hostmesh.rpc.method import AnyMethod
from hostmesh.rpc.outcome import LATE, OK, Outcome, outcome_from_proto, outer_part
from hostmesh.rpc.served_call import serialized_response
from hostmesh.system import System
from hostmesh.v1 import rpc_pb2

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.rpc")

ALONE_S = 600.0
"""How long a handler may go on whose last caller has left, where its deadline is later or none. Chosen here: time to
come back, and nobody's handlers pile up."""


@dataclass(slots=True)
class _Run:
    """A handler at work."""

    digest: bytes
    deadline: float
    """That of the call that started it, by trio's clock."""
    scope: trio.CancelScope
    callers: int = 0
    over: trio.Event = field(default_factory=trio.Event)
    outcome: Outcome = OUTCOME_UNKNOWN
    response: bytes | None = None
    was_cut_off: bool = True
    """The outcome is for the caller that started it only."""


class KeyedCalls:
    """Runs the handlers of calls with keys, while :meth:`run` does.

    Args:
        system: its wall clock says how long what is kept is alive.
        outcome_of: maps what a handler raised, and logs what is no answer.
        store: keeps the calls; None = one in memory, for as long as this runs.
    """

    def __init__(
        self, system: System, *, outcome_of: Callable[[Exception, AnyMethod], Outcome], store: KeyStore | None = None
    ) -> None:
        self._system = system
        self._outcome_of = outcome_of
        self._given_store = store
        self._store: KeyStore | None = None
        self._nursery: trio.Nursery | None = None
        self._runs: dict[CallName, _Run] = {}

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run handlers until cancelled; they are cancelled with it, and their calls are cut off."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            if self._store is not None and self._store is not self._given_store:
                self._store.close()
            self._store = None

    async def call(
        self, method: AnyMethod, handler: Callable[..., Awaitable[Any]], request: Message, context: CallContext
    ) -> Message:
        """Return the answer to a call with a key: what is kept of it, or what its handler gives.

        Args:
            method: a unary method.
            handler: called with the request and the context, if no other call under this key has done so.
            request: the same in every call under the key.
            context: of the call, with its key.

        Raises:
            RpcError: the answer is not OK.

        Cancellation: safe; the handler goes on, for :data:`ALONE_S` at most.
        """
        name = call_name(context.peer_id, method, context.idempotency_key)
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        while True:
            run = self._runs.get(name)
            starts = run is None
            if run is None:
                kept = self._begin(name, digest, method)
                if kept is not None:
                    return _answer(method, outcome_from_proto(rpc_pb2.Status.FromString(kept.status)), kept.response)
                run = self._start(name, digest, method, handler, request, context)
            elif run.digest != digest:
                raise KEY_REUSED.to_error()
            await self._wait(run)
            if starts or not run.was_cut_off:
                return _answer(method, run.outcome, run.response)
            # Another's run was cut off: the method says whether this one may be made.

    def _begin(self, name: CallName, digest: bytes, method: AnyMethod) -> KeptCall | None:
        if self._nursery is None:
            raise STOPPING.to_error()
        try:
            if self._store is None:
                self._store = self._given_store or KeyStore(None, server="", now=self._system.unix_s())
            begun = self._store.begin(
                name,
                digest,
                is_idempotent=method.is_idempotent,
                max_response_bytes=method.max_response_bytes,
                now=self._system.unix_s(),
            )
        except StoreError as error:
            _log.error("a call of %s with a key cannot be served: %s", method.full_name, error)
            raise STORE_FAILED.to_error() from error
        if isinstance(begun, Outcome):
            raise begun.to_error()
        return begun

    def _start(
        self,
        name: CallName,
        digest: bytes,
        method: AnyMethod,
        handler: Callable[..., Awaitable[Any]],
        request: Message,
        context: CallContext,
    ) -> _Run:
        # Nothing has been awaited since the store took the call: its run is alive when the next one looks.
        assert self._nursery is not None
        left_s = math.inf if context.deadline is None else context.deadline - self._system.monotonic_s()
        deadline = trio.current_time() + left_s
        run = self._runs[name] = _Run(digest, deadline, trio.CancelScope(deadline=deadline))
        self._nursery.start_soon(self._run, name, run, method, partial(handler, request, context))
        return run

    async def _wait(self, run: _Run) -> None:
        run.callers += 1
        run.scope.deadline = run.deadline
        try:
            await run.over.wait()
        finally:
            run.callers -= 1
            if not run.callers:
                run.scope.deadline = min(run.deadline, trio.current_time() + ALONE_S)

    async def _run(self, name: CallName, run: _Run, method: AnyMethod, handle: Callable[[], Awaitable[Any]]) -> None:
        state: KeyState | None = KeyState.CUT_OFF
        try:
            # An exception inside a scope that is cancelled too may come out as a group with Cancelled, which only the
            # scope takes apart; so the boundary stands outside the scope.
            try:
                with run.scope:
                    run.response = serialized_response(method, await handle())
                if run.response is None:
                    run.outcome = LATE
                else:
                    run.outcome, state = OK, KeyState.DONE
            except Exception as error:  # noqa: BLE001 - the boundary of a remote call's handler: one call fails
                run.outcome = self._outcome_of(error, method)
                state = state_after(run.outcome, may_have_executed=run.outcome.to_error().may_have_executed)
            except BaseExceptionGroup as group:
                # The node ends. What the handler made of it must not come out of the node with it.
                raise outer_part(group) from None
        finally:
            self._end(name, run, state)

    def _end(self, name: CallName, run: _Run, state: KeyState | None) -> None:
        """Keep how a run ended, and let its callers know."""
        assert self._store is not None
        try:
            match state:
                case KeyState.DONE:
                    status = run.outcome.to_proto().SerializeToString()
                    self._store.done(name, status, run.response, now=self._system.unix_s())
                case None:
                    self._store.free(name)
                case _:
                    self._store.cut_off(name, now=self._system.unix_s())
        except StoreError as error:
            _log.error("the end of a call of %s with a key was not kept: %s", name.method, error)
            if state is KeyState.DONE:
                run.outcome, run.response, state = NOT_KEPT, None, KeyState.CUT_OFF
        run.was_cut_off = state is KeyState.CUT_OFF
        del self._runs[name]
        run.over.set()


def _answer(method: AnyMethod, outcome: Outcome, response: bytes | None) -> Message:
    if outcome.status is not StatusCode.OK or response is None:
        raise outcome.to_error()
    message: Message = method.response_type.FromString(response)
    return message
