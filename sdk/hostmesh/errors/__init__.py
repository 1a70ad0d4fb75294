"""Every error that hostmesh raises.

One root, :class:`HostmeshError`. Each error answers three questions:

- ``code``: a stable word for programs (``--json``, logs, tests);
- ``retry_safe``: the same call may be made again and cannot do harm twice;
- ``may_have_executed``: the other side may already have done what was asked.

``remedy`` tells a person what to do. Nothing of a third party's crosses the public API: foreign errors are mapped where
they enter, and stand behind as ``__cause__``.

A module for each room and each feature, named as they are; all names are here.
"""

from __future__ import annotations

from hostmesh.errors.discovery import (
    BindingRevokedError,
    HostsThrottledError,
    HostUnfitError,
    NoHostFoundError,
    RecordExpiredError,
    RecordInvalidError,
    TooManyLookupsError,
)
from hostmesh.errors.engines import ContextExceededError, EngineError, ModelNotReadyError
from hostmesh.errors.identity import BadSignatureError, KeyFileError, KeyInUseError, NotAuthenticatedError
from hostmesh.errors.jobs import JobError, ParameterError
from hostmesh.errors.net import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    InvalidAddressError,
    ProtocolDowngradeError,
    ProtocolNotSupportedError,
    TransportError,
)
from hostmesh.errors.node import (
    AlreadyRunningError,
    ClockSkewError,
    NodeNotRunningError,
    ReadyTimeoutError,
    StartFailedError,
)
from hostmesh.errors.receipts import NobodyAnsweredError, ReceiptError
from hostmesh.errors.root import HostmeshError, RemoteProtocolError, UsageError
from hostmesh.errors.rpc import RpcError, StatusCode
from hostmesh.errors.schema import SchemaError
from hostmesh.errors.sessions import BudgetExceededError, SessionError
from hostmesh.errors.settings import ConfigError
from hostmesh.errors.store import StoreError, StoreTooNewError
from hostmesh.errors.wire import FrameTooLargeError, MalformedMessageError

__all__ = [
    "AlreadyRunningError",
    "BadSignatureError",
    "BindingRevokedError",
    "BudgetExceededError",
    "ClockSkewError",
    "ConfigError",
    "ConnectionLostError",
    "ContextExceededError",
    "DeadlineExceededError",
    "DialError",
    "EngineError",
    "FrameTooLargeError",
    "HostUnfitError",
    "HostmeshError",
    "HostsThrottledError",
    "InvalidAddressError",
    "JobError",
    "KeyFileError",
    "KeyInUseError",
    "MalformedMessageError",
    "ModelNotReadyError",
    "NoHostFoundError",
    "NobodyAnsweredError",
    "NodeNotRunningError",
    "NotAuthenticatedError",
    "ParameterError",
    "ProtocolDowngradeError",
    "ProtocolNotSupportedError",
    "ReadyTimeoutError",
    "ReceiptError",
    "RecordExpiredError",
    "RecordInvalidError",
    "RemoteProtocolError",
    "RpcError",
    "SchemaError",
    "SessionError",
    "StartFailedError",
    "StatusCode",
    "StoreError",
    "StoreTooNewError",
    "TooManyLookupsError",
    "TransportError",
    "UsageError",
]
