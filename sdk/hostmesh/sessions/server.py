"""The host's side of sessions: serves SessionService, and answers the job server's question who may run what.

Everything is in memory: a host that restarts has forgotten its sessions, and clients open new ones. No call waits for
anything, so that each is one step for the tables.

Spec: docs/protocols/session.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

from hostmesh.errors import ConfigError, HostmeshError, MalformedMessageError, RpcError, StatusCode
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.typed_data import NONCE_BYTES
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.active import ActiveSession
from hostmesh.sessions.authorization import (
    MAX_LIFETIME_S,
    ModelPrice,
    check_parties,
    check_price,
    check_signature,
    check_times,
    terms_from_message,
)
from hostmesh.sessions.challenge import ChallengeLimits, ChallengeTable
from hostmesh.sessions.grant import SESSION_ID_BYTES, seal_grant
from hostmesh.sessions.rate import Rate, RateLimiter
from hostmesh.sessions.reasons import STATUS_OF, Reason, RefusedError
from hostmesh.sessions.table import SessionLimits, SessionTable
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2, session_pb2
from hostmesh.v1.session_hostmesh import SessionServiceBase

logger = logging.getLogger("hostmesh.sessions")

_STRANGERS = "strangers"
_BINDING_KEPT_S = 60.0
"""The source may read a file; a stranger's call must not make it do so every time."""
_USE_REASONS = frozenset(
    {
        Reason.NO_SESSION,
        Reason.UNKNOWN_SESSION,
        Reason.SESSION_OF_ANOTHER_PEER,
        Reason.SESSION_CLOSED,
        Reason.SESSION_EXPIRED,
        Reason.WRONG_MODEL,
    }
)
"""Answered as UNAUTHORIZED, with the word in the details: the remedy of all is a new session."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionServerLimits:
    """Bounds of a host's sessions. Chosen here: a signature check costs 0.1 ms."""

    challenges: ChallengeLimits = field(default_factory=ChallengeLimits)
    sessions: SessionLimits = field(default_factory=SessionLimits)
    checks_per_peer: Rate = field(default_factory=lambda: Rate(per_second=50.0, burst=100))
    """Signature checks of one peer."""
    checks_of_strangers: Rate = field(default_factory=lambda: Rate(per_second=200.0, burst=400))
    """Signature checks of all peers without a session together."""
    tracked_peers: int = 4096
    max_lifetime_s: int = MAX_LIFETIME_S

    def __post_init__(self) -> None:
        if self.tracked_peers < 1 or self.max_lifetime_s < 1:
            raise ConfigError("session server limits are 1 or more", name="session_limits")


PriceSource = Callable[[str, PeerId], ModelPrice | None]
"""What this host asks of this client for a model; None = not offered at a price. Should a quote to the client still
hold, its price counts, not a later one."""


def _no_network(peer_id: PeerId) -> str | None:
    return None


