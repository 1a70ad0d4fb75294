"""mDNS on this machine's loopback: among ourselves, with a responder written by hand, and what is left afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

import pytest
import trio

from hostmesh.discovery.source import Advert, SourceQuery
from hostmesh.discovery.sources import mdns, mdns_link
from hostmesh.discovery.sources.mdns import MdnsSource
from hostmesh.discovery.sources.mdns_records import MAX_PEERS
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import peer_id_from_public_key
from hostmesh.system import System

ADDRESS = "/ip4/127.0.0.1/tcp/4001"


def new_peer_id():
    return peer_id_from_public_key(os.urandom(32))


def source_of(peer_id, *interfaces):
    return MdnsSource(peer_id, interfaces=interfaces or ("127.0.0.1",), system=System())


def advert_of(*addresses):
    return Advert(model_ids=(), country_code=None, addresses=addresses)


class Subscription:
    """What a source finds, awaited peer by peer; other tests may be on the link at the same time."""

    def __init__(self, source):
        self._source = source
        self._send, self._receive = trio.open_memory_channel(1000)

    async def run(self):
        await self._source.find(
            SourceQuery(model_ids=(), country_code=None, limit=10_000), lambda found: self._send.send_nowait(found)
        )

    async def until(self, peer_id, address=None):
        with trio.fail_after(20):
            async for candidate in self._receive:
                if candidate.peer_id == peer_id and address in (None, *candidate.addresses):
                    return candidate
        raise AssertionError("the find ended")


async def known_to(source):
    found = {}
    query = SourceQuery(model_ids=(), country_code=None, limit=10_000)
    with trio.move_on_after(0):
        await source.find(query, lambda candidate: found.setdefault(candidate.peer_id, candidate))
    return found


@pytest.fixture
def long_finds(monkeypatch):
    """A find stays, and so serves as a subscription."""
    monkeypatch.setattr(mdns, "SETTLE_S", 60.0)


def sockets():
    out = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
            out.append(str(entry.readlink()))
    return sorted(link for link in out if link.startswith(("socket:", "anon_inode:")))


async def listening(source):
    """Wait until the source hears the link: another test's question must not be taken for its own."""
    with trio.fail_after(20):
        await source._link.ready.wait()


async def test_a_host_on_loopback_is_found_on_the_same_machine(nursery, long_finds):
    host_id, client_id = new_peer_id(), new_peer_id()
    host, client = source_of(host_id), source_of(client_id)
    await nursery.start(host.run)
    await nursery.start(client.run)
    await host.advertise(advert_of(ADDRESS, "/ip6/::1/tcp/4002/ws"))
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    candidate = await subscription.until(host_id)
    assert candidate.addresses == (ADDRESS, "/ip6/::1/tcp/4002/ws")
    assert (candidate.source, candidate.origin) == ("mdns", AddressOrigin.MDNS)
    # Who does not advertise is not seen, and nobody sees itself.
    assert client_id not in await known_to(host)
    assert host_id not in await known_to(host)


async def test_changed_addresses_arrive(nursery, long_finds):
    host_id = new_peer_id()
    host, client = source_of(host_id), source_of(new_peer_id())
    await nursery.start(host.run)
    await nursery.start(client.run)
    await listening(client)
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    await host.advertise(advert_of(ADDRESS))
    await subscription.until(host_id, ADDRESS)
    await host.advertise(advert_of("/ip4/127.0.0.1/tcp/4999"))
    candidate = await subscription.until(host_id, "/ip4/127.0.0.1/tcp/4999")
    # Within a second of each other the old one may still stand (RFC 6762, section 10.2), behind the new one.
    assert candidate.addresses[0] == "/ip4/127.0.0.1/tcp/4999"


async def test_a_responder_with_ptr_and_txt_alone_is_found(nursery, link, txt, long_finds):
    """js-libp2p and go-libp2p answer no more than that. The question is theirs, too: a PTR of the service."""
    peer_id = new_peer_id()
    client = source_of(new_peer_id())
    await nursery.start(client.run)
    await listening(client)
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    with trio.fail_after(20):
        await link.question()
    await link.announce("go" + os.urandom(15).hex(), txt(f"dnsaddr={ADDRESS}/p2p/{peer_id}", "other=1", "dnsaddr=bad"))
    candidate = await subscription.until(peer_id)
    assert candidate.addresses == (ADDRESS,)
    assert client.statistics.malformed >= 1


