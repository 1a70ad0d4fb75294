"""Whom a search probes next. Pure.

The best promise comes first. A promise is only the host's word, so those come after all others who broke theirs a short
while ago, and the rest of an operator or a neighbourhood of which enough was asked in vain: neither liars nor one
owner's many machines use up the attempts of a search.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable

from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.subnet import subnets_of
from hostmesh.net.peer_id import PeerId

Negated = tuple[int, ...]
"""A promise with each number negated: the smallest is the best."""


class ProbeOrder:
    """The hosts that wait for a probe.

    Args:
        share: how many hosts of one wallet, or of one IPv4 /24 or IPv6 /48, are asked in vain until the others of it
            come last.
    """

    def __init__(self, *, share: int) -> None:
        self._share = share
        self._first: list[tuple[Negated, PeerId]] = []
        self._last: list[tuple[Negated, PeerId]] = []
        self._infos: dict[PeerId, HostInfo] = {}
        self._in_vain: Counter[str] = Counter()
        self._spent: set[str] = set()

    def add(self, info: HostInfo, promise: Negated, *, is_last: bool) -> None:
        """Let a host wait; once more with another promise is no harm.

        Args:
            info: its record.
            promise: what it may come to.
            is_last: it comes after those that are not.
        """
        self._infos[info.peer_id] = info
        heapq.heappush(self._last if is_last else self._first, (promise, info.peer_id))

    def next(
        self,
        *,
        is_done: Callable[[PeerId], bool],
        is_hopeless: Callable[[Negated], bool],
        with_last: bool = True,
    ) -> PeerId | None:
        """Return whose turn it is, without taking it; None: nobody waits of whom anything is hoped.

        Args:
            is_done: whether a host was probed, or is now; it is dropped.
            is_hopeless: whether a probe is in vain with that promise, and with any that is not better.
            with_last: take those who come last, too, where there is nobody else.
        """
        for heap in (self._first, self._last) if with_last else (self._first,):
            while heap and not is_hopeless(heap[0][0]):
                peer_id = heap[0][1]
                if is_done(peer_id):
                    heapq.heappop(heap)
                elif heap is self._first and self._is_spent(peer_id):
                    heapq.heappush(self._last, heapq.heappop(heap))
                else:
                    return peer_id
        return None

    def note_in_vain(self, info: HostInfo, address: str) -> None:
        """Note that a host was asked and does not fit.

        Args:
            info: its record.
            address: where it was reached; empty = it was not: what it claims shall not count against whoever is there.
        """
        for owner in (info.operator_address, *(subnets_of((address,)) if address else ())):
            self._in_vain[owner] += 1
            if self._in_vain[owner] >= self._share:
                self._spent.add(owner)

    def put_last(self, owners: Iterable[str]) -> None:
        """Let hosts of these wallets and networks come last: enough of them fit."""
        self._spent.update(owners)

    def _is_spent(self, peer_id: PeerId) -> bool:
        if not self._spent:
            return False
        info = self._infos[peer_id]
        return info.operator_address in self._spent or not self._spent.isdisjoint(subnets_of(info.addresses))
