"""One session of a host: whose, under which terms, where it stands and what is owed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.reasons import Reason


class SessionState(Enum):
    """Where a session stands."""

    ACTIVE = "active"
    CLOSING = "closing"
    """The client closed it; work that was begun goes on."""
    CLOSED = "closed"
    EXPIRED = "expired"


@dataclass(slots=True)
class RunningWork:
    """One piece of work that was begun."""

    reserved_micros: int
    """What it may still cost."""
    cost_micros: int = 0
    """What it did cost so far; part of the session's spent."""


@dataclass(slots=True, kw_only=True, eq=False)
class SessionRecord:
    """One session. Only :class:`hostmesh.sessions.table.SessionTable` changes it."""

    session_id: bytes
    peer_id: PeerId
    terms: SessionAuthorization
    signature: bytes
    signer: bytes
    """Who countersigns for the client: its wallet, or the session key that it delegated to; 20 bytes."""
    grant: bytes
    """The signed envelope, as it was sent."""
    network_key: str | None
    last_used_unix_s: float
    expires_at_unix_s: int
    """The earliest of what limits it: the authorisation's end, the delegation's."""
    delegation: bytes = b""
    """The ``Delegation`` message under which a session key signed, serialised; empty: the client's wallet did."""
    end_reason: Reason | None = None
    """What ended it before its time: SESSION_CLOSED when its client did."""
    expired: bool = False
    spent_micros: int = 0
    work: dict[int, RunningWork] = field(default_factory=dict)
    """By reservation."""

    @property
    def state(self) -> SessionState:
        """Where it stood when the table last looked."""
        if self.expired:
            return SessionState.EXPIRED
        if self.end_reason is not None:
            return SessionState.CLOSING if self.work else SessionState.CLOSED
        return SessionState.ACTIVE

    @property
    def is_going_on(self) -> bool:
        """Whether it may still come to cost: it is open, or work that was begun runs."""
        return bool(self.work) or self.state is SessionState.ACTIVE

    @property
    def reserved_micros(self) -> int:
        """What work in progress may still cost."""
        return sum(work.reserved_micros for work in self.work.values())

    @property
    def remaining_micros(self) -> int:
        """What is neither spent nor reserved."""
        return self.terms.spending_limit_micros - self.spent_micros - self.reserved_micros

    @property
    def open_micros(self) -> int:
        """What it may still come to cost, beyond what is spent."""
        if self.state is SessionState.ACTIVE:
            return self.terms.spending_limit_micros - self.spent_micros
        return self.reserved_micros
