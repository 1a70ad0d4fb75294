"""The sessions of a host and what is owed in each. Pure; ``now`` is unix seconds.

States: ACTIVE, until the client closes it (CLOSING while work that was begun goes on, then CLOSED) or its time is over
(EXPIRED). No new work begins outside ACTIVE; work that was begun may end and be paid for.

Money: ``spent + reserved <= spending limit`` holds after every call. Work reserves the most it can cost before it
begins, so that parallel jobs cannot owe more than the limit together.

Bounds: sessions per peer, per network and in total. When the total is reached, sessions go that ended, then the one
that has been idle longest if that is ten minutes or more and nothing of it is running; else the newcomer is refused.
A session that ended is kept while its authorisation still holds, so that a second use of it is known as a replay.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from hostmesh.errors import ConfigError, UsageError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.grant import SESSION_ID_BYTES
from hostmesh.sessions.reasons import Reason, RefusedError


class SessionState(Enum):
    """Where a session stands."""

    ACTIVE = "active"
    CLOSING = "closing"
    """The client closed it; work that was begun goes on."""
    CLOSED = "closed"
    EXPIRED = "expired"


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

    def __post_init__(self) -> None:
        if min(self.per_peer, self.per_network, self.total, self.reservations) < 1 or self.idle_s <= 0:
            raise ConfigError("session limits are 1 or more", name="session_limits", source="argument")


@dataclass(slots=True, kw_only=True, eq=False)
class SessionRecord:
    """One session. Only :class:`SessionTable` changes it."""

    session_id: bytes
    peer_id: PeerId
    terms: SessionAuthorization
    signature: bytes
    grant: bytes
    """The signed envelope, as it was sent."""
    network_key: str | None
    last_used_unix_s: float
    closed: bool = False
    expired: bool = False
    spent_micros: int = 0
    reserved: dict[int, int] = field(default_factory=dict)
    """Micro-units by reservation."""

    @property
    def state(self) -> SessionState:
        """Where it stood when the table last looked."""
        if self.expired:
            return SessionState.EXPIRED
        if self.closed:
            return SessionState.CLOSING if self.reserved else SessionState.CLOSED
        return SessionState.ACTIVE

    @property
    def reserved_micros(self) -> int:
        """What work in progress may still cost."""
        return sum(self.reserved.values())

    @property
    def remaining_micros(self) -> int:
        """What is neither spent nor reserved."""
        return self.terms.spending_limit_micros - self.spent_micros - self.reserved_micros


class SessionTable:
    """The sessions of a host."""

    __slots__ = ("_by_id", "_by_nonce", "_limits", "_next_expiry", "_of_network", "_of_peer", "_reservations")

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self._limits = limits or SessionLimits()
        self._by_id: dict[bytes, SessionRecord] = {}
        self._by_nonce: dict[bytes, SessionRecord] = {}
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
        record = self._by_nonce.get(terms.nonce)
        if record is None:
            return None
        same = record.peer_id == peer_id and record.terms == terms and record.signature == signature
        if not same or record.state is not SessionState.ACTIVE:
            raise RefusedError(Reason.REPLAYED, "this challenge was used already")
        return record

    def check_room(self, peer_id: PeerId, now: float, network_key: str | None = None) -> None:
        """Check that one more session fits, or that room can be made for it. No session goes yet.

        Raises:
            RefusedError: TOO_MANY_SESSIONS.
        """
        self.expire(now)
        if self._of_peer[peer_id] >= self._limits.per_peer or (
            network_key is not None and self._of_network[network_key] >= self._limits.per_network
        ):
            raise RefusedError(Reason.TOO_MANY_SESSIONS, "too many sessions are open; close one", retry_after_s=10.0)
        if len(self._by_id) >= self._limits.total and self._victim(now) is None:
            raise RefusedError(Reason.TOO_MANY_SESSIONS, "this host is full of sessions", retry_after_s=60.0)

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
    ) -> SessionRecord:
        """Open a session whose authorisation was verified, making room for it as the bounds allow.

        Raises:
            RefusedError: TOO_MANY_SESSIONS, or REPLAYED when the nonce opened one already.
            UsageError: the id is not 16 bytes or is taken.
        """
        self.check_room(peer_id, now, network_key)
        if terms.nonce in self._by_nonce:
            raise RefusedError(Reason.REPLAYED, "this challenge was used already")
        if len(session_id) != SESSION_ID_BYTES or session_id in self._by_id:
            raise UsageError("a session needs 16 fresh random bytes")
        if len(self._by_id) >= self._limits.total:
            self._make_room(now)
        record = SessionRecord(
            session_id=session_id,
            peer_id=peer_id,
            terms=terms,
            signature=signature,
            grant=grant,
            network_key=network_key,
            last_used_unix_s=now,
        )
        self._by_id[session_id] = record
        self._by_nonce[terms.nonce] = record
        self._of_peer[peer_id] += 1
        if network_key is not None:
            self._of_network[network_key] += 1
        self._next_expiry = min(self._next_expiry, terms.expires_at_unix_s)
        return record

    def use(self, session_id: bytes, peer_id: PeerId, model_id: str, now: float) -> SessionRecord:
        """Return an active session of this peer, for new work on a model.

        Raises:
            RefusedError: NO_SESSION (an empty id), UNKNOWN_SESSION, SESSION_OF_ANOTHER_PEER, SESSION_EXPIRED,
                SESSION_CLOSED or WRONG_MODEL.
        """
        self.expire(now)
        if not session_id:
            raise RefusedError(Reason.NO_SESSION, "this call needs a session")
        record = self._find(session_id, peer_id)
        if record.state is SessionState.EXPIRED:
            raise RefusedError(Reason.SESSION_EXPIRED, "the session has expired; open a new one")
        if record.state is not SessionState.ACTIVE:
            raise RefusedError(Reason.SESSION_CLOSED, "the session was closed; open a new one")
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
        if record.state is SessionState.ACTIVE:
            self._forget_active(record)
            record.closed = True
        return record.state

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
            raise RefusedError(Reason.SESSION_CLOSED, "the session has ended; open a new one")
        if amount_micros > record.remaining_micros or len(record.reserved) >= self._limits.reservations:
            raise RefusedError(
                Reason.SPENDING_LIMIT,
                f"the work can cost {amount_micros} micro-{record.terms.currency}, "
                f"the session has {record.remaining_micros} left",
            )
        self._reservations += 1
        record.reserved[self._reservations] = amount_micros
        return self._reservations

    def settle(self, record: SessionRecord, reservation: int, cost_micros: int) -> int:
        """Turn a reservation into what the work did cost, whatever the session's state.

        Args:
            record: the session.
            reservation: from :meth:`reserve`; settled or released before: nothing happens.
            cost_micros: what the work cost.

        Returns:
            What is owed for it: the cost, but never more than the limit leaves beside what is spent and what other work
            reserved; 0 for a second settling.

        Raises:
            UsageError: a negative cost.
        """
        if cost_micros < 0:
            raise UsageError("an amount of money is 0 or more")
        reserved = record.reserved.pop(reservation, None)
        if reserved is None:
            return 0
        owed = min(cost_micros, record.remaining_micros)
        record.spent_micros += owed
        self._drop_if_over(record)
        return owed

    def release(self, record: SessionRecord, reservation: int) -> None:
        """Give a reservation back: the work costs nothing. Idempotent."""
        record.reserved.pop(reservation, None)
        self._drop_if_over(record)

    def expire(self, now: float) -> None:
        """End the sessions whose time is over. Cost: O(1), or O(sessions) when one ends."""
        if now < self._next_expiry:
            return
        for record in list(self._by_id.values()):
            if record.terms.expires_at_unix_s <= now and not record.expired:
                if record.state is SessionState.ACTIVE:
                    self._forget_active(record)
                record.expired = True
                self._drop_if_over(record)
        self._next_expiry = min(
            (record.terms.expires_at_unix_s for record in self._by_id.values() if not record.expired),
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
        if record.expired and not record.reserved:
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
            if record.reserved:
                continue
            if record.state is not SessionState.ACTIVE:
                return record
            if idle is None or record.last_used_unix_s < idle.last_used_unix_s:
                idle = record
        return None if idle is None or now - idle.last_used_unix_s < self._limits.idle_s else idle

    def _make_room(self, now: float) -> None:
        victim = self._victim(now)
        assert victim is not None  # check_room saw to it
        if victim.state is SessionState.ACTIVE:
            self._forget_active(victim)
        self._drop(victim)
