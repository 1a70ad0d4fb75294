"""Find a compute host that you can trust, and run your work on it.

Every name is imported when it is first used, so that ``import hostmesh`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.discovery.choice import Explanation, HostChoice
    from hostmesh.discovery.criteria import HostCriteria
    from hostmesh.discovery.description import (
        Gpu,
        Hardware,
        HostDescription,
        HostState,
        ModelOffer,
        Reachability,
    )
    from hostmesh.discovery.manager import DiscoveryManager
    from hostmesh.discovery.measurement import Measurement, Path
    from hostmesh.discovery.ranking import (
        AUTO,
        CHEAPEST,
        FASTEST,
        RELIABLE,
        SPECIFIC,
        Anchors,
        Score,
        ScorePart,
        Strategy,
        WeightedStrategy,
        Weights,
    )
    from hostmesh.discovery.record import HostInfo
    from hostmesh.discovery.selection import Diversity
    from hostmesh.discovery.source import (
        Advert,
        Candidate,
        Source,
        SourceQuery,
    )
    from hostmesh.discovery.terms import Price
    from hostmesh.discovery.view import HostView
    from hostmesh.errors import (
        AlreadyRunningError,
        BadSignatureError,
        ClockSkewError,
        ConfigError,
        ConnectionLostError,
        ContextExceededError,
        DeadlineExceededError,
        DialError,
        EngineError,
        FrameTooLargeError,
        HostmeshError,
        HostUnfitError,
        InvalidAddressError,
        JobError,
        KeyFileError,
        KeyInUseError,
        MalformedMessageError,
        ModelNotReadyError,
        NodeNotRunningError,
        NoHostFoundError,
        NotAuthenticatedError,
        ParameterError,
        ProtocolNotSupportedError,
        ReadyTimeoutError,
        RecordExpiredError,
        RecordInvalidError,
        RemoteProtocolError,
        RpcError,
        SchemaError,
        SessionError,
        StartFailedError,
        StatusCode,
        StoreError,
        StoreTooNewError,
        TransportError,
        UsageError,
    )
    from hostmesh.hosting import (
        HostManager,
        Serving,
    )
    from hostmesh.identity.binding import (
        save_binding,
        sign_binding,
    )
    from hostmesh.identity.keystore import (
        create_wallet_file,
        read_wallet_file,
    )
    from hostmesh.identity.wallet import Wallet
    from hostmesh.jobs.admission import JobLimits
    from hostmesh.jobs.client import JobManager
    from hostmesh.jobs.engine import (
        ChatMessage,
        ChatWork,
        EmbeddingWork,
        Engine,
        EngineEvent,
        Finished,
        FinishReason,
        ModelInfo,
        Role,
        TextPiece,
        Vector,
        Work,
    )
    from hostmesh.jobs.job import Job
    from hostmesh.model_kind import ModelKind
    from hostmesh.net.ledger import NodeUsage
    from hostmesh.net.network import Network
    from hostmesh.net.peer_id import (
        PeerId,
        parse_peer_id,
    )
    from hostmesh.net.peer_key import open_peer_key
    from hostmesh.rpc.client import (
        ResponseStream,
        RpcClient,
    )
    from hostmesh.rpc.context import CallContext
    from hostmesh.rpc.guards import (
        BearerToken,
        RateLimit,
        RequirePeers,
        RequireToken,
    )
    from hostmesh.rpc.interceptors import (
        ClientInterceptor,
        IncomingCall,
        OutgoingCall,
        ServerInterceptor,
    )
    from hostmesh.rpc.limits import (
        CallLimits,
    )
    from hostmesh.rpc.method import (
        Method,
        method,
    )
    from hostmesh.rpc.metrics import (
        ClientMetrics,
        ServerMetrics,
    )
    from hostmesh.rpc.retry import RetryPolicy
    from hostmesh.rpc.shapes import (
        BidiStreamCall,
        ClientStreamCall,
        RequestStream,
        RpcCaller,
        SendResponse,
        ServiceBase,
    )
    from hostmesh.rpc.tracing import (
        ClientTracing,
        ServerTracing,
    )
    from hostmesh.sdk import (
        SDK,
        open_sdk,
    )
    from hostmesh.sessions.client import SessionManager
    from hostmesh.sessions.session import Session
    from hostmesh.settings import (
        Settings,
        load_settings,
    )
    from hostmesh.status.client import StatusClient
    from hostmesh.status.snapshot import HostStatus
    from hostmesh.system import System

__version__ = "0.1.0"

__all__ = [
    "AUTO",
    "CHEAPEST",
    "FASTEST",
    "RELIABLE",
    "SDK",
    "SPECIFIC",
    "Advert",
    "AlreadyRunningError",
    "Anchors",
    "BadSignatureError",
    "BearerToken",
    "BidiStreamCall",
    "CallContext",
    "CallLimits",
    "Candidate",
    "ChatMessage",
    "ChatWork",
    "ClientInterceptor",
    "ClientMetrics",
    "ClientStreamCall",
    "ClientTracing",
    "ClockSkewError",
    "ConfigError",
    "ConnectionLostError",
    "ContextExceededError",
    "DeadlineExceededError",
    "DialError",
    "DiscoveryManager",
    "Diversity",
    "EmbeddingWork",
    "Engine",
    "EngineError",
    "EngineEvent",
    "Explanation",
    "FinishReason",
    "Finished",
    "FrameTooLargeError",
    "Gpu",
    "Hardware",
    "HostChoice",
    "HostCriteria",
    "HostDescription",
    "HostInfo",
    "HostManager",
    "HostState",
    "HostStatus",
    "HostUnfitError",
    "HostView",
    "HostmeshError",
    "IncomingCall",
    "InvalidAddressError",
    "Job",
    "JobError",
    "JobLimits",
    "JobManager",
    "KeyFileError",
    "KeyInUseError",
    "MalformedMessageError",
    "Measurement",
    "Method",
    "ModelInfo",
    "ModelKind",
    "ModelNotReadyError",
    "ModelOffer",
    "Network",
    "NoHostFoundError",
    "NodeNotRunningError",
    "NodeUsage",
    "NotAuthenticatedError",
    "OutgoingCall",
    "ParameterError",
    "Path",
    "PeerId",
    "Price",
    "ProtocolNotSupportedError",
    "RateLimit",
    "Reachability",
    "ReadyTimeoutError",
    "RecordExpiredError",
    "RecordInvalidError",
    "RemoteProtocolError",
    "RequestStream",
    "RequirePeers",
    "RequireToken",
    "ResponseStream",
    "RetryPolicy",
    "Role",
    "RpcCaller",
    "RpcClient",
    "RpcError",
    "SchemaError",
    "Score",
    "ScorePart",
    "SendResponse",
    "ServerInterceptor",
    "ServerMetrics",
    "ServerTracing",
    "ServiceBase",
    "Serving",
    "Session",
    "SessionError",
    "SessionManager",
    "Settings",
    "Source",
    "SourceQuery",
    "StartFailedError",
    "StatusClient",
    "StatusCode",
    "StoreError",
    "StoreTooNewError",
    "Strategy",
    "System",
    "TextPiece",
    "TransportError",
    "UsageError",
    "Vector",
    "Wallet",
    "WeightedStrategy",
    "Weights",
    "Work",
    "__version__",
    "create_wallet_file",
    "load_settings",
    "method",
    "open_peer_key",
    "open_sdk",
    "parse_peer_id",
    "read_wallet_file",
    "save_binding",
    "sign_binding",
]

_HOMES = {
    "HostChoice": "hostmesh.discovery.choice",
    "HostCriteria": "hostmesh.discovery.criteria",
    "Gpu": "hostmesh.discovery.description",
    "Hardware": "hostmesh.discovery.description",
    "HostDescription": "hostmesh.discovery.description",
    "HostState": "hostmesh.discovery.description",
    "ModelOffer": "hostmesh.discovery.description",
    "Reachability": "hostmesh.discovery.description",
    "DiscoveryManager": "hostmesh.discovery.manager",
    "Explanation": "hostmesh.discovery.choice",
    "Measurement": "hostmesh.discovery.measurement",
    "AUTO": "hostmesh.discovery.ranking",
    "CHEAPEST": "hostmesh.discovery.ranking",
    "FASTEST": "hostmesh.discovery.ranking",
    "RELIABLE": "hostmesh.discovery.ranking",
    "SPECIFIC": "hostmesh.discovery.ranking",
    "Anchors": "hostmesh.discovery.ranking",
    "Score": "hostmesh.discovery.ranking",
    "ScorePart": "hostmesh.discovery.ranking",
    "Strategy": "hostmesh.discovery.ranking",
    "WeightedStrategy": "hostmesh.discovery.ranking",
    "Weights": "hostmesh.discovery.ranking",
    "Diversity": "hostmesh.discovery.selection",
    "HostView": "hostmesh.discovery.view",
    "Path": "hostmesh.discovery.measurement",
    "HostInfo": "hostmesh.discovery.record",
    "Advert": "hostmesh.discovery.source",
    "Candidate": "hostmesh.discovery.source",
    "Source": "hostmesh.discovery.source",
    "SourceQuery": "hostmesh.discovery.source",
    "Price": "hostmesh.discovery.terms",
    "ModelKind": "hostmesh.model_kind",
    "AlreadyRunningError": "hostmesh.errors",
    "BadSignatureError": "hostmesh.errors",
    "ClockSkewError": "hostmesh.errors",
    "ConfigError": "hostmesh.errors",
    "ConnectionLostError": "hostmesh.errors",
    "ContextExceededError": "hostmesh.errors",
    "DeadlineExceededError": "hostmesh.errors",
    "DialError": "hostmesh.errors",
    "EngineError": "hostmesh.errors",
    "FrameTooLargeError": "hostmesh.errors",
    "HostmeshError": "hostmesh.errors",
    "HostUnfitError": "hostmesh.errors",
    "InvalidAddressError": "hostmesh.errors",
    "JobError": "hostmesh.errors",
    "KeyFileError": "hostmesh.errors",
    "KeyInUseError": "hostmesh.errors",
    "MalformedMessageError": "hostmesh.errors",
    "ModelNotReadyError": "hostmesh.errors",
    "NoHostFoundError": "hostmesh.errors",
    "NodeNotRunningError": "hostmesh.errors",
    "NotAuthenticatedError": "hostmesh.errors",
    "ParameterError": "hostmesh.errors",
    "ProtocolNotSupportedError": "hostmesh.errors",
    "ReadyTimeoutError": "hostmesh.errors",
    "RecordExpiredError": "hostmesh.errors",
    "RecordInvalidError": "hostmesh.errors",
    "RemoteProtocolError": "hostmesh.errors",
    "RpcError": "hostmesh.errors",
    "SchemaError": "hostmesh.errors",
    "SessionError": "hostmesh.errors",
    "StartFailedError": "hostmesh.errors",
    "StatusCode": "hostmesh.errors",
    "StoreError": "hostmesh.errors",
    "StoreTooNewError": "hostmesh.errors",
    "TransportError": "hostmesh.errors",
    "UsageError": "hostmesh.errors",
    "HostManager": "hostmesh.hosting",
    "Serving": "hostmesh.hosting",
    "save_binding": "hostmesh.identity.binding",
    "sign_binding": "hostmesh.identity.binding",
    "create_wallet_file": "hostmesh.identity.keystore",
    "read_wallet_file": "hostmesh.identity.keystore",
    "Wallet": "hostmesh.identity.wallet",
    "JobLimits": "hostmesh.jobs.admission",
    "JobManager": "hostmesh.jobs.client",
    "ChatMessage": "hostmesh.jobs.engine",
    "ChatWork": "hostmesh.jobs.engine",
    "EmbeddingWork": "hostmesh.jobs.engine",
    "Engine": "hostmesh.jobs.engine",
    "EngineEvent": "hostmesh.jobs.engine",
    "FinishReason": "hostmesh.jobs.engine",
    "Finished": "hostmesh.jobs.engine",
    "ModelInfo": "hostmesh.jobs.engine",
    "Role": "hostmesh.jobs.engine",
    "TextPiece": "hostmesh.jobs.engine",
    "Vector": "hostmesh.jobs.engine",
    "Work": "hostmesh.jobs.engine",
    "Job": "hostmesh.jobs.job",
    "NodeUsage": "hostmesh.net.ledger",
    "Network": "hostmesh.net.network",
    "PeerId": "hostmesh.net.peer_id",
    "parse_peer_id": "hostmesh.net.peer_id",
    "open_peer_key": "hostmesh.net.peer_key",
    "SDK": "hostmesh.sdk",
    "open_sdk": "hostmesh.sdk",
    "SessionManager": "hostmesh.sessions.client",
    "Session": "hostmesh.sessions.session",
    "Settings": "hostmesh.settings",
    "ResponseStream": "hostmesh.rpc.client",
    "RetryPolicy": "hostmesh.rpc.retry",
    "RpcClient": "hostmesh.rpc.client",
    "Method": "hostmesh.rpc.method",
    "method": "hostmesh.rpc.method",
    "ClientInterceptor": "hostmesh.rpc.interceptors",
    "ServerInterceptor": "hostmesh.rpc.interceptors",
    "OutgoingCall": "hostmesh.rpc.interceptors",
    "IncomingCall": "hostmesh.rpc.interceptors",
    "CallLimits": "hostmesh.rpc.limits",
    "RequirePeers": "hostmesh.rpc.guards",
    "RequireToken": "hostmesh.rpc.guards",
    "BearerToken": "hostmesh.rpc.guards",
    "RateLimit": "hostmesh.rpc.guards",
    "ClientMetrics": "hostmesh.rpc.metrics",
    "ServerMetrics": "hostmesh.rpc.metrics",
    "ClientTracing": "hostmesh.rpc.tracing",
    "ServerTracing": "hostmesh.rpc.tracing",
    "CallContext": "hostmesh.rpc.context",
    "BidiStreamCall": "hostmesh.rpc.shapes",
    "ClientStreamCall": "hostmesh.rpc.shapes",
    "RequestStream": "hostmesh.rpc.shapes",
    "RpcCaller": "hostmesh.rpc.shapes",
    "SendResponse": "hostmesh.rpc.shapes",
    "ServiceBase": "hostmesh.rpc.shapes",
    "load_settings": "hostmesh.settings",
    "StatusClient": "hostmesh.status.client",
    "HostStatus": "hostmesh.status.snapshot",
    "System": "hostmesh.system",
}
"""Where each public name is defined."""


def __getattr__(name: str) -> object:
    """Import a public name from its home, once."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hostmesh' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
