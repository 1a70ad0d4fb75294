"""A client's sessions with what is on disk of them: each change is written first, then made."""

from __future__ import annotations

from collections.abc import Iterator

from hostmesh.errors import SessionError, UsageError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.client_record import ClientRecord, ClientState
from hostmesh.sessions.client_store import ClientStore
from hostmesh.sessions.opening import BindingBook
from hostmesh.sessions.reasons import GrantFault, Reason
from hostmesh.system import System
from hostmesh.v1 import session_pb2 as pb

_OPEN = (ClientState.PENDING, ClientState.ACTIVE)


class ClientBook:
    """The sessions of one peer key.

    Args:
        store: where they are kept.
        peer_id: whose they are.
        system: the clock.
        bindings: which bindings of hosts are void; None = none.

    Raises:
        StoreError: the store cannot be read.
    """

    def __init__(
        self, store: ClientStore, *, peer_id: PeerId, system: System, bindings: BindingBook | None = None
    ) -> None:
        self.store = store
        self._system = system
        self._records = {record.digest: record for record in store.load(peer_id, system.unix_s())}
        for record in self.open_ones():
            # Those opened later were opened under a binding that holds. What was told while nobody held these counts.
            terms = record.terms
            if bindings is not None and int(bindings.voided_at(terms.operator, record.host)) > terms.issued_at_unix_s:
                self.end(record, ClientState.CLOSED, Reason.BINDING_REVOKED.value)

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self._system.unix_s()

    def __iter__(self) -> Iterator[ClientRecord]:
        return iter(tuple(self._records.values()))

    def open_ones(self) -> list[ClientRecord]:
        """Return the sessions that are PENDING or ACTIVE, the oldest first."""
        now = self.now
        return [record for record in self if record.state_at(now) in _OPEN]

    def find(self, key: bytes) -> ClientRecord | None:
        """Return a session by its id, or by the digest of its authorisation."""
        found = self._records.get(key)
        if found is None and key:
            found = next((record for record in self if record.session_id == key), None)
        return found

    def begin(
        self, digest: bytes, terms: SessionAuthorization, signature: bytes, delegation: pb.Delegation | None
    ) -> ClientRecord:
        """Note a session before its authorisation is sent. It is on disk when this returns.

        Raises:
            BudgetExceededError: the budget does not cover its limit.
            SessionError: TOO_MANY_SESSIONS.
            StoreError: it could not be written. Nothing was changed in any case.
        """
        now = self.now
        record = ClientRecord(
            digest=digest,
            terms=terms,
            signature=signature,
            delegation=delegation,
            state=ClientState.PENDING,
            expires_at_unix_s=terms.expires_at_unix_s,
        )
        self.store.add_pending(record, now)
        # What ended is on disk for its last payments; in memory its Session holds it.
        self._records = {key: one for key, one in self._records.items() if one.state_at(now) in _OPEN}
        self._records[digest] = record
        return record

    def activate(self, record: ClientRecord, grant: pb.SessionGrant, envelope: bytes) -> None:
        """Note what the host granted.

        Raises:
            SessionError: it was ended meanwhile, since the host's binding was revoked for one; or GRANT_REPEATED:
                another session of this client has its id.
            StoreError: it could not be written; the session stays as it was, and can be resumed.
        """
        if record.state is ClientState.CLOSED:
            raise SessionError(
                "the session was ended while it was opened",
                reason=record.end_reason or Reason.SESSION_CLOSED.value,
                remedy="choose another host",
            )
        if self.store.has_session(grant.session_id, but=record.digest):
            self.end(record, ClientState.CLOSED, GrantFault.GRANT_REPEATED.value)
            raise SessionError(
                "the host gave the session the id of another one",
                reason=GrantFault.GRANT_REPEATED.value,
                remedy="choose another host",
            )
        self.store.activate(
            record.digest,
            session_id=grant.session_id,
            grant=envelope,
            expires_at_unix_s=grant.expires_at_unix_s,
        )
        record.state = ClientState.ACTIVE
        record.session_id, record.grant = grant.session_id, envelope
        record.expires_at_unix_s = grant.expires_at_unix_s

    def end(self, record: ClientRecord, state: ClientState, end_reason: str = "") -> None:
        """Note that a session is CLOSING or CLOSED. One that is CLOSED stays so, with its first reason.

        Raises:
            StoreError: it could not be written. The session has ended here all the same.
        """
        if record.state is ClientState.CLOSED:
            return
        record.state, record.end_reason = state, record.end_reason or end_reason
        self.store.end(record.digest, state, record.end_reason)

    def forget(self, record: ClientRecord) -> None:
        """Forget a session that the host refused: it never was.

        Raises:
            StoreError: it could not be written; it takes its part of the budget until it expires.
        """
        self._records.pop(record.digest, None)
        record.state = ClientState.CLOSED
        self.store.forget(record.digest)

    def charge(self, record: ClientRecord, amount_micros: int) -> None:
        """Note that this client is about to acknowledge so much more. It is on disk when this returns.

        Raises:
            SessionError: SPENDING_LIMIT: more than the session's limit.
            BudgetExceededError: the session has ended, and the budget leaves too little.
            StoreError: it could not be written. Nothing was changed in any case.
            UsageError: no whole number of micro-units, 0 or more.
        """
        if type(amount_micros) is not int or amount_micros < 0:
            raise UsageError("an amount of money is a whole number of micro-units, 0 or more")
        left = record.terms.spending_limit_micros - record.spent_micros
        if amount_micros > left:
            raise SessionError(
                f"{amount_micros} micro-{record.terms.currency} are asked for and the session has {left} left",
                reason=Reason.SPENDING_LIMIT.value,
                remedy="do not acknowledge it: the host asks for more than was authorised",
            )
        self.store.charge(record, amount_micros, self.now)
        record.spent_micros += amount_micros
