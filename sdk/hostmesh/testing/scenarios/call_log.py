"""The calls that one client makes, with their times: what its finds are taken apart by, without asking the client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from hostmesh.errors import StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.interceptors import OutgoingCall

_PROBE_CALLS = frozenset({"Ping", "GetSnapshot", "RequestQuote"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call that ended."""

    peer_id: PeerId
    method: str
    began_s: float
    """Seconds of the simulation; the dial is part of the call."""
    ended_s: float
    is_ok: bool


class CallLog:
    """A client's interceptor that writes down every call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        """In the order in which they ended."""

    @asynccontextmanager
    async def intercept(self, call: OutgoingCall) -> AsyncIterator[None]:
        """Stand around a call."""
        began_s = trio.current_time()
        try:
            yield
        finally:
            # What its caller left has no status yet.
            is_ok = call.status is StatusCode.OK
            self.calls.append(Call(call.peer_id, call.method.name, began_s, trio.current_time(), is_ok))

    def records(self, began_s: float, ended_s: float) -> list[Call]:
        """Return the calls between two times that brought a host's own record."""
        return [call for call in self._within(began_s, ended_s) if call.method == "GetRecord" and call.is_ok]

    def accepted_probes(self, began_s: float, ended_s: float) -> dict[PeerId, tuple[float, float]]:
        """Return when each probe between two times began and ended, of those that nothing cut short."""
        spans: dict[PeerId, tuple[float, float]] = {}
        failed = set()
        for call in self._within(began_s, ended_s):
            if call.method in _PROBE_CALLS:
                began, ended = spans.get(call.peer_id, (call.began_s, call.ended_s))
                spans[call.peer_id] = min(began, call.began_s), max(ended, call.ended_s)
                if not call.is_ok:
                    failed.add(call.peer_id)
        return {peer_id: span for peer_id, span in spans.items() if peer_id not in failed}

    def _within(self, began_s: float, ended_s: float) -> list[Call]:
        return [call for call in self.calls if began_s <= call.began_s and call.ended_s <= ended_s]
