"""How peers behave on the calls that are made to them, for whoever judges them as neighbours. Pure.

Only what a peer does on a stream of its own connection is told: not that nobody could be dialled, that it does not
speak a protocol, or that the way to it broke, since others can bring that about.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

from hostmesh.errors import StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.call import ClientCall
from hostmesh.rpc.method import AnyMethod


class Conduct(Enum):
    """What a peer did with a call."""

    ANSWERED = "answered"
    """The call ended with OK."""
    LATE = "late"
    """The deadline of a call with one request and one response passed, on a connection that stands."""
    BROKEN = "broken"
    """It sent what is no answer of the protocol."""


class ConductWatch(Protocol):
    """Is told of calls that ended. What ended otherwise, refused or cancelled, says nothing of a neighbour."""

    def note_call(self, peer_id: PeerId, method: AnyMethod, conduct: Conduct, waited_s: float) -> None:
        """Take in how a call ended; neither waits nor raises.

        Args:
            peer_id: who was called, as its connection proved.
            method: of the call.
            conduct: how it ended.
            waited_s: since its first frame was sent.
        """
        ...


def conduct_of(call: ClientCall[Any, Any], *, is_late: bool) -> Conduct | None:
    """Return what a call that is over says of its peer; None: nothing.

    Args:
        call: its caller's end.
        is_late: its deadline passed here. A peer that says so itself has answered.
    """
    if call.is_broken:
        return Conduct.BROKEN
    if call.outcome is not None:
        return Conduct.ANSWERED if call.outcome.status is StatusCode.OK else None
    return Conduct.LATE if is_late else None
