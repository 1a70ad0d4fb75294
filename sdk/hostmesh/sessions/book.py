"""The sessions of a host with what is on disk of them: each change is written first, then made.

Work in progress is an exception where it must be: what it came to cost was computed already, so it is counted even
where the disk is full. Then no new work begins before that amount is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from hostmesh.errors import StoreError
from hostmesh.identity.structs import NO_DIGEST, SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.delegation import HeldDelegation
from hostmesh.sessions.delegation_table import (
    DelegationLimits,
    DelegationTable,
    UnseenRevocation,
    new_account,
)
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.sessions.record import SessionRecord, SessionState
from hostmesh.sessions.store import SessionStore
from hostmesh.sessions.table import SessionLimits, SessionTable

logger = logging.getLogger("hostmesh.sessions")

_Count = Callable[[SessionRecord, int, int], int]


def _unavailable(error: StoreError) -> RefusedError:
    # The error's own text tells of paths.
    logger.warning("sessions cannot be kept: %s", error.message, extra={"error_code": error.code})
    return RefusedError(Reason.SESSIONS_UNAVAILABLE, "this host cannot keep sessions now", retry_after_s=60.0)


class SessionBook:
    """Sessions and delegations of a host, kept.

    Args:
        store: where.
        limits: of sessions.
        delegations: limits of delegations.
        now: unix seconds.

    Raises:
        StoreError: the store cannot be read.
    """

    def __init__(
        self, store: SessionStore, *, limits: SessionLimits, delegations: DelegationLimits, now: float
    ) -> None:
        self._store = store
        self.table = SessionTable(limits)
        """For reading; changes go through the book."""
        self.delegations = DelegationTable(delegations)
        """For reading, likewise."""
        self._unsaved: set[SessionRecord] = set()
        """Sessions in which more was spent than the disk could be told."""
        saved = store.load(now)
        for account in saved.accounts:
            self.delegations.restore(account)
        for unseen in saved.unseen:
            self.delegations.keep_unseen(unseen)
        for nonce, expires_at_unix_s in saved.burnt.items():
            self.table.burn(nonce, expires_at_unix_s)
        for record in saved.sessions:
            self.table.restore(record)
            found = self.delegations.account(record.terms.delegation_digest)
            if found is not None:
                found.sessions.add(record)

    def check_room(
        self,
        terms: SessionAuthorization,
        held: HeldDelegation | None,
        peer_id: PeerId,
        now: float,
        network_key: str | None,
    ) -> None:
        """Check that one more session fits, and fits under its delegation.

        Raises:
            RefusedError: TOO_MANY_SESSIONS, DELEGATION_REVOKED, DELEGATION_CAP or TOO_MANY_DELEGATIONS.
        """
        if held is not None:
            self.delegations.check(held, terms.spending_limit_micros, peer_id, now, network_key)
        self.table.check_room(peer_id, now, network_key)

    def open(
        self,
        terms: SessionAuthorization,
        signature: bytes,
        held: HeldDelegation | None,
        *,
        session_id: bytes,
        peer_id: PeerId,
        grant: bytes,
        now: float,
        network_key: str | None,
    ) -> SessionRecord:
        """Open a session whose authorisation was verified. It is on disk when this returns.

        Raises:
            RefusedError: as :meth:`check_room`, or SESSIONS_UNAVAILABLE; nothing was changed.
        """
        account = forgotten = None
        delegation = b""
        signer, expires_at_unix_s = terms.client, terms.expires_at_unix_s
        if held is not None:
            signer = held.struct.delegate
            delegation = held.serialized
            expires_at_unix_s = min(expires_at_unix_s, held.struct.expires_at_unix_s)
            forgotten = self.delegations.check(held, terms.spending_limit_micros, peer_id, now, network_key)
            account = new_account(held, peer_id, network_key)
        evicted = self.table.check_room(peer_id, now, network_key)
        try:
            self._store.open_session(
                session_id=session_id,
                authorization=message_from_terms(terms, signature),
                signer=signer,
                grant=grant,
                delegation=delegation,
                network_key=network_key,
                expires_at_unix_s=expires_at_unix_s,
                account=account,
                evicted=evicted,
                forgotten=forgotten,
                now=now,
            )
        except StoreError as error:
            raise _unavailable(error) from error
        record = self.table.open(
            terms,
            signature,
            session_id=session_id,
            peer_id=peer_id,
            grant=grant,
            now=now,
            network_key=network_key,
            expires_at_unix_s=expires_at_unix_s,
            signer=signer,
            delegation=delegation,
        )
        if held is not None:
            self.delegations.open(held, record, now)
        return record

    def close(self, session_id: bytes, peer_id: PeerId, now: float) -> None:
        """Close a session for its client. Closing twice is closing once.

        Raises:
            RefusedError: UNKNOWN_SESSION, SESSION_OF_ANOTHER_PEER or SESSIONS_UNAVAILABLE; nothing was changed.
        """
        record = self.table.find(session_id, peer_id, now)
        self.end([record], Reason.SESSION_CLOSED)

    def end(self, records: Iterable[SessionRecord], reason: Reason) -> int:
        """End sessions; work that was begun goes on.

        Returns:
            How many were open.

        Raises:
            RefusedError: SESSIONS_UNAVAILABLE; nothing was changed.
        """
        return self._end(records, reason, revoked=None)

    def revoke(self, digest: bytes) -> int:
        """Mark a delegation that is in use as revoked, and end its sessions.

        Returns:
            How many were open.

        Raises:
            RefusedError: SESSIONS_UNAVAILABLE; nothing was changed.
        """
        account = self.delegations.account(digest)
        assert account is not None
        ended = self._end(account.sessions, Reason.DELEGATION_REVOKED, revoked=digest)
        account.is_revoked = True
        return ended

    def keep_unseen(self, unseen: UnseenRevocation) -> None:
        """Remember the revocation of a delegation that never came here.

        Raises:
            RefusedError: SESSIONS_UNAVAILABLE; nothing was changed.
        """
        try:
            self._store.keep_unseen(unseen)
        except StoreError as error:
            raise _unavailable(error) from error
        self.delegations.keep_unseen(unseen)

    def _end(self, records: Iterable[SessionRecord], reason: Reason, *, revoked: bytes | None) -> int:
        open_ones = [record for record in records if record.state is SessionState.ACTIVE]
        if not open_ones and revoked is None:
            return 0
        try:
            self._store.end_sessions(open_ones, reason, revoked=revoked)
        except StoreError as error:
            raise _unavailable(error) from error
        for record in open_ones:
            self.table.end(record, reason)
        return len(open_ones)

    def reserve(self, record: SessionRecord, amount_micros: int) -> int:
        """Set aside the most that a piece of work can cost.

        Raises:
            RefusedError: SPENDING_LIMIT, what ended the session, or SESSIONS_UNAVAILABLE: what earlier work cost could
                not be written yet. Nothing was reserved.
        """
        if self._unsaved:
            self._save()
        return self.table.reserve(record, amount_micros)

    def advance(self, record: SessionRecord, reservation: int, cost_micros: int) -> int:
        """Count what work in progress came to cost since its start. It is on disk when this returns.

        Raises:
            RefusedError: SESSIONS_UNAVAILABLE; it is counted, but was not written.
        """
        owed = self._spend(record, self.table.advance, reservation, cost_micros)
        if self._unsaved:
            self._save()
        return owed

    def settle(self, record: SessionRecord, reservation: int, cost_micros: int) -> int:
        """Turn a reservation into what the work did cost; see :meth:`hostmesh.sessions.table.SessionTable.settle`.

        What cannot be written now is written before the next work begins.
        """
        owed = self._spend(record, self.table.settle, reservation, cost_micros)
        if self._unsaved:
            try:
                self._save()
            except RefusedError as error:
                logger.warning("what a session came to cost is not on disk yet", extra={"reason": error.reason})
        return owed

    def release(self, record: SessionRecord, reservation: int) -> None:
        """Give back what is left of a reservation."""
        self.table.release(record, reservation)

    def _spend(self, record: SessionRecord, count: _Count, reservation: int, cost_micros: int) -> int:
        before = record.spent_micros
        owed = count(record, reservation, cost_micros)
        if record.spent_micros != before:
            self._unsaved.add(record)
            if record.terms.delegation_digest != NO_DIGEST:
                self.delegations.spend(record.terms.delegation_digest, record.spent_micros - before)
        return owed

    def _save(self) -> None:
        records = list(self._unsaved)
        accounts = {
            account.digest: account
            for record in records
            if (account := self.delegations.account(record.terms.delegation_digest)) is not None
        }
        try:
            self._store.save_spent(records, list(accounts.values()))
        except StoreError as error:
            raise _unavailable(error) from error
        self._unsaved.clear()
