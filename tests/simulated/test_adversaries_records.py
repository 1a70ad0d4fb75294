"""Peers that replay records and contradict themselves, among unmodified nodes."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
import trio
from tests.simulated.adversary_world import MODEL, OPTIONS, World, start_node, world_on
from tests.support.simulated import simulated

from hostmesh import HostCriteria, NoHostFoundError, RpcError, StatusCode
from hostmesh.discovery.equivocation import verify_proof
from hostmesh.discovery.store import BanStore
from hostmesh.discovery.table import MAX_PER_INTRODUCER
from hostmesh.reputation.evidence import EvidenceKind
from hostmesh.testing import RecordFault, make_broken_record, make_description, make_host_record, make_wallet
from hostmesh.testing.adversary_records import RecordPeer, by_asker, by_turns, run_record_peer
from hostmesh.testing.machine import NETWORK_NAME

CHEAP = make_description(MODEL, price_micros_per_mtok=1)


def only(peer: RecordPeer) -> HostCriteria:
    """Return criteria that this peer alone can meet."""
    return HostCriteria(required_models=[MODEL], include=[peer.adversary.peer_id])


# --- replays ---


@simulated(world_on, network=OPTIONS)
async def test_an_earlier_record_of_its_own_does_not_bring_back_what_it_said(world: World) -> None:
    machine = world.net.machine("replayer")
    async with run_record_peer(machine, bootstrap=world.bootstrap) as peer:
        old, new = peer.record(CHEAP, sequence=7), peer.record(make_description(MODEL), sequence=8)
        peer.choose = by_turns(new, old)
        await world.start_client()
        for _ in range(2):
            # It serves no status, so that its latency is not known.
            criteria = HostCriteria(required_models=[MODEL], include=[peer.adversary.peer_id], accept_unmeasured=True)
            (choice,) = (await world.discovery.explain(criteria)).choices
            assert choice.record.sequence == 8
            await trio.sleep(10)
        assert world.discovery.stats().records["older"] == 1
        assert (await world.find_timed())[0].peer_id == world.honest


@simulated(world_on, network=OPTIONS)
async def test_a_record_that_has_expired_is_refused_and_the_host_that_sleeps_on_it_is_no_choice(world: World) -> None:
    async with run_record_peer(world.net.machine("replayer"), bootstrap=world.bootstrap) as peer:
        peer.choose = by_turns(peer.record(CHEAP, sequence=7, age_s=200))
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 3
        stats = world.discovery.stats()
        assert stats.fetches["RECORD_EXPIRED"] == 1
        assert stats.records["refused:expires_at_unix_s"] == 1
        funnel = (await world.discovery.explain()).funnel
        assert (funnel.seen, funnel.rejected, funnel.matched) == (2, {"record": 1}, 1)


@simulated(world_on, network=OPTIONS)
async def test_another_hosts_record_is_not_taken_from_who_is_asked_for_his_own(world: World) -> None:
    async with run_record_peer(world.net.machine("replayer"), bootstrap=world.bootstrap) as peer:
        stolen = await peer.fetch(world.honest, world.address_of("host"))
        peer.choose = by_turns(stolen)
        await world.start_client()
        choice, _ = await world.find_timed()
        assert choice.peer_id == world.honest
        stats = world.discovery.stats()
        assert (stats.fetches["RECORD_INVALID"], stats.records["refused:peer_id"]) == (1, 1)
        assert [each.peer_id for each in await world.discovery.find_all_hosts()] == [world.honest]


@simulated(world_on, network=OPTIONS)
async def test_a_host_that_has_left_does_not_come_back_by_a_record_that_was_kept(world: World) -> None:
    async with run_record_peer(world.net.machine("replayer"), bootstrap=world.bootstrap) as peer:
        kept = await peer.fetch(world.honest, world.address_of("host"))
        client = await world.start_client()
        assert (await world.find_timed())[0].peer_id == world.honest
        await world.host.get_discovery_manager().withdraw()
        await trio.sleep(1)
        await peer.adversary.node.connect(client, [world.address_of("client")])
        await peer.push(client, kept)
        assert world.discovery.stats().records["older"] == 1
        with pytest.raises(NoHostFoundError):
            await world.discovery.find_host(HostCriteria(required_models=[MODEL], include=[world.honest]))


@pytest.mark.parametrize("fault", RecordFault)
@simulated(world_on, network=OPTIONS)
async def test_what_does_not_hold_is_refused_with_its_reason_whoever_hands_it_over(
    world: World, fault: RecordFault
) -> None:
    async with run_record_peer(world.net.machine("replayer"), bootstrap=world.bootstrap) as peer:
        client = await world.start_client()
        await peer.adversary.node.connect(client, [world.address_of("client")])
        broken = make_broken_record(fault, "somebody", CHEAP, now_unix_s=world.now_unix_s, network=NETWORK_NAME)
        with pytest.raises(RpcError) as refused:
            await peer.push(client, broken.signed)
        assert refused.value.status is StatusCode.INVALID_ARGUMENT
        assert refused.value.reason == broken.error.code
        assert refused.value.details.get("field", "") == broken.field


@simulated(world_on, network=OPTIONS)
async def test_one_peer_brings_sixteen_other_hosts_and_is_then_refused(world: World) -> None:
    async with run_record_peer(world.net.machine("replayer"), bootstrap=world.bootstrap) as peer:
        client = await world.start_client()
        await peer.adversary.node.connect(client, [world.address_of("client")])
        for number in range(MAX_PER_INTRODUCER + 4):
            record = make_host_record(
                f"made up {number}", CHEAP, network=NETWORK_NAME, issued_at_unix_s=world.now_unix_s, addresses=()
            )
            if number < MAX_PER_INTRODUCER:
                await peer.push(client, record)
            else:
                with pytest.raises(RpcError) as refused:
                    await peer.push(client, record)
                assert (refused.value.status, refused.value.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert world.discovery.stats().records["added"] == MAX_PER_INTRODUCER
        # None of them answers: they cost the search a probe each, and no more.
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 3
        funnel = (await world.discovery.explain()).funnel
        assert funnel.rejected["reachable"] == MAX_PER_INTRODUCER


# --- equivocation ---


@simulated(world_on, network=OPTIONS)
async def test_two_records_of_one_sequence_from_the_host_itself_get_it_banned(world: World) -> None:
    async with run_record_peer(world.net.machine("two-faced"), bootstrap=world.bootstrap) as peer:
        one, other = peer.record(CHEAP, sequence=7), peer.record(make_description(MODEL), sequence=7)
        peer.choose = by_turns(one, other)
        await world.start_client()
        first = await world.discovery.explain(only(peer))
        assert first.funnel.seen == 2
        await trio.sleep(10)
        second = await world.discovery.explain(only(peer))
        assert second.funnel.seen == 1
        # What it signs from now on does not count either.
        peer.choose = by_turns(peer.record(CHEAP, sequence=8))
        await trio.sleep(10)
        assert (await world.discovery.explain(only(peer))).funnel.seen == 1
        records = world.discovery.stats().records
        assert (records["equivocation"], records["banned"]) == (1, 1)
        assert (await world.find_timed())[0].peer_id == world.honest
        # It is in the history, once, and proves a lie: that outlasts a new binding of the key.
        wallet = make_wallet(peer.adversary.machine.name)
        told = world.client._files.reputation.explain(peer.adversary.peer_id, wallet.address.lower())
        assert [(each.kind, each.detail) for each in told.reasons] == [
            (EvidenceKind.EQUIVOCATION, "two records of sequence 7")
        ]
        assert told.reputation.points == 1000 // 20


@simulated(world_on, network=OPTIONS)
async def test_askers_who_were_shown_different_records_know_it_once_one_sees_both(world: World) -> None:
    machine = world.net.machine("second-client")
    async with (
        run_record_peer(world.net.machine("two-faced"), bootstrap=world.bootstrap) as peer,
        run_record_peer(world.net.machine("witness"), bootstrap=world.bootstrap) as witness,
        machine.open_sdk() as second,
    ):
        one, other = peer.record(CHEAP, sequence=7), peer.record(make_description(MODEL), sequence=7)
        peer.choose = by_asker(one, other)
        client = await world.start_client()
        await start_node(machine, second, world.bootstrap)
        seen = []
        for discovery in (world.discovery, second.get_discovery_manager()):
            criteria = HostCriteria(required_models=[MODEL], include=[peer.adversary.peer_id], accept_unmeasured=True)
            (choice,) = (await discovery.explain(criteria)).choices
            seen.append(choice.record)
        assert seen[0].sequence == seen[1].sequence
        assert seen[0].models != seen[1].models
        # Anybody may hand the second one on.
        await witness.adversary.node.connect(client, [world.address_of("client")])
        await witness.push(client, other)
        assert world.discovery.stats().records["equivocation"] == 1
        assert (await world.discovery.explain(only(peer))).funnel.rejected == {"listed": 2}
        for innocent in (witness.adversary.peer_id, world.honest):
            assert not world.client._files.reputation.knows(innocent)


@simulated(world_on, network=OPTIONS)
async def test_the_key_of_another_wallet_does_not_help_who_is_banned(world: World) -> None:
    async with run_record_peer(world.net.machine("two-faced"), bootstrap=world.bootstrap) as peer:
        one, other = peer.record(CHEAP, sequence=7), peer.record(make_description(MODEL), sequence=7)
        await world.start_client()
        peer.choose = by_turns(one, other)
        for _ in range(2):
            await world.discovery.explain(only(peer))
            await trio.sleep(10)
        rebound = make_host_record(
            "two-faced",
            CHEAP,
            key=peer.adversary.key,
            wallet=make_wallet("another operator"),
            network=NETWORK_NAME,
            issued_at_unix_s=world.now_unix_s,
            addresses=(peer.adversary.address,),
        )
        peer.choose = by_turns(rebound)
        assert (await world.discovery.explain(only(peer))).funnel.seen == 1
        assert world.discovery.stats().records["banned"] == 1


@simulated(world_on, network=OPTIONS)
async def test_one_sequence_under_two_wallets_is_a_contradiction_kept_with_where_it_came_from(world: World) -> None:
    async with (
        run_record_peer(world.net.machine("two-faced"), bootstrap=world.bootstrap) as peer,
        run_record_peer(world.net.machine("witness"), bootstrap=world.bootstrap) as witness,
    ):
        peer.choose = by_turns(peer.record(CHEAP, sequence=7))
        client = await world.start_client()
        assert (await world.discovery.explain(only(peer))).funnel.seen == 3, "the witness is one, too"
        rebound = make_host_record(
            "two-faced",
            CHEAP,
            key=peer.adversary.key,
            wallet=make_wallet("another operator"),
            network=NETWORK_NAME,
            sequence=7,
            issued_at_unix_s=world.now_unix_s,
            addresses=(peer.adversary.address,),
        )
        await witness.adversary.node.connect(client, [world.address_of("client")])
        await witness.push(client, rebound)
        assert (await world.discovery.explain(only(peer))).funnel.seen == 2
        (path,) = world.net.machines["client"].folder.rglob("bans.sqlite3")
        store = BanStore(path)
        (ban,) = store.load(NETWORK_NAME)
        store.close()
        where = ip_network((world.net.machines["witness"].address, 24), strict=False)
        assert (ban.peer_id, ban.introducer) == (peer.adversary.peer_id, witness.adversary.peer_id)
        assert ban.subnet == str(where)
        assert verify_proof(ban.proof or b"", network=NETWORK_NAME) == peer.adversary.peer_id
