"""What a node answers over the discovery protocol, and the bootstrap source."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from discovery_world import (
    EPOCH,
    FakeNetwork,
    FakeNode,
    make_description,
    make_key,
    make_record,
    make_records,
)
from trio.testing import MockClock

from hostmesh.discovery.description import HostState
from hostmesh.discovery.records import MAX_NAMED, RecordBook
from hostmesh.discovery.service import DiscoveryServer
from hostmesh.discovery.source import Candidate, SourceQuery
from hostmesh.discovery.sources.bootstrap import BootstrapSource
from hostmesh.errors import RpcError, StatusCode
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb


class Caller:
    def __init__(self, name: str) -> None:
        self.peer_id = make_key(name).peer_id


def setup(own: pb.SignedHostRecord | None = None) -> tuple[DiscoveryServer, RecordBook]:
    records = make_records(System(unix_s=lambda: EPOCH))
    return DiscoveryServer(records, lambda: own, secret=b"s" * 16), records


async def announce(server: DiscoveryServer, record: pb.SignedHostRecord, by: str) -> Any:
    return await server.announce(pb.AnnounceRequest(record=record), Caller(by))


async def test_a_node_that_is_no_host_says_so() -> None:
    server, _ = setup()
    with pytest.raises(RpcError) as caught:
        await server.get_record(pb.GetRecordRequest(), Caller("somebody"))
    assert (caught.value.status, caught.value.reason) == (StatusCode.NOT_FOUND, "NOT_A_HOST")


async def test_a_host_serves_its_record() -> None:
    own = make_record("host")
    server, _ = setup(own)
    response = await server.get_record(pb.GetRecordRequest(), Caller("somebody"))
    assert response.record == own


async def test_an_announced_record_is_known_and_a_tombstone_takes_it_away() -> None:
    server, records = setup()
    await announce(server, make_record("host", sequence=1), "host")
    assert [known.info.peer_id for known in records.live()] == [make_key("host").peer_id]
    assert records.sources_of(make_key("host").peer_id) == ("announce",)
    await announce(server, make_record("host", sequence=2, state=HostState.WITHDRAWN), "gossip")
    assert records.live() == []
    # The record before the tombstone is of no use any more.
    await announce(server, make_record("host", sequence=1), "host")
    assert records.live() == []


async def test_a_forged_announcement_is_refused_and_counted() -> None:
    """D29."""
    server, records = setup()
    record = make_record("host")
    record.envelope = record.envelope[:-1] + bytes([record.envelope[-1] ^ 1])
    with pytest.raises(RpcError) as caught:
        await announce(server, record, "host")
    assert (caught.value.status, caught.value.reason) == (StatusCode.INVALID_ARGUMENT, "SIGNATURE_BAD")
    expired = make_record("host", issued=EPOCH - 200)
    with pytest.raises(RpcError) as caught:
        await announce(server, expired, "host")
    assert caught.value.reason == "RECORD_EXPIRED"
    assert caught.value.details == {"field": "expires_at_unix_s"}
    with pytest.raises(RpcError) as caught:
        await server.announce(pb.AnnounceRequest(), Caller("host"))
    assert caught.value.status is StatusCode.INVALID_ARGUMENT
    assert records.live() == []
    assert records.counts["refused:SIGNATURE_BAD"] == 1
    assert records.counts["refused:expires_at_unix_s"] == 1


async def test_a_gossip_that_brings_too_many_hosts_is_told_so() -> None:
    server, records = setup()
    for index in range(16):
        await announce(server, make_record(f"h{index}"), "gossip")
    with pytest.raises(RpcError) as caught:
        await announce(server, make_record("h16"), "gossip")
    assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.retry_after_ms == 60_000
    assert len(records.live()) == 16
    await announce(server, make_record("h16"), "h16")
    assert len(records.live()) == 17


async def test_equivocation_takes_the_host_out() -> None:
    server, records = setup()
    await announce(server, make_record("host", sequence=5), "host")
    await announce(server, make_record("host", make_description("other"), sequence=5), "gossip")
    assert records.live() == []
    assert records.counts["equivocation"] == 1


def test_the_memory_of_who_named_whom_is_bounded() -> None:
    records = make_records(System(unix_s=lambda: EPOCH))
    records.name(PeerId("first"), "dht")
    records.name(PeerId("first"), "bootstrap")
    assert records.sources_of(PeerId("first")) == ("bootstrap", "dht")
    for index in range(MAX_NAMED):
        records.name(PeerId(str(index)), "dht")
    assert records.sources_of(PeerId("first")) == ("bootstrap",), "one source's flood pushes out its own"
    assert records.sources_of(PeerId("0")) == ("dht",)


# --- the bootstrap source ---

QUERY = SourceQuery(model_ids=(), country_code=None, limit=2)


async def found_by(source: BootstrapSource) -> list[Candidate]:
    found: list[Candidate] = []
    await source.find(QUERY, found.append)
    return found


async def test_connected_peers_are_candidates(autojump_clock: MockClock) -> None:
    node = FakeNode(FakeNetwork())
    for name in ("a", "b", "c"):
        node.connected[make_key(name).peer_id] = None
    found = await found_by(BootstrapSource(node))
    assert [candidate.peer_id for candidate in found] == [make_key("a").peer_id, make_key("b").peer_id]
    assert {(each.source, each.origin, each.addresses) for each in found} == {
        ("bootstrap", AddressOrigin.CONNECTED, ())
    }


async def test_a_find_right_after_the_start_waits_for_the_first_connection(autojump_clock: MockClock) -> None:
    """D35."""
    node = FakeNode(FakeNetwork())
    node.outcomes = {"/ip4/192.0.2.1/tcp/1/p2p/x": "dial"}

    async def connect_later() -> None:
        await trio.sleep(1)
        node.connected[make_key("a").peer_id] = None
        node.became_connected.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect_later)
        assert len(await found_by(BootstrapSource(node))) == 1
    assert trio.current_time() == pytest.approx(1)


async def test_it_does_not_wait_for_ever_nor_for_nothing(autojump_clock: MockClock) -> None:
    node = FakeNode(FakeNetwork())
    assert await found_by(BootstrapSource(node)) == []
    assert trio.current_time() == 0, "no bootstrap address, nothing to wait for"
    node.outcomes = {"/ip4/192.0.2.1/tcp/1/p2p/x": "timeout"}
    assert await found_by(BootstrapSource(node, first_connection_s=2)) == []
    assert trio.current_time() == 2
