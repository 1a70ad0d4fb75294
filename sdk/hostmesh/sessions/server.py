"""The host's side of sessions: serves SessionService, and answers the job server's question who may run what.

What a host answers is on disk before (:mod:`hostmesh.sessions.book`); challenges alone are in memory. No call waits for
anything, so that each is one step for the tables; but for a contract wallet or a deposit, after which everything is
checked again.

Spec: docs/protocols/session.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from hostmesh.errors import HostmeshError, MalformedMessageError, RpcError, StatusCode
from hostmesh.identity.delegation import revocation_of_message
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.sessions.active import ActiveSession
from hostmesh.sessions.admission.deposits import DepositVerifier
from hostmesh.sessions.admission.gate import Gate, Passage
from hostmesh.sessions.admission.policy import AdmissionPolicy, work_required
from hostmesh.sessions.admission.rate import RateLimiter
from hostmesh.sessions.authorization import (
    ModelPrice,
    check_parties,
    check_price,
    check_slice,
    check_times,
    terms_from_message,
)
from hostmesh.sessions.book import SessionBook
from hostmesh.sessions.calls import SessionCall
from hostmesh.sessions.delegation import HeldDelegation, check_delegation
from hostmesh.sessions.grant import SESSION_ID_BYTES, seal_grant
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.sessions.refusals import Refusals
from hostmesh.sessions.revocations import RevocationIntake
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.sessions.signatures import ContractVerifier, SignatureChecker
from hostmesh.sessions.store import SessionStore
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2, session_pb2
from hostmesh.v1.session_hostmesh import SessionServiceBase

logger = logging.getLogger("hostmesh.sessions")

_STRANGERS = "strangers"
_REVOKERS = "revokers"
"""Strangers who revoke a delegation in use here: who knows of it is no flood's stranger."""
_UNSEEN_REVOKERS = "unseen revokers"
"""Strangers who revoke a delegation that never came here. It takes no work, and must not use up the checks of those who
open sessions and did theirs."""
_BINDING_KEPT_S = 60.0
"""The source may read a file; a stranger's call must not make it do so every time."""


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
        network_of: the network a peer's connection counts under, None where it is not known
            (:func:`hostmesh.sessions.admission.challenge_table.network_key_of`).
        store: keeps the sessions, for this host and network; None = in memory. The caller closes it.
        contracts: asks contract wallets (EIP-1271) about delegations that they signed; None = these are refused.
        admission: who may open sessions; None = everybody.
        reputation_of: what this host saw of a wallet, 0 to 1000; None = everybody is new.
        deposits: checks deposits, which are then demanded; None = none are.

    Raises:
        StoreError: the store cannot be read.
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
        store: SessionStore | None = None,
        contracts: ContractVerifier | None = None,
        admission: AdmissionPolicy | None = None,
        reputation_of: Callable[[bytes], int] | None = None,
        deposits: DepositVerifier | None = None,
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
        self._book = SessionBook(
            store or SessionStore(None, host=self._peer_id_bytes, network=network),
            limits=self._limits.sessions,
            delegations=self._limits.delegations,
            now=self._system.unix_s(),
        )
        self._gate = Gate(
            policy=admission,
            challenges=self._limits.challenges,
            reputation_of=reputation_of,
            deposits=deposits,
            has_session=self._book.table.knows,
            fullness_of_sessions=lambda: self.active_sessions / self._limits.sessions.total,
            network_of=network_of,
            system=self._system,
        )
        self._signatures = SignatureChecker(network, contracts=contracts, limits=self._limits.contracts)
        self._peer_checks: RateLimiter[PeerId] = RateLimiter(
            self._limits.checks_per_peer, max_keys=self._limits.tracked_peers
        )
        self._stranger_checks: RateLimiter[str] = RateLimiter(self._limits.checks_of_strangers, max_keys=3)
        self._revocations = RevocationIntake(
            self._book,
            self._signatures,
            limit_checks=lambda peer_id, is_in_use: self._limit_checks(
                peer_id, _REVOKERS if is_in_use else _UNSEEN_REVOKERS
            ),
            network_of=network_of,
            system=self._system,
        )
        self._refusals = Refusals()
        self._granted = 0
        self._draining = False

    # --- what the host asks ---

    @property
    def refusals(self) -> Mapping[str, int]:
        """How often each reason was given since the start."""
        return self._refusals.counts()

    @property
    def granted(self) -> int:
        """Sessions opened since the start; repeated grants are not counted again."""
        return self._granted

    @property
    def active_sessions(self) -> int:
        """Sessions that are open now."""
        self._book.table.expire(self._system.unix_s())
        return self._book.table.active_count()

    @property
    def admission(self) -> AdmissionPolicy:
        """Who may open sessions. Set another one, and it holds from the next call on; sessions that are open stay."""
        return self._gate.policy

    @admission.setter
    def admission(self, policy: AdmissionPolicy) -> None:
        self._gate.replace(policy)

    @property
    def work_bits(self) -> int:
        """The work that strangers are asked for now; 0 = this host is not under attack."""
        return self._gate.work_bits

    def drain(self) -> None:
        """Open no new sessions; those that are open go on. Idempotent."""
        self._draining = True

    def require_session(self, context: SessionCall, model_id: str) -> ActiveSession:
        """Return the session of a call that wants to run a model.

        Raises:
            RpcError: UNAUTHENTICATED with reason UNAUTHORIZED; ``details["cause"]`` is NO_SESSION, UNKNOWN_SESSION,
                SESSION_CLOSED (or DELEGATION_REVOKED, BINDING_REVOKED: what else ended it), SESSION_EXPIRED or
                WRONG_MODEL. The client opens a new session.
        """
        try:
            record = self._book.table.use(context.session_id, context.peer_id, model_id, self._system.unix_s())
        except RefusedError as refused:
            raise self._refusals.answer(refused, context.peer_id, of_use=True) from refused
        return ActiveSession(self._book, record, self._network)

    def end_all(self, reason: Reason = Reason.BINDING_REVOKED) -> int:
        """End every open session at once; jobs that run may end and be paid for.

        Args:
            reason: what later uses are answered as the cause: BINDING_REVOKED when the operator took the binding of
                this host back.

        Returns:
            How many were open.

        Raises:
            SessionError: SESSIONS_UNAVAILABLE, the disk is full; nothing was changed.
        """
        self._binding_kept = None
        self._book.table.expire(self._system.unix_s())
        return self._book.end(self._book.table.active(), reason)

    # --- the service ---

    async def get_challenge(
        self, request: session_pb2.GetChallengeRequest, context: SessionCall
    ) -> session_pb2.Challenge:
        """Serve GetChallenge."""
        binding = self._binding()
        try:
            self._refuse_if_draining()
            issued = self._gate.issue(context.peer_id)
        except RefusedError as refused:
            raise self._refusals.answer(refused, context.peer_id) from refused
        left_s = issued.expires_at - self._system.monotonic_s()
        return session_pb2.Challenge(
            nonce=issued.nonce,
            expires_at_unix_s=int(self._system.unix_s() + left_s),
            operator=binding.operator,
            binding=binding,
            work_bits=issued.work_bits,
            min_slice_tokens=self._limits.min_slice_tokens,
            max_slice_tokens=self._limits.max_slice_tokens,
        )

    async def authorize(
        self, request: session_pb2.AuthorizeRequest, context: SessionCall
    ) -> session_pb2.AuthorizeResponse:
        """Serve Authorize."""
        if not request.HasField("authorization"):
            raise MalformedMessageError("the request holds no authorisation", field="authorization")
        self._gate.called()
        terms = terms_from_message(request.authorization)
        try:
            grant = await self._authorize(terms, request, context.peer_id)
        except RefusedError as refused:
            raise self._refusals.answer(refused, context.peer_id) from refused
        return session_pb2.AuthorizeResponse(grant=grant)

    async def close_session(
        self, request: session_pb2.CloseSessionRequest, context: SessionCall
    ) -> session_pb2.CloseSessionResponse:
        """Serve CloseSession: closing twice is closing once, and only the session's peer can."""
        try:
            self._book.close(request.session_id, context.peer_id, self._system.unix_s())
        except RefusedError as refused:
            raise self._refusals.answer(refused, context.peer_id, of_use=True) from refused
        return session_pb2.CloseSessionResponse()

    async def revoke_delegation(
        self, request: session_pb2.RevokeDelegationRequest, context: SessionCall
    ) -> session_pb2.RevokeDelegationResponse:
        """Serve RevokeDelegation: anybody may bring it, since its owner signed it. Revoking twice is revoking once."""
        if not request.HasField("revocation"):
            raise MalformedMessageError("the request holds no revocation", field="revocation")
        revocation = revocation_of_message(request.revocation)
        try:
            ended = await self._revocations.take(revocation, request.revocation.signature, context.peer_id)
        except RefusedError as refused:
            raise self._refusals.answer(refused, context.peer_id) from refused
        return session_pb2.RevokeDelegationResponse(ended_sessions=ended)

    # --- inside ---

    async def _authorize(
        self,
        terms: SessionAuthorization,
        request: session_pb2.AuthorizeRequest,
        peer_id: PeerId,
    ) -> bytes:
        """Check everything, the costly last, and open the session."""
        signature = request.authorization.signature
        delegation = request.delegation if request.HasField("delegation") else None
        check_parties(
            terms,
            remote_peer_id=peer_id_to_bytes(peer_id),
            host_peer_id=self._peer_id_bytes,
            operator=self._binding().operator,
        )
        repeated = self._repeated(terms, signature, peer_id)
        if repeated is not None:
            return repeated
        self._refuse_if_draining()
        price = self._price_of(terms.model_id, peer_id)
        check_price(terms, price)
        assert price is not None  # check_price saw to it
        check_slice(terms, price, self._limits.slice_micros(price))
        held = check_delegation(terms, delegation, network=self._network, now=self._system.unix_s())
        asked_bits = self._check_open(terms, held, peer_id)
        passage = self._gate.pass_unsigned(terms, request.work, peer_id, asked_bits=asked_bits)
        is_known = held is not None and self._book.delegations.is_verified(held)
        try:
            self._limit_checks(peer_id, _STRANGERS)
            await self._signatures.check_authorization(
                terms, signature, held, is_delegation_known=is_known, peer_id=peer_id
            )
        except RefusedError as refused:
            # Who claims a wallet of the list, and is not, learns nothing of the list.
            raise work_required() if passage.on_claim else refused from refused
        await self._gate.admit(terms, request.deposit_proof, peer_id)
        # A contract wallet or a deposit may have taken its time: what others did meanwhile counts.
        repeated = self._repeated(terms, signature, peer_id)
        if repeated is not None:
            return repeated
        self._refuse_if_draining()
        self._check_open(terms, held, peer_id)
        return self._open(terms, signature, held, peer_id, passage)

    def _repeated(self, terms: SessionAuthorization, signature: bytes, peer_id: PeerId) -> bytes | None:
        now = self._system.unix_s()
        check_times(terms, now=now, max_lifetime_s=self._limits.max_lifetime_s)
        record = self._book.table.repeated(terms, signature, peer_id, now)
        if record is None:
            return None
        self._gate.repeated()
        return record.grant

    def _check_open(self, terms: SessionAuthorization, held: HeldDelegation | None, peer_id: PeerId) -> int:
        """Check what others' calls can change: the challenge, the delegation's account, the room.

        Returns:
            The work that the challenge asked for.
        """
        asked_bits = self._gate.check_challenge(terms.nonce, peer_id)
        self._book.check_room(terms, held, peer_id, self._system.unix_s(), self._network_of(peer_id))
        return asked_bits

    def _open(
        self,
        terms: SessionAuthorization,
        signature: bytes,
        held: HeldDelegation | None,
        peer_id: PeerId,
        passage: Passage,
    ) -> bytes:
        """Open a session whose authorisation holds. No await: one step for the tables."""
        self._signatures.check_papers(terms, signature, held)
        now = self._system.unix_s()
        session_id = self._system.random_bytes(SESSION_ID_BYTES)
        grant = seal_grant(
            self._key,
            terms,
            network=self._network,
            session_id=session_id,
            now=now,
            expires_at_unix_s=None if held is None else held.struct.expires_at_unix_s,
        )
        self._book.open(
            terms,
            signature,
            held,
            session_id=session_id,
            peer_id=peer_id,
            grant=grant,
            now=now,
            network_key=self._network_of(peer_id),
        )
        self._gate.opened(terms.nonce, passage, peer_id)
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

    def _limit_checks(self, peer_id: PeerId, bucket: str) -> None:
        monotonic = self._system.monotonic_s()
        wait_s = self._peer_checks.take(peer_id, monotonic)
        if wait_s == 0.0 and not self._book.table.knows(peer_id):
            wait_s = self._stranger_checks.take(bucket, monotonic)
        if wait_s > 0.0:
            raise RefusedError(Reason.RATE_LIMITED, "too many signatures to check", retry_after_s=wait_s)

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise RefusedError(Reason.DRAINING, "this host opens no new sessions")
