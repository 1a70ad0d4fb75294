"""What a node tells of its user's receipts: consented sessions, page by page, and nothing of any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import trio
from tests.support.receipts import HOST, NETWORK
from tests.support.shared_receipts import keep, session_id_of, session_with

from hostmesh.errors import MalformedMessageError, RpcError, StatusCode
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.receipts.bundle import JobPapers, ReceiptPapers, verify_bundle, verify_session
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.receipts.service import ReceiptServer
from hostmesh.receipts.sharing import (
    MAX_LOOKED,
    MAX_PAGE_BYTES,
    MAX_PAGE_SESSIONS,
    SharedPlace,
    bundle_of,
    check_page,
    page_of,
    place_of,
    session_message,
    token_of,
)
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.context import CallContext
from hostmesh.testing import make_peer_key
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.v1 import session_pb2
from hostmesh.wire.bounds import check_bounds

DONE, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
OTHER = make_peer_key("another host")
CALL = CallContext(peer_id=PeerId("asker"), method="ReceiptService.ListShared", deadline=None)


@pytest.fixture
def store() -> Iterator[ReceiptStore]:
    kept = ReceiptStore(None)
    yield kept
    kept.close()


def told(store: ReceiptStore, *hosts: bytes, token: bytes = b"", network: str = NETWORK) -> pb.ListSharedResponse:
    request = pb.ListSharedRequest(host_peer_ids=hosts, page_token=token)
    page = trio.run(ReceiptServer(store.shared, network=network).list_shared, request, CALL)
    check_bounds(page)
    return page


def numbers(page: pb.ListSharedResponse) -> list[int]:
    """The numbers of the sessions of a page, by their grants, each verified as somebody else verifies it."""
    found = []
    for message in page.sessions:
        bundle = bundle_of(message, network=NETWORK)
        assert verify_bundle(bundle) > 0
        receipt = open_sealed(bundle.jobs[0].receipts[-1].envelope, network=NETWORK).receipt
        found.append(int.from_bytes(receipt.session_id, "big"))
    return found


def test_only_sessions_that_the_client_agreed_to_share_are_told(store: ReceiptStore) -> None:
    for number in range(1, 5):
        keep(store, session_with(number, DONE), is_shared=number in (2, 3))
    assert numbers(told(store)) == [2, 3]
    store.papers.set_shared(peer_id_to_bytes(HOST.peer_id), session_id_of(2), False, network=NETWORK)
    assert numbers(told(store)) == [3]


def test_consent_is_to_a_session_of_one_network_and_host(store: ReceiptStore) -> None:
    """Hosts choose the ids: one that is in two networks may give the sessions of a client in both the same."""
    session = session_with(1, DONE)
    keep(store, session, is_shared=False)
    terms, _ = verify_session(session.session)
    host, session_id = peer_id_to_bytes(HOST.peer_id), session_id_of(1)
    other_host = replace(terms.authorization, host_peer_id=peer_id_to_bytes(OTHER.peer_id))
    for network, authorization in (("company", terms.authorization), (NETWORK, other_host)):
        elsewhere = replace(terms, network=network, authorization=authorization)
        store.papers.put_session(elsewhere, session.session, is_host=False)

    def shared() -> set[tuple[str, bytes]]:
        with store._store.reading() as db:
            return set(db.execute("SELECT network, host FROM sessions WHERE is_shared").fetchall())

    assert store.papers.set_shared(host, session_id, True, network=NETWORK)
    assert shared() == {(NETWORK, host)}
    assert not store.papers.set_shared(host, session_id, True, network="another")
    assert store.papers.set_shared(host, session_id, True, network="company")
    assert store.papers.set_shared(host, session_id, False, network=NETWORK)
    assert shared() == {("company", host)}


def test_whoever_shares_nothing_says_what_one_with_no_receipts_says(store: ReceiptStore) -> None:
    keep(store, session_with(1, DONE), is_shared=False)
    assert told(store) == told(store, peer_id_to_bytes(HOST.peer_id)) == pb.ListSharedResponse()
    assert not store.shared.is_any(NETWORK)
    assert told(store, token=session_id_of(0) + b"h") == pb.ListSharedResponse()


def test_a_host_tells_nothing_of_its_clients(store: ReceiptStore) -> None:
    """Also where its row says that it is shared, which no command does, and the client's own row of it is."""
    keep(store, session_with(1, DONE), is_shared=True, is_host=True)
    with store._store.transaction() as db:
        db.execute("UPDATE sessions SET is_shared = 1")
    assert told(store) == pb.ListSharedResponse()
    keep(store, session_with(1, DONE), is_shared=True)
    assert numbers(told(store)) == [1]


