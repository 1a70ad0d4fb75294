"""The calls of a server: how many there are, which ones a handler is at work on, and how they end."""

from __future__ import annotations

import logging

from hostmesh.errors import ConnectionLostError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.limits import LimitTable, RpcLimits
from hostmesh.rpc.method import AnyMethod
from hostmesh.rpc.outcome import INTERNAL, OK, Outcome, outcome_of_error, sole_error
from hostmesh.rpc.routes import Route, RpcCounters
from hostmesh.rpc.sender import MessageSender
from hostmesh.system import System

_log = logging.getLogger("hostmesh.rpc")


class CallBook:
    """What a server keeps of its calls.

    Args:
        system: its monotonic clock drives limits and deadlines.
        limits: per peer and per service.
    """

    def __init__(self, system: System, limits: RpcLimits) -> None:
        self.system = system
        self.limits = limits
        self.table = LimitTable(limits)
        """Who has how many calls."""
        self.counters = RpcCounters()
        self.handled: dict[Stream, MessageSender | None] = {}
        """Of the calls that a handler is at work on; with what sends its responses, where these are a stream."""

    async def send_last(self, stream: Stream, last: bytes) -> bool:
        """Send the last frame and end the stream's own side. Returns whether it was sent."""
        try:
            if not stream.send_nowait(last, end=True):
                await stream.send(last, end=True)
        except ConnectionLostError:
            return False
        return True

    def count(self, route: Route, outcome: Outcome, peer_id: PeerId, *, was_answered: bool) -> None:
        """Count a call that was handled, and has ended."""
        if not was_answered:
            self.counters.abandoned[route.method.full_name] += 1
        elif outcome is OK:
            self.counters.calls[route.counted_ok] += 1
        else:
            name = route.method.full_name
            self.counters.calls[name, outcome.status.name] += 1
            _log.debug("%s for %s: %s %s", name, peer_id, outcome.status.name, outcome.reason)

    def outcome_of(self, error: Exception, method: AnyMethod) -> Outcome:
        """Return how a call ends whose handler raised that; what is no answer is logged, and not told."""
        inner = sole_error(error)
        outcome = outcome_of_error(inner) if isinstance(inner, Exception) else None
        if outcome is None:
            self.counters.handler_failures[method.full_name] += 1
            _log.error("the handler of %s failed", method.full_name, exc_info=inner)
            return INTERNAL
        return outcome
