"""Interceptors that admit or refuse calls: who may call, and how often."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from hostmesh.errors import RpcError, StatusCode, UsageError
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.interceptors import IncomingCall, OutgoingCall
from hostmesh.rpc.limits import CallLimits, LimitTable, RpcLimits, ServiceLimits
from hostmesh.system import System

TOKEN_KEY = "authorization"  # noqa: S105 - where a token stands, none itself
"""The metadata key of a bearer token (RFC 6750, section 2.1)."""
_SCHEME = "Bearer "
MAX_TOKEN_BYTES = 1024 - len(_SCHEME)


class RequirePeers:
    """Serves named peers only. The handshake proved who calls: nothing secret travels.

    Others get PERMISSION_DENIED ``PEER_UNKNOWN``.

    Args:
        peer_ids: who may call.

    Example::

        sdk.serve(ChatHandler(), interceptors=[RequirePeers({alice, bob})])
    """

    def __init__(self, peer_ids: Collection[PeerId]) -> None:
        self._peer_ids = frozenset(peer_ids)

    @asynccontextmanager
    async def intercept(self, call: IncomingCall) -> AsyncIterator[None]:
        """See :class:`hostmesh.ServerInterceptor`."""
        if call.context.peer_id not in self._peer_ids:
            raise RpcError(
                "this peer may not call the service", status=StatusCode.PERMISSION_DENIED, reason="PEER_UNKNOWN"
            )
        yield


class RequireToken:
    """Serves those who bring a token: ``authorization: Bearer TOKEN`` in the metadata, as of :class:`BearerToken`.

    Others get UNAUTHENTICATED ``TOKEN_MISSING`` or ``TOKEN_UNKNOWN``.

    Args:
        tokens: those that are good, each up to :data:`MAX_TOKEN_BYTES` bytes; compared in constant time.

    Raises:
        UsageError: no token, or an empty or too long one.

    Cost: linear in the tokens; for many, or for signed ones, write an interceptor that looks them up.
    """

    def __init__(self, tokens: Collection[str]) -> None:
        self._tokens = tuple(_token_bytes(token) for token in tokens)
        if not self._tokens:
            raise UsageError("a service that requires tokens needs one", remedy="RequireToken({token})")

    @asynccontextmanager
    async def intercept(self, call: IncomingCall) -> AsyncIterator[None]:
        """See :class:`hostmesh.ServerInterceptor`."""
        told = call.context.metadata.get(TOKEN_KEY, "")
        if not told.startswith(_SCHEME):
            raise RpcError("a token is needed", status=StatusCode.UNAUTHENTICATED, reason="TOKEN_MISSING")
        token = told.removeprefix(_SCHEME).encode()
        # Compared with all of them, so that the time tells nothing.
        if True not in [hmac.compare_digest(token, each) for each in self._tokens]:
            raise RpcError("the token is not known", status=StatusCode.UNAUTHENTICATED, reason="TOKEN_UNKNOWN")
        yield


class BearerToken:
    """Sends a token with every call of a client, for :class:`RequireToken`.

    Args:
        token: up to :data:`MAX_TOKEN_BYTES` bytes; whoever is called gets to know it.

    Raises:
        UsageError: it is empty or too long.

    Example::

        rpc = sdk.get_rpc_client().with_interceptors(BearerToken(token))
    """

    def __init__(self, token: str) -> None:
        self._value = _SCHEME + _token_bytes(token).decode()

    @asynccontextmanager
    async def intercept(self, call: OutgoingCall) -> AsyncIterator[None]:
        """See :class:`hostmesh.ClientInterceptor`."""
        call.metadata[TOKEN_KEY] = self._value
        yield


class RateLimit:
    """Bounds the calls of each method, by peer and of all peers; stands beside the limits that hold at admission.

    Further calls get RESOURCE_EXHAUSTED ``BUSY`` or ``RATE_LIMITED`` with the time after which to try again. The limits
    of a whole service stand in its .proto, and are enforced before anything is read; these are for one that is
    configured, or for single methods.

    Args:
        per_peer: of the calls of one peer to one method.
        of_all: of the calls of all peers to one method.
        methods: full names, ``ChatService.Say``; None = every method.
        system: its monotonic clock.

    Bounds: remembers 4,096 idle peers a method, the least recently seen forgotten first.

    Example::

        say = RateLimit(
            per_peer=CallLimits(max_concurrent=2, calls_per_s=1, burst=5),
            of_all=CallLimits(max_concurrent=100, calls_per_s=50, burst=100),
            methods={"ChatService.Say"},
        )
        sdk.serve(ChatHandler(), interceptors=[say])
    """

    def __init__(
        self,
        *,
        per_peer: CallLimits,
        of_all: CallLimits,
        methods: Collection[str] | None = None,
        system: System | None = None,
    ) -> None:
        self._per_peer = per_peer
        self._of_all = of_all
        self._methods = None if methods is None else frozenset(methods)
        self._system = system or System()
        self._table = LimitTable(RpcLimits())

    @asynccontextmanager
    async def intercept(self, call: IncomingCall) -> AsyncIterator[None]:
        """See :class:`hostmesh.ServerInterceptor`."""
        name, peer_id = call.method.full_name, call.context.peer_id
        if self._methods is not None and name not in self._methods:
            yield
            return
        calls = self._table.service(name, ServiceLimits(group=name, per_peer=self._per_peer, per_service=self._of_all))
        over = self._table.admit(peer_id, calls, self._system.monotonic_s())
        if over is not None:
            raise over.to_outcome().to_error()
        try:
            yield
        finally:
            self._table.release(peer_id, calls)


def _token_bytes(token: str) -> bytes:
    data = token.encode()
    if not 0 < len(data) <= MAX_TOKEN_BYTES:
        raise UsageError(f"a token has 1 to {MAX_TOKEN_BYTES} bytes", remedy="make one: secrets.token_urlsafe(32)")
    return data
