"""Who handed over, as somebody's record or as proof against somebody, what that one never signed. Pure."""

from __future__ import annotations

from collections.abc import Callable

from hostmesh.discovery.record import named_network
from hostmesh.errors import BadSignatureError, RemoteProtocolError
from hostmesh.net.peer_id import PeerId


class Forgeries:
    """Tells forgeries from what only does not hold here.

    Args:
        network: our network's name. An honest record of another one does not verify here either, since its signature
            is of another domain: it is no forgery.
    """

    def __init__(self, network: str) -> None:
        self._network = network
        self._tell: Callable[[PeerId], None] = lambda peer_id: None

    def tell_to(self, tell: Callable[[PeerId], None]) -> None:
        """Have it told, in place of whom it was told before.

        Args:
            tell: is given the peer at the other end of the connection; neither waits nor raises.
        """
        self._tell = tell

    def note(self, error: RemoteProtocolError, carrier: PeerId | None, *envelopes: bytes) -> None:
        """Take in why something was refused.

        Args:
            error: that came of verifying it.
            carrier: who vouches for it by handing it over; None: nobody does.
            envelopes: what was verified.
        """
        if carrier is None or not isinstance(error, BadSignatureError):
            return
        if all(named_network(envelope) == self._network for envelope in envelopes):
            self._tell(carrier)
