"""The publisher: sequences, renewal, tombstones, the clock and the binding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from discovery_world import (
    EPOCH,
    NETWORK,
    FakeNetwork,
    FakeNode,
    FakePeer,
    FakeSource,
    make_binding,
    make_description,
    make_key,
    make_operator,
    make_publisher,
    trusting_verifier,
    view_of,
)
from trio.testing import MockClock

from hostmesh.discovery.description import HostDescription, HostState, Reachability
from hostmesh.discovery.publisher import HostPublisher, PublisherConfig
from hostmesh.discovery.record import HostInfo, verify_record
from hostmesh.discovery.source import Advert
from hostmesh.discovery.store import SequenceStore
from hostmesh.errors import ClockSkewError, RecordExpiredError, StoreError, UsageError
from hostmesh.net.autonat_report import ReachabilityReport, ReachState
from hostmesh.system import System

KEY = make_key("client")
BOOT = make_key("boot").peer_id


def setup(**options: Any) -> tuple[HostPublisher, FakeNode, FakeSource, FakePeer]:
    """A publisher that is connected to a bootstrap peer."""
    network = FakeNetwork()
    node = FakeNode(network)
    source = FakeSource("dht")
    boot = FakePeer(BOOT)
    network.peers[BOOT] = boot
    node.connected[BOOT] = None
    node.outcomes = {f"/ip4/192.0.2.1/tcp/4001/p2p/{BOOT}": "connected"}
    return make_publisher(node, [source], **options), node, source, boot


def current(publisher: HostPublisher) -> HostInfo | None:
    record = publisher.current()
    if record is None:
        return None
    return verify_record(
        record,
        expected_peer_id=KEY.peer_id,
        network=NETWORK,
        now=EPOCH + trio.current_time(),
        verify_binding=trusting_verifier,
    )


async def test_nothing_is_published_before_it_is_announced(autojump_clock: MockClock) -> None:
    publisher, _, source, _ = setup()
    assert publisher.current() is None
    assert publisher.state is None
    await publisher.withdraw()
    assert source.adverts == []
    with pytest.raises(UsageError):
        await publisher.drain()


async def test_an_announced_record_is_served_advertised_and_pushed(autojump_clock: MockClock) -> None:
    publisher, _, source, boot = setup()
    info = await publisher.announce(make_description("m", location="US"))
    served = current(publisher)
    assert served == info
    assert info.addresses == ("/ip4/192.0.2.9/tcp/4001",)
    assert info.sequence == int((EPOCH + boot.rtt_s) * 1000), "unix milliseconds, after the clock was compared"
    assert info.expires_at_unix_s - info.issued_at_unix_s == 120
    assert source.adverts == [Advert(model_ids=("m",), country_code="US", addresses=info.addresses)]
    assert [signed.SerializeToString() for signed in boot.got] == [info.signed]


async def test_it_is_renewed_every_minute_with_a_higher_sequence(autojump_clock: MockClock) -> None:
    publisher, _, _, _ = setup()
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        first = await publisher.announce(make_description("m"))
        seen = [first]
        for minute in range(1, 4):
            await trio.sleep_until(60 * minute + 3)
            info = current(publisher)
            assert info is not None
            assert info.issued_at_unix_s >= EPOCH + 60 * minute - 1
            assert info.sequence > seen[-1].sequence
            assert info.started_at_unix_s == first.started_at_unix_s, "renewing is no restart"
            seen.append(info)
        nursery.cancel_scope.cancel()


async def test_a_record_that_is_not_renewed_is_not_served_for_ever(autojump_clock: MockClock) -> None:
    publisher, _, _, _ = setup()
    await publisher.announce(make_description("m"))
    await trio.sleep(121)
    assert publisher.current() is None


async def test_withdrawing_leaves_a_tombstone(autojump_clock: MockClock) -> None:
    publisher, _, source, boot = setup()
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        info = await publisher.announce(make_description("m"))
        await publisher.withdraw()
        gone = current(publisher)
        assert gone is not None
        assert gone.state is HostState.WITHDRAWN
        assert gone.sequence > info.sequence
        assert source.adverts[-1] is None
        assert boot.got[-1] == publisher.current()
        await publisher.withdraw()
        assert len(boot.got) == 2
        await trio.sleep(200)
        assert publisher.current() is None, "a tombstone is not renewed"
        again = await publisher.announce(make_description("m"))
        assert again.sequence > gone.sequence
        assert again.started_at_unix_s == EPOCH + 200
        nursery.cancel_scope.cancel()


async def test_draining_is_said_and_renewed(autojump_clock: MockClock) -> None:
    publisher, _, _, boot = setup()
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        await publisher.announce(make_description("m"))
        info = await publisher.drain()
        assert info.state is HostState.DRAINING
        assert info.models != ()
        assert boot.got[-1] == publisher.current()
        await trio.sleep(100)
        later = current(publisher)
        assert later is not None
        assert later.state is HostState.DRAINING
        assert publisher.state is HostState.DRAINING
        nursery.cancel_scope.cancel()


async def test_an_update_replaces_the_record_at_once(autojump_clock: MockClock) -> None:
    publisher, _, source, boot = setup()
    await publisher.announce(make_description("m", price=100))
    info = await publisher.announce(make_description("m", "n", price=50))
    assert [offer.model_id for offer in info.models] == ["m", "n"]
    assert len(boot.got) == len(source.adverts) == 2


async def test_an_expired_binding_is_not_published(autojump_clock: MockClock) -> None:
    operator = make_operator("client")
    publisher, _, source, boot = setup(binding=lambda: make_binding(KEY, operator, issued=EPOCH - 10, life_s=10))
    with pytest.raises(RecordExpiredError) as caught:
        await publisher.announce(make_description("m"))
    assert caught.value.field == "binding.expires_at_unix_s"
    assert caught.value.remedy
    assert publisher.current() is None
    assert (source.adverts, boot.got) == ([], [])


async def test_a_binding_that_expires_ends_the_renewal_and_a_new_one_resumes_it(autojump_clock: MockClock) -> None:
    operator = make_operator("client")
    bindings = [make_binding(KEY, operator, issued=EPOCH - 10, life_s=100)]
    publisher, _, _, _ = setup(binding=lambda: bindings[0])
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        await publisher.announce(make_description("m"))
        await trio.sleep(200)
        assert publisher.current() is None
        assert isinstance(publisher.problem, RecordExpiredError)
        bindings[0] = make_binding(KEY, operator, issued=EPOCH + 150)
        await trio.sleep(6)
        assert publisher.problem is None
        assert current(publisher) is not None
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ahead_s", [31.5, -40.0])
async def test_a_wrong_clock_publishes_nothing(ahead_s: float, autojump_clock: MockClock) -> None:
    publisher, _, source, boot = setup()
    boot.clock_ahead_s = ahead_s
    with pytest.raises(ClockSkewError) as caught:
        await publisher.announce(make_description("m"))
    assert caught.value.skew_s == pytest.approx(ahead_s, abs=0.1)
    assert ("behind" if ahead_s > 0 else "ahead") in caught.value.message
    assert publisher.current() is None
    assert (source.adverts, boot.got) == ([], [])


async def test_a_clock_that_goes_wrong_ends_the_renewal_until_it_is_set(autojump_clock: MockClock) -> None:
    publisher, _, _, boot = setup()
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        await publisher.announce(make_description("m"))
        boot.clock_ahead_s = 100
        await trio.sleep(130)
        assert isinstance(publisher.problem, ClockSkewError)
        assert publisher.current() is None
        boot.clock_ahead_s = 0
        await trio.sleep(6)
        assert publisher.problem is None
        assert current(publisher) is not None
        nursery.cancel_scope.cancel()


async def test_a_slightly_wrong_clock_is_good_enough(autojump_clock: MockClock) -> None:
    publisher, _, _, boot = setup()
    boot.clock_ahead_s = 29
    assert (await publisher.announce(make_description("m"))).sequence


async def test_one_stranger_cannot_stop_a_host_by_lying_about_the_time(autojump_clock: MockClock) -> None:
    publisher, node, _, boot = setup()
    node.outcomes = {}
    boot.clock_ahead_s = 1e6
    assert (await publisher.announce(make_description("m"))).sequence


@pytest.mark.parametrize("is_outbound", [False, True])
async def test_any_number_of_strangers_cannot_stop_a_host_by_lying_about_the_time(
    is_outbound: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its bootstrap nodes are gone for good, and the liars are of as many networks as there are peers to ask."""
    publisher, node, _, boot = setup()
    del node.connected[boot.peer_id]
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        before = await publisher.announce(make_description("m"))
        for number in range(5):
            liar = node.network.add_host(f"liar {number}", clock_ahead_s=100)
            node.connected[liar.peer_id] = None
            node.views[liar.peer_id] = view_of(liar.peer_id, f"/ip4/198.51.{number}.9/tcp/1", is_outbound=is_outbound)
        await trio.sleep(600)
        assert publisher.problem is None
        assert publisher.clock is not None
        assert publisher.clock.last is not None
        assert publisher.clock.last.skew_s == pytest.approx(100, abs=0.1)
        after = current(publisher)
        assert after is not None
        assert after.issued_at_unix_s >= before.issued_at_unix_s + 500
        assert sum("strangers" in each.getMessage() for each in caplog.records) == 1
        # A bootstrap node that comes back is believed, also when it says that the clock is right.
        node.connected[boot.peer_id] = None
        await trio.sleep(61)
        assert publisher.clock.last.skew_s == pytest.approx(0, abs=0.1)
        nursery.cancel_scope.cancel()


