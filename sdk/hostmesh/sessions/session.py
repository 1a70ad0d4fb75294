"""A session as its client holds it."""

from __future__ import annotations

import logging

from hostmesh.errors import RemoteProtocolError, RpcError, StoreError, TransportError, UsageError
from hostmesh.identity.structs import Receipt, SessionAuthorization
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.client_book import ClientBook
from hostmesh.sessions.client_record import ClientRecord, ClientState
from hostmesh.sessions.reasons import Reason
from hostmesh.v1 import session_pb2 as pb
from hostmesh.v1.session_hostmesh import SessionServiceClient

logger = logging.getLogger("hostmesh.sessions")

CLOSE_TIMEOUT_S = 2.0


class Session:
    """An open session of this client on one host. Get one from :meth:`SessionManager.open_session`.

    It is valid for calls from this node only, over any connection, and outlives a restart of either side: see
    :meth:`SessionManager.resume`.
    """

    __slots__ = ("_book", "_caller", "_network", "_record", "_wallet", "peer_id")

    def __init__(self, caller: RpcCaller, book: ClientBook, record: ClientRecord, wallet: Wallet, network: str) -> None:
        self._wallet = wallet
        self._network = network
        self._caller = caller
        self._book = book
        self._record = record
        self.peer_id: PeerId = record.host
        """The host."""

    @property
    def session_id(self) -> bytes:
        """16 bytes, for the header of each call."""
        return self._record.session_id

    @property
    def state(self) -> ClientState:
        """Where it stands, as far as this client knows."""
        return self._record.state_at(self._book.now)

    @property
    def end_reason(self) -> str:
        """A stable word for what ended it: DELEGATION_REVOKED, BINDING_REVOKED, SESSION_EXPIRED, ...

        Empty while it is open, and where :meth:`close` ended it.
        """
        is_expired = self.state is ClientState.EXPIRED
        return self._record.end_reason or (Reason.SESSION_EXPIRED.value if is_expired else "")

    @property
    def grant(self) -> bytes:
        """The host's signed grant, as it came: evidence of what the host agreed to."""
        return self._record.grant

    @property
    def authorization_digest(self) -> bytes:
        """EIP-712 digest of what this client authorised, 32 bytes."""
        return self._record.digest

    @property
    def authorization(self) -> SessionAuthorization:
        """What this client authorised."""
        return self._record.terms

    @property
    def signed_authorization(self) -> bytes:
        """The ``SessionAuthorization`` message with its signature, serialised."""
        return message_from_terms(self._record.terms, self._record.signature).SerializeToString()

    @property
    def delegation(self) -> bytes:
        """The ``Delegation`` message under which a session key signed, serialised; empty: the client's wallet did."""
        delegation = self._record.delegation
        return b"" if delegation is None else delegation.SerializeToString()

    @property
    def signer(self) -> bytes:
        """Who signed that and countersigns receipts, 20 bytes: the client's wallet or its session key."""
        return self._record.signer

    @property
    def operator(self) -> bytes:
        """The wallet that answers for the host, 20 bytes."""
        return self._record.terms.operator

    @property
    def client(self) -> bytes:
        """The wallet that pays, 20 bytes: of a delegation its owner, though the session key signs."""
        return self._record.terms.client

    @property
    def model_id(self) -> str:
        """The one model that is authorised."""
        return self._record.terms.model_id

    @property
    def max_price_micros_per_mtok(self) -> int:
        """The price ceiling."""
        return self._record.terms.max_price_micros_per_mtok

    @property
    def currency(self) -> str:
        """Of the ceiling and the limit."""
        return self._record.terms.currency

    @property
    def spending_limit_micros(self) -> int:
        """Most that this session can cost."""
        return self._record.terms.spending_limit_micros

    @property
    def slice_micros(self) -> int:
        """Most that is owed without a countersigned receipt, over all jobs of the session."""
        return self._record.terms.slice_micros

    @property
    def spent_micros(self) -> int:
        """What this client acknowledged so far."""
        return self._record.spent_micros

    @property
    def expires_at_unix_s(self) -> int:
        """When it ends by itself: the earliest of its own end and its delegation's."""
        return self._record.expires_at_unix_s

    @property
    def is_closed(self) -> bool:
        """Whether it takes no new work: closed, ended or expired."""
        return self.state is not ClientState.ACTIVE

    def countersign(self, receipt: Receipt) -> bytes:
        """Sign a receipt of a job of this session, which was found right; 65 bytes.

        Cost: 0.1 ms.
        """
        return self._wallet.sign(receipt, self._network)

    def charge(self, amount_micros: int) -> None:
        """Note that this client is about to acknowledge so much more; on disk when it returns.

        Call it before a countersignature leaves, with what that adds.

        Args:
            amount_micros: integer micro-units of the currency, on top of what was acknowledged before.

        Raises:
            SessionError: SPENDING_LIMIT: more than the session's limit.
            BudgetExceededError: the session has ended, which freed its part of the budget, and too little is left.
            StoreError: it could not be written. Nothing was changed in any case: do not acknowledge it.
            UsageError: no whole number, 0 or more.
        """
        self._book.charge(self._record, amount_micros)

    async def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Tell the host that the session is over. Jobs that it began go on. Idempotent.

        Best effort: a host that cannot be reached ends the session by itself when it expires, so no failure of the path
        or the host is raised. Until then it is CLOSING, and holds its part of the budget.

        Cancellation: safe; the session counts as closed here.
        """
        if self._record.state is not ClientState.ACTIVE:
            return
        self._end(ClientState.CLOSING)
        try:
            request = pb.CloseSessionRequest(session_id=self._record.session_id)
            await SessionServiceClient(self._caller, self.peer_id).close_session(request, timeout_s=timeout_s)
        except RpcError as error:
            logger.info("session not closed at its host", extra={"peer_id": self.peer_id, "error": error.code})
            # The host knows no such session: it is over all the same.
            if error.reason != "UNAUTHORIZED":
                return
        except (TransportError, RemoteProtocolError, UsageError) as error:
            logger.info("session not closed at its host", extra={"peer_id": self.peer_id, "error": error.code})
            return
        self._end(ClientState.CLOSED)

    def _end(self, state: ClientState) -> None:
        try:
            self._book.end(self._record, state)
        except StoreError as error:
            # It ended; on disk it ends when it expires.
            logger.warning("the end of a session is not on disk: %s", error.message)

    def __repr__(self) -> str:
        # The id opens nothing from another peer, but it has no place in logs either.
        return f"Session(peer_id={self.peer_id}, model_id={self.model_id!r}, state={self.state.value})"
