"""Peers tell each other the receipts that their users share: whom a node asks, and what it makes of the answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from tests.simulated.sharing import JOBS, Hostile, hostile_peer, world_of
from tests.support.simulated import simulated

from hostmesh import SDK, NobodyAnsweredError, PeerId, UsageError
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipt_reviews import UNMET
from hostmesh.reputation.foreign import FOREIGN_CAP_MICROS
from hostmesh.testing import SimNetwork, make_peer_key, make_wallet
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.v1.receipt_hostmesh import ReceiptServiceClient


def points(sdk: SDK, host: PeerId) -> int:
    """The host's points with this client, under the wallet of its machine."""
    return sdk._files.reputation.of(host, make_wallet("host").address.lower()).points


@simulated()
async def test_without_consent_nothing_is_told(net: SimNetwork) -> None:
    async with world_of(net) as world:
        asked = await world.asker.get_receipt_exchange().ask([world.host])
        (answer,) = asked.answers
        assert (answer.peer_id, answer.taken, answer.pages) == (world.sharer_id, None, 0)
        with pytest.raises(NobodyAnsweredError) as caught:
            asked.require_answer()
        assert caught.value.outcomes == {world.sharer_id: "PROTOCOL_NOT_SUPPORTED"}
        assert world.asker._files.reputation.names(world.host) == ()


@simulated()
async def test_shared_receipts_change_a_reputation_by_what_the_reviewer_has_earned(net: SimNetwork) -> None:
    """At first by nothing; once the reviewer's word was seen to be right, by less than a job of one's own."""
    async with world_of(net) as world:
        (session_id,) = world.sharer.get_receipt_exchange().share()
        assert len(session_id) == 16
        exchange = world.asker.get_receipt_exchange()
        asked = await exchange.ask([world.host])
        asked.require_answer()
        (answer,) = asked.answers
        assert answer.taken is not None
        assert (answer.taken.reviews, answer.taken.good, answer.taken.bad, answer.is_whole) == (1, JOBS, 0, True)
        (change,) = asked.changes
        assert (change.name.peer_id, change.points_before, change.points) == (world.host, 100, 100)
        book = world.asker._files.reputation
        review = book.review_of(make_wallet("sharer").address.lower(), *change.name)
        assert review is not None
        # The sharer's own peer opened the session: its voice is that of the network which its connection shows.
        assert review.network == f"{world.sharer_machine.address.rpartition('.')[0]}.0/24"
        # The same word about a host that the asker knows well: now it agrees with what was seen.
        for number in range(12):
            operator = f"0x{number:040x}"
            for _ in range(3):
                book.record_outcome(world.sharer_id, operator, good=True)
            book.record_review(replace(review, host=world.sharer_id, operator=operator))
        trusted = points(world.asker, world.host)
        assert 100 < trusted < 174
        foreign = book.explain(*change.name).foreign
        assert 0 < foreign.weights.good_micros <= FOREIGN_CAP_MICROS
        # Told once more it is no more.
        again = await exchange.ask([world.host])
        assert [(each.points_before, each.points) for each in again.changes] == [(trusted, trusted)]


@simulated()
async def test_consent_that_is_taken_back_ends_at_once(net: SimNetwork) -> None:
    async with world_of(net) as world:
        shared = world.sharer.get_receipt_exchange()
        shared.share(world.host)
        assert (await world.asker.get_receipt_exchange().ask()).reviews == 1
        shared.share(world.host, is_shared=False)
        answer = await ReceiptServiceClient(world.asker.get_rpc_client(), world.sharer_id).list_shared(
            pb.ListSharedRequest(), timeout_s=5
        )
        assert answer == pb.ListSharedResponse()
        assert (await world.asker.get_receipt_exchange().ask()).reviews == 0


@pytest.mark.parametrize("in_memory", [False, True])
@simulated()
async def test_consent_of_before_holds_for_the_next_node(net: SimNetwork, in_memory: bool) -> None:
    async with world_of(net, in_memory=in_memory) as world:
        world.sharer.get_receipt_exchange().share()
        await world.sharer.get_discovery_manager().stop()
        renewed = await world.sharer.get_discovery_manager().create_node()
        peer = await world.asker.get_discovery_manager().connect_to_peer(
            f"/ip4/{world.sharer_machine.address}/tcp/4001/p2p/{renewed}"
        )
        asked = await world.asker.get_receipt_exchange().ask(peers=[peer])
        assert asked.reviews == 1
        # The session was opened by the key of before: whose connection this is, nobody can tell.
        (name,) = world.asker._files.reputation.names(world.host)
        review = world.asker._files.reputation.review_of(make_wallet("sharer").address.lower(), *name)
        assert review is not None
        assert review.network == UNMET


@simulated()
async def test_the_asker_hears_nothing_of_its_own_receipts(net: SimNetwork) -> None:
    async with world_of(net) as world:
        world.sharer.get_receipt_exchange().share()
        async with net.machine("copy").open_sdk(ephemeral_key=True, enable_dht=False) as copy:
            # The same wallet elsewhere, where no receipt of it is kept.
            await copy.authenticate(wallet=make_wallet("sharer"))
            await copy.get_discovery_manager().create_node()
            peer = await copy.get_discovery_manager().connect_to_peer(world.sharer_address)
            asked = await copy.get_receipt_exchange().ask(peers=[peer])
        (answer,) = asked.answers
        assert answer.taken is not None
        assert (answer.taken.own, answer.taken.reviews) == (1, 0)


@simulated()
async def test_a_peer_that_knows_of_a_host_is_asked_what_it_says_of_others_and_no_peer_hears_of_those_one_knows(
    net: SimNetwork,
) -> None:
    """By what it says of hosts that one knows, its word is weighed."""
    async with world_of(net) as world:
        message = world.share()
        asked_about: list[list[bytes]] = []

        async def told(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
            asked_about.append(list(request.host_peer_ids))
            is_wanted = not request.host_peer_ids or peer_id_to_bytes(world.host) in request.host_peer_ids
            return pb.ListSharedResponse(sessions=[message] if is_wanted else [])

        book = world.asker._files.reputation
        book.record_outcome(world.host, make_wallet("host").address.lower(), good=True)
        exchange = world.asker.get_receipt_exchange()
        async with hostile_peer(net, world.asker, Hostile(told)) as peer:
            assert (await exchange.ask([world.sharer_id], peers=[peer])).reviews == 0
            assert (await exchange.ask([world.host], peers=[peer])).reviews == 1
    assert asked_about == [[peer_id_to_bytes(world.sharer_id)], [peer_id_to_bytes(world.host)], []]


@simulated()
async def test_questions_are_bounded_and_the_host_itself_is_not_asked(net: SimNetwork) -> None:
    async with world_of(net) as world:
        await world.asker.get_discovery_manager().connect_to_peer(world.host_address)
        exchange = world.asker.get_receipt_exchange()
        assert exchange.peers_to_ask([world.host]) == (world.sharer_id,)
        assert set(exchange.peers_to_ask()) == {world.sharer_id, world.host}
        world.sharer.get_receipt_exchange().share()
        await trio.sleep(5)
        assert exchange.peers_to_ask() == (world.sharer_id,)
        peers = [make_peer_key(f"peer {number}").peer_id for number in range(33)]
        for hosts, named in ((peers[:17], None), ((), peers)):
            with pytest.raises(UsageError):
                await exchange.ask(hosts, peers=named)
