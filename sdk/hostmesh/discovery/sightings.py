"""Since when this client has seen hosts answering: the only uptime that no host can make up. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hostmesh.net.peer_id import PeerId

MAX_SIGHTED = 4096
"""Hosts that are remembered; the one that answered longest ago goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """An unbroken row of answers of one host."""

    first_s: float
    """When the first came, on the caller's monotonic clock."""
    last_s: float
    last_unix_s: float
    answers: int


class Sightings:
    """Rows of answers by host. One question without an answer ends the row, whoever's fault it was.

    What a row says is that the host answered each time that it was asked, not that it was up in between.

    Args:
        max_hosts: most hosts remembered, >= 1.
    """

    def __init__(self, *, max_hosts: int = MAX_SIGHTED) -> None:
        if max_hosts < 1:
            raise ValueError("at least one host is remembered")
        self._max_hosts = max_hosts
        self._rows: OrderedDict[PeerId, Sighting] = OrderedDict()

    def __len__(self) -> int:
        """Return how many hosts are remembered."""
        return len(self._rows)

    def of(self, peer_id: PeerId) -> Sighting | None:
        """Return the row of a host; None = its last question went unanswered, or it was never asked."""
        return self._rows.get(peer_id)

    def answered(self, peer_id: PeerId, *, now_s: float, unix_s: float) -> None:
        """Note that a host answered just now."""
        row = self._rows.pop(peer_id, None)
        first_s = now_s if row is None else row.first_s
        answers = 1 if row is None else row.answers + 1
        self._rows[peer_id] = Sighting(first_s=first_s, last_s=now_s, last_unix_s=unix_s, answers=answers)
        while len(self._rows) > self._max_hosts:
            self._rows.popitem(last=False)

    def silent(self, peer_id: PeerId) -> None:
        """Note that a host did not answer."""
        self._rows.pop(peer_id, None)