async def test_one_txt_record_for_each_address_is_one_peer(nursery, link, txt, long_finds):
    """js-libp2p sends its addresses so, without the cache-flush bit."""
    peer_id, label = new_peer_id(), "js" + os.urandom(15).hex()
    other = "/ip4/127.0.0.1/tcp/4002"
    client = source_of(new_peer_id())
    await nursery.start(client.run)
    await listening(client)
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    await link.announce_each(label, [txt(f"dnsaddr={address}/p2p/{peer_id}") for address in (ADDRESS, other)])
    candidate = await subscription.until(peer_id)
    assert set(candidate.addresses) == {ADDRESS, other}


async def test_the_txt_of_a_name_without_one_is_asked_for(nursery, link, txt, long_finds):
    peer_id, label = new_peer_id(), "ptr" + os.urandom(15).hex()
    client = source_of(new_peer_id())
    await nursery.start(client.run)
    await listening(client)
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    with trio.fail_after(20):
        await link.question()
        await link.announce_name(label)
        await link.txt_question(label)
    await link.announce_txt(label, txt(f"dnsaddr={ADDRESS}/p2p/{peer_id}"))
    await subscription.until(peer_id)


async def test_goodbye_of_another_is_heard(nursery, link, txt, long_finds):
    leaving, staying = new_peer_id(), new_peer_id()
    client = source_of(new_peer_id())
    await nursery.start(client.run)
    await listening(client)
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    with trio.fail_after(20):
        await link.question()
    label, data = "bye" + os.urandom(15).hex(), txt(f"dnsaddr={ADDRESS}/p2p/{leaving}")
    await link.announce(label, data)
    await subscription.until(leaving)
    await link.announce(label, data, ttl=0)
    await link.announce("stay" + os.urandom(15).hex(), txt(f"dnsaddr={ADDRESS}/p2p/{staying}"))
    await subscription.until(staying)
    known = await known_to(client)
    assert staying in known
    assert leaving not in known


async def test_what_a_host_sends(nursery, link):
    """PTR with a random name, TXT with one string an address, TTL 120; and a goodbye with TTL 0 when it leaves."""
    peer_id = new_peer_id()
    host = source_of(peer_id)
    await host.advertise(advert_of(ADDRESS, "/ip4/127.0.0.1/tcp/4002/ws"))
    string = f"dnsaddr={ADDRESS}/p2p/{peer_id}".encode()
    second = f"dnsaddr=/ip4/127.0.0.1/tcp/4002/ws/p2p/{peer_id}".encode()
    rdata = bytes([len(string)]) + string + bytes([len(second)]) + second
    # A TXT record (16) of class IN with the cache-flush bit, a TTL, the length of the data, the data.
    alive = b"\x00\x10\x80\x01" + (120).to_bytes(4, "big") + len(rdata).to_bytes(2, "big") + rdata
    goodbye = b"\x00\x10\x80\x01" + bytes(4) + len(rdata).to_bytes(2, "big") + rdata
    with trio.fail_after(20):
        async with trio.open_nursery() as inner:
            await inner.start(host.run)
            packet = await link.packet(lambda data: alive in data)
            names = re.findall(rb"\x20([a-z0-9]{32})(?:\x04_p2p|\xc0)", packet)
            assert len(set(names)) == 1
            assert peer_id.encode().lower() not in packet.split(rdata)[0].lower()
            inner.cancel_scope.cancel()
        await link.packet(lambda data: goodbye in data)


async def test_advertise_none_says_goodbye_and_the_next_advert_comes_back(nursery, link):
    host_id = new_peer_id()
    host = source_of(host_id)
    await nursery.start(host.run)
    mine = host_id.encode()
    with trio.fail_after(20):
        await host.advertise(advert_of(ADDRESS))
        await link.packet(lambda data: mine in data and (120).to_bytes(4, "big") in data)
        await host.advertise(None)
        await link.packet(lambda data: mine in data and b"\x00\x10\x80\x01\x00\x00\x00\x00" in data)
        await host.advertise(advert_of(ADDRESS))
        await link.packet(lambda data: mine in data and (120).to_bytes(4, "big") in data)


