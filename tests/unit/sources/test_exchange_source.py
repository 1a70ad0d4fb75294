"""Peer exchange over nodes that answer with the shipped service, or with what an adversary would."""

from __future__ import annotations

from types import SimpleNamespace

import trio

from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.service import DiscoveryServer
from hostmesh.discovery.source import SourceQuery
from hostmesh.discovery.sources.exchange import MAX_PAGES, MAX_PEERS, ExchangeSource, draw_peers
from hostmesh.discovery.table import MAX_PER_INTRODUCER
from hostmesh.errors import DeadlineExceededError, ProtocolNotSupportedError, ReadyTimeoutError
from hostmesh.identity.binding import verify_binding
from hostmesh.identity.revocation import sign_revocation, verify_revocation
from hostmesh.net.address import AddressOrigin
from hostmesh.system import System
from hostmesh.testing.records import EPOCH_UNIX_S, make_description, make_host_record
from hostmesh.testing.wallets import TEST_NETWORK, make_peer_key, make_wallet
from hostmesh.v1 import discovery_pb2 as pb

ASKER = make_peer_key("asker").peer_id
SYSTEM = System(unix_s=lambda: EPOCH_UNIX_S, random_bytes=lambda size: b"r" * size)
QUERY = SourceQuery(model_ids=("llama",), country_code=None, limit=256)


def book():
    return RecordBook(
        network=TEST_NETWORK, verify_binding=verify_binding, verify_revocation=verify_revocation, system=SYSTEM
    )


def record(name, model="llama", **fields):
    return make_host_record(name, make_description(model), **fields)


def revocation(name):
    return sign_revocation(make_wallet(name), id_of(name), network=TEST_NETWORK, now=EPOCH_UNIX_S)


def id_of(name):
    return make_peer_key(name).peer_id


class World:
    """A node, who is connected to it, and what they answer."""

    def __init__(self):
        self.answers = {}
        self.ips = {}
        self.asked = []
        self.timeouts = []
        self.records = book()
        self.source = ExchangeSource(self, self, self.records, system=SYSTEM)
        self.found = []

    def peer(self, name, *hosts, ip=None, revoked=()):
        """Connect a peer that has spoken with these hosts, some of which were revoked afterwards."""
        known = book()
        for host in hosts:
            known.accept(host)
        for each in revoked:
            known.accept_revocation(revocation(each), introducer=id_of("somebody"))
        server = DiscoveryServer(known, lambda: None, secret=name.encode())

        async def answer(request):
            return await server.query(request, SimpleNamespace(peer_id=ASKER))

        return self.adversary(name, answer, ip=ip)

    def adversary(self, name, answer, ip=None):
        peer_id = id_of(name)
        self.answers[peer_id] = answer
        self.ips[peer_id] = ip or f"198.{len(self.ips)}.0.1"
        return peer_id

    def connected_peers(self):
        return tuple(self.answers)

    def remote_ip(self, peer_id):
        return self.ips[peer_id]

    def bootstrap_outcomes(self):
        return {}

    async def unary(self, peer_id, method, request, *, timeout_s, **_):
        assert method.name == "Query"
        self.asked.append(peer_id)
        await trio.lowlevel.checkpoint()
        return await self.answers[peer_id](request)

    async def find(self, query=QUERY):
        await self.source.find(query, self.found.append)
        return {candidate.peer_id for candidate in self.found}


async def test_the_union_of_what_the_peers_know_is_found_each_record_verified():
    world = World()
    left = world.peer("left", record("a"), record("b"))
    world.peer("right", record("b"), record("c"), record("other", "mistral"))
    assert await world.find() == {id_of("a"), id_of("b"), id_of("c")}
    (first,) = (each for each in world.found if each.peer_id == id_of("a"))
    assert (first.source, first.origin, first.named_by) == ("exchange", AddressOrigin.REMOTE, left)
    assert first.addresses == world.records.known(id_of("a")).info.addresses
    assert world.records.known(id_of("a")).introducer == left, "it is hearsay until the host says so itself"
    assert world.source.statistics.peers_asked == 2


async def test_a_host_that_one_peer_knows_to_be_revoked_is_not_taken_from_another():
    """In the first find of a client that never heard of it, whichever of the two answers first."""
    for names in (("knows", "late"), ("late", "knows")):
        world = World()
        for name in names:
            revoked = ("stolen",) if name == "knows" else ()
            world.peer(name, record("honest"), record("stolen"), revoked=revoked)
        await world.find()
        assert {host.info.peer_id for host in world.records.live()} == {id_of("honest")}
        assert await world.find() >= {id_of("honest")}


async def test_a_revocation_that_does_not_hold_takes_nobody_out():
    forged = revocation("honest")
    forged.signature = revocation("other").signature

    async def answer(request):
        return pb.QueryResponse(records=[record("honest")], revocations=[forged])

    world = World()
    world.adversary("liar", answer)
    assert await world.find() == {id_of("honest")}
    assert len(world.records.live()) == 1
    assert world.records.counts["revocation:invalid"] == 1


async def test_further_pages_are_asked_for():
    world = World()
    peer = world.peer("peer", *(record(f"h{number}") for number in range(20)))
    assert await world.find() == {id_of(f"h{number}") for number in range(20)}
    assert world.asked == [peer, peer]
    # There was room in the table for some of them alone; all are candidates.
    assert len(world.records.live()) == MAX_PER_INTRODUCER


