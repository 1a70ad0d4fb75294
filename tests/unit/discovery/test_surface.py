"""Lists, outcomes, events, metrics and shared searches, through the manager."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

import pytest
import trio
from discovery_world import make_description, make_key, make_operator, make_record
from find_world import World
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.events import (
    HostProbed,
    ListingChange,
    ListingChanged,
    OutcomeRecorded,
    RecordDecided,
    RecordDecision,
    SearchEnded,
    SearchStarted,
)
from hostmesh.discovery.finder import DiscoveryConfig
from hostmesh.discovery.lookups import LookupLimit
from hostmesh.discovery.measurement import Path
from hostmesh.discovery.ranking import AUTO, CHEAPEST
from hostmesh.discovery.record import GRACE_S, MAX_LIFE_S
from hostmesh.discovery.roster import LATENCY_MS, LATENCY_SHARE, LeaveReason
from hostmesh.discovery.watch import MIN_PAUSE_S
from hostmesh.errors import (
    HostsThrottledError,
    InvalidAddressError,
    NodeNotRunningError,
    NoHostFoundError,
    RemoteProtocolError,
    RpcError,
    StatusCode,
    TooManyLookupsError,
    UsageError,
)
from hostmesh.net.event_feed import MAX_WAITING_EVENTS, EventWatch
from hostmesh.net.events import DialStarted
from hostmesh.reputation.probation import FIRST_SUSPENSION_S
from hostmesh.reputation.standing import FIRST_PAUSE_S, MAX_LISTINGS, MAX_PRIORITY, TRIAL_S

GUIDE = (FilePath(__file__).resolve().parents[3] / "docs" / "discovery.md").read_text(encoding="utf-8")
M = HostCriteria(required_models=["m-3"])


async def test_a_blacklisted_host_is_not_found_and_the_funnel_says_so(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3")
    async with world.client() as discovery:
        assert (await discovery.find_host(M)).peer_id == host.peer_id
        discovery.blacklist(host.peer_id, "slow", ttl_s=60)
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(M, timeout_s=1)
        assert caught.value.rejected == {"listed": 1}
        (rejection,) = (await discovery.explain(M, timeout_s=1)).funnel.rejections
        assert rejection.detail == "blacklisted: slow"
        assert [listing.name for listing in discovery.listings()] == [host.peer_id]
        await trio.sleep(60)  # D2: nobody looks at the list meanwhile
        assert (await discovery.find_host(M)).peer_id == host.peer_id


async def test_a_wallet_on_the_blacklist_covers_its_hosts(autojump_clock: MockClock) -> None:
    world = World()
    one, two = (world.host(name, "m-3", operator=name) for name in ("one", "two"))
    async with world.client() as discovery:
        discovery.blacklist("0x" + make_operator("one").hex())
        assert [choice.peer_id for choice in await discovery.find_all_hosts(M)] == [two.peer_id]
        assert discovery.unblacklist("0x" + make_operator("one").hex())
        assert {choice.peer_id for choice in await discovery.find_all_hosts(M)} == {one.peer_id, two.peer_id}


async def test_preferred_hosts_come_first_whatever_they_cost(autojump_clock: MockClock) -> None:
    world = World()
    cheap, dear, dearest = (world.host(f"p{price}", "m-3", price=price) for price in (1, 10**6, 10**9))
    async with world.client() as discovery:
        discovery.prefer(dearest.peer_id, 2)
        discovery.prefer(dear.peer_id)
        found = await discovery.find_all_hosts(M, strategy=CHEAPEST)
        assert [choice.peer_id for choice in found] == [dearest.peer_id, dear.peer_id, cheap.peer_id]
        assert (await discovery.find_host(M, strategy=CHEAPEST)).peer_id == dearest.peer_id
        assert discovery.unprefer(dearest.peer_id)
        assert (await discovery.find_host(M, strategy=CHEAPEST)).peer_id == dear.peer_id


async def test_a_host_that_failed_is_left_alone_for_a_while_and_then_tried_once(autojump_clock: MockClock) -> None:
    world = World()
    bad, good = world.host("bad", "m-3", price=1), world.host("good", "m-3", price=10**6)
    async with world.client() as discovery:
        assert (await discovery.find_host(M)).peer_id == bad.peer_id
        discovery.record_outcome(bad.peer_id, bad.operator_address, good=False)
        assert world.reputation.outcomes == [(bad.peer_id, False)]
        with pytest.raises(UsageError, match="address"):
            discovery.record_outcome(bad.peer_id, "0x12", good=False)
        assert discovery.reputation(bad.peer_id, "0x" + bad.operator_address[2:].upper()).points == 100
        assert discovery.connection_metrics(bad.peer_id).latency is None  # it is measured anew
        assert (await discovery.find_host(M)).peer_id == good.peer_id
        await trio.sleep(15)
        # Half-open: the first goes to it, the next ones do not until something is known.
        assert (await discovery.find_host(M)).peer_id == bad.peer_id
        assert (await discovery.find_host(M)).peer_id == good.peer_id
        discovery.record_outcome(bad.peer_id, bad.operator_address, good=True)
        assert [(await discovery.find_host(M)).peer_id for _ in range(2)] == [bad.peer_id] * 2


async def test_two_who_share_a_search_do_not_both_try_a_half_open_host(autojump_clock: MockClock) -> None:
    world = World()
    bad, good = world.host("bad", "m-3", price=1), world.host("good", "m-3", price=10**6)
    found: list[str] = []
    async with world.client() as discovery:
        await discovery.find_all_hosts(M)
        discovery.record_outcome(bad.peer_id, bad.operator_address, good=False)
        await trio.sleep(15)

        async def find() -> None:
            found.append((await discovery.find_host(M)).peer_id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(find)
            nursery.start_soon(find)
    assert sorted(found) == sorted([bad.peer_id, good.peer_id])


async def test_equal_searches_at_once_ask_each_host_once(autojump_clock: MockClock) -> None:
    world = World()
    hosts = [world.host(f"h{number}", "m-3") for number in range(3)]
    found = []
    async with world.client() as discovery:

        async def find(criteria: HostCriteria) -> None:
            found.append(await discovery.find_host(criteria))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(find, HostCriteria(required_models=["m-3"]))  # equal, not the same
        assert [host.asked for host in hosts] == [1, 1, 1]
        assert len({choice.peer_id for choice in found}) == 1
        stats = discovery.stats().searches
        assert (stats["swept"], stats["shared"]) == (1, 4)


async def test_one_callers_cancellation_does_not_end_the_others_search(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3", rtt_s=0.5)
    found = []
    async with world.client() as discovery:

        async def find(scope: trio.CancelScope) -> None:
            with scope:
                found.append(await discovery.find_host(M))

        scopes = [trio.CancelScope(), trio.CancelScope()]
        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(find, scope)
                await wait_all_tasks_blocked()
            await trio.sleep(0.7)
            scopes[0].cancel()  # who began the search
        assert [choice.peer_id for choice in found] == [host.peer_id]
        assert host.asked == 1


async def test_a_runaway_loop_is_refused(autojump_clock: MockClock) -> None:
    world = World(DiscoveryConfig(lookups=LookupLimit(per_s=1, burst=5)))
    world.host("host", "m-3")
    async with world.client() as discovery:
        await discovery.find_host(M)
        for _ in range(4):
            await discovery.find_host(M)
        with pytest.raises(TooManyLookupsError) as caught:
            await discovery.find_host(M)
        await trio.sleep(caught.value.retry_after_ms / 1000)
        await discovery.find_host(M)
        assert discovery.stats().searches["refused"] == 1


async def test_stopping_the_node_ends_a_search(autojump_clock: MockClock) -> None:
    world = World()
    world.host("silent", "m-3", is_silent=True)
    async with world.client() as discovery, trio.open_nursery() as nursery:

        async def find() -> None:
            with pytest.raises(NodeNotRunningError):
                await discovery.find_host(M)

        nursery.start_soon(find)
        await trio.sleep(1)
        await discovery.stop()


def drain(events: EventWatch) -> list[object]:  # type: ignore[type-arg]
    waiting = list(events._events)
    events._events.clear()
    return waiting


async def test_events_tell_what_happened_in_order(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3")
    async with world.client() as discovery:
        with discovery.events() as events:
            await discovery.find_host(M)
            told = drain(events)
            assert [type(event) for event in told] == [SearchStarted, RecordDecided, HostProbed, SearchEnded]
            started, decided, probed, ended = told
            assert decided.decision is RecordDecision.ADDED  # type: ignore[attr-defined]
            assert decided.peer_id == probed.peer_id == ended.best == host.peer_id  # type: ignore[attr-defined]
            assert probed.latency_ms == pytest.approx(10)  # type: ignore[attr-defined]
            assert (ended.number, ended.seen, ended.matched) == (started.number, 1, 1)  # type: ignore[attr-defined]
            assert [event.at_s for event in told] == sorted(event.at_s for event in told)  # type: ignore[attr-defined]

            world.node.listeners[0](DialStarted(at_s=trio.current_time(), peer_id=host.peer_id, addresses=()))
            discovery.blacklist(host.peer_id)
            discovery.record_outcome(host.peer_id, host.operator_address, good=False)
            dial, listed, outcome = drain(events)
            assert isinstance(dial, DialStarted)
            assert isinstance(listed, ListingChanged)
            assert (listed.change, listed.name) == (ListingChange.BLACKLISTED, host.peer_id)
            assert isinstance(outcome, OutcomeRecorded)
            assert (outcome.peer_id, outcome.good) == (host.peer_id, False)
        assert not world.records.events


async def test_each_decision_about_a_record_is_told(autojump_clock: MockClock) -> None:
    world = World()
    async with world.client() as discovery:
        with discovery.events() as events:
            for sequence, options in (
                (5, {}),
                (5, {}),
                (4, {}),
                (6, {}),
                (6, {"description": make_description(price=7)}),
                (7, {}),
            ):
                world.records.accept(make_record("host", **{"sequence": sequence, **options}))
            broken = make_record("broken")
            broken.envelope = broken.envelope[:-1] + bytes([broken.envelope[-1] ^ 1])
            for record in (make_record("late", issued=1_699_000_000), broken):
                with pytest.raises(RemoteProtocolError):
                    world.records.accept(record, introducer=make_key("other").peer_id)
            told = [event for event in drain(events) if isinstance(event, RecordDecided)]
    assert [event.decision.value for event in told[:6]] == ["added", "known", "older", "replaced", "banned", "banned"]
    assert [event.decision for event in told[6:]] == [RecordDecision.EXPIRED, RecordDecision.REFUSED]
    for event in told[6:]:
        assert (event.peer_id, event.introducer) == (None, make_key("other").peer_id)
        assert event.reason


async def test_a_slow_subscriber_loses_the_oldest_and_is_told(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3")
    async with world.client() as discovery:
        with discovery.events(2) as slow, discovery.events() as quick:
            for _ in range(5):
                discovery.record_outcome(host.peer_id, host.operator_address, good=True)
            assert (slow.dropped, quick.dropped) == (3, 0)
            assert len(drain(slow)) == 2
            assert len(drain(quick)) == 5


async def test_events_go_on_over_a_restart_of_the_node(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3")
    async with world.client() as discovery:
        with discovery.events() as events:
            await discovery.stop()
            await discovery.create_node()
            await discovery.find_host(M)
            assert any(isinstance(event, HostProbed) for event in drain(events))


async def test_metrics_of_a_connection(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3", rtt_s=0.02)
    async with world.client() as discovery:
        before = discovery.connection_metrics(host.peer_id)
        assert (before.is_connected, before.latency, before.age_s, before.last_ping_ms) == (False, None, None, None)
        await discovery.find_host(M)
        world.node.pinged_s[host.peer_id] = 0.025
        await trio.sleep(100)  # longer than it is good for a watch
        metrics = discovery.connection_metrics(host.peer_id)
        assert metrics.is_connected
        assert metrics.latency is not None
        assert metrics.latency.value == pytest.approx(20)
        assert metrics.latency.spread == pytest.approx(0)
        assert (metrics.latency.samples, metrics.latency.path) == (3, Path.DIRECT)
        assert metrics.age_s == pytest.approx(100, abs=1)
        assert metrics.last_ping_ms == pytest.approx(25)
        assert host.pinged == 3  # it measures nothing itself
        with pytest.raises(InvalidAddressError):
            discovery.connection_metrics("nobody")
        await discovery.stop()
        with pytest.raises(NodeNotRunningError):
            discovery.connection_metrics(host.peer_id)


class Unhashable:
    """A strategy of the user's that cannot be compared."""

    __hash__ = None  # type: ignore[assignment]
    score = staticmethod(AUTO.score)
    best_possible = staticmethod(AUTO.best_possible)


