"""What a node does when bindings are void: takes hosts out, tells who asks, keeps it, and lets them come back."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from discovery_world import (
    EPOCH,
    FakeNetwork,
    FakeNode,
    FakePeer,
    make_binding,
    make_description,
    make_key,
    make_operator,
    make_publisher,
    make_records,
    make_revocation,
)
from discovery_world import make_record as record
from find_world import World
from tests.unit.discovery.revoked_kit import GOSSIP, book, proof_of
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.events import HostRevoked, RecordDecided, RecordDecision
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.revocation_store import RevocationStore
from hostmesh.discovery.revocations import LIFE_S, RevocationBook, RevokedEpoch
from hostmesh.discovery.revoking import RevocationTaken
from hostmesh.discovery.room import Familiarity
from hostmesh.discovery.service import MAX_TOLD_WITH_PAGE, MAX_TOLD_WITH_RECORD, DiscoveryServer
from hostmesh.discovery.table import Merge
from hostmesh.errors import BadSignatureError, BindingRevokedError, RecordInvalidError, RpcError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

HOST = make_key("host").peer_id
OPERATOR = make_operator("host")


class Caller:
    def __init__(self, peer_id: PeerId) -> None:
        self.peer_id = peer_id


def server_of(records: RecordBook) -> DiscoveryServer:
    return DiscoveryServer(records, lambda: record("self"), secret=b"s" * 16)


# --- records ---


def test_a_revoked_host_goes_at_once_and_comes_back_by_a_higher_epoch() -> None:
    records = book()
    records.accept(record(sequence=9))
    assert records.accept_revocation(make_revocation(least_epoch=2), introducer=GOSSIP) is RevocationTaken.TAKEN
    assert (records.live(), records.known(HOST)) == ([], None)
    for epoch in (0, 1):
        assert records.accept(record(sequence=10 + epoch, epoch=epoch))[1] is Merge.REVOKED
    assert records.live() == []
    # Its numbers may begin anew: what it had signed before is another book.
    assert records.accept(record(sequence=1, epoch=2))[1] is Merge.ADDED
    assert [host.info.binding_epoch for host in records.live()] == [2]


def test_a_revoked_host_goes_also_where_there_is_no_room_to_remember_it() -> None:
    records = book()
    records.accept(record(sequence=9))
    full = records._table.revocations = RevocationBook(1)
    used = RevokedEpoch(
        operator=b"o" * 20,
        peer_id=GOSSIP,
        least_epoch=1,
        told_at_unix_s=EPOCH,
        expires_at_unix_s=EPOCH + LIFE_S,
        familiarity=Familiarity.USED,
        signed=b"signed",
    )
    full.put(used)
    assert records.accept_revocation(make_revocation(least_epoch=2), introducer=GOSSIP) is RevocationTaken.REFUSED
    assert (list(full), records.live()) == ([used], [])


def test_a_higher_epoch_wins_whatever_the_sequence() -> None:
    records = book()
    records.accept(record(sequence=2**63))
    assert records.accept(record(sequence=1, epoch=1))[1] is Merge.REPLACED
    assert records.accept(record(sequence=2**63 + 1))[1] is Merge.REVOKED
    assert [host.info.sequence for host in records.live()] == [1]


def test_a_higher_epoch_is_remembered_when_its_record_is_long_gone() -> None:
    now = [float(EPOCH)]
    records = make_records(System(unix_s=lambda: now[0]))
    records.accept(record(epoch=1))
    now[0] += 3600
    records.purge()
    late = record(sequence=99, issued=int(now[0]), epoch=0)
    assert records.accept(late)[1] is Merge.REVOKED
    now[0] += LIFE_S
    records.purge()
    assert records.accept(record(sequence=99, issued=int(now[0])))[1] is Merge.ADDED


def test_other_wallets_and_keys_are_not_touched() -> None:
    """Anybody may sign a revocation; it is of his own bindings."""
    records = book()
    records.accept(record(sequence=9))
    records.accept(record("other"))
    assert records.accept_revocation(make_revocation(operator="mallory"), introducer=GOSSIP) is RevocationTaken.TAKEN
    assert {host.info.peer_id for host in records.live()} == {HOST, make_key("other").peer_id}
    assert records.accept(record(sequence=10))[1] is Merge.REPLACED


def test_a_record_that_names_another_epoch_than_its_binding_is_refused() -> None:
    """Else its binding could be changed for another by whoever hands it on."""
    old, new = record(sequence=5), record(sequence=6, epoch=1)
    old.binding.CopyFrom(new.binding)
    with pytest.raises(RecordInvalidError) as caught:
        book().accept(old)
    assert caught.value.field == "binding_epoch"


def test_a_replayed_revocation_does_not_touch_what_came_after_it() -> None:
    records = book()
    records.accept_revocation(make_revocation(least_epoch=1), introducer=GOSSIP)
    records.accept(record(epoch=1))
    assert records.accept_revocation(make_revocation(least_epoch=1), introducer=GOSSIP) is RevocationTaken.KNOWN
    again = make_revocation(least_epoch=1, issued=EPOCH - 5)
    assert records.accept_revocation(again, introducer=GOSSIP) is RevocationTaken.KNOWN
    assert len(records.live()) == 1


def test_a_revocation_outlasts_a_restart(tmp_path: Path) -> None:
    """As after kill -9: nothing is closed."""
    path = tmp_path / "revocations.sqlite3"
    first = book()
    first.accept_revocation(make_revocation("before"), introducer=GOSSIP)
    first.revoking.remember(RevocationStore(path))
    first.accept_revocation(make_revocation(), introducer=GOSSIP)
    first.accept(record("bound anew", epoch=7))
    second = book(EPOCH + 100)
    second.revoking.remember(RevocationStore(path))
    for name in ("before", "host"):
        assert second.accept(record(name, sequence=99))[1] is Merge.REVOKED
    assert second.accept(record("bound anew", sequence=99, epoch=6))[1] is Merge.REVOKED
    third = book(EPOCH + LIFE_S + 1)
    third.revoking.remember(RevocationStore(path))
    assert third.revoking.least_epoch(OPERATOR, HOST) == 0


def test_a_revocation_holds_where_it_cannot_be_kept() -> None:
    records, store = book(), RevocationStore(None)
    records.revoking.remember(store)
    store.close()
    assert records.accept_revocation(make_revocation(), introducer=GOSSIP) is RevocationTaken.TAKEN
    assert records.accept(record())[1] is Merge.REVOKED
    assert records.counts["revocation_not_kept"] == 1


async def test_who_listens_is_told_once(autojump_clock: MockClock) -> None:
    records = make_records()
    told: list[HostRevoked] = []
    decided: list[RecordDecided] = []
    records.events.listen_for(HostRevoked, told.append)
    records.events.listen_for(RecordDecided, decided.append)
    records.accept(record())
    for _ in range(2):
        records.accept_revocation(make_revocation(least_epoch=2), introducer=GOSSIP)
    records.accept(record(sequence=2))
    records.accept(record(sequence=3, epoch=2))
    records.accept(record(sequence=4, epoch=5))
    records.revoking.saw_binding(OPERATOR, HOST, 5)
    records.revoking.saw_binding(OPERATOR, HOST, 6)
    assert [(event.peer_id, event.operator, event.least_epoch) for event in told] == [
        (HOST, OPERATOR, epoch) for epoch in (2, 5, 6)
    ]
    assert [event.decision for event in decided] == [
        RecordDecision.ADDED,
        RecordDecision.REVOKED,
        RecordDecision.ADDED,
        RecordDecision.REPLACED,
    ]


# --- telling ---


async def test_what_a_peer_announces_is_taken_or_refused_with_its_reason() -> None:
    records = book()
    server = server_of(records)
    records.accept(record())
    forged = make_revocation()
    forged.signature = bytes(65)
    with pytest.raises(RpcError) as caught:
        await server.announce(pb.AnnounceRequest(revocation=forged), Caller(GOSSIP))
    assert (caught.value.status, caught.value.reason) == (StatusCode.INVALID_ARGUMENT, "SIGNATURE_BAD")
    assert len(records.live()) == 1
    for request in (
        pb.AnnounceRequest(revocation=make_revocation(), record=record()),
        pb.AnnounceRequest(revocation=make_revocation(), proof=proof_of()),
    ):
        with pytest.raises(RpcError):
            await server.announce(request, Caller(GOSSIP))
    for _ in range(2):
        answer = await server.announce(pb.AnnounceRequest(revocation=make_revocation()), Caller(GOSSIP))
        assert answer == pb.AnnounceResponse()
    assert records.live() == []
    counts = {name: count for name, count in records.counts.items() if name.startswith("revocation:")}
    assert counts == {"revocation:invalid": 1, "revocation:taken": 1, "revocation:known": 1}


async def test_who_announces_under_a_void_binding_is_told_why() -> None:
    records = book()
    server = server_of(records)
    records.accept_revocation(make_revocation(), introducer=GOSSIP)
    answer = await server.announce(pb.AnnounceRequest(record=record()), Caller(HOST))
    assert answer.revocation == make_revocation()
    assert len(answer.SerializeToString()) <= 256


async def test_answers_carry_revocations_within_their_bounds() -> None:
    records = book()
    server = server_of(records)
    for number in range(40):
        records.accept(record(f"host{number}", addresses=(f"/ip4/10.0.{number}.1/tcp/1",)))
        records.accept_revocation(make_revocation(f"host{number}"), introducer=GOSSIP)
    own = await server.get_record(pb.GetRecordRequest(), Caller(GOSSIP))
    page = await server.query(pb.QueryRequest(), Caller(GOSSIP))
    assert (len(own.revocations), len(page.revocations)) == (MAX_TOLD_WITH_RECORD, MAX_TOLD_WITH_PAGE)
    told: set[bytes] = set()
    for asker in range(60):
        page = await server.query(pb.QueryRequest(), Caller(PeerId(f"asker{asker}")))
        told |= {each.peer_id for each in page.revocations}
    assert len(told) == 40


async def test_a_strangers_revocation_is_heeded_and_not_told() -> None:
    """Of a host that nobody here has met: it may come later, but it is nobody's business before."""
    records = book()
    records.accept_revocation(make_revocation(), introducer=GOSSIP)
    page = await server_of(records).query(pb.QueryRequest(), Caller(GOSSIP))
    assert list(page.revocations) == []
    assert records.accept(record())[1] is Merge.REVOKED


