"""Three nodes: one whose user shares its receipts of a host, the host, and one who asks; and peers that mean harm."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio
from tests.simulated.world import join
from tests.support.simulated import simulated

from hostmesh import (
    SDK,
    CallContext,
    HostCriteria,
    HostDescription,
    ModelOffer,
    NobodyAnsweredError,
    PeerId,
    Price,
    ReceiptError,
    RemoteProtocolError,
    RpcError,
    UsageError,
)
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.net.stream import Stream
from hostmesh.receipt_reviews import UNMET
from hostmesh.receipts.shared_client import MAX_PAGES
from hostmesh.receipts.sharing import FIRST, session_message
from hostmesh.reputation.foreign import FOREIGN_CAP_MICROS
from hostmesh.reputation.peer_score import PeerEvent
from hostmesh.rpc.frames import encode_end
from hostmesh.rpc.outcome import OK
from hostmesh.testing import (
    FakeEngine,
    SimMachine,
    SimNetwork,
    chat_model,
    make_peer_key,
    make_wallet,
    open_adversary_node,
)
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.v1.receipt_hostmesh import RECEIPT_SERVICE, ReceiptServiceClient

MODEL = "tiny-chat"
OFFER = HostDescription(models=[ModelOffer(model_id=MODEL, price=Price(micros_per_mtok=1_000_000, currency="USD"))])
JOBS = 3
JOB = pb.SharedJob(job_id=b"j" * 16, quote=b"q", receipt=b"r", countersignature=b"c" * 65)


async def serve(machine: SimMachine, *, task_status: trio.TaskStatus[str]) -> None:
    engine = FakeEngine([chat_model(MODEL)], answer=lambda work: "one two three")
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as sdk:
        address = await join(sdk, machine)
        async with sdk.get_host_manager().serve(OFFER, engine):
            task_status.started(address)
            await trio.sleep_forever()


async def run_jobs(sdk: SDK, address: str) -> PeerId:
    """Run jobs in one session with the host at an address; return its peer id."""
    discovery = sdk.get_discovery_manager()
    host = await discovery.connect_to_peer(address)
    choice = await discovery.find_host(HostCriteria(required_models=[MODEL], include=[host]))
    async with sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session:
        for _ in range(JOBS):
            async with sdk.get_job_manager().run(session, prompt="Count.") as job:
                await job.read_text()
    return host


@dataclass
class World:
    """A host, one who used it, and one who asks; the last two are connected."""

    host: PeerId
    host_address: str
    sharer: SDK
    sharer_id: PeerId
    sharer_address: str
    sharer_machine: SimMachine
    asker: SDK
    asker_machine: SimMachine


@asynccontextmanager
async def world_of(net: SimNetwork) -> AsyncIterator[World]:
    host_machine, sharer_machine, asker_machine = (net.machine(name) for name in ("host", "sharer", "asker"))
    async with trio.open_nursery() as nursery:
        address: str = await nursery.start(serve, host_machine)
        async with (
            sharer_machine.open_sdk(ephemeral_key=True, enable_dht=False) as sharer,
            asker_machine.open_sdk(ephemeral_key=True, enable_dht=False) as asker,
        ):
            sharer_address = await join(sharer, sharer_machine)
            await join(asker, asker_machine)
            host = await run_jobs(sharer, address)
            sharer_id = await asker.get_discovery_manager().connect_to_peer(sharer_address)
            yield World(host, address, sharer, sharer_id, sharer_address, sharer_machine, asker, asker_machine)
        nursery.cancel_scope.cancel()


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


@simulated()
async def test_consent_of_before_holds_for_the_next_node(net: SimNetwork) -> None:
    """Given while no node ran, as a command does."""
    async with world_of(net) as world:
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


class Hostile:
    """A peer that serves whatever ``answer`` makes of a request."""

    def __init__(self, answer: Callable[[pb.ListSharedRequest], Awaitable[pb.ListSharedResponse]]) -> None:
        self._answer = answer
        self.asked = 0

    async def list_shared(self, request: pb.ListSharedRequest, context: CallContext) -> pb.ListSharedResponse:
        self.asked += 1
        return await self._answer(request)


@asynccontextmanager
async def hostile_peer(net: SimNetwork, asker: SDK, handler: Hostile) -> AsyncIterator[PeerId]:
    machine = net.machine("hostile")
    async with open_adversary_node(machine) as node:
        node.serve(RECEIPT_SERVICE, handler)
        yield await asker.get_discovery_manager().connect_to_peer(f"{node.address}/p2p/{node.peer_id}")


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
        world.sharer.get_receipt_exchange().share()
        ((_, bundle),) = world.sharer._files.receipts.shared.after(
            FIRST, network="simnet", hosts=(), max_sessions=1, max_jobs=8
        )
        message = session_message(bundle)
        assert message is not None

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
        world.sharer.get_receipt_exchange().share()
        shared = world.sharer._files.receipts.shared
        ((_, bundle),) = shared.after(FIRST, network="simnet", hosts=(), max_sessions=1, max_jobs=8)
        message = session_message(bundle)
        assert message is not None
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
        world.sharer.get_receipt_exchange().share()
        shared = world.sharer._files.receipts.shared
        ((_, bundle),) = shared.after(FIRST, network="simnet", hosts=(), max_sessions=1, max_jobs=8)
        message = session_message(bundle)
        assert message is not None

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
async def test_a_peer_that_knows_of_a_host_is_asked_what_it_says_of_others_and_no_peer_hears_of_those_one_knows(
    net: SimNetwork,
) -> None:
    """By what it says of hosts that one knows, its word is weighed."""
    async with world_of(net) as world:
        world.sharer.get_receipt_exchange().share()
        ((_, bundle),) = world.sharer._files.receipts.shared.after(
            FIRST, network="simnet", hosts=(), max_sessions=1, max_jobs=8
        )
        message = session_message(bundle)
        assert message is not None
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
