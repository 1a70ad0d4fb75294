"""The client's side of sessions: opens one on a host that discovery chose, and closes it.

Two calls open a session: a challenge, then the wallet's authorisation over it. Nothing of what the host answers is
taken on trust: its binding must prove the operator that discovery verified, its grant must be signed by the peer that
was asked, for this authorisation, in this network.

Spec: docs/protocols/session.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    MalformedMessageError,
    RemoteProtocolError,
    RpcError,
    SessionError,
    StatusCode,
    UsageError,
)
from hostmesh.identity.binding import verify_binding
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.typed_data import NONCE_BYTES, SIGNATURE_BYTES
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.sessions.authorization import MAX_LIFETIME_S, message_from_terms
from hostmesh.sessions.grant import open_grant
from hostmesh.sessions.reasons import GrantFault, Reason
from hostmesh.sessions.session import CLOSE_TIMEOUT_S, Session
from hostmesh.system import System
from hostmesh.v1 import session_pb2 as pb
from hostmesh.v1.session_hostmesh import SessionServiceClient
from hostmesh.wire.bounds import check_bounds

DEFAULT_LIFETIME_S = 3600
DEFAULT_SLICE_TOKENS = 8192
"""What a slice is worth where the caller names none."""
_ATTEMPTS = 3

_REMEDIES = {
    Reason.EXPIRED: "set this machine's clock by a time server; the host may be the one that is off",
    Reason.NOT_YET_VALID: "set this machine's clock by a time server; the host may be the one that is off",
    Reason.LIFETIME_TOO_LONG: "ask for a shorter session",
    Reason.UNKNOWN_MODEL: "look for a host again: this one no longer offers the model at a price",
    Reason.WRONG_CURRENCY: "authorise the currency in which the host prices the model",
    Reason.PRICE_TOO_LOW: "raise the price ceiling, or look for a cheaper host",
    Reason.BAD_SIGNATURE: "check that client and host name the same network",
    Reason.REPLAYED: "open a new session",
    Reason.UNKNOWN_CHALLENGE: "open a new session",
    Reason.DRAINING: "look for another host: this one is about to leave",
}


class PriceLike(Protocol):
    """A price per million tokens."""

    @property
    def micros_per_mtok(self) -> int:
        """Integer micro-units of the currency; 0 = free."""
        ...

    @property
    def currency(self) -> str:
        """The currency's name."""
        ...


class ChoiceLike(Protocol):
    """What a session needs to know of a host: discovery's ``HostChoice`` says it."""

    @property
    def peer_id(self) -> PeerId:
        """The host's peer id."""
        ...

    @property
    def operator(self) -> bytes:
        """The wallet that discovery verified, 20 bytes."""
        ...

    @property
    def model_id(self) -> str:
        """The model to authorise."""
        ...

    @property
    def price(self) -> PriceLike | None:
        """What the host asks for it; None = unpriced."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenHost:
    """A host and what is authorised there: a :class:`ChoiceLike` of one's own, where discovery made none."""

    peer_id: PeerId
    operator: bytes
    model_id: str
    price: PriceLike | None


