"""The client's side of sessions: opens one on a host that discovery chose, resumes it, and closes it.

Two calls open a session: a challenge, then the wallet's authorisation over it, which is on disk before it is sent.
Nothing of what the host answers is taken on trust: its binding must prove the operator that discovery verified, its
grant must be signed by the peer that was asked, for this authorisation, in this network.

Spec: docs/protocols/session.md.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from hostmesh.errors import (
    MalformedMessageError,
    RpcError,
    SessionError,
    StoreError,
    TransportError,
    UsageError,
)
from hostmesh.identity.delegation import digest_of_delegation, sign_delegation_revocation
from hostmesh.identity.typed_data import typed_digest
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.sessions.admission.work import WorkLimit
from hostmesh.sessions.budget import Budget
from hostmesh.sessions.client_book import ClientBook
from hostmesh.sessions.client_errors import GONE, of_another_wallet, over, session_error
from hostmesh.sessions.client_record import ClientRecord, ClientState
from hostmesh.sessions.client_revocations import RevocationOutcome, RevocationPusher
from hostmesh.sessions.client_store import ClientStore
from hostmesh.sessions.client_terms import ChoiceLike, SessionDraft, SessionWish, draft_terms, owner_of
from hostmesh.sessions.opening import BindingBook, Entry, SessionOpener
from hostmesh.sessions.reasons import Reason
from hostmesh.sessions.session import CLOSE_TIMEOUT_S, Session
from hostmesh.system import System
from hostmesh.v1 import session_pb2 as pb

logger = logging.getLogger("hostmesh.sessions")

DEFAULT_LIFETIME_S = 3600
DEFAULT_WORK = WorkLimit()


class SessionManager:
    """Opens sessions with this client's wallet, or in the name of an owner who delegated to it.

    Args:
        caller: makes the calls.
        wallet: signs authorisations; with a delegation, the session key.
        peer_id: this node's peer id; the only one that may use the sessions.
        network: the network's name.
        system: clocks.
        store: keeps sessions, budgets and revocations; None = in memory. The caller closes it.
        delegation: the owner's word that the wallet may open sessions in its name.
        bindings: knows which bindings of hosts are void; None = whichever holds by itself.

    Raises:
        UsageError: the delegation is to another key, or malformed.
        StoreError: the store cannot be read.
    """

    def __init__(
        self,
        *,
        caller: RpcCaller,
        wallet: Wallet,
        peer_id: PeerId,
        network: str,
        system: System | None = None,
        store: ClientStore | None = None,
        delegation: pb.Delegation | None = None,
        bindings: BindingBook | None = None,
    ) -> None:
        self._caller = caller
        self._wallet = wallet
        self._peer_id = peer_id
        self._network = network
        self._system = system or System()
        self._delegation = delegation
        self._client = wallet.address_bytes
        if delegation is not None:
            self._client = owner_of(delegation, wallet.address_bytes)
        self._store = store or ClientStore(None, network=network)
        self._book = ClientBook(self._store, peer_id=peer_id, system=self._system, bindings=bindings)
        self._opener = SessionOpener(caller, network=network, system=self._system, bindings=bindings)
        self.revocations = RevocationPusher(caller, self._store, self._system)
        """Tells hosts of revocations, also those of earlier runs, until they have them."""

    @property
    def delegation(self) -> pb.Delegation | None:
        """Under which sessions are opened; None = with the wallet's own word."""
        return self._delegation

    # --- opening ---

    @asynccontextmanager
    async def open_session(
        self,
        choice: ChoiceLike,
        *,
        spending_limit_micros: int,
        model_id: str | None = None,
        max_price_micros_per_mtok: int | None = None,
        currency: str | None = None,
        slice_micros: int | None = None,
        lifetime_s: int = DEFAULT_LIFETIME_S,
        deposit_proof: bytes = b"",
        work: WorkLimit = DEFAULT_WORK,
        timeout_s: float = 10.0,
    ) -> AsyncIterator[Session]:
        """Open a session for the life of the block.

        Args:
            choice: the host, as discovery verified it.
            spending_limit_micros: most that the session may cost, micro-units of the currency; 0 only for a free model.
            model_id: the model; None = that of the choice.
            max_price_micros_per_mtok: the price ceiling; None = the price of the choice.
            currency: of both; None = that of the choice's price.
            slice_micros: most that is owed without a countersigned receipt, over all jobs of the session: all that
                either side can lose. 0 only for a free model; None = what 8,192 tokens cost at the host's price, or
                what the host says that it takes, or the limit where that is less.
            lifetime_s: 1 s to one day; a delegation may end the session before.
            deposit_proof: for hosts that demand a deposit, as they describe it; 2,048 bytes at most.
            work: the most work to do for a host that is under attack.
            timeout_s: seconds for opening, the work not counted.

        Yields:
            The session. Leaving the block closes it, within 2 s at most, also when the block is cancelled.

        Raises:
            SessionError: the host refused (``reason`` is a word of :class:`~hostmesh.sessions.reasons.Reason`) or its
                answer proves nothing (a word of :class:`~hostmesh.sessions.reasons.GrantFault`).
            BudgetExceededError: the budget does not cover the limit; nothing was signed.
            RpcError: the host is too busy (RESOURCE_EXHAUSTED, with ``retry_after_ms``) or failed.
            TransportError: the host was not reached in time. Safe to try again: an authorisation opens one session at
                most, and an unused one expires by itself.
            StoreError: the authorisation could not be written; it was not sent.
            UsageError: terms that no host can accept; nothing was sent.

        Cost: two round trips on a warm connection; three and the work while the host is under attack.
        """
        session = await self.start_session(
            choice,
            spending_limit_micros=spending_limit_micros,
            model_id=model_id,
            max_price_micros_per_mtok=max_price_micros_per_mtok,
            currency=currency,
            slice_micros=slice_micros,
            lifetime_s=lifetime_s,
            deposit_proof=deposit_proof,
            work=work,
            timeout_s=timeout_s,
        )
        try:
            yield session
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_TIMEOUT_S):
                await session.close()

    async def start_session(
        self,
        choice: ChoiceLike,
        *,
        spending_limit_micros: int,
        model_id: str | None = None,
        max_price_micros_per_mtok: int | None = None,
        currency: str | None = None,
        slice_micros: int | None = None,
        lifetime_s: int = DEFAULT_LIFETIME_S,
        deposit_proof: bytes = b"",
        work: WorkLimit = DEFAULT_WORK,
        timeout_s: float = 10.0,
    ) -> Session:
        """Like :meth:`open_session`, for a session whose end the caller sees to with :meth:`Session.close`.

        Cancellation: safe; the host may hold a session that nobody uses. :meth:`resumable` lists it, and it expires.
        """
        draft = draft_terms(
            choice,
            SessionWish(
                spending_limit_micros=spending_limit_micros,
                model_id=model_id,
                max_price_micros_per_mtok=max_price_micros_per_mtok,
                currency=currency,
                slice_micros=slice_micros,
                lifetime_s=lifetime_s,
            ),
            client=self._client,
            client_peer_id=self._peer_id,
            delegation=self._delegation,
            network=self._network,
        )
        self.budget(draft.terms.currency).require(draft.terms.spending_limit_micros)
        entry = Entry(deposit_proof=deposit_proof, work=work)
        deadline = trio.current_time() + timeout_s
        try:
            return await self._open(choice, draft, entry, deadline)
        except RpcError as error:
            refused = session_error(error)
            if refused is None:
                raise
            raise refused from error

    # --- resuming ---

    def resumable(self) -> list[Session]:
        """Return the sessions of this peer key and wallet that are not over, of earlier runs too, the oldest first.

        One that is PENDING has no id yet: :meth:`resume` takes its ``authorization_digest``.
        """
        own = [record for record in self._book.open_ones() if record.signer == self._wallet.address_bytes]
        return [Session(self._caller, self._book, record, self._wallet, self._network) for record in own]

    async def resume(self, key: bytes, *, timeout_s: float = 10.0) -> Session:
        """Take a session up again, after a restart of either side or a lost answer.

        The identical authorisation is sent again, and gets the same grant: doing it twice changes nothing.

        Args:
            key: the session's id, or the digest of its authorisation.
            timeout_s: seconds for all of it.

        Raises:
            SessionError: UNKNOWN_SESSION (this client does not have it, or the host lost it), SESSION_CLOSED,
                SESSION_EXPIRED, DELEGATION_REVOKED: open a new one. Another word: it could not be resumed now, or the
                host's answer proves nothing.
            UsageError: this client's wallet is not the one, or the session key, that authorised it; nothing was sent.
            RpcError, TransportError: as :meth:`open_session`; the session stays as it was, also one that is PENDING: an
                earlier attempt may have opened it.

        Cost: one round trip on a warm connection, and no signature.
        """
        record = self._book.find(key)
        if record is None:
            raise over(Reason.UNKNOWN_SESSION, "this client has no such session")
        if record.signer != self._wallet.address_bytes:
            raise of_another_wallet(record.signer)
        state = record.state_at(self._system.unix_s())
        if state is ClientState.EXPIRED:
            raise over(Reason.SESSION_EXPIRED, "the session has expired")
        if state not in (ClientState.PENDING, ClientState.ACTIVE):
            raise over(Reason.SESSION_CLOSED, "the session was closed")
        try:
            return await self._authorize(record, trio.current_time() + timeout_s)
        except RpcError as error:
            refused = session_error(error)
            if refused is None:
                raise
            gone = GONE.get(Reason(refused.reason))
            if gone is None:
                raise refused from error
            self._end(record, gone.value)
            raise over(gone, f"the host does not hold the session: {error.message}") from error

    # --- ending ---

    def end_sessions_of(self, peer_id: PeerId, operator: bytes, reason: str = Reason.BINDING_REVOKED.value) -> int:
        """End this client's sessions on a host at once, without asking it.

        Args:
            peer_id: the host.
            operator: the wallet that answered for it, 20 bytes: any wallet may revoke, its own bindings only.
            reason: a stable word, which :attr:`Session.end_reason` shows.

        Returns:
            How many were open.
        """
        ended = [each for each in self._book.open_ones() if (each.host, each.terms.operator) == (peer_id, operator)]
        return self._end_all(ended, reason)

    async def revoke(
        self, delegation: pb.Delegation, *, revocation: pb.DelegationRevocation | None = None
    ) -> list[RevocationOutcome]:
        """Take a delegation back at every host that it names, all at once, and end its sessions here.

        A host that cannot be reached is told again every half minute; :attr:`revocations` lists what is pending.

        Args:
            delegation: what is taken back.
            revocation: as its owner signed it elsewhere; None = this manager's wallet is the owner, and signs.

        Returns:
            What became of it at each host.

        Raises:
            UsageError: the wallet is not the owner's, or the revocation is of another delegation.
            StoreError: it could not be written; nobody was told.
        """
        try:
            digest = digest_of_delegation(delegation, self._network)
        except MalformedMessageError as error:
            raise UsageError(f"no delegation: {error.message}") from error
        if revocation is None:
            if self._wallet.address_bytes != delegation.owner:
                raise UsageError(
                    "only its owner takes a delegation back", remedy="give a revocation that the owner's wallet signed"
                )
            revocation = sign_delegation_revocation(
                self._wallet, digest, network=self._network, now=self._system.unix_s()
            )
        elif (revocation.owner, revocation.delegation_digest) != (delegation.owner, digest):
            raise UsageError("the revocation is of another delegation, or for another network")
        under = [record for record in self._book.open_ones() if record.terms.delegation_digest == digest]
        self._end_all(under, Reason.DELEGATION_REVOKED.value)
        return await self.revocations.push(
            revocation,
            [cap.host_peer_id for cap in delegation.host_caps],
            expires_at_unix_s=delegation.expires_at_unix_s,
        )

    # --- the budget ---

    def budget(self, currency: str) -> Budget:
        """Return the budget in a currency, and how much of it this client's sessions use.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._store.budget(currency, self._system.unix_s())

    def set_budget(self, currency: str, limit_micros: int | None, *, begin_anew: bool = False) -> Budget:
        """Bound what all sessions of this client may cost together; kept on disk.

        Args:
            currency: the currency's name.
            limit_micros: integer micro-units; None = no bound.
            begin_anew: forget what was spent up to now: a new month, say.

        Raises:
            UsageError: no such amount.
            StoreError: it could not be written; the former budget holds.
        """
        return self._store.set_budget(currency, limit_micros, begin_anew=begin_anew, now=self._system.unix_s())

    # --- inside ---

    async def _open(self, choice: ChoiceLike, draft: SessionDraft, entry: Entry, deadline: float) -> Session:
        challenge = await self._opener.challenge(choice, deadline)
        try:
            return await self._answer(challenge, draft, entry, deadline)
        except RpcError as error:
            if challenge.work_bits or error.reason != Reason.WORK_REQUIRED.value:
                raise
        # An attack began between the two calls; the next challenge says how much work is asked.
        return await self._answer(await self._opener.challenge(choice, deadline), draft, entry, deadline)

    async def _answer(self, challenge: pb.Challenge, draft: SessionDraft, entry: Entry, deadline: float) -> Session:
        terms = draft.answer(challenge, now=int(self._system.unix_s()))
        record = self._book.begin(
            typed_digest(terms, self._network), terms, self._wallet.sign(terms, self._network), self._delegation
        )
        try:
            return await self._authorize(record, deadline, replace(entry, work_bits=challenge.work_bits))
        except (RpcError, TransportError) as error:
            # It was sent for the first time: of a session that was refused nothing is left; of one whose answer is
            # missing, everything.
            if not error.may_have_executed and record.state is ClientState.PENDING:
                self._forget(record)
            raise

    async def _authorize(self, record: ClientRecord, deadline: float, entry: Entry | None = None) -> Session:
        """Send the authorisation that is on disk, and take its grant."""
        try:
            grant, envelope = await self._opener.authorize(record, deadline, entry)
        except SessionError as error:
            self._end(record, error.reason)
            raise
        if record.state not in (ClientState.PENDING, ClientState.ACTIVE):
            # It was closed, or the host's binding or the delegation revoked, while the answer was under way.
            raise over(record.end_reason or Reason.SESSION_CLOSED, "the session was ended here meanwhile")
        if record.state is ClientState.PENDING:
            self._book.activate(record, grant, envelope)
        return Session(self._caller, self._book, record, self._wallet, self._network)

    def _end_all(self, records: Sequence[ClientRecord], reason: str) -> int:
        for record in records:
            self._end(record, reason)
        return len(records)

    def _end(self, record: ClientRecord, reason: str) -> None:
        try:
            self._book.end(record, ClientState.CLOSED, reason)
        except StoreError as error:
            logger.warning("the end of a session is not on disk: %s", error.message)

    def _forget(self, record: ClientRecord) -> None:
        try:
            self._book.forget(record)
        except StoreError as error:
            logger.warning("a session that was refused is still on disk: %s", error.message)