class SessionServer(SessionServiceBase):
    """Handler of ``hostmesh.v1.SessionService`` and keeper of the sessions.

    Args:
        key: the host's peer key; signs grants.
        binding: gives the current binding of that key (it is renewed); asked once a minute at most. Its operator is the
            host's.
        network: the network's name.
        price_of: see :data:`PriceSource`.
        system: clocks and random bytes.
        limits: bounds.
        network_of: the network a peer's connection counts under (:func:`hostmesh.sessions.challenge.network_key_of`);
            None where it is not known.
    """

    def __init__(
        self,
        *,
        key: PeerKey,
        binding: Callable[[], discovery_pb2.PeerBinding],
        network: str,
        price_of: PriceSource,
        system: System | None = None,
        limits: SessionServerLimits | None = None,
        network_of: Callable[[PeerId], str | None] = _no_network,
    ) -> None:
        self._key = key
        self._peer_id_bytes = peer_id_to_bytes(key.peer_id)
        self._binding_source = binding
        self._binding_kept: tuple[float, discovery_pb2.PeerBinding] | None = None
        self._network = network
        self._price_of = price_of
        self._system = system or System()
        self._limits = limits or SessionServerLimits()
        self._network_of = network_of
        self._challenges = ChallengeTable(self._limits.challenges)
        self._sessions = SessionTable(self._limits.sessions)
        self._peer_checks: RateLimiter[PeerId] = RateLimiter(
            self._limits.checks_per_peer, max_keys=self._limits.tracked_peers
        )
        self._stranger_checks: RateLimiter[str] = RateLimiter(self._limits.checks_of_strangers, max_keys=1)
        self._refusals: Counter[str] = Counter()
        self._granted = 0
        self._draining = False

    # --- what the host asks ---

    @property
    def refusals(self) -> Mapping[str, int]:
        """How often each reason was given since the start."""
        return dict(self._refusals)

    @property
    def granted(self) -> int:
        """Sessions opened since the start; repeated grants are not counted again."""
        return self._granted

    @property
    def active_sessions(self) -> int:
        """Sessions that are open now."""
        self._sessions.expire(self._system.unix_s())
        return self._sessions.active_count()

    def drain(self) -> None:
        """Open no new sessions; those that are open go on. Idempotent."""
        self._draining = True

    def require_session(self, context: SessionCall, model_id: str) -> ActiveSession:
        """Return the session of a call that wants to run a model.

        Raises:
            RpcError: UNAUTHENTICATED with reason UNAUTHORIZED; ``details["cause"]`` is NO_SESSION, UNKNOWN_SESSION,
                SESSION_CLOSED, SESSION_EXPIRED or WRONG_MODEL. The client opens a new session.
        """
        try:
            record = self._sessions.use(context.session_id, context.peer_id, model_id, self._system.unix_s())
        except RefusedError as refused:
            raise self._refuse(refused, context) from refused
        return ActiveSession(self._sessions, record)

    # --- the service ---

    async def get_challenge(
        self, request: session_pb2.GetChallengeRequest, context: SessionCall
    ) -> session_pb2.Challenge:
        """Serve GetChallenge."""
        binding = self._binding()
        nonce = self._system.random_bytes(NONCE_BYTES)
        now = self._system.monotonic_s()
        try:
            self._refuse_if_draining()
            expires_at = self._challenges.issue(
                context.peer_id, nonce=nonce, now=now, network_key=self._network_of(context.peer_id)
            )
        except RefusedError as refused:
            raise self._refuse(refused, context) from refused
        return session_pb2.Challenge(
            nonce=nonce,
            expires_at_unix_s=int(self._system.unix_s() + expires_at - now),
            operator=binding.operator,
            binding=binding,
        )

    async def authorize(
        self, request: session_pb2.AuthorizeRequest, context: SessionCall
    ) -> session_pb2.AuthorizeResponse:
        """Serve Authorize."""
        if not request.HasField("authorization"):
            raise MalformedMessageError("the request holds no authorisation", field="authorization")
        terms = terms_from_message(request.authorization)
        try:
            grant = self._authorize(terms, request.authorization.signature, context.peer_id)
        except RefusedError as refused:
            raise self._refuse(refused, context) from refused
        return session_pb2.AuthorizeResponse(grant=grant)

    async def close_session(
        self, request: session_pb2.CloseSessionRequest, context: SessionCall
    ) -> session_pb2.CloseSessionResponse:
        """Serve CloseSession: closing twice is closing once, and only the session's peer can."""
        try:
            self._sessions.close(request.session_id, context.peer_id, self._system.unix_s())
        except RefusedError as refused:
            raise self._refuse(refused, context) from refused
        return session_pb2.CloseSessionResponse()

    async def revoke_delegation(
        self, request: session_pb2.RevokeDelegationRequest, context: SessionCall
    ) -> session_pb2.RevokeDelegationResponse:
        """Serve RevokeDelegation."""
        raise RpcError("this host takes no delegations yet", status=StatusCode.UNIMPLEMENTED)

    # --- inside ---

    def _authorize(self, terms: SessionAuthorization, signature: bytes, peer_id: PeerId) -> bytes:
        """Check everything, the costly last, and open the session. No await: one step for the tables."""
        now, monotonic = self._system.unix_s(), self._system.monotonic_s()
        check_parties(
            terms,
            remote_peer_id=peer_id_to_bytes(peer_id),
            host_peer_id=self._peer_id_bytes,
            operator=self._binding().operator,
        )
        check_times(terms, now=now, max_lifetime_s=self._limits.max_lifetime_s)
        repeated = self._sessions.repeated(terms, signature, peer_id, now)
        if repeated is not None:
            return repeated.grant
        self._refuse_if_draining()
        check_price(terms, self._price_of(terms.model_id, peer_id))
        self._challenges.check(terms.nonce, peer_id, monotonic)
        self._limit_checks(peer_id, monotonic)
        network_key = self._network_of(peer_id)
        self._sessions.check_room(peer_id, now, network_key)
        check_signature(terms, signature, self._network)
        session_id = self._system.random_bytes(SESSION_ID_BYTES)
        grant = seal_grant(self._key, terms, network=self._network, session_id=session_id, now=now)
        self._sessions.open(
            terms,
            signature,
            session_id=session_id,
            peer_id=peer_id,
            grant=grant,
            now=now,
            network_key=network_key,
        )
        self._challenges.burn(terms.nonce)
        self._granted += 1
        logger.info("session opened", extra={"peer_id": peer_id, "model_id": terms.model_id})
        return grant

    def _binding(self) -> discovery_pb2.PeerBinding:
        now = self._system.monotonic_s()
        if self._binding_kept is None or now - self._binding_kept[0] >= _BINDING_KEPT_S:
            try:
                self._binding_kept = (now, self._binding_source())
            except HostmeshError as error:
                # The host's own fault; its text tells of paths.
                logger.warning("no session can be opened: %s", error.message, extra={"error_code": error.code})
                raise RpcError("this host has no valid binding now", status=StatusCode.UNAVAILABLE) from error
        return self._binding_kept[1]

    def _limit_checks(self, peer_id: PeerId, monotonic: float) -> None:
        wait_s = self._peer_checks.take(peer_id, monotonic)
        if wait_s == 0.0 and not self._sessions.knows(peer_id):
            wait_s = self._stranger_checks.take(_STRANGERS, monotonic)
        if wait_s > 0.0:
            raise RefusedError(Reason.RATE_LIMITED, "too many authorisations; try again later", retry_after_s=wait_s)

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise RefusedError(Reason.DRAINING, "this host opens no new sessions")

    def _refuse(self, refused: RefusedError, context: SessionCall) -> RpcError:
        """Count a refusal, and return the error that answers it."""
        self._refusals[refused.reason] += 1
        logger.debug("session refused", extra={"peer_id": context.peer_id, "reason": refused.reason})
        word = refused.word
        details: dict[str, str] = {}
        reason = refused.reason
        status = STATUS_OF[word]
        if word in _USE_REASONS:
            shown = Reason.UNKNOWN_SESSION if word is Reason.SESSION_OF_ANOTHER_PEER else word
            details, reason, status = {"cause": shown.value}, "UNAUTHORIZED", StatusCode.UNAUTHENTICATED
        retry_after_ms = None if refused.retry_after_s is None else max(1, ceil(refused.retry_after_s * 1000))
        return RpcError(refused.message, status=status, reason=reason, retry_after_ms=retry_after_ms, details=details)
