"""Equivocation between nodes: noticed, proved, kept, handed on; and what a flood of proofs comes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from discovery_world import EPOCH, NETWORK, FakeNetwork, FakeNode, FakePeer, make_publisher, trusting_verifier
from discovery_world import make_description as description
from discovery_world import make_key as key
from discovery_world import make_record as record
from discovery_world import make_records as make_book
from trio.testing import MockClock

from hostmesh.discovery.bans import MAX_STRANGERS_PER_INTRODUCER, Familiarity
from hostmesh.discovery.equivocation import make_proof, verify_proof
from hostmesh.discovery.news import MAX_HANDED_ON
from hostmesh.discovery.records import ProofTaken, RecordBook
from hostmesh.discovery.service import DiscoveryServer
from hostmesh.discovery.store import BanStore
from hostmesh.discovery.table import HostTable, Merge
from hostmesh.errors import BadSignatureError, RpcError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

HOST = key("host").peer_id
GOSSIP = key("gossip").peer_id


class Caller:
    def __init__(self, peer_id: PeerId) -> None:
        self.peer_id = peer_id


def book() -> RecordBook:
    return make_book(System(unix_s=lambda: EPOCH))


def server_of(records: RecordBook) -> DiscoveryServer:
    return DiscoveryServer(records, lambda: None, secret=b"s" * 16)


def proof_against(name: str = "host") -> pb.EquivocationProof:
    first, second = (record(name, description(model), sequence=5) for model in ("m", "n"))
    return make_proof(first, second, network=NETWORK).to_wire()


def equivocate(records: RecordBook, name: str = "host") -> Merge:
    records.accept(record(name, description("m"), sequence=5))
    return records.accept(record(name, description("n"), sequence=5))[1]


def test_what_is_noticed_is_proved() -> None:
    records = book()
    assert equivocate(records) is Merge.EQUIVOCATION
    (ban,) = records.bans
    assert (ban.peer_id, ban.familiarity, ban.introducer) == (HOST, Familiarity.SEEN, None)
    assert ban.proof is not None
    assert verify_proof(ban.proof, network=NETWORK) == HOST
    assert ban.proof == proof_against().SerializeToString(), "what anybody makes of the two"
    assert (records.counts["equivocation"], records.counts["proof:made"], records.counts["banned_keys"]) == (1, 1, 1)


def test_a_contradiction_of_a_superseded_record_is_proved_too() -> None:
    records = book()
    for sequence in (5, 6, 7):
        records.accept(record("host", description("m"), sequence=sequence))
    assert records.accept(record("host", description("n"), sequence=5))[1] is Merge.EQUIVOCATION
    proof = records.bans[0].proof
    assert proof is not None
    assert verify_proof(proof, network=NETWORK) == HOST


async def test_a_proof_from_a_peer_takes_the_host_out() -> None:
    records = book()
    server = server_of(records)
    records.accept(record("host", sequence=9))
    await server.announce(pb.AnnounceRequest(proof=proof_against()), Caller(GOSSIP))
    assert records.live() == []
    assert records.bans[0].introducer == GOSSIP
    assert records.accept(record("host", sequence=10))[1] is Merge.BANNED
    # Told twice, it is told for nothing, and that is no fault.
    await server.announce(pb.AnnounceRequest(proof=proof_against()), Caller(GOSSIP))
    assert (records.counts["proof:banned"], records.counts["proof:known"]) == (1, 1)


async def test_a_proof_that_proves_nothing_is_refused_and_counted() -> None:
    records = book()
    server = server_of(records)
    records.accept(record("host", sequence=9))
    forged = proof_against()
    forged.second_envelope = forged.second_envelope[:-1] + bytes([forged.second_envelope[-1] ^ 1])
    same = proof_against()
    same.second_envelope = same.first_envelope
    for proof, reason, details in (
        (forged, "SIGNATURE_BAD", {}),
        (same, "RECORD_INVALID", {"field": "payload"}),
        (pb.EquivocationProof(), "RECORD_INVALID", {"field": "proof"}),
    ):
        with pytest.raises(RpcError) as caught:
            await server.announce(pb.AnnounceRequest(proof=proof), Caller(GOSSIP))
        assert (caught.value.status, caught.value.reason) == (StatusCode.INVALID_ARGUMENT, reason)
        if details:
            assert caught.value.details == details
    assert (records.counts["proof:invalid"], records.bans) == (3, ())
    assert len(records.live()) == 1


async def test_an_announcement_is_one_thing_or_the_other() -> None:
    records = book()
    both = pb.AnnounceRequest(record=record("host"), proof=proof_against())
    for request in (both, pb.AnnounceRequest()):
        with pytest.raises(RpcError) as caught:
            await server_of(records).announce(request, Caller(GOSSIP))
        assert caught.value.status is StatusCode.INVALID_ARGUMENT
    assert (records.live(), records.bans) == ([], ())


async def test_one_peer_tells_of_few_keys_that_nobody_knows() -> None:
    records = book()
    server = server_of(records)
    for index in range(MAX_STRANGERS_PER_INTRODUCER):
        await server.announce(pb.AnnounceRequest(proof=proof_against(f"junk{index}")), Caller(GOSSIP))
    with pytest.raises(RpcError) as caught:
        await server.announce(pb.AnnounceRequest(proof=proof_against("one more")), Caller(GOSSIP))
    assert (caught.value.status, caught.value.retry_after_ms) == (StatusCode.RESOURCE_EXHAUSTED, 3_600_000)
    records.accept(record("host", sequence=9))
    await server.announce(pb.AnnounceRequest(proof=proof_against()), Caller(GOSSIP))
    assert records.counts["proof:refused"] == 1
    assert records.counts["banned_keys"] == MAX_STRANGERS_PER_INTRODUCER + 1


def test_bans_outlast_a_restart(tmp_path: Path) -> None:
    """As after kill -9: nothing is closed."""
    path = tmp_path / "bans.sqlite3"
    first = book()
    equivocate(first, "before")
    first.remember_bans(BanStore(path))
    equivocate(first)
    first.accept_proof(proof_against("third"), introducer=GOSSIP)
    second = book()
    second.remember_bans(BanStore(path))
    assert {ban.peer_id: ban for ban in second.bans} == {ban.peer_id: ban for ban in first.bans}
    for name in ("before", "host", "third"):
        assert second.accept(record(name, sequence=99))[1] is Merge.BANNED


def test_a_ban_holds_where_it_cannot_be_kept() -> None:
    records, store = book(), BanStore(None)
    records.remember_bans(store)
    store.close()
    assert equivocate(records) is Merge.EQUIVOCATION
    assert records.accept(record("host", sequence=9))[1] is Merge.BANNED
    assert records.counts["ban_not_kept"] == 1


def test_two_wallets_are_no_excuse() -> None:
    """One price under this wallet here, another one under that wallet there."""
    records = book()
    records.accept(record("host", description("m", price=1), operator="one", sequence=5))
    dear = record("host", description("m", price=999), operator="another", sequence=5)
    assert records.accept(dear)[1] is Merge.EQUIVOCATION
    (ban,) = records.bans
    assert ban.proof is not None
    assert verify_proof(ban.proof, network=NETWORK) == HOST
    told = book()
    told.accept(record("host", sequence=9))
    assert told.accept_proof(pb.EquivocationProof.FromString(ban.proof), introducer=GOSSIP) is ProofTaken.BANNED
    assert told.live() == []


async def test_a_key_with_many_wallets_takes_no_room_from_others() -> None:
    """It was useful once; it hands over a record of another wallet and network as often as it likes."""
    records = RecordBook(
        network=NETWORK,
        verify_binding=trusting_verifier,
        system=System(unix_s=lambda: EPOCH + 1.0),
        table=HostTable(max_hosts=16),
    )
    server = server_of(records)
    for number in range(40):
        signed = record(
            "liar", operator=f"wallet{number}", sequence=number + 1, addresses=(f"/ip4/10.0.{number}.1/tcp/1",)
        )
        await server.announce(pb.AnnounceRequest(record=signed), Caller(key("liar").peer_id))
        records.mark_useful([key("liar").peer_id])
    for number in range(15):
        signed = record(f"host{number}", addresses=(f"/ip4/10.1.{number}.1/tcp/1",))
        await server.announce(pb.AnnounceRequest(record=signed), Caller(key(f"host{number}").peer_id))
    assert len(records.live()) == 16


# --- floods of guilty keys ---


def of_others(records: RecordBook) -> set[PeerId]:
    """Fill the room for keys that nobody here knew with what 32 peers of as many networks tell."""
    for number in range(256):
        introducer = key(f"good{number // 8}").peer_id
        assert records.accept_proof(proof_against(f"real{number}"), introducer=introducer) is ProofTaken.BANNED
    kept = {ban.peer_id for ban in records.bans}
    assert len(kept) == 256
    return kept


def where(evil: str) -> Callable[[PeerId], str]:
    """Whom the test does not name as good is in one network, ``evil``, whatever it says."""
    good = {key(f"good{number}").peer_id: f"10.0.{number}.1" for number in range(32)}
    return lambda peer_id: good.get(peer_id, evil)


def test_contradicting_records_are_told_as_seldom_as_proofs() -> None:
    """One peer hands over two records of each of a hundred keys that it made for that."""
    records, store = book(), BanStore(None)
    records.remember_bans(store)
    records.see_peers_at(where("192.0.2.1"))
    before = of_others(records)
    for number in range(100):
        for model in ("m", "n"):
            records.accept(record(f"junk{number}", description(model), sequence=5), introducer=GOSSIP)
    told = [ban.subnet for ban in records.bans if ban.introducer == GOSSIP]
    assert told == ["192.0.2.0/24"] * MAX_STRANGERS_PER_INTRODUCER
    after = {ban.peer_id for ban in records.bans}
    assert len(before - after) == MAX_STRANGERS_PER_INTRODUCER
    assert store.load(NETWORK) == list(records.bans)
    assert records.counts["proof:made"] == MAX_STRANGERS_PER_INTRODUCER, "and the others cost no proof"
    assert records.live() == []


@pytest.mark.parametrize("evil", ["192.0.2.77", "2001:db8:0:7::1", "fe80::1%eth0"])
def test_many_peers_of_one_network_push_out_their_own_like(evil: str) -> None:
    records, store = book(), BanStore(None)
    records.remember_bans(store)
    records.see_peers_at(where(evil))
    before = of_others(records)
    for number in range(100):
        records.accept_proof(proof_against(f"junk{number}"), introducer=key(f"evil{number}").peer_id)
    after = {ban.peer_id for ban in records.bans}
    assert len(before & after) == 256 - 32
    assert len(after) == 256
    assert store.load(NETWORK) == list(records.bans)


def test_keys_that_contradict_themselves_to_our_face_push_out_their_own_like() -> None:
    records = book()
    records.see_peers_at(where("192.0.2.1"))
    before = of_others(records)
    for number in range(200):
        equivocate(records, f"junk{number}")
    after = {ban.peer_id: ban.subnet for ban in records.bans}
    assert before < after.keys()
    assert [after[peer_id] for peer_id in after.keys() - before] == ["192.0.2.0/24"] * 128


def test_who_tells_counts_and_not_whom_it_is_about() -> None:
    """The key may be connected from anywhere, or have said that it is."""
    records = book()
    networks = {HOST: "10.0.0.1", GOSSIP: "192.0.2.1"}
    records.see_peers_at(networks.get)
    for model in ("m", "n"):
        records.accept(record("host", description(model), sequence=5), introducer=GOSSIP)
    assert [ban.subnet for ban in records.bans] == ["192.0.2.0/24"]


def test_what_one_peer_told_two_processes_is_taken_up_whole(tmp_path: Path) -> None:
    first, second = book(), book()
    for records in (first, second):
        records.remember_bans(BanStore(tmp_path / "bans.sqlite3"))
    for name, records in (("a", first), ("b", second)):
        for number in range(MAX_STRANGERS_PER_INTRODUCER):
            taken = records.accept_proof(proof_against(f"{name}{number}"), introducer=GOSSIP)
            assert taken is ProofTaken.BANNED
    third = book()
    third.remember_bans(BanStore(tmp_path / "bans.sqlite3"))
    assert third.bans == first.bans + second.bans


def test_bans_outlast_a_clock_that_stepped_back_and_a_restart() -> None:
    step_s, store = [0], BanStore(None)
    system = System(unix_s=lambda: EPOCH + step_s[0])
    records = make_book(system)
    records.remember_bans(store)
    taken = []
    for step_s[0] in (0, -600, -4000):
        taken += [records.accept_proof(proof_against(f"{step_s[0]} {n}"), introducer=GOSSIP) for n in range(8)]
    assert taken == [ProofTaken.BANNED] * 8 + [ProofTaken.REFUSED] * 8 + [ProofTaken.BANNED] * 8
    step_s[0] = -2000  # within the hour of both
    again = make_book(system)
    again.remember_bans(store)
    assert again.bans == records.bans
    assert len(again.bans) == 16
    assert again.accept_proof(proof_against(), introducer=GOSSIP) is ProofTaken.REFUSED


# --- handing on ---


async def test_a_proof_is_handed_on_to_all_but_those_it_is_about_and_from(autojump_clock: MockClock) -> None:
    """Two nodes and a third peer: what the first notices, the second knows a moment later."""
    network, records, others = FakeNetwork(), make_book(), make_book()
    node = FakeNode(network)
    got: list[tuple[str, pb.AnnounceRequest]] = []

    def peer(name: str) -> FakePeer:
        async def take(caller: PeerId, request: pb.AnnounceRequest) -> None:
            got.append((name, request))
            if name == "other":
                await server_of(others).announce(request, Caller(caller))

        return FakePeer(key(name).peer_id, announce=take)

    for name in ("other", "host", "gossip", "third"):
        network.peers[key(name).peer_id] = peer(name)
        node.connected[key(name).peer_id] = None
    others.accept(record("host", sequence=9))
    records.accept(record("host", sequence=9))
    publisher = make_publisher(node, news=records)
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        assert records.accept_proof(proof_against(), introducer=GOSSIP) is ProofTaken.BANNED
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert sorted(name for name, _ in got) == ["other", "third"]
    assert all(request.proof == proof_against() and not request.HasField("record") for _, request in got)
    assert others.live() == []
    assert [ban.peer_id for ban in others.bans] == [HOST]


async def test_a_flood_of_guilty_keys_does_not_set_the_pace(autojump_clock: MockClock) -> None:
    network, records = FakeNetwork(), make_book()
    node = FakeNode(network)
    told: list[tuple[float, PeerId]] = []

    async def take(caller: PeerId, request: pb.AnnounceRequest) -> None:
        told.append((trio.current_time(), verify_proof(request.proof.SerializeToString(), network=NETWORK)))

    network.peers[GOSSIP] = FakePeer(GOSSIP, announce=take)
    node.connected[GOSSIP] = None
    for index in range(4 * MAX_HANDED_ON):
        equivocate(records, f"junk{index}")
    records.accept(record("host", sequence=9))
    records.mark_useful([HOST])
    records.accept_proof(proof_against(), introducer=key("another").peer_id)
    async with trio.open_nursery() as nursery:
        await nursery.start(make_publisher(node, news=records).run)
        await trio.sleep(300)
        nursery.cancel_scope.cancel()
    assert len(told) == MAX_HANDED_ON
    assert told[0][1] == HOST, "whom we used comes first"
    assert told[-1][0] >= 5 * (MAX_HANDED_ON - 1)


async def test_proofs_against_strangers_are_not_handed_on(autojump_clock: MockClock) -> None:
    records = make_book()
    assert records.accept_proof(proof_against(), introducer=GOSSIP) is ProofTaken.BANNED
    with trio.move_on_after(60):
        await records.next_news()
        pytest.fail("a proof against a key that nobody here knew")


def test_a_proof_of_another_network_bans_nobody() -> None:
    first, second = (record("host", description(model), sequence=5, network="elsewhere") for model in ("m", "n"))
    records = book()
    with pytest.raises(BadSignatureError):
        records.accept_proof(make_proof(first, second, network="elsewhere").to_wire(), introducer=GOSSIP)
    assert records.bans == ()