async def test_peers_that_do_not_tell_the_time_do_not_hold_the_announcement_up(autojump_clock: MockClock) -> None:
    publisher, _, _, boot = setup()
    boot.is_silent = True
    assert (await publisher.announce(make_description("m"))).sequence
    assert trio.current_time() <= 4.1


async def test_a_store_that_cannot_be_written_publishes_nothing(autojump_clock: MockClock) -> None:
    store = SequenceStore(None)
    publisher, _, source, boot = setup(store=store)
    store.close()
    with pytest.raises(StoreError):
        await publisher.announce(make_description("m"))
    assert (publisher.current(), source.adverts, boot.got) == (None, [], [])


async def test_the_sequence_is_on_disk_before_the_record_leaves(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A process that dies right after it signed never signs that sequence again, whatever its clock says then."""
    publisher, _, _, _ = setup(store=SequenceStore(tmp_path / "sequence.sqlite3"))
    info = await publisher.announce(make_description("m"))
    # Killed here: nothing is closed. The next process has a clock that was set back an hour.
    slow = System(unix_s=lambda: EPOCH - 3600 + trio.current_time())
    operator = make_operator("client")
    other, node, _, boot = setup(
        store=SequenceStore(tmp_path / "sequence.sqlite3"),
        system=slow,
        binding=lambda: make_binding(KEY, operator, issued=EPOCH - 4000),
    )
    node.outcomes = {}
    assert (await other.announce(make_description("m"))).sequence == info.sequence + 1
    assert len(boot.got) == 1


async def test_new_addresses_are_advertised_at_the_next_renewal(autojump_clock: MockClock) -> None:
    publisher, node, source, _ = setup()
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        await publisher.announce(make_description("m"))
        node.own_addresses = tuple(f"/ip4/192.0.2.{index}/tcp/1" for index in range(1, 20))
        await trio.sleep(70)
        info = current(publisher)
        assert info is not None
        assert len(info.addresses) == 16
        assert source.adverts[-1] == Advert(model_ids=("m",), country_code=None, addresses=info.addresses)
        assert len(source.adverts) == 2
        nursery.cancel_scope.cancel()


# --- what a host finds out about itself ---


class DialBacks:
    """Says how this node is reached."""

    def __init__(self, state: ReachState | None) -> None:
        self.state = state

    async def check_reachability(self, timeout_s: float = 60.0) -> ReachabilityReport:
        return ReachabilityReport(state=self.state, addresses=(), answers=(), at_unix_s=0)


async def test_how_strangers_reach_the_host_is_said_once_they_did_and_pushed(autojump_clock: MockClock) -> None:
    publisher, _, source, boot = setup(dial_backs=DialBacks(ReachState.MAPPED))
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        first = await publisher.announce(make_description("m"))
        assert first.reachability is None
        await trio.sleep(10)
        info = current(publisher)
        assert info is not None
        assert info.reachability is Reachability.MAPPED
        assert boot.got[-1] == publisher.current()
        assert len(source.adverts) == 1, "its addresses are the same"
        publisher.moved()
        await trio.sleep(1)
        info = current(publisher)
        assert info is not None
        assert info.reachability is None, "it may be elsewhere"
        assert boot.got[-1] == publisher.current()
        nursery.cancel_scope.cancel()


async def test_where_nobody_can_tell_nothing_is_said(autojump_clock: MockClock) -> None:
    publisher, _, _, boot = setup(dial_backs=DialBacks(None))
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        await publisher.announce(make_description("m"))
        await trio.sleep(200)
        info = current(publisher)
        assert info is not None
        assert info.reachability is None
        assert len(boot.got) == 1
        nursery.cancel_scope.cancel()


async def test_new_addresses_after_a_change_of_the_network_are_pushed_at_once(autojump_clock: MockClock) -> None:
    publisher, node, source, boot = setup()
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        await publisher.announce(make_description("m"))
        await trio.sleep(20)
        node.own_addresses = ("/ip4/192.0.2.77/tcp/1",)
        publisher.moved()
        await trio.sleep(1)
        assert boot.got[-1] == publisher.current()
        assert source.adverts[-1] == Advert(model_ids=("m",), country_code=None, addresses=node.own_addresses)
        nursery.cancel_scope.cancel()


async def test_an_interface_that_comes_and_goes_does_not_set_the_pace(autojump_clock: MockClock) -> None:
    publisher, node, _, boot = setup()
    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        await publisher.announce(make_description("m"))
        began_s = trio.current_time()
        for number in range(300):
            node.own_addresses = (f"/ip4/192.0.2.{1 + number % 250}/tcp/1",)
            publisher.moved()
            await trio.sleep(0.1)
        passed_s = trio.current_time() - began_s
        assert len(boot.got) <= 2 + passed_s / PublisherConfig().least_between_s
        await trio.sleep(PublisherConfig().least_between_s + 1)
        info = current(publisher)
        assert info is not None
        assert info.addresses == node.own_addresses, "the last change is not lost"
        nursery.cancel_scope.cancel()


async def test_what_is_measured_is_in_each_renewal_and_not_pushed(autojump_clock: MockClock) -> None:
    publisher, _, _, boot = setup()
    speed: list[int | None] = [None]

    def measure(description: HostDescription) -> HostDescription:
        (offer,) = description.models
        return replace(description, models=(replace(offer, output_millitokens_per_s=speed[0]),))

    async with trio.open_nursery() as nursery:
        await nursery.start(publisher.run)
        info = await publisher.announce(make_description("m"), measure=measure)
        assert info.models[0].output_millitokens_per_s is None
        speed[0] = 12_345
        await trio.sleep(65)
        info = current(publisher)
        assert info is not None
        assert info.models[0].output_millitokens_per_s == 12_345
        assert len(boot.got) == 1
        assert (await publisher.drain()).models[0].output_millitokens_per_s == 12_345
        again = await publisher.announce(make_description("m"))
        assert again.models[0].output_millitokens_per_s is None, "of another announcement"
        nursery.cancel_scope.cancel()