async def test_a_host_that_is_asked_tells_of_others_that_are_revoked(autojump_clock: MockClock) -> None:
    world = World()
    honest = world.host("honest", "m")
    stolen = world.host("stolen", "m")
    honest.tells = [make_revocation("stolen")]
    async with world.client() as discovery:
        criteria = HostCriteria(required_models=["m"])
        assert {choice.peer_id for choice in await discovery.find_all_hosts(criteria)} >= {honest.peer_id}
        assert [choice.peer_id for choice in await discovery.find_all_hosts(criteria)] == [honest.peer_id]
        assert world.records.known(stolen.peer_id) is None


async def test_what_is_news_is_handed_on_to_all_who_are_connected(autojump_clock: MockClock) -> None:
    network, records = FakeNetwork(), make_records()
    node = FakeNode(network)
    got: list[tuple[str, pb.AnnounceRequest]] = []

    def peer(name: str) -> FakePeer:
        async def take(caller: PeerId, request: pb.AnnounceRequest) -> None:
            got.append((name, request))

        return FakePeer(make_key(name).peer_id, announce=take)

    for name in ("other", "host"):
        network.peers[make_key(name).peer_id] = peer(name)
        node.connected[make_key(name).peer_id] = None
    records.accept(record())
    async with trio.open_nursery() as nursery:
        await nursery.start(make_publisher(node, news=records).run)
        for _ in range(3):
            records.accept_revocation(make_revocation(), introducer=GOSSIP)
        records.accept_revocation(make_revocation("stranger"), introducer=GOSSIP)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert sorted(name for name, _ in got) == ["host", "other"], "once each; and the host is told, so that it stops"
    assert all(request == pb.AnnounceRequest(revocation=make_revocation()) for _, request in got)


