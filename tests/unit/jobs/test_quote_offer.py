"""Quotes on the wire: what a client believes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.jobs.kit import CLIENT_KEY, HOST_KEY, NETWORK, OTHER_KEY

from hostmesh.errors import BadSignatureError, FrameTooLargeError, JobError, MalformedMessageError, RemoteProtocolError
from hostmesh.jobs.offer import QuoteOffer, open_quote, seal_quote
from hostmesh.jobs.quotes import QuotedTerms
from hostmesh.net.envelope import seal_envelope
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.quote import PAYLOAD_TYPE, quote_domain
from hostmesh.v1 import envelope_pb2, job_pb2

NOW = 1_900_000_000
TERMS = QuotedTerms(
    quote_id=b"q" * 16,
    peer_id=CLIENT_KEY.peer_id,
    model_id="tiny",
    price_micros_per_mtok=250,
    currency="USD",
    max_output_tokens=32,
    context_tokens=256,
    expires_at_s=60.0,
)
SEALED = seal_quote(HOST_KEY, TERMS, network=NETWORK, issued_at_unix_s=NOW, lifetime_s=60, queue_position=3)


def opened(data: bytes = SEALED, **changes: Any) -> QuoteOffer:
    expected: dict[str, Any] = {
        "network": NETWORK,
        "client_peer_id": CLIENT_KEY.peer_id,
        "host_peer_id": HOST_KEY.peer_id,
        "model_id": "tiny",
        "max_output_tokens": 32,
        "max_price_micros_per_mtok": 250,
        "currency": "USD",
        "now": NOW + 1.0,
    }
    return open_quote(data, **{**expected, **changes})


def sealed_with(**changes: Any) -> bytes:
    """A quote that the host really signed, with other fields."""
    fields: dict[str, Any] = {
        "network": NETWORK,
        "quote_id": b"q" * 16,
        "client_peer_id": peer_id_to_bytes(CLIENT_KEY.peer_id),
        "host_peer_id": peer_id_to_bytes(HOST_KEY.peer_id),
        "model_id": "tiny",
        "price_micros_per_mtok": 250,
        "currency": "USD",
        "max_output_tokens": 32,
        "context_tokens": 256,
        "issued_at_unix_s": NOW,
        "expires_at_unix_s": NOW + 60,
    }
    payload = job_pb2.Quote(**{**fields, **changes}).SerializeToString()
    return seal_envelope(HOST_KEY, domain=quote_domain(NETWORK), payload_type=PAYLOAD_TYPE, payload=payload)


def test_a_true_quote_is_read_as_it_was_sealed() -> None:
    offer = opened()
    assert offer.quote_id == b"q" * 16
    assert offer.peer_id == HOST_KEY.peer_id
    assert (offer.price_micros_per_mtok, offer.currency) == (250, "USD")
    assert (offer.max_output_tokens, offer.context_tokens, offer.queue_position) == (32, 256, 3)
    assert (offer.issued_at_unix_s, offer.expires_at_unix_s) == (NOW, NOW + 60)
    assert offer.envelope == SEALED
    assert opened(sealed_with()).price_micros_per_mtok == 250, (
        "the fields of the altered quotes below are the true ones"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", "othernet"),
        ("client_peer_id", peer_id_to_bytes(OTHER_KEY.peer_id)),
        ("client_peer_id", b"?"),
        ("host_peer_id", peer_id_to_bytes(OTHER_KEY.peer_id)),
        ("model_id", "tiny-30"),
        ("max_output_tokens", 33),
        ("context_tokens", 0),
        ("expires_at_unix_s", NOW),
        ("quote_id", b"q" * 15),
        ("currency", ""),
    ],
)
def test_a_signed_quote_with_another_field_is_refused(field: str, value: object) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        opened(sealed_with(**{field: value}))
    assert field in caught.value.field


def test_another_signer_is_refused_however_well_it_signs() -> None:
    forged = seal_quote(OTHER_KEY, TERMS, network=NETWORK, issued_at_unix_s=NOW, lifetime_s=60, queue_position=0)
    with pytest.raises(MalformedMessageError, match="another peer"):
        opened(forged)


def test_a_changed_byte_and_another_networks_domain_break_the_signature() -> None:
    envelope = envelope_pb2.SignedEnvelope.FromString(SEALED)
    quote = job_pb2.Quote.FromString(envelope.payload)
    quote.price_micros_per_mtok = 1
    envelope.payload = quote.SerializeToString()
    with pytest.raises(BadSignatureError):
        opened(envelope.SerializeToString())
    with pytest.raises(BadSignatureError):
        opened(network="othernet")
    with pytest.raises(RemoteProtocolError):
        opened(SEALED[:-1])
    with pytest.raises(FrameTooLargeError):
        opened(SEALED + bytes(2048))


def test_an_envelope_made_for_another_purpose_is_no_quote() -> None:
    payload = envelope_pb2.SignedEnvelope.FromString(SEALED).payload
    for domain, kind in ((f"hostmesh:{NETWORK}:session-grant", PAYLOAD_TYPE), (quote_domain(NETWORK), b"/other")):
        with pytest.raises(RemoteProtocolError):
            opened(seal_envelope(HOST_KEY, domain=domain, payload_type=kind, payload=payload))


@pytest.mark.parametrize("now", [NOW - 31, NOW + 90])
def test_a_quote_outside_its_time_and_30_s_is_refused(now: float) -> None:
    with pytest.raises(JobError) as caught:
        opened(now=now)
    assert caught.value.reason == "QUOTE_EXPIRED"
    opened(now=NOW - 29)
    opened(now=NOW + 89)


@pytest.mark.parametrize("changes", [{"max_price_micros_per_mtok": 249}, {"currency": "EUR"}])
def test_a_price_above_the_ceiling_is_no_offence_but_not_taken(changes: dict[str, Any]) -> None:
    with pytest.raises(JobError) as caught:
        opened(**changes)
    assert caught.value.reason == "PRICE_TOO_LOW"


def test_no_ceiling_takes_every_price_and_free_is_a_price() -> None:
    assert opened(max_price_micros_per_mtok=None, currency=None).price_micros_per_mtok == 250
    assert opened(sealed_with(price_micros_per_mtok=0), max_price_micros_per_mtok=0).price_micros_per_mtok == 0
