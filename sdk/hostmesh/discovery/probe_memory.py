"""What was measured of hosts a moment ago, with the quotes that were asked for. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from hostmesh.discovery.measurement import Measurement
from hostmesh.discovery.terms import Place, Price
from hostmesh.discovery.view import ProbeResult
from hostmesh.net.peer_id import PeerId

MAX_QUOTES_PER_HOST = 16
"""Models of one host whose quotes are remembered."""

Quoted: TypeAlias = tuple[str, Price] | None
"""A model and what the record names for it: a host that names another price is asked anew. None: no quote."""


@dataclass(slots=True, kw_only=True)
class _Memory:
    """What was measured of one host."""

    began_s: float
    place: Place | None
    """Where the host claimed to be."""
    results: dict[Quoted, ProbeResult] = field(default_factory=dict)
    """By the offer that a quote was asked for; None: without a quote."""


class ProbeMemory:
    """The last measurement of each host.

    Args:
        max_hosts: most hosts remembered, >= 1; the one that was measured longest ago goes first.
    """

    def __init__(self, *, max_hosts: int) -> None:
        self._max_hosts = max_hosts
        self._hosts: OrderedDict[PeerId, _Memory] = OrderedDict()

    def recall(self, peer_id: PeerId, quoted: Quoted, place: Place | None, *, since_s: float) -> ProbeResult | None:
        """Return what was measured from a time on, with the quote wanted, of a host that claimed to be there."""
        memory = self._hosts.get(peer_id)
        if memory is None or memory.place != place or memory.began_s < since_s:
            return None
        return memory.results.get(quoted)

    def last_latency(self, peer_id: PeerId) -> Measurement | None:
        """Return what was measured last of a host that answered, however long ago; None = nothing, or forgotten."""
        memory = self._hosts.get(peer_id)
        results = () if memory is None else memory.results.values()
        return next((result.latency for result in results if result.latency is not None), None)

    def forget(self, peer_id: PeerId) -> None:
        """Know nothing of a host any more."""
        self._hosts.pop(peer_id, None)

    def remember(
        self, peer_id: PeerId, quoted: Quoted, result: ProbeResult, place: Place | None, *, began_s: float
    ) -> None:
        """Keep a measurement that began then, in place of an earlier one."""
        self._hosts.pop(peer_id, None)
        self._hosts[peer_id] = _Memory(began_s=began_s, place=place)
        self.add_quote(peer_id, quoted, result)
        while len(self._hosts) > self._max_hosts:
            self._hosts.popitem(last=False)

    def add_quote(self, peer_id: PeerId, quoted: Quoted, result: ProbeResult) -> None:
        """Keep what is known of a host with a quote that was asked for later; nothing happens if it was forgotten."""
        memory = self._hosts.get(peer_id)
        if memory is None:
            return
        memory.results.setdefault(None, result if quoted is None else replace(result, quote=None, unquoted=None))
        memory.results[quoted] = result
        if len(memory.results) > MAX_QUOTES_PER_HOST + 1:
            del memory.results[next(each for each in memory.results if each is not None)]