# --- the host itself ---


async def test_a_host_whose_binding_is_void_signs_no_record_but_its_tombstone(autojump_clock: MockClock) -> None:
    records = make_records()
    node = FakeNode(FakeNetwork())
    epoch = [0]
    publisher = make_publisher(
        node,
        name="host",
        binding=lambda: make_binding(make_key("host"), OPERATOR, epoch=epoch[0]),
        news=records,
        least_epoch=records.revoking.least_epoch,
    )
    records.revoking.see_own(lambda: publisher.info)
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        info = await publisher.announce(make_description())
        assert records.accept_revocation(make_revocation(), introducer=GOSSIP) is RevocationTaken.TAKEN
        assert records.revoking.to_tell(4, lot=b"") == [make_revocation()], "our own is no stranger's"
        await trio.sleep(61)
        assert isinstance(publisher.problem, BindingRevokedError)
        assert publisher.info == info, "nothing newer"
        with pytest.raises(BindingRevokedError) as caught:
            await publisher.announce(make_description())
        assert "--revocation-epoch 1" in caught.value.remedy
        epoch[0] = 1
        assert (await publisher.announce(make_description())).binding_epoch == 1
        epoch[0] = 0
        await publisher.withdraw()
        assert publisher.info is not None
        assert publisher.info.state is HostState.WITHDRAWN
        nursery.cancel_scope.cancel()


def test_a_revocation_that_does_not_hold_is_not_learnt_and_ends_the_list() -> None:
    records = book()
    forged = make_revocation("forged")
    forged.signature = bytes(65)
    records.learn_revocations([make_revocation(), forged, make_revocation("late")], introducer=GOSSIP)
    assert records.revoking.least_epoch(OPERATOR, HOST) == 1
    assert records.revoking.least_epoch(make_operator("late"), make_key("late").peer_id) == 0
    with pytest.raises(BadSignatureError):
        records.accept_revocation(forged, introducer=GOSSIP)