async def test_what_a_peer_heard_of_others_is_not_handed_on():
    world = World()
    hearsay = book()
    hearsay.accept(record("a"), introducer=id_of("somebody"))
    server = DiscoveryServer(hearsay, lambda: None, secret=b"s")
    world.adversary("peer", lambda request: server.query(request, SimpleNamespace(peer_id=ASKER)))
    assert await world.find() == set()


async def test_four_peers_are_asked_of_as_many_networks():
    world = World()
    crowd = [world.peer(f"crowd{number}", ip=f"203.0.113.{number}") for number in range(20)]
    others = [world.peer(f"other{number}", ip=f"198.{number}.0.1") for number in range(3)]
    await world.find()
    assert len(world.asked) == MAX_PEERS
    assert set(others) < set(world.asked)
    assert len(set(crowd) & set(world.asked)) == 1


def test_who_is_asked_is_drawn_by_lot():
    peers = [id_of(number) for number in range(10)]
    drawn = {tuple(draw_peers(peers, lambda _: "203.0.113.1", 2, seed=bytes([seed]))) for seed in range(30)}
    assert len(drawn) > 15
    assert draw_peers(peers, lambda _: "203.0.113.1", 2, seed=b"x") == draw_peers(
        reversed(peers), lambda _: "203.0.113.1", 2, seed=b"x"
    )
    assert sorted(draw_peers(peers, lambda _: None, 99, seed=b"")) == sorted(peers)
    networks = {peers[0]: "2001:db8:1::1", peers[1]: "2001:db8:2::1", peers[2]: "2001:db9::1", peers[3]: "fe80::1%eth0"}
    for seed in range(20):
        assert {peers[2], peers[3]} <= set(draw_peers(networks, networks.get, 3, seed=bytes([seed])))


# --- adversaries ---


async def test_a_record_that_does_not_hold_ends_the_questions_to_who_handed_it_over():
    world = World()
    forged = record("a")
    forged.envelope = forged.envelope[:-1] + bytes([forged.envelope[-1] ^ 1])

    async def lie(request):
        return pb.QueryResponse(records=[record("before"), forged, record("after")], cursor=b"more")

    liar = world.adversary("liar", lie)
    honest = world.peer("honest", record("h"))
    assert await world.find() == {id_of("before"), id_of("h")}
    assert sorted(world.asked) == sorted([liar, honest])
    assert world.source.statistics.refused == 1


async def test_a_peer_that_names_hosts_without_end_brings_its_share_and_pages_are_few():
    world = World()
    pages = 0

    async def flood(request):
        nonlocal pages
        pages += 1
        records = [record(f"{pages}-{number}") for number in range(16)]
        return pb.QueryResponse(records=records, cursor=bytes([pages]))

    world.adversary("flood", flood)
    world.peer("honest", record("h"))
    named = await world.find()
    assert id_of("h") in named
    assert len(named) == QUERY.limit // 2 // MAX_PEERS + 1
    assert len(world.records.live()) == MAX_PER_INTRODUCER + 1

    async def trickle(request):
        nonlocal pages
        pages += 1
        return pb.QueryResponse(cursor=bytes([pages]))

    pages = 0
    world.answers = {}
    world.adversary("trickle", trickle)
    await world.find()
    assert pages == MAX_PAGES


async def test_a_cursor_that_does_not_move_ends_it():
    world = World()

    async def stuck(request):
        return pb.QueryResponse(cursor=b"here")

    peer = world.adversary("stuck", stuck)
    await world.find()
    assert world.asked == [peer, peer]


async def test_what_was_not_asked_for_is_no_candidate():
    world = World()

    async def other(request):
        return pb.QueryResponse(records=[record("a", "mistral")])

    world.adversary("other", other)
    assert await world.find() == set()
    assert await world.find(SourceQuery(model_ids=(), country_code="DE", limit=9)) == set()
    assert await world.find(SourceQuery(model_ids=(), country_code=None, limit=9)) == {id_of("a")}


async def test_who_equivocated_is_no_candidate():
    world = World()
    world.peer("left", record("a", sequence=5))
    world.peer("right", record("a", sequence=5, addresses=("/ip4/192.0.2.9/tcp/9",)))
    assert len(await world.find()) == 1, "the second record shows it"
    world.found.clear()
    assert await world.find() == set()


async def test_peers_that_fail_or_are_older_do_not_matter():
    world = World()

    async def old(request):
        raise ProtocolNotSupportedError("1.0.0 only", needed="1.1.0")

    async def slow(request):
        raise DeadlineExceededError("late")

    world.adversary("old", old)
    world.adversary("slow", slow)
    world.peer("honest", record("h"))
    assert await world.find() == {id_of("h")}
    assert world.source.statistics.failures == 1


async def test_without_a_connection_nobody_is_asked():
    world = World()
    assert await world.find() == set()
    world.bootstrap_outcomes = lambda: {"/ip4/192.0.2.1/tcp/1": "refused"}
    waited = []

    async def wait_connected(min_peers, timeout_s):
        waited.append(timeout_s)
        raise ReadyTimeoutError("nobody", outcomes={})

    world.wait_connected = wait_connected
    assert await world.find() == set()
    assert waited == [3.0]
