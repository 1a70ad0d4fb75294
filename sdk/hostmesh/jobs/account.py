"""What jobs need of sessions: who pays, up to which price, and how much is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.context import CallContext


class JobReservation(Protocol):
    """Money set aside for one job (:class:`hostmesh.sessions.active.Reservation`)."""

    def advance(self, cost_micros: int) -> int:
        """Record what the job came to since its start; on disk when this returns.

        Raises:
            RpcError: UNAVAILABLE: the disk is full.
        """
        ...

    def settle(self, cost_micros: int) -> int:
        """Record what the job did cost; what is left of the reservation goes back."""
        ...

    def release(self) -> None:
        """Give the reservation back."""
        ...


class PayingSession(Protocol):
    """What a job needs of a session (:class:`hostmesh.sessions.active.ActiveSession`)."""

    @property
    def session_id(self) -> bytes:
        """16 bytes."""
        ...

    @property
    def peer_id(self) -> PeerId:
        """The client."""
        ...

    @property
    def authorization(self) -> SessionAuthorization:
        """What was signed to open it."""
        ...

    @property
    def signed_authorization(self) -> bytes:
        """The same as a message with its signature, serialised."""
        ...

    @property
    def delegation(self) -> bytes:
        """The message that lets a session key sign, serialised; empty = the client's wallet signed."""
        ...

    @property
    def grant(self) -> bytes:
        """This host's signed grant."""
        ...

    @property
    def signer(self) -> bytes:
        """Whose countersignature counts, 20 bytes."""
        ...

    @property
    def slice_micros(self) -> int:
        """Most that may be owed without a countersigned receipt."""
        ...

    @property
    def spent_micros(self) -> int:
        """What its jobs came to up to now, also before this host was restarted."""
        ...

    @property
    def max_price_micros_per_mtok(self) -> int:
        """The price ceiling."""
        ...

    @property
    def currency(self) -> str:
        """Of the ceiling and of the spending limit."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether it takes new jobs: neither closed nor expired."""
        ...

    def reserve(self, amount_micros: int) -> JobReservation:
        """Set aside the most that a job can cost.

        Raises:
            RpcError: the limit does not cover it, or the session has ended.
        """
        ...


RequireSession = Callable[[CallContext, str], PayingSession]
"""Returns the call's session for a model, or raises :class:`RpcError` UNAUTHENTICATED."""
