"""What jobs need of sessions: who pays, up to which price, and how much is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hostmesh.rpc.context import CallContext


class JobReservation(Protocol):
    """Money set aside for one job (:class:`hostmesh.sessions.active.Reservation`)."""

    def settle(self, cost_micros: int) -> int:
        """Record what the job did cost; what is left of the reservation goes back."""
        ...

    def release(self) -> None:
        """Give the reservation back."""
        ...


class PayingSession(Protocol):
    """What a job needs of a session (:class:`hostmesh.sessions.active.ActiveSession`)."""

    @property
    def max_price_micros_per_mtok(self) -> int:
        """The price ceiling."""
        ...

    @property
    def currency(self) -> str:
        """Of the ceiling and of the spending limit."""
        ...

    def reserve(self, amount_micros: int) -> JobReservation:
        """Set aside the most that a job can cost.

        Raises:
            RpcError: the limit does not cover it, or the session has ended.
        """
        ...


RequireSession = Callable[[CallContext, str], PayingSession]
"""Returns the call's session for a model, or raises :class:`RpcError` UNAUTHENTICATED."""
