"""What a client authorises: terms made of a host that discovery chose, checked before anything is sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from hostmesh.errors import MalformedMessageError, UsageError
from hostmesh.identity.delegation import delegation_of_message
from hostmesh.identity.structs import NO_DIGEST, Delegation, SessionAuthorization
from hostmesh.identity.typed_data import NONCE_BYTES, SIGNATURE_BYTES, typed_digest
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.sessions.authorization import MAX_LIFETIME_S, message_from_terms
from hostmesh.sessions.client_errors import not_sent
from hostmesh.sessions.delegation import check_covers
from hostmesh.sessions.reasons import RefusedError
from hostmesh.v1 import session_pb2 as pb
from hostmesh.wire.bounds import check_bounds

DEFAULT_SLICE_TOKENS = 8192
"""What a slice is worth where the caller names none. It holds the prompt and half an answer of most jobs."""
MOST_DEFAULT_SLICE_TOKENS = 65_536
"""What it is worth at most where the host asks for more."""
_TOKENS_PER_PRICE = 1_000_000


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionWish:
    """What the caller wants of a session; see :meth:`hostmesh.sessions.client.SessionManager.open_session`."""

    spending_limit_micros: int
    model_id: str | None
    max_price_micros_per_mtok: int | None
    currency: str | None
    slice_micros: int | None
    lifetime_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDraft:
    """What is authorised, but for what the host's challenge says."""

    terms: SessionAuthorization
    """Without a nonce, and with its life as times since 0."""
    slice_price: int | None
    """What a slice is worth so many tokens at, which nobody named; None = it is named."""
    delegation: Delegation | None
    """Under which a session key signs."""
    network: str

    def answer(self, challenge: pb.Challenge, *, now: int) -> SessionAuthorization:
        """Return the terms that answer a challenge.

        Args:
            challenge: of the host.
            now: unix seconds.

        Raises:
            SessionError: a word that begins with DELEGATION: by this clock the delegation does not hold.
        """
        terms = replace(
            self.terms,
            nonce=challenge.nonce,
            issued_at_unix_s=now,
            expires_at_unix_s=now + self.terms.expires_at_unix_s,
        )
        if self.delegation is not None:
            # Receipts of a session that its delegation does not cover are worth nothing to its host.
            try:
                check_covers(terms, self.delegation, network=self.network)
            except RefusedError as refused:
                raise not_sent(refused) from refused
        if self.slice_price is None:
            return terms
        most = challenge.max_slice_tokens or DEFAULT_SLICE_TOKENS
        least = min(challenge.min_slice_tokens, MOST_DEFAULT_SLICE_TOKENS)
        tokens = max(least, min(DEFAULT_SLICE_TOKENS, most))
        return replace(terms, slice_micros=slice_of(tokens, self.slice_price, terms.spending_limit_micros))


