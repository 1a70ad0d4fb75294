"""What an asker takes of a peer that shares receipts: what verifies, and no more than its bounds, whoever tells."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio
from tests.support.receipts import NETWORK
from tests.support.shared_receipts import keep, session_with

from hostmesh.errors import DeadlineExceededError, MalformedMessageError, ReceiptError
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.receipts.bundle import SessionBundle
from hostmesh.receipts.receipt import JobState
from hostmesh.receipts.service import ReceiptServer
from hostmesh.receipts.shared_client import MAX_JOBS, MAX_PAGES, MAX_REVIEWERS, MAX_SESSIONS, SharedReceipts
from hostmesh.receipts.sharing import session_message
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.context import CallContext
from hostmesh.testing import make_peer_key, make_wallet
from hostmesh.v1 import receipt_pb2 as pb

DONE, FAILED = JobState.SUCCEEDED, JobState.FAILED
PEER = PeerId("a peer")
OTHER = make_peer_key("another host")
Answer = Callable[[pb.ListSharedRequest], pb.ListSharedResponse]


class Peer:
    """A peer that answers as it likes; it keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[pb.ListSharedRequest] = []

    async def unary(self, peer_id: PeerId, method: Any, request: Any, **rest: Any) -> Any:
        asked = pb.ListSharedRequest()
        asked.CopyFrom(request)
        self.asked.append(asked)
        await trio.lowlevel.checkpoint()
        return self._answer(asked)


def page(*sessions: SessionBundle, token: bytes = b"") -> pb.ListSharedResponse:
    messages = [session_message(each) for each in sessions]
    return pb.ListSharedResponse(sessions=[each for each in messages if each is not None], next_page_token=token)


