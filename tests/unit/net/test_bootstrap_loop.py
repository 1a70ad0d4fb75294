"""The bootstrap loop in virtual time."""

from __future__ import annotations

import itertools

import pytest
import trio

from hostmesh.errors import DialError
from hostmesh.net.backoff import retry_delay_s
from hostmesh.net.bootstrap import BootstrapLoop
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

PEER = PeerId("peer")
ADDRESS = "/ip4/9.9.9.9/tcp/4001"
LABEL = f"{ADDRESS}/p2p/peer"


@pytest.mark.parametrize("unit", [0.0, 0.3, 1.0])
def test_delays_double_to_a_minute_with_jitter(unit):
    delays = [retry_delay_s(failures, unit) for failures in range(1, 12)]
    longest = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert delays == pytest.approx([each * (0.5 + unit / 2) for each in longest])


def test_delay_after_a_year_of_failures_is_finite():
    assert retry_delay_s(10**9, 1.0) == 60.0


class FakeNode:
    def __init__(self, results: list[str]) -> None:
        self.results = iter(results)
        self.attempts_at_s: list[float] = []
        self.disconnected = trio.Event()

    async def connect_configured(self, peer_id: PeerId, address: str, *, timeout_s: float) -> None:
        assert (peer_id, address) == (PEER, ADDRESS)
        self.attempts_at_s.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        result = next(self.results, "sleep")
        if result == "sleep":
            await trio.sleep_forever()
        if result != "connected":
            raise DialError("no", stage=result)

    async def wait_disconnected(self, peer_id: PeerId) -> None:
        await self.disconnected.wait()
        self.disconnected = trio.Event()


def _loop(node: FakeNode, random_bytes=lambda size: b"\xff" * size) -> BootstrapLoop:
    return BootstrapLoop(node, [(ADDRESS, PEER)], system=System(random_bytes=random_bytes))


async def test_a_peer_that_comes_up_a_minute_late_is_reached(autojump_clock, nursery):
    node = FakeNode(["dial"] * 7 + ["connected"])
    loop = _loop(node)
    assert loop.outcomes == {LABEL: "pending"}
    nursery.start_soon(loop.run)
    await trio.sleep(62.9)
    assert loop.outcomes == {LABEL: "dial"}
    await trio.sleep(61)
    assert loop.outcomes == {LABEL: "connected"}
    assert node.attempts_at_s == pytest.approx([0, 1, 3, 7, 15, 31, 63, 123])


async def test_it_never_gives_up(autojump_clock, nursery):
    node = FakeNode(["timeout"] * 5000)
    nursery.start_soon(_loop(node).run)
    await trio.sleep(86400)
    pauses = [after - before for before, after in itertools.pairwise(node.attempts_at_s)]
    assert len(pauses) > 1000
    assert max(pauses) == pytest.approx(60.0)


async def test_a_lost_connection_is_made_again(autojump_clock, nursery):
    node = FakeNode(["connected", "handshake", "connected"])
    loop = _loop(node)
    nursery.start_soon(loop.run)
    await trio.sleep(100)
    assert node.attempts_at_s == [0]
    node.disconnected.set()
    await trio.sleep(1.5)
    assert loop.outcomes == {LABEL: "handshake"}
    await trio.sleep(2)
    assert loop.outcomes == {LABEL: "connected"}
    assert node.attempts_at_s == pytest.approx([0, 101, 103])


async def test_jitter_comes_from_the_given_randomness(autojump_clock, nursery):
    node = FakeNode(["dial", "dial", "sleep"])
    nursery.start_soon(_loop(node, bytes).run)
    await trio.sleep(10)
    assert node.attempts_at_s == pytest.approx([0, 0.5, 1.5])


async def test_a_tarpit_holds_no_other_address_up(autojump_clock, nursery):
    reached = trio.Event()

    class TwoPeers(FakeNode):
        async def connect_configured(self, peer_id: PeerId, address: str, *, timeout_s: float) -> None:
            if peer_id == PEER:
                await trio.sleep_forever()
            reached.set()

    loop = BootstrapLoop(TwoPeers([]), [(ADDRESS, PEER), (ADDRESS, PeerId("other"))], system=System())
    nursery.start_soon(loop.run)
    with trio.fail_after(0.001):
        await reached.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert loop.outcomes == {LABEL: "pending", f"{ADDRESS}/p2p/other": "connected"}


async def test_an_empty_list_ends_at_once():
    await BootstrapLoop(FakeNode([]), [], system=System()).run()
