"""A quote as its host signed it: what a job's receipts are held to. Pure."""

from __future__ import annotations

from hostmesh.net.envelope import open_envelope
from hostmesh.net.peer_id import PeerId
from hostmesh.v1 import job_pb2
from hostmesh.wire.bounds import parse

PAYLOAD_TYPE = b"/hostmesh/quote"
MAX_QUOTE_BYTES = 2048
"""Most bytes of a sealed quote; the bound of QuoteResponse.quote."""


def quote_domain(network: str) -> str:
    """Return what a quote is signed for."""
    return f"hostmesh:{network}:quote"


def read_quote(envelope: bytes, *, network: str) -> tuple[PeerId, job_pb2.Quote]:
    """Return who signed a quote, and the quote. What it says is not checked.

    Raises:
        RemoteProtocolError: no quote, a field outside its bounds, or a signature that does not verify.
    """
    opened = open_envelope(envelope, domain=quote_domain(network), payload_type=PAYLOAD_TYPE, max_bytes=MAX_QUOTE_BYTES)
    return opened.peer_id, parse(job_pb2.Quote, opened.payload, MAX_QUOTE_BYTES)
