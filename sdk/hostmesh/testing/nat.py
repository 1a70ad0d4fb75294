"""What stands between a simulated machine and the network."""

from __future__ import annotations

from enum import Enum


class Nat(Enum):
    """Whether others can open connections to a machine. A machine can always open its own."""

    NONE = "none"
    """The machine has its public address itself and takes connections."""
    NO_INBOUND = "no-inbound"
    """The machine has a private address behind a router, which drops connections from outside without a word."""
    REFUSES_INBOUND = "refuses-inbound"
    """The same, but the router refuses connections from outside."""

    @property
    def takes_inbound(self) -> bool:
        """Whether a connection from outside reaches the machine."""
        return self is Nat.NONE
