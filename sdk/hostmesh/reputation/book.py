"""This client's book of evidence, from which reputation is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.decay import day_of
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.foreign import Review, Reviews
from hostmesh.reputation.names import NO_OPERATOR, HostName, host_name
from hostmesh.reputation.reputations import Explanation, Reputations
from hostmesh.reputation.score import Reputation
from hostmesh.reputation.store import EvidenceStore
from hostmesh.reputation.tally import HostEvidence
from hostmesh.system import System


class ReputationBook:
    """Keeps what this client lived through with hosts, by peer id and operator, across restarts.

    ``operator_address`` is everywhere the wallet that answers for the host, ``0x`` and lower case; empty = of the key
    alone, where its wallet was not known, to which only what speaks against it can be held.

    Only what the host caused belongs in it: a finished job, a broken promise, an answer that breaks the protocol.
    ``BUSY``, ``DRAINING``, the caller's own cancellation and network do not; the caller decides.

    Args:
        path: the database file; None = in memory, gone with the process.
        system: the clock; evidence decays by it, in whole days.
        max_hosts: most hosts remembered.

    Raises:
        StoreError: the file cannot be used, or a newer hostmesh wrote it.
    """

    def __init__(self, path: Path | None = None, *, system: System | None = None, max_hosts: int = 10_000) -> None:
        self._system = system or System()
        self._store = EvidenceStore(path, max_hosts=max_hosts)
        self._max_hosts = max_hosts
        self._evidence: dict[HostName, HostEvidence] = {}
        self._reviews = Reviews()
        self._version: int | None = None
        self._snapshot: Reputations | None = None
        self._day = 0

    def record_outcome(self, peer_id: PeerId, operator_address: str, *, good: bool) -> Reputation:
        """Count one job that the host finished, or failed by its own fault; return the reputation that follows.

        Raises:
            ValueError: no address of a wallet, or none for what speaks for the host.
            StoreError: it could not be written; nothing was counted.

        Cost: one commit to the local disk, about 0.2 ms.
        """
        kind = EvidenceKind.JOB_FINISHED if good else EvidenceKind.JOB_FAILED
        return self.record(peer_id, operator_address, Evidence(kind=kind))

    def record(self, peer_id: PeerId, operator_address: str, evidence: Evidence) -> Reputation:
        """Take in one piece of evidence and return the reputation that follows. Raises and costs as record_outcome."""
        name = host_name(peer_id, operator_address)
        if name.operator == NO_OPERATOR and evidence.kind.is_good:
            raise ValueError("nothing speaks for a key without a wallet: whose copy of it would that be?")
        self._store.add(name, evidence, now=self._system.unix_s())
        if name in self._evidence or len(self._evidence) < self._max_hosts:
            # A snapshot that somebody holds stays as it is.
            self._evidence = {**self._evidence, name: self._store.of(name)}
            self._snapshot = None
        else:
            self._version = None  # it pushed another host out
        return self.of(peer_id, operator_address)

    def record_review(self, review: Review) -> bool:
        """Take in what another client's receipts say of a host, in place of what they said before.

        The caller has verified every receipt, signed by both sides, and that it was given to be shared.

        Returns:
            Whether it was kept: an operator's word on its own host is not.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        if review.is_of_own_host:
            return False
        self._store.put_review(replace(review, at_unix_s=min(review.at_unix_s, self._system.unix_s())))
        self._version = None
        return True

    def review_of(self, reviewer: str, peer_id: PeerId, operator_address: str) -> Review | None:
        """Return what a reviewer is remembered to say of a host, or None. Raises ValueError, StoreError."""
        name = host_name(peer_id, operator_address)
        self.snapshot()
        return next(self._reviews.by(reviewer, (name,)), None)

    def of(self, peer_id: PeerId, operator_address: str) -> Reputation:
        """Return a host's reputation; 100 points with n=0 for one never used. Raises StoreError."""
        return self.snapshot().of(peer_id, operator_address)

    def explain(self, peer_id: PeerId, operator_address: str) -> Explanation:
        """Return what a host's reputation is made of. Raises ValueError, StoreError."""
        name = host_name(peer_id, operator_address)
        return self.snapshot().explain(name, self._store.reasons(name))

    def names(self, peer_id: PeerId) -> tuple[HostName, ...]:
        """Return the names of a key about which there is evidence, or the word of others. Raises StoreError."""
        return self.snapshot().names(peer_id)

    def knows(self, peer_id: PeerId) -> bool:
        """Tell whether there is evidence about a key, under whatever wallet. Raises StoreError."""
        return self.snapshot().knows(peer_id)

    def hosts(self) -> tuple[HostName, ...]:
        """Return the hosts about which there is evidence, by peer id and operator. Raises StoreError."""
        self.snapshot()
        return tuple(sorted(self._evidence))

    def snapshot(self) -> Reputations:
        """Return the reputation of every host as it is now. Raises StoreError.

        Cost: microseconds, and 2 ms for the first look after a piece of evidence, with 10,000 hosts; after another
        process has written, or a review came, everything is read once: some 60 ms of CPU with 10,000 hosts, 120 with
        16,384 reviews besides.
        """
        version, today = self._store.version(), day_of(self._system.unix_s())
        if version != self._version:
            self._evidence, self._reviews = self._store.all(), Reviews(self._store.reviews())
            self._version, self._snapshot = version, None
        if self._snapshot is None or self._day != today:
            self._snapshot, self._day = Reputations(self._evidence, self._reviews, today), today
        return self._snapshot

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()