async def test_a_strategy_that_cannot_be_compared_shares_nothing(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3")
    async with world.client() as discovery:
        assert (await discovery.find_host(M, strategy=Unhashable())).peer_id == host.peer_id


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("pauses the host for {} s, each", FIRST_PAUSE_S),
        ("for {} minutes, each further time twice as long", FIRST_SUSPENSION_S / 60),
        ("or after {} s without one", TRIAL_S),
        ("hold, {} of each kind at most", MAX_LISTINGS),
        ("`priority` (1 to {})", MAX_PRIORITY),
        ("{} s after the last at the earliest", MIN_PAUSE_S),
        ("moved by a quarter and by {} ms", LATENCY_MS),
        ("begins {} searches at once", LookupLimit().burst),
        ("at once and {} a second", LookupLimit().per_s),
        ("{} events wait for a reader", MAX_WAITING_EVENTS),
        ("{} s after its last record at the latest", MAX_LIFE_S + 2 * GRACE_S),  # its clock may be ahead
    ],
)
def test_the_page_says_what_the_code_does(text: str, value: float) -> None:
    page = " ".join(GUIDE.replace(",", "").split())
    assert text.format(f"{value:.0f}").replace(",", "") in page


def test_the_page_names_every_reason_to_leave() -> None:
    assert all(f"`{reason.value}`" in GUIDE for reason in LeaveReason)
    assert LATENCY_SHARE == 0.25


async def test_a_probe_that_was_throttled_is_told_as_such(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3")
    async with world.client() as discovery:

        async def refuse(*_: Any, **__: Any) -> float:
            await trio.lowlevel.checkpoint()
            raise RpcError("slower", status=StatusCode.RESOURCE_EXHAUSTED, reason="RATE_LIMITED", retry_after_ms=40)

        world.node.get_snapshot = refuse  # type: ignore[assignment]
        with discovery.events() as events:
            with pytest.raises(HostsThrottledError) as caught:
                await discovery.find_host(M)
            async for event in events:
                if isinstance(event, HostProbed):
                    break
        assert (event.latency_ms, event.unreachable) == (None, "")
        assert event.throttled == "allows this client no more calls now: RATE_LIMITED; again in 40 ms"
        assert caught.value.retry_after_ms == 40
        assert caught.value.retry_safe
        assert "search again in 40 ms" in caught.value.remedy
