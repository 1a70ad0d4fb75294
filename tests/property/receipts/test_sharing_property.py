"""Shared receipts, whatever becomes of their bytes and whatever is asked: no other word is heard, nothing else told."""

from __future__ import annotations

from functools import cache
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st
from tests.support.receipts import CLIENT, HOST, NETWORK, NOW, WALLET
from tests.support.shared_receipts import keep, session_id_of, session_with

from hostmesh.errors import RemoteProtocolError
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.receipt_reviews import Meeting, import_reviews
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.receipts.service import ReceiptServer
from hostmesh.receipts.shared_client import SharedReceipts
from hostmesh.receipts.sharing import session_message
from hostmesh.receipts.store import ReceiptStore
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.foreign import Review
from hostmesh.rpc.context import CallContext
from hostmesh.system import System
from hostmesh.testing import make_peer_key
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.wire.bounds import parse

DONE, FAILED = JobState.SUCCEEDED, JobState.FAILED
PEER = PeerId("a peer")
OTHER = make_peer_key("another host")
MEETING = Meeting(client_peer_id=peer_id_to_bytes(CLIENT.peer_id), network="192.0.2.0/24")
SHARED = frozenset({2, 5, 6})
NAMES = (peer_id_to_bytes(HOST.peer_id), peer_id_to_bytes(OTHER.peer_id), b"nobody")


class Peer:
    def __init__(self, page: pb.ListSharedResponse) -> None:
        self._page = page

    async def unary(self, peer_id: PeerId, method: Any, request: Any, **rest: Any) -> pb.ListSharedResponse:
        return self._page


@cache
def honest_page() -> bytes:
    messages = [session_message(session_with(number, DONE, FAILED)) for number in (1, 2)]
    return pb.ListSharedResponse(sessions=[each for each in messages if each is not None]).SerializeToString()


def heard_of(data: bytes) -> Review | None:
    """What stays in the book of an asker who is answered with these bytes; as the shipped code takes them."""
    book = ReputationBook(system=System(unix_s=lambda: float(NOW + 3600)))
    try:
        page = parse(pb.ListSharedResponse, data, 204_800)
        heard = SharedReceipts(Peer(page), PEER, network=NETWORK)  # type: ignore[arg-type]
        trio.run(heard.ask)
    except RemoteProtocolError:
        return None
    import_reviews(book, heard.bundles, network=NETWORK, own_wallets=(), meeting=MEETING)
    hosts = [name.peer_id for name in book.snapshot().names(HOST.peer_id)]
    assert book.hosts() == ()
    if not hosts:
        return None
    (name,) = book.names(HOST.peer_id)
    return book.review_of("0x" + WALLET.address_bytes.hex(), *name)


def test_the_page_itself_is_heard() -> None:
    review = heard_of(honest_page())
    assert review is not None
    assert (review.good, review.bad, review.network) == (2, 2, MEETING.network)


@given(data=st.data())
def test_a_page_with_any_byte_changed_is_heard_as_it_was_signed_or_not_at_all(data: st.DataObject) -> None:
    """What a byte can do without a fault is to take a session or a job out of the page: so may who tells it."""
    page = bytearray(honest_page())
    place = data.draw(st.integers(0, len(page) - 1), label="place")
    page[place] ^= data.draw(st.integers(1, 255), label="change")
    review = heard_of(bytes(page))
    if review is not None:
        assert review.good <= 2
        assert review.bad <= 2
        assert review.network == MEETING.network


@given(data=st.data())
def test_a_page_cut_anywhere_or_with_parts_exchanged_says_nothing_new(data: st.DataObject) -> None:
    """Parts of one session or job in another's place: each was signed, and not for there."""
    page = pb.ListSharedResponse.FromString(honest_page())
    first, second = page.sessions
    named = data.draw(st.sampled_from(["authorization", "grant", "quote", "receipt", "countersignature", "job_id"]))
    if named in ("authorization", "grant"):
        setattr(first, named, getattr(second, named))
    else:
        other = data.draw(st.sampled_from([first.jobs[1], *second.jobs]), label="of")
        setattr(first.jobs[0], named, getattr(other, named))
    assert heard_of(page.SerializeToString()) is None


@cache
def server() -> ReceiptServer:
    store = ReceiptStore(None)
    for number in range(1, 8):
        host = HOST if number % 2 else OTHER
        keep(store, session_with(number, DONE, host=host), is_shared=number in SHARED)
    return ReceiptServer(store.shared, network=NETWORK)


tokens = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda number, name: session_id_of(number) + name, st.integers(0, 9), st.sampled_from([b"", *NAMES])),
)


@given(hosts=st.lists(st.sampled_from(NAMES), max_size=4), token=tokens)
def test_no_question_gets_at_a_session_that_is_not_shared(hosts: list[bytes], token: bytes) -> None:
    context = CallContext(peer_id=PEER, method="ReceiptService.ListShared", deadline=None)
    request = pb.ListSharedRequest(host_peer_ids=hosts, page_token=token)
    page = trio.run(server().list_shared, request, context)
    told = set()
    for message in page.sessions:
        for job in message.jobs:
            receipt = open_sealed(job.receipt, network=NETWORK).receipt
            told.add(int.from_bytes(receipt.session_id, "big"))
            assert not hosts or receipt.host_peer_id in hosts
    assert told <= SHARED
    # Nor does the answer say how many others there are: it is that of a node that has none.
    assert not page.next_page_token