@pytest.mark.parametrize("is_withdrawn", [True, False], ids=["withdrawn", "cut-off"])
async def test_a_goodbye_is_the_last_word_and_said_three_times(link, is_withdrawn):
    """An answer waits up to 120 ms, or 1.5 s after an announcement: one that was due must not follow the goodbye."""
    host_id = new_peer_id()
    host = source_of(host_id)
    await host.advertise(advert_of(ADDRESS))

    async def next_ttl():
        packet = await link.packet(lambda data: host_id.encode() in data)
        return int.from_bytes(packet.split(b"\x00\x10\x80\x01")[1][:4], "big")

    with trio.fail_after(20):
        async with trio.open_nursery() as inner:
            await inner.start(host.run)
            for _ in range(3 if is_withdrawn else 1):
                assert await next_ttl() == 120
            await link.ask()
            if is_withdrawn:
                await host.advertise(None)
                while await next_ttl():
                    pass
            inner.cancel_scope.cancel()
    ttls = []
    with trio.move_on_after(2):
        while True:
            ttls.append(await next_ttl())
    assert ttls[-3 + is_withdrawn :] == [0] * (3 - is_withdrawn)
    assert ttls == sorted(ttls, reverse=True)


async def test_questions_go_on_and_name_no_known_answers(nursery, link, txt, monkeypatch):
    """Known answers would keep their holders silent, and their TTLs would end."""
    monkeypatch.setattr(mdns_link, "ASK_INTERVALS_S", (0.05, 0.05))
    monkeypatch.setattr(mdns_link, "ASK_EVERY_S", 0.05)
    client = source_of(new_peer_id())
    await nursery.start(client.run)
    await listening(client)
    with trio.fail_after(20):
        for number in range(5):
            packet = await link.question()
            if packet[4:6] == b"\x00\x01" and number == 1:
                await link.announce("known" + os.urandom(14).hex(), txt(f"dnsaddr={ADDRESS}/p2p/{new_peer_id()}"))
            assert packet[6:8] == b"\x00\x00"


async def test_a_crowd_on_the_link_is_bounded(nursery, link, txt, long_finds):
    client = source_of(new_peer_id())
    await nursery.start(client.run)
    await listening(client)
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    with trio.fail_after(20):
        await link.question()
    for number in range(MAX_PEERS + 50):
        await link.announce(f"crowd{number}x{os.urandom(10).hex()}", txt(f"dnsaddr={ADDRESS}/p2p/{new_peer_id()}"))
        if number % 20 == 0:
            await trio.testing.wait_all_tasks_blocked()
    last, label = new_peer_id(), "last" + os.urandom(10).hex()

    async def announce_again_and_again():
        # As announcers must (RFC 6762, section 8.3): the flood before may have filled the socket's buffer.
        while True:
            await link.announce(label, txt(f"dnsaddr={ADDRESS}/p2p/{last}"), ttl=4000)
            await trio.sleep(0.25)

    async with trio.open_nursery() as announcer:
        announcer.start_soon(announce_again_and_again)
        await subscription.until(last)
        announcer.cancel_scope.cancel()
    assert client.statistics.peers <= MAX_PEERS


async def test_leaving_ends_the_thread_and_every_socket():
    def threads():
        return [thread.name for thread in threading.enumerate() if thread.name == "hostmesh-mdns"]

    before = sockets()
    host = source_of(new_peer_id())
    await host.advertise(advert_of(ADDRESS))
    for _ in range(3):
        async with trio.open_nursery() as inner:
            await inner.start(host.run)
            await listening(host)
            assert host.statistics.is_listening
            assert len(sockets()) > len(before)
            assert threads()
            inner.cancel_scope.cancel()
        assert threads() == []
        assert sockets() == before
        assert not host.statistics.is_listening


async def test_cancelled_at_once_it_leaves_nothing_either():
    before = sockets()
    for _ in range(5):
        async with trio.open_nursery() as inner:
            await inner.start(source_of(new_peer_id()).run)
            inner.cancel_scope.cancel()
    assert sockets() == before
    assert all(thread.name != "hostmesh-mdns" for thread in threading.enumerate())


async def test_opening_the_link_does_not_hold_up_the_loop(nursery, monkeypatch):
    """zeroconf's constructor waits for what only this loop can give it: a loop that waited for it would never go on."""
    opening, go_on = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    genuine = mdns_link.AsyncZeroconf

    def slow(*args, **kwargs):
        token.run_sync_soon(opening.set)
        assert go_on.wait(20)
        return genuine(*args, **kwargs)

    monkeypatch.setattr(mdns_link, "AsyncZeroconf", slow)
    client = source_of(new_peer_id())
    with trio.fail_after(20):
        await nursery.start(client.run)
        await opening.wait()
        go_on.set()
        await listening(client)
    assert client.statistics.is_listening