def honest(*sessions: SessionBundle) -> Answer:
    """The service itself, before a store that shares all of the sessions."""
    store = ReceiptStore(None)
    for each in sessions:
        keep(store, each, is_shared=True)
    server = ReceiptServer(store.shared, network=NETWORK)
    context = CallContext(peer_id=PEER, method="ReceiptService.ListShared", deadline=None)

    def answer(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
        call = server.list_shared(request, context)
        try:
            call.send(None)
        except StopIteration as end:
            response: pb.ListSharedResponse = end.value
            return response
        raise AssertionError("the service waits for nothing")

    return answer


def hear(answer: Answer, *questions: Sequence[PeerId]) -> tuple[SharedReceipts, Peer]:
    peer = Peer(answer)
    heard = SharedReceipts(peer, PEER, network=NETWORK)  # type: ignore[arg-type]

    async def ask() -> None:
        for hosts in questions or ((),):
            await heard.ask(hosts)

    trio.run(ask)
    return heard, peer


def test_what_a_peer_shares_comes_whole_and_once() -> None:
    sessions = [session_with(number, DONE, FAILED) for number in range(1, 4)]
    sessions.append(session_with(4, DONE, host=OTHER))
    heard, peer = hear(honest(*sessions), [OTHER.peer_id], ())
    assert [len(each.jobs) for each in heard.bundles] == [1, 2, 2, 2]
    assert (heard.pages, heard.is_whole, heard.has_lied) == (2, True, False)
    assert [list(each.host_peer_ids) for each in peer.asked] == [[peer_id_to_bytes(OTHER.peer_id)], []]


def test_pages_are_read_to_the_end_or_to_the_bound() -> None:
    few, _ = hear(honest(*(session_with(number, DONE) for number in range(1, 40))))
    assert (len(few.bundles), few.pages, few.is_whole) == (39, 2, True)


def test_pages_without_end_are_read_up_to_a_bound() -> None:
    numbers = itertools.count(1)
    endless, peer = hear(lambda request: page(session_with(next(numbers), DONE), token=request.page_token + b"x"))
    assert (len(endless.bundles), len(peer.asked), endless.is_whole) == (MAX_PAGES, MAX_PAGES, False)
    assert not endless.has_lied


def test_empty_pages_without_end_are_read_up_to_a_bound() -> None:
    empty, peer = hear(lambda request: pb.ListSharedResponse(next_page_token=request.page_token + b"x"))
    assert (empty.bundles, len(peer.asked), empty.is_whole) == ([], MAX_PAGES, False)


def test_jobs_without_end_are_verified_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostmesh.receipts.shared_client.MAX_JOBS", 5)
    sessions = [session_with(number, DONE, DONE) for number in range(1, 9)]
    heard, _ = hear(lambda request: page(*sessions))
    assert (sum(len(each.jobs) for each in heard.bundles), heard.is_whole) == (6, False)
    assert MAX_JOBS == 1_024


def test_sessions_of_both_questions_are_taken_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostmesh.receipts.shared_client.MAX_SESSIONS", 3)
    sessions = [session_with(1, DONE, host=OTHER), *(session_with(number, DONE) for number in range(2, 9))]
    heard, _ = hear(honest(*sessions), [OTHER.peer_id], ())
    assert (len(heard.bundles), heard.is_whole) == (3, False)
    assert MAX_SESSIONS == 128


def test_wallets_without_end_are_heard_about_a_host_up_to_a_bound() -> None:
    """A peer tells of its own user's sessions: it has few wallets."""
    sessions = [
        session_with(number, DONE, wallet=make_wallet(f"sybil {number}")) for number in range(1, MAX_REVIEWERS + 4)
    ]
    sessions.append(session_with(99, DONE, host=OTHER, wallet=make_wallet("sybil 99")))
    heard, _ = hear(lambda request: page(*sessions))
    assert (len(heard.bundles), heard.is_whole, heard.has_lied) == (MAX_REVIEWERS + 1, False, False)


def test_a_page_that_leads_back_is_a_lie() -> None:
    peer = Peer(lambda request: page(session_with(1, DONE), token=b"t"))
    heard = SharedReceipts(peer, PEER, network=NETWORK)  # type: ignore[arg-type]
    with pytest.raises(MalformedMessageError):
        trio.run(heard.ask)
    assert (heard.has_lied, len(peer.asked)) == (True, 2)


def test_a_host_that_was_not_asked_about_is_a_lie() -> None:
    heard = SharedReceipts(Peer(lambda request: page(session_with(1, DONE))), PEER, network=NETWORK)  # type: ignore[arg-type]
    with pytest.raises(MalformedMessageError):
        trio.run(heard.ask, [OTHER.peer_id])
    assert heard.has_lied
    assert heard.bundles == []


def forged_signature(session: SessionBundle) -> SessionBundle:
    job, other = session.jobs[0], session_with(77, DONE).jobs[0]
    receipts = (replace(job.receipts[-1], countersignature=other.receipts[-1].countersignature),)
    return replace(session, jobs=(replace(job, receipts=receipts),))


def of_another_network(session: SessionBundle) -> SessionBundle:
    return replace(session, session=replace(session.session, grant=session_with(78, DONE).session.grant))


def quote_of_another_job(session: SessionBundle) -> SessionBundle:
    return replace(session, jobs=(replace(session.jobs[0], quote=session.jobs[1].quote),))


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (forged_signature, "BAD_COUNTERSIGNATURE"),
        (of_another_network, "BAD_GRANT"),
        (quote_of_another_job, "BAD_QUOTE"),
    ],
)
def test_what_nobody_signed_so_is_a_lie(forge: Callable[[SessionBundle], SessionBundle], reason: str) -> None:
    good, bad = session_with(1, DONE), forge(session_with(2, DONE, DONE))
    heard = SharedReceipts(Peer(lambda request: page(good, bad)), PEER, network=NETWORK)  # type: ignore[arg-type]
    with pytest.raises(ReceiptError) as caught:
        trio.run(heard.ask)
    assert (caught.value.reason, heard.has_lied) == (reason, True)


def test_a_session_twice_on_a_page_counts_once_and_a_varied_copy_is_a_lie() -> None:
    session = session_with(1, DONE)
    heard, _ = hear(lambda request: page(session, session))
    assert len(heard.bundles) == 1
    varied = replace(
        session, session=replace(session.session, authorization=session.session.authorization + b"\x98\x06\x01")
    )
    with pytest.raises(ReceiptError) as caught:
        hear(lambda request: page(session, varied))
    assert caught.value.reason == "REPLAYED"


def test_a_peer_that_ends_in_the_middle_has_not_lied() -> None:
    def answer(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
        if request.page_token:
            raise DeadlineExceededError("too late")
        return page(session_with(1, DONE), token=b"t")

    heard = SharedReceipts(Peer(answer), PEER, network=NETWORK)  # type: ignore[arg-type]
    with pytest.raises(DeadlineExceededError):
        trio.run(heard.ask)
    assert (len(heard.bundles), heard.has_lied) == (1, False)
