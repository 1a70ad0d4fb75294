"""What ``reputation ask`` prints of peers: one line each, in which their text can do nothing."""

from __future__ import annotations

import json
from dataclasses import replace

from hostmesh.cli.reputation_ask import answer_line, asked_object
from hostmesh.errors import ProtocolNotSupportedError, ReceiptError, RpcError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.receipt_exchange import AskedPeers, PeerAnswer
from hostmesh.receipt_reviews import ImportedReviews

PEER = PeerId("12D3KooWA")
TAKEN = ImportedReviews(
    sessions=4, reviews=2, good=5, bad=1, own=1, other_network=0, unfinished=0, of_own_host=0, not_newer=2, left_out=0
)
TOLD = PeerAnswer(peer_id=PEER, pages=2, taken=TAKEN, is_whole=True)
FORGED = PeerAnswer(
    peer_id=PEER,
    pages=1,
    taken=None,
    is_whole=False,
    error=ReceiptError("no \x1b[2Jcountersignature", reason="BAD_COUNTERSIGNATURE"),
)


def test_each_kind_of_answer_has_its_line() -> None:
    assert answer_line(TOLD) == (
        "12D3KooWA  4 sessions, 2 reviews: 5 good, 1 bad; "
        "3 left out: your own, an operator's own, or no more than was known"
    )
    assert answer_line(replace(TOLD, is_whole=False)).endswith("; not all that it shares")
    assert answer_line(FORGED) == "12D3KooWA  told nothing: RECEIPT_INVALID: no \\x1b[2Jcountersignature"
    none = ProtocolNotSupportedError("not spoken", needed="/hostmesh/receipt/1.0.0")
    assert answer_line(replace(FORGED, error=none)) == "12D3KooWA  shares no receipts"


def test_as_json_every_answer_stands_with_its_error() -> None:
    late = RpcError("slow down", status=StatusCode.RESOURCE_EXHAUSTED, reason="RATE_LIMITED", retry_after_ms=500)
    asked = AskedPeers(answers=(TOLD, FORGED, replace(TOLD, error=late, is_whole=False)), changes=())
    told, forged, cut = json.loads(json.dumps(asked_object(asked)))["peers"]
    assert (told["taken"]["reviews"], "error" in told) == (2, False)
    assert (forged["taken"], forged["error"]["reason"]) == (None, "BAD_COUNTERSIGNATURE")
    assert (cut["taken"]["good"], cut["error"]["reason"], cut["is_whole"]) == (5, "RATE_LIMITED", False)
    assert asked.reviews == 4