async def test_an_interface_that_is_not_there_is_tried_again_until_it_comes(nursery, monkeypatch, long_finds):
    monkeypatch.setattr(mdns, "RETRY_S", (0.01, 0.02))
    host_id = new_peer_id()
    names = ["nosuch0"]
    genuine = mdns_link.choose_interfaces
    tries, tried = [], trio.Event()
    token = trio.lowlevel.current_trio_token()

    def appearing(wanted, adapters):
        tries.append(wanted)
        if len(tries) > 3:
            token.run_sync_soon(tried.set)
        return genuine(["127.0.0.1"] if len(tries) > 3 else names, adapters)

    monkeypatch.setattr(mdns_link, "choose_interfaces", appearing)
    host, client = source_of(host_id), source_of(new_peer_id(), "nosuch0")
    await host.advertise(advert_of(ADDRESS))
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    await nursery.start(client.run)
    with trio.fail_after(20):
        await tried.wait()
    await nursery.start(host.run)
    await subscription.until(host_id)


async def test_a_rescan_opens_a_link_that_could_not_be_opened_without_a_pause(nursery, monkeypatch, long_finds):
    monkeypatch.setattr(mdns, "RETRY_S", (3600.0, 3600.0))
    host_id = new_peer_id()
    genuine = mdns_link.choose_interfaces
    there: list[str] = []
    monkeypatch.setattr(mdns_link, "choose_interfaces", lambda wanted, adapters: genuine(there or wanted, adapters))
    client = source_of(new_peer_id(), "nosuch0")
    await nursery.start(client.run)
    if client._link is not None:
        with trio.fail_after(20):
            await client._link.ended.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert client._link is None, "it pauses"
    there.append("127.0.0.1")
    client.rescan()
    await trio.testing.wait_all_tasks_blocked()
    await listening(client)
    host = source_of(host_id)
    await host.advertise(advert_of(ADDRESS))
    subscription = Subscription(client)
    nursery.start_soon(subscription.run)
    await nursery.start(host.run)
    await subscription.until(host_id)


async def test_a_rescan_looks_at_the_interfaces_and_asks(nursery, link, monkeypatch):
    monkeypatch.setattr(mdns_link, "RESCAN_S", 3600.0)
    monkeypatch.setattr(mdns_link, "ASK_INTERVALS_S", ())
    monkeypatch.setattr(mdns_link, "ASK_EVERY_S", 3600.0)
    looks, looked = [], trio.Event()
    token = trio.lowlevel.current_trio_token()
    genuine = mdns_link.choose_interfaces

    def counted(wanted, adapters):
        looks.append(wanted)
        if len(looks) > 1:
            token.run_sync_soon(looked.set)
        return genuine(wanted, adapters)

    monkeypatch.setattr(mdns_link, "choose_interfaces", counted)
    source = source_of(new_peer_id())
    source.rescan()  # before there is a link it does nothing
    await nursery.start(source.run)
    await listening(source)
    with trio.fail_after(20):
        await link.question()  # that of the start
        assert len(looks) == 1
        source.rescan()
        await looked.wait()
        await link.question()


async def test_a_find_without_a_link_ends(nursery, monkeypatch):
    monkeypatch.setattr(mdns, "SETTLE_S", 0.05)
    client = source_of(new_peer_id(), "nosuch0")
    await nursery.start(client.run)
    with trio.fail_after(20):
        await client.find(SourceQuery(model_ids=(), country_code=None, limit=1), lambda _: None)
    assert not client.statistics.is_listening


async def test_find_stops_at_its_limit(nursery, link, txt, long_finds):
    client = source_of(new_peer_id())
    await nursery.start(client.run)
    await listening(client)
    with trio.fail_after(20):
        await link.question()
        for _ in range(4):
            await link.announce("limit" + os.urandom(13).hex(), txt(f"dnsaddr={ADDRESS}/p2p/{new_peer_id()}"))
        found = []
        await client.find(SourceQuery(model_ids=(), country_code=None, limit=3), found.append)
    assert len({candidate.peer_id for candidate in found}) == 3
