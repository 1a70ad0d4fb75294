"""What happens on the path to a peer."""

from __future__ import annotations

from collections.abc import Mapping

from hostmesh.errors.root import HostmeshError, RemoteProtocolError, UsageError


class InvalidAddressError(UsageError):
    """A multiaddr is malformed or cannot be used here."""

    code = "ADDRESS_INVALID"


class TransportError(HostmeshError):
    """The path to the peer failed."""

    code = "TRANSPORT"


class DialError(TransportError):
    """No connection was made, so nothing was executed.

    Args:
        stage: where the best attempt ended: ``address``, ``dns``, ``dial``, ``handshake``, ``timeout``, ``limit``.
        attempts: per address, what happened.
    """

    code = "DIAL_FAILED"
    retry_safe = True

    def __init__(
        self, message: str, *, stage: str, attempts: Mapping[str, str] | None = None, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.stage = stage
        self.attempts = dict(attempts or {})


class ProtocolNotSupportedError(TransportError):
    """The peer does not speak the protocol, or no version of it that this node does; nothing was executed.

    Args:
        needed: protocol id that this node asked for, of its highest version: ``/hostmesh/chat/2.1.0``.
        offered: every protocol id that the peer told, of other protocols too; empty where it told nothing.
    """

    code = "PROTOCOL_NOT_SUPPORTED"

    def __init__(self, message: str, *, needed: str, offered: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.needed = needed
        self.offered = offered


class ConnectionLostError(TransportError):
    """The connection or stream ended before the call did.

    ``may_have_executed`` is False only when the request cannot have left.
    """

    code = "CONNECTION_LOST"

    def __init__(self, message: str, *, may_have_executed: bool = True, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.may_have_executed = may_have_executed
        self.retry_safe = not may_have_executed


class DeadlineExceededError(TransportError):
    """The caller's time ran out; the peer may have done the work."""

    code = "DEADLINE_EXCEEDED"
    may_have_executed = True


class ProtocolDowngradeError(RemoteProtocolError):
    """The peer offers a lower version of a protocol than its signed record states; nothing was executed.

    Args:
        promised: protocol id that the record states.
        offered: the highest one that the peer offers.
    """

    code = "PROTOCOL_DOWNGRADED"

    def __init__(self, message: str, *, promised: str, offered: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.promised = promised
        self.offered = offered
