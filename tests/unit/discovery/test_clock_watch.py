"""The measured clock: who answered, how far they are off, and what is remembered of it."""

from __future__ import annotations

import pytest
import trio
from discovery_world import (
    EPOCH,
    FakeNetwork,
    FakeNode,
    FakePeer,
    make_description,
    make_key,
    make_publisher,
    view_of,
)
from trio.testing import MockClock

from hostmesh.discovery.clock import ClockSample, clock_skew_s
from hostmesh.discovery.clock_watch import ClockWatch
from hostmesh.errors import ClockSkewError
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System


def connected(*ahead_s: float, trusted: int = 0, rtt_s: float = 0.01) -> tuple[FakeNode, list[PeerId]]:
    """A node with a peer for each clock; the first ``trusted`` of them are bootstrap peers."""
    network = FakeNetwork()
    node = FakeNode(network)
    peers = [make_key(f"peer{index}").peer_id for index in range(len(ahead_s))]
    for peer_id, ahead in zip(peers, ahead_s, strict=True):
        network.peers[peer_id] = FakePeer(peer_id, clock_ahead_s=ahead, rtt_s=rtt_s)
        node.connected[peer_id] = None
    node.outcomes = {f"/ip4/192.0.2.1/tcp/1/p2p/{peer_id}": "connected" for peer_id in peers[:trusted]}
    return node, peers


def watch_of(node: FakeNode) -> ClockWatch:
    return ClockWatch(node, node, system=System(unix_s=lambda: EPOCH + trio.current_time()))


async def test_every_sample_is_kept_with_its_peer_and_its_error(autojump_clock: MockClock) -> None:
    node, peers = connected(7.0, -90.0, 5.0, trusted=1, rtt_s=0.4)
    watch = watch_of(node)
    assert watch.last is None
    reading = await watch.measure()
    assert reading.skew_s == pytest.approx(7.0, abs=0.21), "the peer that we configured counts alone"
    assert watch.last == reading
    assert {sample.peer_id for sample in reading.samples} == set(peers)
    for sample, ahead_s in ((each, {peers[0]: 7.0, peers[1]: -90.0, peers[2]: 5.0}) for each in reading.samples):
        assert sample.peer_id is not None
        assert abs(sample.skew_s - ahead_s[sample.peer_id]) <= sample.error_s + 0.002
        assert sample.error_s == pytest.approx(0.2, abs=0.05)
        assert sample.is_trusted is (sample.peer_id == peers[0])
    assert reading.measured_at_unix_s == pytest.approx(EPOCH + 0.4, abs=0.05)
    assert reading.to_dict()["samples"] == [sample.to_dict() for sample in reading.samples]


async def test_too_few_strangers_say_nothing_and_are_shown(autojump_clock: MockClock) -> None:
    node, _ = connected(100.0, 101.0)
    reading = await watch_of(node).measure()
    assert reading.skew_s is None
    assert sorted(round(sample.skew_s) for sample in reading.samples) == [100, 101]


async def test_the_last_reading_outlasts_a_silence(autojump_clock: MockClock) -> None:
    node, peers = connected(3.0, trusted=1)
    watch = watch_of(node)
    first = await watch.measure()
    node.network.peers[peers[0]].is_silent = True
    silent = await watch.measure()
    assert (silent.skew_s, silent.samples) == (None, ())
    assert watch.last == first
    assert trio.current_time() <= 2.1, "two seconds for all of them"


async def test_at_most_five_are_asked_those_of_our_configuration_first(autojump_clock: MockClock) -> None:
    node, peers = connected(*range(9), trusted=0)
    node.outcomes = {f"/ip4/192.0.2.1/tcp/1/p2p/{peers[8]}": "connected", "/no address": "dial"}
    reading = await watch_of(node).measure()
    assert len(reading.samples) == 5
    assert peers[8] in {sample.peer_id for sample in reading.samples}


async def test_of_strangers_one_of_each_network_is_asked_those_that_we_dialled_first(autojump_clock: MockClock) -> None:
    node, peers = connected(*[100.0] * 4, *[0.0] * 5)
    addresses = [
        *[f"/ip4/198.51.100.{number}/tcp/1" for number in range(3)],
        "/ip6/2001:db8:7:1::9/tcp/1",
        "/ip6/2001:db8:7:2::9/tcp/1",
        *[f"/ip4/203.0.{number}.9/tcp/1" for number in range(4)],
    ]
    for index, (peer_id, address) in enumerate(zip(peers, addresses, strict=True)):
        node.views[peer_id] = view_of(peer_id, address, is_outbound=index > 5)
    reading = await watch_of(node).measure()
    assert {sample.peer_id for sample in reading.samples} == {*peers[6:], peers[0], peers[3]}
    assert reading.skew_s == pytest.approx(0.0, abs=0.05)
    assert (reading.is_trusted, reading.voters) == (False, 5)


async def test_many_keys_of_one_network_are_too_few_to_say_anything(autojump_clock: MockClock) -> None:
    node, peers = connected(*[100.0] * 9)
    for number, peer_id in enumerate(peers):
        node.views[peer_id] = view_of(peer_id, f"/ip4/198.51.100.{number}/tcp/1", is_outbound=False)
    reading = await watch_of(node).measure()
    assert (reading.skew_s, len(reading.samples)) == (None, 1)


async def test_what_strangers_say_is_logged_once_and_what_configured_peers_say_is_an_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node, peers = connected(*[-100.0] * 3)
    watch = watch_of(node)
    with caplog.at_level("WARNING", "hostmesh.discovery"):
        for _ in range(3):
            await watch.require_right()
    (record,) = caplog.records
    assert record.getMessage().startswith("this machine's clock is 100 s ahead of those of 3 strangers")
    node.outcomes = {f"/ip4/192.0.2.1/tcp/1/p2p/{peers[0]}": "connected"}
    with pytest.raises(ClockSkewError) as caught:
        await watch.require_right()
    assert caught.value.skew_s == pytest.approx(-100.0, abs=0.05)


async def test_a_host_shows_the_clock_that_it_measured(autojump_clock: MockClock) -> None:
    node, _ = connected(12.0, trusted=1)
    publisher = make_publisher(node)
    assert publisher.clock is not None
    assert publisher.clock.last is None
    await publisher.announce(make_description("m"))
    assert publisher.clock.last is not None
    assert publisher.clock.last.skew_s == pytest.approx(12.0, abs=0.05)


def test_the_median_of_three_strangers_withstands_one_liar() -> None:
    samples = [ClockSample(skew_s=skew_s, is_trusted=False) for skew_s in (0.1, -0.2, 1e9)]
    assert clock_skew_s(samples) == 0.1
