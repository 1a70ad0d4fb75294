"""A session as its client remembers it. Pure; ``now`` is unix seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes
from hostmesh.v1 import session_pb2 as pb


class ClientState(Enum):
    """Where a session stands, as far as its client knows."""

    PENDING = "pending"
    """Authorised; whether the host opened it is not known."""
    ACTIVE = "active"
    """The host granted it."""
    CLOSING = "closing"
    """This client ended it; the host may not have heard of it."""
    CLOSED = "closed"
    EXPIRED = "expired"


@dataclass(slots=True, kw_only=True, eq=False)
class ClientRecord:
    """One session. Only :class:`hostmesh.sessions.client_book.ClientBook` changes it."""

    digest: bytes
    """EIP-712 digest of the authorisation, 32 bytes: known before the host says anything."""
    terms: SessionAuthorization
    signature: bytes
    delegation: pb.Delegation | None
    state: ClientState
    """Never EXPIRED: :meth:`state_at` adds what the clock says."""
    expires_at_unix_s: int
    session_id: bytes = b""
    """Empty until the host granted it."""
    grant: bytes = b""
    """The signed envelope, as it came."""
    spent_micros: int = 0
    """What this client acknowledged."""
    end_reason: str = ""
    """A stable word for what ended it; empty where its own client did."""

    @property
    def host(self) -> PeerId:
        """The host."""
        return peer_id_from_bytes(self.terms.host_peer_id)

    @property
    def signer(self) -> bytes:
        """Who authorised it and countersigns its receipts, 20 bytes: the client's wallet or its session key."""
        return self.terms.client if self.delegation is None else self.delegation.delegate

    def state_at(self, now: float) -> ClientState:
        """Return where it stands now."""
        if self.state is not ClientState.CLOSED and self.expires_at_unix_s <= now:
            return ClientState.EXPIRED
        return self.state

    def open_micros(self, now: float) -> int:
        """Return what it may still cost, beyond what is spent."""
        if self.state_at(now) in (ClientState.CLOSED, ClientState.EXPIRED):
            return 0
        return self.terms.spending_limit_micros - self.spent_micros
