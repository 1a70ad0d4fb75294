"""A session as the host's job server sees it: who pays, for what, and how much is left."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from hostmesh.errors import RpcError
from hostmesh.identity.address import address_to_text
from hostmesh.identity.structs import NO_DIGEST, SessionAuthorization
from hostmesh.identity.typed_data import typed_digest
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.book import SessionBook
from hostmesh.sessions.reasons import STATUS_OF, RefusedError
from hostmesh.sessions.record import SessionRecord, SessionState


class ActiveSession:
    """An open session of the peer that made the call. Get one from ``SessionServer.require_session``."""

    __slots__ = ("_book", "_network", "_record")

    def __init__(self, book: SessionBook, record: SessionRecord, network: str) -> None:
        self._book = book
        self._record = record
        self._network = network

    @property
    def session_id(self) -> bytes:
        """16 bytes."""
        return self._record.session_id

    @property
    def peer_id(self) -> PeerId:
        """The only peer that may use it."""
        return self._record.peer_id

    @property
    def authorization(self) -> SessionAuthorization:
        """What was signed to open it."""
        return self._record.terms

    @property
    def signed_authorization(self) -> bytes:
        """The ``SessionAuthorization`` message with its signature, serialised."""
        return message_from_terms(self._record.terms, self._record.signature).SerializeToString()

    @property
    def grant(self) -> bytes:
        """This host's grant, as it was sent."""
        return self._record.grant

    @property
    def delegation(self) -> bytes:
        """The ``Delegation`` message under which a session key signed, serialised; empty: the client's wallet did."""
        return self._record.delegation

    @property
    def client(self) -> str:
        """The wallet that pays, with its checksum."""
        return address_to_text(self._record.terms.client)

    @property
    def client_address(self) -> bytes:
        """The wallet that pays, 20 bytes."""
        return self._record.terms.client

    @property
    def signer(self) -> bytes:
        """Whose countersignature counts, 20 bytes: the wallet that pays, or the session key that it delegated to."""
        return self._record.signer

    @property
    def is_delegated(self) -> bool:
        """Whether a session key signs in the client's name."""
        return self._record.terms.delegation_digest != NO_DIGEST

    @property
    def authorization_digest(self) -> bytes:
        """EIP-712 digest of what the client authorised, 32 bytes. Cost: 0.1 ms."""
        return typed_digest(self._record.terms, self._network)

    @property
    def model_id(self) -> str:
        """The one model that it authorises."""
        return self._record.terms.model_id

    @property
    def max_price_micros_per_mtok(self) -> int:
        """The price ceiling."""
        return self._record.terms.max_price_micros_per_mtok

    @property
    def currency(self) -> str:
        """Of the ceiling and of the limit."""
        return self._record.terms.currency

    @property
    def spending_limit_micros(self) -> int:
        """Most that the client will owe in this session."""
        return self._record.terms.spending_limit_micros

    @property
    def slice_micros(self) -> int:
        """Most that may be owed without a countersigned receipt, over all jobs of the session."""
        return self._record.terms.slice_micros

    @property
    def spent_micros(self) -> int:
        """What is owed so far."""
        return self._record.spent_micros

    @property
    def remaining_micros(self) -> int:
        """What is neither owed nor reserved."""
        return self._record.remaining_micros

    @property
    def expires_at_unix_s(self) -> int:
        """When it ends; work that was begun may still end and be paid for."""
        return self._record.expires_at_unix_s

    @property
    def state(self) -> SessionState:
        """Where it stands."""
        return self._record.state

    @property
    def is_open(self) -> bool:
        """Whether it takes new work: neither closed nor expired."""
        return self.state is SessionState.ACTIVE

    def reserve(self, amount_micros: int) -> Reservation:
        """Set aside the most that a piece of work can cost, before it begins.

        Use it as a context manager: leaving the block without :meth:`Reservation.settle` gives it back.

        Raises:
            RpcError: FAILED_PRECONDITION with reason SPENDING_LIMIT when the session does not cover it,
                UNAUTHENTICATED when the session has ended, UNAVAILABLE when the host's disk is full. Nothing was
                reserved.
        """
        try:
            number = self._book.reserve(self._record, amount_micros)
        except RefusedError as refused:
            raise _answer(refused) from refused
        return Reservation(self._book, self._record, number)

    def __repr__(self) -> str:
        return f"ActiveSession({self.model_id!r}, {self.client}, {self.state.value}, {self.remaining_micros} left)"


class Reservation:
    """Money set aside for one piece of work; settled once or given back."""

    __slots__ = ("_book", "_number", "_record")

    def __init__(self, book: SessionBook, record: SessionRecord, number: int) -> None:
        self._book = book
        self._record = record
        self._number = number

    def advance(self, cost_micros: int) -> int:
        """Record what the work came to cost since its start; on disk when this returns.

        Call it before anything leaves that tells of this cost: a receipt, the end of the job.

        Returns:
            What the client owes for the work up to now: never more than its limit allows.

        Raises:
            RpcError: UNAVAILABLE with reason SESSIONS_UNAVAILABLE: the disk is full; end the work.
        """
        try:
            return self._book.advance(self._record, self._number, cost_micros)
        except RefusedError as refused:
            raise _answer(refused) from refused

    def settle(self, cost_micros: int) -> int:
        """Record what the work did cost since its start, also when the session has ended meanwhile. Never raises.

        Returns:
            What the client owes for it: never more than its limit allows, nor less than :meth:`advance` recorded. A
            second settling adds nothing.
        """
        return self._book.settle(self._record, self._number, cost_micros)

    def release(self) -> None:
        """Give back what is left: the work costs nothing more. Idempotent, and without effect once settled."""
        self._book.release(self._record, self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _answer(refused: RefusedError) -> RpcError:
    return RpcError(refused.message, status=STATUS_OF[refused.word], reason=refused.reason)
