"""The sessions of a host and what is owed in each. Pure; ``now`` is unix seconds.

States: ACTIVE, until the client closes it or something else ends it (CLOSING while work that was begun goes on, then
CLOSED) or its time is over (EXPIRED). No new work begins outside ACTIVE; work that was begun may end and be paid for.

Money: ``spent + reserved <= spending limit`` holds after every call. Work reserves the most it can cost before it
begins, so that parallel jobs cannot owe more than the limit together.

Bounds: sessions per peer, per network and in total. When the total is reached, sessions go that ended, then the one
that has been idle longest if that is ten minutes or more and nothing of it is running; else the newcomer is refused.
A session that ended is kept while its authorisation still holds, so that a second use of it is known as a replay; of
one that had to go, the nonce is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hostmesh.errors import ConfigError, UsageError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.grant import SESSION_ID_BYTES
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.sessions.record import RunningWork, SessionRecord, SessionState

_ENDED = {
    Reason.SESSION_CLOSED: "the session was closed; open a new one",
    Reason.DELEGATION_REVOKED: "the session's delegation was revoked by its owner",
    Reason.BINDING_REVOKED: "this host's binding was revoked; its sessions have ended",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Bounds of the sessions of a host."""

    per_peer: int = 64
    per_network: int = 1024
    """Of all peers in one /24 (IPv4) or /48 (IPv6)."""
    total: int = 8192
    idle_s: float = 600.0
    """A session unused for so long may go when the table is full."""
    reservations: int = 64
    """Pieces of work begun at once in one session."""
    burnt: int = 65_536
    """Nonces of sessions that had to go. Beyond, the oldest is forgotten; then it is a challenge that is not open."""

    def __post_init__(self) -> None:
        if min(self.per_peer, self.per_network, self.total, self.reservations, self.burnt) < 1 or self.idle_s <= 0:
            raise ConfigError("session limits are 1 or more", name="session_limits", source="argument")