class SessionManager:
    """Opens sessions with this client's wallet.

    Args:
        caller: makes the calls.
        wallet: signs authorisations.
        peer_id: this node's peer id; the only one that may use the sessions.
        network: the network's name.
        system: clocks.
    """

    def __init__(
        self, *, caller: RpcCaller, wallet: Wallet, peer_id: PeerId, network: str, system: System | None = None
    ) -> None:
        self._caller = caller
        self._wallet = wallet
        self._peer_id = peer_id
        self._network = network
        self._system = system or System()

    @asynccontextmanager
    async def open_session(
        self,
        choice: ChoiceLike,
        *,
        spending_limit_micros: int,
        model_id: str | None = None,
        max_price_micros_per_mtok: int | None = None,
        currency: str | None = None,
        lifetime_s: int = DEFAULT_LIFETIME_S,
        timeout_s: float = 10.0,
    ) -> AsyncIterator[Session]:
        """Open a session for the life of the block.

        Args:
            choice: the host, as discovery verified it.
            spending_limit_micros: most that the session may cost, micro-units of the currency; 0 only for a free model.
            model_id: the model; None = that of the choice.
            max_price_micros_per_mtok: the price ceiling; None = the price of the choice.
            currency: of both; None = that of the choice's price.
            lifetime_s: 1 s to one day.
            timeout_s: seconds for opening.

        Yields:
            The session. Leaving the block closes it, within 2 s at most, also when the block is cancelled.

        Raises:
            SessionError: the host refused (``reason`` is a word of :class:`~hostmesh.sessions.reasons.Reason`) or its
                answer proves nothing (a word of :class:`~hostmesh.sessions.reasons.GrantFault`).
            RpcError: the host is too busy (RESOURCE_EXHAUSTED, with ``retry_after_ms``) or failed.
            TransportError: the host was not reached in time. Safe to try again: an authorisation opens one session at
                most, and an unused one expires by itself.
            UsageError: terms that no host can accept; nothing was sent.

        Cost: two round trips on a warm connection.
        """
        session = await self.start_session(
            choice,
            spending_limit_micros=spending_limit_micros,
            model_id=model_id,
            max_price_micros_per_mtok=max_price_micros_per_mtok,
            currency=currency,
            lifetime_s=lifetime_s,
            timeout_s=timeout_s,
        )
        try:
            yield session
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_TIMEOUT_S):
                await session.close()

    async def start_session(
        self,
        choice: ChoiceLike,
        *,
        spending_limit_micros: int,
        model_id: str | None = None,
        max_price_micros_per_mtok: int | None = None,
        currency: str | None = None,
        lifetime_s: int = DEFAULT_LIFETIME_S,
        timeout_s: float = 10.0,
    ) -> Session:
        """Like :meth:`open_session`, for a session whose end the caller sees to with :meth:`Session.close`.

        Cancellation: safe; the host may hold a session that nobody uses and that expires.
        """
        price = choice.price
        ceiling = max_price_micros_per_mtok if max_price_micros_per_mtok is not None else _micros(price)
        if ceiling is None:
            raise UsageError("the host states no price", remedy="give max_price_micros_per_mtok and currency")
        unit = currency or (price.currency if price is not None else "")
        if not unit:
            raise UsageError("the host states no currency", remedy="give currency")
        if type(lifetime_s) is not int or not 1 <= lifetime_s <= MAX_LIFETIME_S:
            raise UsageError("a session lives between 1 s and one day, in whole seconds")
        draft = SessionAuthorization(
            client=self._wallet.address_bytes,
            operator=choice.operator,
            client_peer_id=peer_id_to_bytes(self._peer_id),
            host_peer_id=peer_id_to_bytes(choice.peer_id),
            nonce=bytes(NONCE_BYTES),
            model_id=model_id or choice.model_id,
            max_price_micros_per_mtok=ceiling,
            currency=unit,
            spending_limit_micros=spending_limit_micros,
            issued_at_unix_s=0,
            expires_at_unix_s=lifetime_s,
            slice_micros=min(spending_limit_micros, ceiling * DEFAULT_SLICE_TOKENS // 1_000_000 + 1),
        )
        _check_fits(draft)
        deadline = trio.current_time() + timeout_s
        try:
            challenge = await self._challenge(choice, deadline)
            now = int(self._system.unix_s())
            terms = replace(draft, nonce=challenge.nonce, issued_at_unix_s=now, expires_at_unix_s=now + lifetime_s)
            return await self._authorize(choice.peer_id, terms, deadline)
        except RpcError as error:
            refused = _session_error(error)
            if refused is None:
                raise
            raise refused from error

    async def _challenge(self, choice: ChoiceLike, deadline: float) -> pb.Challenge:
        challenge = await SessionServiceClient(self._caller, choice.peer_id).get_challenge(
            pb.GetChallengeRequest(), timeout_s=_left_s(deadline)
        )
        if challenge.operator != choice.operator:
            raise SessionError(
                "the host is bound to another operator than when it was found",
                reason=GrantFault.OPERATOR_CHANGED.value,
                remedy="find hosts again",
            )
        if not challenge.HasField("binding"):
            raise SessionError(
                "the host shows no binding", reason=GrantFault.BAD_BINDING.value, remedy="find hosts again"
            )
        try:
            operator = verify_binding(
                challenge.binding, peer_id=choice.peer_id, network=self._network, now=self._system.unix_s()
            )
        except RemoteProtocolError as error:
            raise SessionError(
                f"the host's binding proves nothing: {error.message}",
                reason=GrantFault.BAD_BINDING.value,
                remedy=error.remedy or "check that client and host name the same network, or choose another host",
            ) from error
        if operator != choice.operator:
            raise SessionError(
                "the host's binding is of another operator than when it was found",
                reason=GrantFault.OPERATOR_CHANGED.value,
                remedy="find hosts again",
            )
        return challenge

    async def _authorize(self, host: PeerId, terms: SessionAuthorization, deadline: float) -> Session:
        request = pb.AuthorizeRequest(authorization=message_from_terms(terms, self._wallet.sign(terms, self._network)))
        client = SessionServiceClient(self._caller, host)
        # The identical authorisation gets the same grant, so a lost answer is asked for again.
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = await client.authorize(request, timeout_s=_left_s(deadline))
                break
            except ConnectionLostError:
                if attempt == _ATTEMPTS or trio.current_time() >= deadline:
                    raise
        grant = open_grant(response.grant, terms, host=host, network=self._network, now=self._system.unix_s())
        return Session(self._caller, host, terms, grant, response.grant)


def _left_s(deadline: float) -> float:
    left_s = deadline - trio.current_time()
    if left_s <= 0:
        raise DeadlineExceededError("no session was opened in time")
    return left_s


def _check_fits(terms: SessionAuthorization) -> None:
    """Check that the wire carries these terms.

    Raises:
        UsageError: a text that is too long, or no text.
    """
    try:
        check_bounds(message_from_terms(terms, bytes(SIGNATURE_BYTES)))
    except (MalformedMessageError, ValueError) as error:
        raise UsageError("the model's id or the currency is no text that a host could take") from error


def _micros(price: PriceLike | None) -> int | None:
    return None if price is None else price.micros_per_mtok


def _session_error(error: RpcError) -> SessionError | None:
    """Return what a refusal means to the caller; None for what may pass by waiting and for failures."""
    if error.status is StatusCode.RESOURCE_EXHAUSTED or error.reason not in Reason.__members__:
        return None
    reason = Reason(error.reason)
    return SessionError(
        f"the host opens no session: {error.message}",
        reason=reason.value,
        remedy=_REMEDIES.get(reason, "find hosts again"),
    )