def test_sessions_of_other_networks_and_hosts_are_left_out(store: ReceiptStore) -> None:
    keep(store, session_with(1, DONE), is_shared=True)
    keep(store, session_with(2, DONE, host=OTHER), is_shared=True)
    assert told(store, network="elsewhere") == pb.ListSharedResponse()
    assert not store.shared.is_any("elsewhere")
    assert store.shared.is_any(NETWORK)
    assert numbers(told(store, peer_id_to_bytes(OTHER.peer_id))) == [2]
    assert numbers(told(store, peer_id_to_bytes(OTHER.peer_id), peer_id_to_bytes(HOST.peer_id))) == [1, 2]
    assert told(store, b"nobody") == pb.ListSharedResponse()


def test_a_job_is_told_by_its_last_receipt_if_that_says_how_the_host_did(store: ReceiptStore) -> None:
    keep(store, session_with(1, DONE, CANCELLED, FAILED), is_shared=True)
    keep(store, session_with(2, CANCELLED), is_shared=True)
    (message,) = told(store).sessions
    bundle = bundle_of(message, network=NETWORK)
    states = [open_sealed(job.receipts[0].envelope, network=NETWORK).state for job in bundle.jobs]
    assert states == [FAILED, DONE]
    assert [len(job.receipts) for job in bundle.jobs] == [1, 1]
    verify_bundle(bundle)


def test_what_its_client_did_not_sign_is_not_told(store: ReceiptStore) -> None:
    session = session_with(1, DONE)
    keep(store, session, is_shared=True)
    with store._store.transaction() as db:
        db.execute("UPDATE receipts SET countersignature = x'' WHERE state = ?", (int(DONE),))
    assert told(store) == pb.ListSharedResponse()


def test_pages_follow_each_other_and_each_session_is_told_once(store: ReceiptStore) -> None:
    for number in range(1, 2 * MAX_PAGE_SESSIONS + 2):
        keep(store, session_with(number, DONE), is_shared=True)
    first = told(store)
    second = told(store, token=first.next_page_token)
    third = told(store, token=second.next_page_token)
    pages = [numbers(page) for page in (first, second, third)]
    assert pages == [list(range(1, 33)), list(range(33, 65)), [65]]
    assert not third.next_page_token


def test_a_page_and_a_session_have_as_many_bytes_as_they_may() -> None:
    session = session_with(1, *[DONE] * 64)
    message = session_message(session)
    assert message is not None
    assert 40 < len(message.jobs) <= 64
    assert message.ByteSize() <= 65_536
    follow = [(SharedPlace(session_id=session_id_of(number), host_peer_id=b"h"), session) for number in range(9)]
    page = page_of(follow)
    assert 0 < page.ByteSize() <= MAX_PAGE_BYTES + 128 <= 204_800
    assert len(page.sessions) == MAX_PAGE_BYTES // message.ByteSize()
    assert place_of(page.next_page_token).session_id == session_id_of(len(page.sessions) - 1)


def test_a_session_is_told_by_as_many_jobs_as_it_may_have_bytes() -> None:
    """Whatever its quotes and receipts hold, within their own bounds."""
    session = session_with(1, DONE)
    large = JobPapers(
        job_id=b"j" * 16,
        quote=b"q" * 2048,
        receipts=(ReceiptPapers(envelope=b"r" * 2048, countersignature=b"c" * 65),),
    )
    message = session_message(replace(session, jobs=(large,) * 64))
    assert message is not None
    assert len(message.jobs) == 15
    assert 60_000 < message.ByteSize() <= 65_536


def test_a_contract_wallets_session_is_left_out_and_pages_go_on() -> None:
    session = session_with(1, DONE)
    signed = session_pb2.SessionAuthorization.FromString(session.session.authorization)
    signed.signature = b"what its contract takes"
    contract = replace(session, session=replace(session.session, authorization=signed.SerializeToString()))
    assert session_message(contract) is None
    places = [SharedPlace(session_id=session_id_of(number), host_peer_id=b"h") for number in range(MAX_LOOKED)]
    page = page_of((place, contract) for place in places)
    assert (len(page.sessions), page.next_page_token) == (0, token_of(places[-1]))
    few = page_of([(places[0], contract), (places[1], session)])
    assert (len(few.sessions), few.next_page_token) == (1, b"")


def test_tokens_are_places_and_any_bytes_are_one() -> None:
    place = SharedPlace(session_id=b"s" * 16, host_peer_id=b"host")
    assert place_of(token_of(place)) == place
    assert place_of(b"short").host_peer_id == b""


@pytest.mark.parametrize("token", [b"b", b"a"])
def test_a_page_that_leads_back_is_refused(token: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        check_page(pb.ListSharedResponse(next_page_token=token), pb.ListSharedRequest(page_token=b"b"))


def test_a_session_without_a_job_is_refused() -> None:
    with pytest.raises(MalformedMessageError):
        check_page(pb.ListSharedResponse(sessions=[pb.SharedSession()]), pb.ListSharedRequest())


def test_a_file_that_cannot_be_read_is_said_to_be_so(store: ReceiptStore) -> None:
    store.close()
    with pytest.raises(RpcError) as caught:
        told(store)
    assert (caught.value.status, caught.value.reason) == (StatusCode.UNAVAILABLE, "RECEIPTS_UNAVAILABLE")