class SessionTable:
    """The sessions of a host."""

    __slots__ = ("_burnt", "_by_id", "_by_nonce", "_limits", "_next_expiry", "_of_network", "_of_peer", "_reservations")

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self._limits = limits or SessionLimits()
        self._by_id: dict[bytes, SessionRecord] = {}
        self._by_nonce: dict[bytes, SessionRecord] = {}
        self._burnt: dict[bytes, int] = {}
        """When the authorisation ends, by its nonce."""
        # Active sessions only: one that ended takes no peer's place.
        self._of_peer: Counter[PeerId] = Counter()
        self._of_network: Counter[str] = Counter()
        self._next_expiry = float("inf")
        self._reservations = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def active_count(self) -> int:
        """Return how many sessions are active."""
        return self._of_peer.total()

    def knows(self, peer_id: PeerId) -> bool:
        """Whether the peer has an active session."""
        return peer_id in self._of_peer

    def repeated(
        self, terms: SessionAuthorization, signature: bytes, peer_id: PeerId, now: float
    ) -> SessionRecord | None:
        """Return the session that this very authorisation opened, for answering a repetition with the same grant.

        Returns:
            None when its nonce opened no session that is remembered.

        Raises:
            RefusedError: REPLAYED: the nonce opened a session, and this is another authorisation, another peer, or the
                session has ended.
        """
        self.expire(now)
        if self._burnt.get(terms.nonce, 0) > now:
            raise RefusedError(Reason.REPLAYED, "this challenge was used already")
        record = self._by_nonce.get(terms.nonce)
        if record is None:
            return None
        same = record.peer_id == peer_id and record.terms == terms and record.signature == signature
        if not same or record.state is not SessionState.ACTIVE:
            raise RefusedError(Reason.REPLAYED, "this challenge was used already")
        return record

    def check_room(self, peer_id: PeerId, now: float, network_key: str | None = None) -> SessionRecord | None:
        """Check that one more session fits, or that room can be made for it. No session goes yet.

        Returns:
            The session that goes should one more be opened now; None = there is room.

        Raises:
            RefusedError: TOO_MANY_SESSIONS.
        """
        self.expire(now)
        if self._of_peer[peer_id] >= self._limits.per_peer or (
            network_key is not None and self._of_network[network_key] >= self._limits.per_network
        ):
            raise RefusedError(Reason.TOO_MANY_SESSIONS, "too many sessions are open; close one", retry_after_s=10.0)
        if len(self._by_id) < self._limits.total:
            return None
        victim = self._victim(now)
        if victim is None:
            raise RefusedError(Reason.TOO_MANY_SESSIONS, "this host is full of sessions", retry_after_s=60.0)
        return victim

    def open(
        self,
        terms: SessionAuthorization,
        signature: bytes,
        *,
        session_id: bytes,
        peer_id: PeerId,
        grant: bytes,
        now: float,
        network_key: str | None = None,
        expires_at_unix_s: int | None = None,
        signer: bytes | None = None,
        delegation: bytes = b"",
    ) -> SessionRecord:
        """Open a session whose authorisation was verified, making room for it as the bounds allow.

        Args:
            terms: what was authorised.
            signature: over it.
            session_id: 16 fresh random bytes.
            peer_id: the only one that may use it.
            grant: as it is sent.
            now: unix seconds.
            network_key: see :func:`hostmesh.sessions.admission.challenge_table.network_key_of`.
            expires_at_unix_s: where it ends before its authorisation does; None = it does not.
            signer: who countersigns; None = the client's wallet.
            delegation: what lets it, serialised.

        Raises:
            RefusedError: TOO_MANY_SESSIONS, or REPLAYED when the nonce opened one already.
            UsageError: the id is not 16 bytes or is taken.
        """
        victim = self.check_room(peer_id, now, network_key)
        if terms.nonce in self._by_nonce:
            raise RefusedError(Reason.REPLAYED, "this challenge was used already")
        if len(session_id) != SESSION_ID_BYTES or session_id in self._by_id:
            raise UsageError("a session needs 16 fresh random bytes")
        if victim is not None:
            self._evict(victim)
        record = SessionRecord(
            session_id=session_id,
            peer_id=peer_id,
            terms=terms,
            signature=signature,
            signer=terms.client if signer is None else signer,
            grant=grant,
            network_key=network_key,
            last_used_unix_s=now,
            expires_at_unix_s=terms.expires_at_unix_s if expires_at_unix_s is None else expires_at_unix_s,
            delegation=delegation,
        )
        self.restore(record)
        return record

    def restore(self, record: SessionRecord) -> None:
        """Take a session back that this host opened before it restarted; the bounds held when it was opened."""
        self._by_id[record.session_id] = record
        self._by_nonce[record.terms.nonce] = record
        if record.state is SessionState.ACTIVE:
            self._of_peer[record.peer_id] += 1
            if record.network_key is not None:
                self._of_network[record.network_key] += 1
        self._next_expiry = min(self._next_expiry, record.expires_at_unix_s)

    def burn(self, nonce: bytes, expires_at_unix_s: int) -> None:
        """Remember that a nonce opened a session, of which nothing else is known."""
        self._burnt[nonce] = expires_at_unix_s
        if len(self._burnt) > self._limits.burnt:
            del self._burnt[next(iter(self._burnt))]

    def use(self, session_id: bytes, peer_id: PeerId, model_id: str, now: float) -> SessionRecord:
        """Return an active session of this peer, for new work on a model.

        Raises:
            RefusedError: NO_SESSION (an empty id), UNKNOWN_SESSION, SESSION_OF_ANOTHER_PEER, SESSION_EXPIRED,
                SESSION_CLOSED (or what else ended it) or WRONG_MODEL.
        """
        self.expire(now)
        if not session_id:
            raise RefusedError(Reason.NO_SESSION, "this call needs a session")
        record = self._find(session_id, peer_id)
        if record.state is SessionState.EXPIRED:
            raise RefusedError(Reason.SESSION_EXPIRED, "the session has expired; open a new one")
        if record.end_reason is not None:
            raise RefusedError(record.end_reason, _ENDED[record.end_reason])
        if record.terms.model_id != model_id:
            raise RefusedError(Reason.WRONG_MODEL, "the session authorises another model")
        record.last_used_unix_s = now
        return record

    def close(self, session_id: bytes, peer_id: PeerId, now: float) -> SessionState:
        """Close a session; work that was begun goes on. Closing twice is closing once.

        Returns:
            CLOSING, CLOSED or EXPIRED.

        Raises:
            RefusedError: UNKNOWN_SESSION or SESSION_OF_ANOTHER_PEER; nothing was changed.
        """
        self.expire(now)
        record = self._find(session_id, peer_id)
        self.end(record, Reason.SESSION_CLOSED)
        return record.state

    def find(self, session_id: bytes, peer_id: PeerId, now: float) -> SessionRecord:
        """Return a session of this peer, in any state.

        Raises:
            RefusedError: UNKNOWN_SESSION or SESSION_OF_ANOTHER_PEER.
        """
        self.expire(now)
        return self._find(session_id, peer_id)

    def active(self) -> list[SessionRecord]:
        """Return the sessions that are active. Cost: linear in all sessions."""
        return [record for record in self._by_id.values() if record.state is SessionState.ACTIVE]

    def end(self, record: SessionRecord, reason: Reason) -> None:
        """End a session before its time; work that was begun goes on. One that has ended keeps its first reason.

        Args:
            record: the session.
            reason: what later uses are answered: SESSION_CLOSED, DELEGATION_REVOKED or BINDING_REVOKED.
        """
        if record.state is SessionState.ACTIVE:
            self._forget_active(record)
            record.end_reason = reason

    def reserve(self, record: SessionRecord, amount_micros: int) -> int:
        """Set aside the most that a piece of work can cost.

        Returns:
            The reservation, for :meth:`settle` or :meth:`release`.

        Raises:
            RefusedError: SPENDING_LIMIT, or SESSION_CLOSED or SESSION_EXPIRED: nothing was reserved.
            UsageError: a negative amount.
        """
        if amount_micros < 0:
            raise UsageError("an amount of money is 0 or more")
        if record.state is not SessionState.ACTIVE:
            raise RefusedError(record.end_reason or Reason.SESSION_EXPIRED, "the session has ended; open a new one")
        if amount_micros > record.remaining_micros or len(record.work) >= self._limits.reservations:
            raise RefusedError(
                Reason.SPENDING_LIMIT,
                f"the work can cost {amount_micros} micro-{record.terms.currency}, "
                f"the session has {record.remaining_micros} left",
            )
        self._reservations += 1
        record.work[self._reservations] = RunningWork(amount_micros)
        return self._reservations

    def advance(self, record: SessionRecord, reservation: int, cost_micros: int) -> int:
        """Count what work in progress came to cost up to now, since its start, whatever the session's state.

        Args:
            record: the session.
            reservation: from :meth:`reserve`; settled or released before: nothing happens.
            cost_micros: since the work's start; never less than before, which would change nothing.

        Returns:
            What is owed for the work: the cost, but never more than the limit leaves; 0 when it is over.

        Raises:
            UsageError: a negative cost.
        """
        if cost_micros < 0:
            raise UsageError("an amount of money is 0 or more")
        work = record.work.get(reservation)
        if work is None:
            return 0
        owed = min(max(0, cost_micros - work.cost_micros), work.reserved_micros + record.remaining_micros)
        work.reserved_micros = max(0, work.reserved_micros - owed)
        work.cost_micros += owed
        record.spent_micros += owed
        return work.cost_micros

    def settle(self, record: SessionRecord, reservation: int, cost_micros: int) -> int:
        """Turn a reservation into what the work did cost, whatever the session's state.

        Args:
            record: the session.
            reservation: from :meth:`reserve`; settled or released before: nothing happens.
            cost_micros: what the work cost, since its start.

        Returns:
            What is owed for it: the cost, but never more than the limit leaves beside what is spent and what other work
            reserved, and never less than :meth:`advance` counted; 0 for a second settling.

        Raises:
            UsageError: a negative cost.
        """
        owed = self.advance(record, reservation, cost_micros)
        self.release(record, reservation)
        return owed

    def release(self, record: SessionRecord, reservation: int) -> None:
        """Give back what is left of a reservation: the work costs nothing more. Idempotent."""
        record.work.pop(reservation, None)
        self._drop_if_over(record)

    def expire(self, now: float) -> None:
        """End the sessions whose time is over. Cost: O(1), or O(sessions) when one ends."""
        if now < self._next_expiry:
            return
        for record in list(self._by_id.values()):
            if record.expires_at_unix_s <= now and not record.expired:
                if record.state is SessionState.ACTIVE:
                    self._forget_active(record)
                record.expired = True
                self._drop_if_over(record)
        self._burnt = {nonce: end for nonce, end in self._burnt.items() if end > now}
        self._next_expiry = min(
            (record.expires_at_unix_s for record in self._by_id.values() if not record.expired),
            default=float("inf"),
        )

    def _find(self, session_id: bytes, peer_id: PeerId) -> SessionRecord:
        record = self._by_id.get(session_id)
        if record is None:
            raise RefusedError(Reason.UNKNOWN_SESSION, "no such session; open a new one")
        if record.peer_id != peer_id:
            raise RefusedError(Reason.SESSION_OF_ANOTHER_PEER, "no such session; open a new one")
        return record

    def _drop_if_over(self, record: SessionRecord) -> None:
        """Drop a session that nobody needs: expired, and no work of it is running."""
        if record.expired and not record.work:
            self._drop(record)

    def _drop(self, record: SessionRecord) -> None:
        self._by_id.pop(record.session_id, None)
        self._by_nonce.pop(record.terms.nonce, None)

    def _forget_active(self, record: SessionRecord) -> None:
        self._of_peer[record.peer_id] -= 1
        if not self._of_peer[record.peer_id]:
            del self._of_peer[record.peer_id]
        if record.network_key is not None:
            self._of_network[record.network_key] -= 1
            if not self._of_network[record.network_key]:
                del self._of_network[record.network_key]

    def _victim(self, now: float) -> SessionRecord | None:
        """Return the session that goes when one more must fit; None when every one is in use."""
        idle: SessionRecord | None = None
        for record in self._by_id.values():
            if record.work:
                continue
            if record.state is not SessionState.ACTIVE:
                return record
            if idle is None or record.last_used_unix_s < idle.last_used_unix_s:
                idle = record
        return None if idle is None or now - idle.last_used_unix_s < self._limits.idle_s else idle

    def _evict(self, victim: SessionRecord) -> None:
        # Whoever still holds it, such as its delegation's account, must not take it for open, nor end it once more.
        self.end(victim, Reason.SESSION_CLOSED)
        self._drop(victim)
        self.burn(victim.terms.nonce, victim.terms.expires_at_unix_s)
