"""Handlers that are not called straight away: calls with an idempotency key, or with interceptors around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from hostmesh.errors import HostmeshError, StatusCode
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.interceptors import IncomingCall, intercepted, swallowed
from hostmesh.rpc.keyed import KeyedCalls
from hostmesh.rpc.keys import NOT_UNARY
from hostmesh.rpc.method import AnyMethod
from hostmesh.rpc.outcome import OK, status_for_server
from hostmesh.rpc.routes import Route
from hostmesh.rpc.served_call import encode_last
from hostmesh.system import System


class GuardedHandlers:
    """Calls such handlers.

    Args:
        keyed: knows the keys.
        system: the clock of deadlines.
    """

    def __init__(self, keyed: KeyedCalls, system: System) -> None:
        self._keyed = keyed
        self._system = system

    async def handle(
        self, route: Route, context: CallContext, arguments: tuple[Any, ...], scope: trio.CancelScope
    ) -> Any:
        """Call the handler of a call.

        Args:
            route: of its method.
            context: of the call.
            arguments: of the handler.
            scope: is cancelled once the caller has left, or its time is up.

        Returns:
            What it gave; the last frame where there are interceptors.
        """
        handle: Callable[[], Awaitable[Any]] = partial(route.handler, *arguments)
        if context.idempotency_key:
            if not route.method.is_unary:
                raise NOT_UNARY.to_error()
            request, _ = arguments
            handle = partial(self._keyed.call, route.method, route.handler, request, context)
        if not route.interceptors:
            return await handle()
        return await self._intercepted(route, IncomingCall(context=context, method=route.method), handle, scope)

    async def _intercepted(
        self,
        route: Route,
        call: IncomingCall,
        handle: Callable[[], Awaitable[Any]],
        scope: trio.CancelScope,
    ) -> bytes:
        def ending(error: BaseException | None) -> StatusCode:
            status = status_for_server(error)
            if status is StatusCode.OK or not (status is StatusCode.CANCELLED or scope.cancel_called):
                return status
            # Whatever a handler makes of it: the caller has left, or its time is up.
            deadline = call.context.deadline
            is_late = deadline is not None and self._system.monotonic_s() >= deadline
            return StatusCode.DEADLINE_EXCEEDED if is_late else StatusCode.CANCELLED

        has_run = False
        try:
            async with intercepted(route.interceptors, call, ending):
                response = await handle()
                has_run = True
                # Here, so that the interceptors know of a response that cannot be sent.
                return good_end(route.method, response)
            raise swallowed(route.method)
        except HostmeshError as error:
            # An interceptor's own, when it was left: no caller may be told that nothing ran.
            error.may_have_executed = has_run or error.may_have_executed
            raise


def good_end(method: AnyMethod, response: Any) -> bytes:
    """Return the last frame of a call whose handler gave this; those of a stream were sent before."""
    return encode_last(method, OK, None if method.gives_stream else response)
