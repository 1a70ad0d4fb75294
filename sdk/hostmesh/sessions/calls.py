"""What sessions need to know of the calls that use them."""

from __future__ import annotations

from typing import Protocol

from hostmesh.net.peer_id import PeerId


class SessionCall(Protocol):
    """What sessions need to know of a call (:class:`hostmesh.rpc.context.CallContext`)."""

    @property
    def peer_id(self) -> PeerId:
        """The caller, as the connection proved it."""
        ...

    @property
    def session_id(self) -> bytes:
        """From the call's header; empty for none."""
        ...
