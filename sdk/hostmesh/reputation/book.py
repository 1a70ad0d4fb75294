"""This client's book of outcomes, from which reputation is computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.score import Reputation
from hostmesh.reputation.store import OutcomeStore
from hostmesh.system import System


class Reputations:
    """The reputations at one moment.

    Args:
        counts: good and bad outcomes by peer id; not changed afterwards.
    """

    def __init__(self, counts: Mapping[str, tuple[int, int]]) -> None:
        self._counts = counts

    def of(self, peer_id: PeerId) -> Reputation:
        """Return a host's reputation; 100 points with n=0 for one never used."""
        good, bad = self._counts.get(peer_id, (0, 0))
        return Reputation(good=good, bad=bad)


class ReputationBook:
    """Counts good and bad outcomes of hosts, by peer id, and keeps them across restarts.

    Only outcomes that the host caused belong in it: a finished job, a broken promise, an answer that breaks the
    protocol. ``BUSY``, ``DRAINING``, the caller's own cancellation and network do not; the caller decides.

    Args:
        path: the database file; None = in memory, gone with the process.
        system: the clock.
        max_hosts: most hosts remembered.

    Raises:
        StoreError: the file cannot be used, or a newer hostmesh wrote it.
    """

    def __init__(self, path: Path | None = None, *, system: System | None = None, max_hosts: int = 10_000) -> None:
        self._system = system or System()
        self._store = OutcomeStore(path, max_hosts=max_hosts)
        self._counts: dict[str, tuple[int, int]] = {}
        self._version: int | None = None

    def record_outcome(self, peer_id: PeerId, *, good: bool) -> Reputation:
        """Count one outcome and return the reputation that follows.

        Raises:
            StoreError: it could not be written; nothing was counted.

        Cost: one commit to the local disk, about 0.1 ms.
        """
        self._store.add(peer_id, good=int(good), bad=int(not good), now=self._system.unix_s())
        self._version = None  # it may have pushed another host out
        return self.of(peer_id)

    def of(self, peer_id: PeerId) -> Reputation:
        """Return a host's reputation; 100 points with n=0 for one never used. Raises StoreError."""
        good, bad = self._store.counts(peer_id)
        return Reputation(good=good, bad=bad)

    def snapshot(self) -> Reputations:
        """Return the reputation of every host as it is now. Raises StoreError.

        Cost: microseconds; after an outcome, of this process or another, all counts are read once, some 10 ms at most.
        """
        version = self._store.version()
        if version != self._version:
            self._counts, self._version = self._store.all_counts(), version
        return Reputations(self._counts)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()
