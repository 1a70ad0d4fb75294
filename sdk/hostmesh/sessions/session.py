"""A session as its client holds it."""

from __future__ import annotations

import logging

from hostmesh.errors import RemoteProtocolError, RpcError, TransportError, UsageError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.v1 import session_pb2 as pb
from hostmesh.v1.session_hostmesh import SessionServiceClient

logger = logging.getLogger("hostmesh.sessions")

CLOSE_TIMEOUT_S = 2.0


class Session:
    """An open session of this client on one host. Get one from :meth:`SessionManager.open_session`.

    It is valid for calls from this node only; the host holds it in memory, so a host that restarts has forgotten it.
    """

    __slots__ = ("_caller", "_closed", "_grant", "_session_id", "_terms", "peer_id")

    def __init__(
        self, caller: RpcCaller, peer_id: PeerId, terms: SessionAuthorization, grant: pb.SessionGrant, envelope: bytes
    ) -> None:
        self._caller = caller
        self._terms = terms
        self._session_id = grant.session_id
        self._grant = envelope
        self._closed = False
        self.peer_id = peer_id
        """The host."""

    @property
    def session_id(self) -> bytes:
        """16 bytes, for the header of each call."""
        return self._session_id

    @property
    def grant(self) -> bytes:
        """The host's signed grant, as it came: evidence of what the host agreed to."""
        return self._grant

    @property
    def operator(self) -> bytes:
        """The wallet that answers for the host, 20 bytes."""
        return self._terms.operator

    @property
    def model_id(self) -> str:
        """The one model that is authorised."""
        return self._terms.model_id

    @property
    def max_price_micros_per_mtok(self) -> int:
        """The price ceiling."""
        return self._terms.max_price_micros_per_mtok

    @property
    def currency(self) -> str:
        """Of the ceiling and the limit."""
        return self._terms.currency

    @property
    def spending_limit_micros(self) -> int:
        """Most that this session can cost."""
        return self._terms.spending_limit_micros

    @property
    def expires_at_unix_s(self) -> int:
        """When it ends by itself."""
        return self._terms.expires_at_unix_s

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    async def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Tell the host that the session is over. Jobs that it began go on. Idempotent.

        Best effort: a host that cannot be reached ends the session by itself when it expires, so no failure of the path
        or the host is raised.

        Cancellation: safe; the session counts as closed here.
        """
        if self._closed:
            return
        self._closed = True
        try:
            request = pb.CloseSessionRequest(session_id=self._session_id)
            await SessionServiceClient(self._caller, self.peer_id).close_session(request, timeout_s=timeout_s)
        except (TransportError, RemoteProtocolError, RpcError, UsageError) as error:
            logger.info("session not closed at its host", extra={"peer_id": self.peer_id, "error": error.code})

    def __repr__(self) -> str:
        # The id opens nothing from another peer, but it has no place in logs either.
        return f"Session(peer_id={self.peer_id}, model_id={self.model_id!r}, closed={self._closed})"