def draft_terms(
    choice: ChoiceLike,
    wish: SessionWish,
    *,
    client: bytes,
    client_peer_id: PeerId,
    delegation: pb.Delegation | None,
    network: str,
) -> SessionDraft:
    """Return what to authorise.

    Args:
        choice: the host, as discovery verified it.
        wish: what the caller wants.
        client: the wallet that pays, 20 bytes.
        client_peer_id: this node's.
        delegation: under which a session key signs; None = the wallet does.
        network: the network's name.

    Raises:
        UsageError: terms that no host can accept, or that the delegation does not allow.
    """
    price = choice.price
    ceiling = wish.max_price_micros_per_mtok
    if ceiling is None:
        ceiling = None if price is None else price.micros_per_mtok
    if ceiling is None:
        raise UsageError("the host states no price", remedy="give max_price_micros_per_mtok and currency")
    currency = wish.currency or (price.currency if price is not None else "")
    if not currency:
        raise UsageError("the host states no currency", remedy="give currency")
    if type(wish.lifetime_s) is not int or not 1 <= wish.lifetime_s <= MAX_LIFETIME_S:
        raise UsageError("a session lives between 1 s and one day, in whole seconds")
    slice_price, slice_micros = None, wish.slice_micros
    if slice_micros is None:
        slice_price = _slice_price(price, currency, ceiling)
        slice_micros = slice_of(DEFAULT_SLICE_TOKENS, slice_price, wish.spending_limit_micros)
    struct = None if delegation is None else delegation_of_message(delegation)
    terms = SessionAuthorization(
        client=client,
        operator=choice.operator,
        client_peer_id=peer_id_to_bytes(client_peer_id),
        host_peer_id=peer_id_to_bytes(choice.peer_id),
        nonce=bytes(NONCE_BYTES),
        model_id=wish.model_id or choice.model_id,
        max_price_micros_per_mtok=ceiling,
        currency=currency,
        spending_limit_micros=wish.spending_limit_micros,
        issued_at_unix_s=0,
        expires_at_unix_s=wish.lifetime_s,
        slice_micros=slice_micros,
        delegation_digest=NO_DIGEST if struct is None else typed_digest(struct, network),
    )
    _check_slice(terms)
    if struct is not None:
        _check_delegated(terms, struct)
    try:
        check_bounds(message_from_terms(terms, bytes(SIGNATURE_BYTES)))
    except (MalformedMessageError, ValueError) as error:
        raise UsageError("the model's id or the currency is no text that a host could take") from error
    return SessionDraft(terms=terms, slice_price=slice_price, delegation=struct, network=network)


def slice_of(tokens: int, micros_per_mtok: int, spending_limit_micros: int) -> int:
    """Return what tokens cost, rounded up, but never more than the limit.

    >>> slice_of(8192, 150_000, 10_000), slice_of(8192, 150_000, 1_000), slice_of(8192, 0, 0)
    (1229, 1000, 0)
    """
    return min(spending_limit_micros, -(-micros_per_mtok * tokens // _TOKENS_PER_PRICE))


def _slice_price(price: PriceLike | None, currency: str, ceiling: int) -> int:
    """Return the host's price, which its bounds are at; the ceiling where it states none that is comparable."""
    if price is None or price.currency != currency:
        return ceiling
    # What is free now may have a price later.
    return min(price.micros_per_mtok, ceiling) or ceiling


def _check_slice(terms: SessionAuthorization) -> None:
    if terms.slice_micros > terms.spending_limit_micros:
        raise UsageError("the slice is above the spending limit", remedy="lower slice_micros or raise the limit")
    if terms.slice_micros == 0 and terms.max_price_micros_per_mtok > 0:
        raise UsageError(
            "a slice, and so a spending limit, of 0 is for free models only",
            remedy="give a spending limit above 0, or a price ceiling of 0",
        )


def _check_delegated(terms: SessionAuthorization, delegation: Delegation) -> None:
    caps = {cap.host_peer_id: cap.cap_micros for cap in delegation.host_caps}
    for what, is_allowed in (
        ("this model", terms.model_id in delegation.model_ids),
        ("this host", terms.host_peer_id in caps),
        ("this currency", terms.currency == delegation.currency),
        ("so high a spending limit", terms.spending_limit_micros <= caps.get(terms.host_peer_id, 0)),
    ):
        if not is_allowed:
            raise UsageError(
                f"the delegation does not allow {what}", remedy="keep to it, or ask its owner for another one"
            )


def owner_of(delegation: pb.Delegation, delegate: bytes) -> bytes:
    """Return who delegated to a session key, by its address; 20 bytes each.

    Raises:
        UsageError: no delegation, or to another key.
    """
    try:
        struct = delegation_of_message(delegation)
    except MalformedMessageError as error:
        raise UsageError(f"no delegation: {error.message}") from error
    if struct.delegate != delegate:
        raise UsageError(
            "the delegation is to another key than this wallet's", remedy="authenticate with the session key"
        )
    return struct.owner
