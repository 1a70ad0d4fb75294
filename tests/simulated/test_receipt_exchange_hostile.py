"""Peers that mean harm when they ask for shared receipts or tell them: what they cost, and what is taken of theirs."""

from __future__ import annotations

import itertools

import pytest
import trio
from tests.simulated.sharing import Hostile, hostile_peer, world_of
from tests.simulated.world import join
from tests.support.simulated import simulated

from hostmesh import PeerId, ReceiptError, RemoteProtocolError, RpcError
from hostmesh.net.stream import Stream
from hostmesh.receipt_reviews import UNMET
from hostmesh.receipts.shared_client import MAX_PAGES
from hostmesh.reputation.peer_score import PeerEvent
from hostmesh.rpc.frames import encode_end
from hostmesh.rpc.outcome import OK
from hostmesh.testing import SimNetwork, make_wallet, open_adversary_node
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.v1.receipt_hostmesh import ReceiptServiceClient

JOB = pb.SharedJob(job_id=b"j" * 16, quote=b"q", receipt=b"r", countersignature=b"c" * 65)


@simulated()
async def test_pages_without_end_cost_a_few_calls(net: SimNetwork) -> None:
    tokens = itertools.count(1)

    async def endless(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
        return pb.ListSharedResponse(next_page_token=next(tokens).to_bytes(16, "big"))

    machine, handler = net.machine("asker"), Hostile(endless)
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as asker:
        await join(asker, machine)
        async with hostile_peer(net, asker, handler) as peer:
            asked = await asker.get_receipt_exchange().ask(peers=[peer])
    (answer,) = asked.answers
    assert (handler.asked, answer.pages, answer.is_whole, asked.reviews) == (MAX_PAGES, MAX_PAGES, False, 0)


@pytest.mark.parametrize(
    "page",
    [
        pb.ListSharedResponse(sessions=[pb.SharedSession(authorization=b"a", grant=b"g")] * 33),
        pb.ListSharedResponse(sessions=[pb.SharedSession(authorization=b"a" * 300_000, grant=b"g")]),
    ],
    ids=["too many sessions", "too many bytes"],
)
@simulated()
async def test_a_page_over_its_bounds_is_not_taken(net: SimNetwork, page: pb.ListSharedResponse) -> None:
    """Sent as bytes, since the shipped server refuses to send it."""

    async def oversized(stream: Stream) -> None:
        await stream.receive()
        await stream.send(encode_end(OK, page.SerializeToString()))
        await stream.close()

    machine = net.machine("asker")
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as asker:
        await join(asker, machine)
        async with open_adversary_node(net.machine("hostile")) as node:
            node.node.set_stream_handler("/hostmesh/receipt/1.0.0", oversized)
            peer = await asker.get_discovery_manager().connect_to_peer(f"{node.address}/p2p/{node.peer_id}")
            before = asker._files.neighbours.score_of(peer)
            asked = await asker.get_receipt_exchange().ask(peers=[peer])
            assert asker._files.neighbours.score_of(peer) < before
    (answer,) = asked.answers
    assert (answer.taken, answer.pages) == (None, 0)
    assert isinstance(answer.error, RemoteProtocolError)


@simulated()
async def test_a_peer_that_says_nothing_takes_no_more_than_the_time_that_there_is(net: SimNetwork) -> None:
    async def silent(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
        await trio.sleep_forever()
        raise AssertionError

    machine, handler = net.machine("asker"), Hostile(silent)
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as asker:
        await join(asker, machine)
        async with hostile_peer(net, asker, handler) as peer:
            began = trio.current_time()
            asked = await asker.get_receipt_exchange().ask(peers=[peer], timeout_s=3)
            assert trio.current_time() - began < 4
    assert [each.error.code for each in asked.answers if each.error is not None] == ["DEADLINE_EXCEEDED"]


@simulated()
async def test_what_came_before_a_peer_fell_silent_counts(net: SimNetwork) -> None:
    async with world_of(net) as world:
        message = world.share()

        async def one_page(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
            if request.page_token:
                await trio.sleep_forever()
            return pb.ListSharedResponse(sessions=[message], next_page_token=b"t")

        async with hostile_peer(net, world.asker, Hostile(one_page)) as peer:
            asked = await world.asker.get_receipt_exchange().ask(peers=[peer], timeout_s=3)
    (answer,) = asked.answers
    assert (asked.reviews, answer.pages, answer.is_whole) == (1, 1, False)
    assert answer.error is not None
    assert answer.error.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("page", "event"),
    [
        (pb.ListSharedResponse(sessions=[pb.SharedSession(authorization=b"a", grant=b"g", jobs=[JOB])]), "FORGED"),
        (pb.ListSharedResponse(sessions=[pb.SharedSession(authorization=b"a", grant=b"g")]), "CORRUPT"),
    ],
)
@simulated()
async def test_a_forgery_is_told_from_a_page_that_is_none(
    net: SimNetwork, page: pb.ListSharedResponse, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
        return page

    machine = net.machine("asker")
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as asker:
        await join(asker, machine)
        noted: list[tuple[PeerId, PeerEvent]] = []
        exchange = asker.get_receipt_exchange()
        monkeypatch.setattr(exchange, "_note_neighbour", lambda *each: noted.append(each))
        async with hostile_peer(net, asker, Hostile(told)) as peer:
            await exchange.ask(peers=[peer])
            assert noted == [(peer, PeerEvent[event])]


@simulated()
async def test_forged_receipts_are_held_against_who_hands_them_over_and_nobody_else(net: SimNetwork) -> None:
    """A true session with one job's countersignature changed: nothing of it is taken, nor of what came with it."""
    async with world_of(net) as world:
        message = world.share()
        signature = bytearray(message.jobs[0].countersignature)
        signature[40] ^= 1
        message.jobs[0].countersignature = bytes(signature)

        async def forge(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
            return pb.ListSharedResponse(sessions=[message])

        neighbours = world.asker._files.neighbours
        async with hostile_peer(net, world.asker, Hostile(forge)) as peer:
            before = neighbours.score_of(peer)
            alone = await world.asker.get_receipt_exchange().ask([world.host], peers=[peer])
            assert neighbours.score_of(peer) < before
            with pytest.raises(ReceiptError) as caught:
                alone.require_answer()
            assert caught.value.reason == "BAD_COUNTERSIGNATURE"
            assert world.asker._files.reputation.names(world.host) == ()
            before = neighbours.score_of(world.sharer_id)
            both = await world.asker.get_receipt_exchange().ask([world.host], peers=[peer, world.sharer_id])
        both.require_answer()
        assert [each.taken is None for each in both.answers] == [True, False]
        assert both.reviews == 1
        assert neighbours.score_of(world.sharer_id) >= before


@simulated()
async def test_a_peer_that_hands_over_anothers_receipts_does_not_move_its_voice(net: SimNetwork) -> None:
    async with world_of(net) as world:
        message = world.share()

        async def copied(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
            return pb.ListSharedResponse(sessions=[message])

        book = world.asker._files.reputation
        reviewer = make_wallet("sharer").address.lower()
        networks = []
        async with hostile_peer(net, world.asker, Hostile(copied)) as peer:
            for source in (peer, world.sharer_id, peer):
                assert (await world.asker.get_receipt_exchange().ask(peers=[source])).reviews == 1
                (name,) = book.names(world.host)
                review = book.review_of(reviewer, *name)
                assert review is not None
                networks.append(review.network)
        own = f"{world.sharer_machine.address.rpartition('.')[0]}.0/24"
        assert networks == [UNMET, own, own]


@simulated()
async def test_one_who_asks_again_and_again_is_told_to_wait(net: SimNetwork) -> None:
    async with world_of(net) as world:
        world.sharer.get_receipt_exchange().share()
        client = ReceiptServiceClient(world.asker.get_rpc_client(), world.sharer_id)
        codes = []
        for _ in range(40):
            try:
                await client.list_shared(pb.ListSharedRequest(), timeout_s=5)
            except RpcError as error:
                codes.append(error.reason)
        assert set(codes) == {"RATE_LIMITED"}


@pytest.mark.parametrize("is_forged", [True, False])
@simulated()
async def test_a_true_session_before_a_forged_one_is_not_taken_in(net: SimNetwork, is_forged: bool) -> None:
    async with world_of(net) as world:
        true, second = world.share(), world.share()
        if is_forged:
            second.authorization = second.authorization[:-1] + bytes([second.authorization[-1] ^ 1])

        async def tell(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
            return pb.ListSharedResponse(sessions=[true, second])

        async with hostile_peer(net, world.asker, Hostile(tell)) as peer:
            asked = await world.asker.get_receipt_exchange().ask([world.host], peers=[peer])
            assert [answer.taken is None for answer in asked.answers] == [is_forged]
            assert bool(world.asker._files.reputation.names(world.host)) is not is_forged
