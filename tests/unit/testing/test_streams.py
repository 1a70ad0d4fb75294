"""Byte streams of the simulated network behave as TCP's do."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import pytest
import trio

from hostmesh.testing import LinkProfile, Nat, SimMachine, SimNetwork, SimOptions, run_sim
from hostmesh.testing.congestion import INITIAL_WINDOW_BYTES
from hostmesh.testing.stream import BACKLOG, WINDOW_BYTES, SimStream

LATENCY_S = 0.05
PORT = 7


class Pair:
    """Two machines, and a connection from one to the other."""

    def __init__(self, net: SimNetwork) -> None:
        self.net = net
        self.a, self.b = net.machine("a"), net.machine("b")
        self.ours: SimStream
        self.theirs: SimStream

    async def connect(self) -> Pair:
        bound = await self.b.network.listen("0.0.0.0", PORT)
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                self.theirs = await bound.listener.accept()  # type: ignore[assignment]

            nursery.start_soon(accept)
            self.ours = await self.a.network.dial(self.b.address, PORT)  # type: ignore[assignment]
        return self


def simulate(test: Callable[[Pair], Awaitable[None]], *, link: LinkProfile | None = None) -> None:
    async def main(net: SimNetwork) -> None:
        with trio.fail_after(10_000):
            await test(await Pair(net).connect())

    run_sim(main, network=SimOptions(link=link or LinkProfile(latency_s=LATENCY_S)))


async def read_all(stream: SimStream) -> bytes:
    data = b""
    while piece := await stream.receive_some():
        data += piece
    return data


def test_connecting_takes_a_round_trip_and_accepting_half_of_one_more() -> None:
    async def main(net: SimNetwork) -> None:
        pair = Pair(net)
        bound = await pair.b.network.listen("0.0.0.0", PORT)
        await pair.a.network.dial(pair.b.address, PORT)
        assert trio.current_time() == pytest.approx(2 * LATENCY_S)
        stream = await bound.listener.accept()
        assert trio.current_time() == pytest.approx(3 * LATENCY_S)
        remote = pair.b.network.remote_endpoint(stream)
        assert remote is not None
        assert remote[0] == pair.a.address

    run_sim(main, network=SimOptions(link=LinkProfile(latency_s=LATENCY_S)))


def test_bytes_come_in_order_after_the_latency_then_the_end() -> None:
    async def test(pair: Pair) -> None:
        began = trio.current_time()
        for number in range(50):
            await pair.ours.send_all(bytes([number]) * 10)
        await pair.ours.send_eof()
        data = await read_all(pair.theirs)
        assert data == b"".join(bytes([number]) * 10 for number in range(50))
        await pair.theirs.send_all(b"still open")
        assert await pair.ours.receive_some(5) == b"still"
        assert await pair.ours.receive_some() == b" open"
        assert trio.current_time() < began + 1

    simulate(test, link=LinkProfile(latency_s=LATENCY_S, jitter_s=0.1))


def test_a_sender_waits_for_a_reader_who_does_not_read() -> None:
    async def test(pair: Pair) -> None:
        sent = bytearray()

        async def send() -> None:
            for number in range(40):
                await pair.ours.send_all(bytes([number]) * (WINDOW_BYTES // 10))
                sent.append(number)
            await pair.ours.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(60)
            assert len(sent) == 10
            data = await read_all(pair.theirs)
        assert data == b"".join(bytes([number]) * (WINDOW_BYTES // 10) for number in range(40))

    simulate(test)


def test_a_window_a_round_trip_is_the_most_that_a_long_link_carries() -> None:
    async def test(pair: Pair) -> None:
        async def send() -> None:
            await pair.ours.send_all(bytes(20 * WINDOW_BYTES))
            await pair.ours.aclose()

        arrivals_s = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for _ in range(20):
                left = WINDOW_BYTES
                while left:
                    left -= len(await pair.theirs.receive_some(left))
                arrivals_s.append(trio.current_time())
        assert arrivals_s[-1] - arrivals_s[9] == pytest.approx(10 * 2, rel=0.01)

    simulate(test, link=LinkProfile(latency_s=1.0))


def test_a_connection_starts_slowly_and_starts_again_after_a_pause() -> None:
    async def test(pair: Pair) -> None:
        async def time_s(size: int) -> float:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.ours.send_all, bytes(size))
                while size:
                    size -= len(await pair.theirs.receive_some(size))
            return trio.current_time() - began

        # Ten segments, twenty, and the rest: two round trips and the way there.
        assert await time_s(65536) == pytest.approx(5 * LATENCY_S)
        await trio.sleep(LATENCY_S)
        assert await time_s(65536) == pytest.approx(LATENCY_S)
        await trio.sleep(60)
        assert await time_s(INITIAL_WINDOW_BYTES) == pytest.approx(LATENCY_S)
        await trio.sleep(60)
        assert await time_s(INITIAL_WINDOW_BYTES + 1) == pytest.approx(3 * LATENCY_S)

    simulate(test)


def test_the_capacity_sets_the_pace() -> None:
    async def test(pair: Pair) -> None:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.ours.send_all, bytes(500_000))
            received = 0
            while received < 500_000:
                received += len(await pair.theirs.receive_some())
        assert trio.current_time() - began == pytest.approx(5.0, rel=0.02)

    simulate(test, link=LinkProfile(latency_s=0.001, bytes_per_s=100_000))


def test_a_reset_is_met_by_both_directions_after_what_came_before() -> None:
    async def test(pair: Pair) -> None:
        await pair.ours.send_all(b"last words")
        pair.ours.reset()
        await trio.sleep(1)
        assert await pair.theirs.receive_some() == b"last words"
        with pytest.raises(trio.BrokenResourceError):
            await pair.theirs.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await pair.theirs.send_all(b"x")

    simulate(test)


def test_a_closed_end_answers_late_bytes_with_a_reset() -> None:
    async def test(pair: Pair) -> None:
        await pair.ours.aclose()
        assert await pair.theirs.receive_some() == b""
        await pair.theirs.send_all(b"anybody there?")
        await trio.sleep(1)
        with pytest.raises(trio.BrokenResourceError):
            await pair.theirs.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await pair.ours.receive_some()
        assert not pair.a.streams
        assert not pair.b.streams

    simulate(test)


def test_who_waits_meets_the_close_of_his_own_end() -> None:
    async def test(pair: Pair) -> None:
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await pair.ours.receive_some()

            nursery.start_soon(read)
            await trio.sleep(1)
            with pytest.raises(trio.BusyResourceError):
                await pair.ours.receive_some()
            await pair.ours.aclose()

    simulate(test)


def test_a_cancelled_reader_loses_no_byte() -> None:
    async def test(pair: Pair) -> None:
        await pair.ours.send_all(b"kept")
        with trio.move_on_after(LATENCY_S / 2):
            await pair.theirs.receive_some()
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.theirs.receive_some()
        assert await pair.theirs.receive_some() == b"kept"

    simulate(test)


def test_a_stalled_link_holds_bytes_and_dials_until_it_heals() -> None:
    async def test(pair: Pair) -> None:
        began = trio.current_time()
        pair.net.stall(pair.a, pair.b)
        pair.net.agenda.at(began + 30, pair.net.heal)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.a.network.dial, pair.b.address, PORT)
            for number in range(100):
                await pair.ours.send_all(bytes([number]))
                await trio.sleep(0.4)
            await pair.ours.aclose()
            assert await read_all(pair.theirs) == bytes(range(100))
        assert trio.current_time() > began + 30

    simulate(test, link=LinkProfile(latency_s=LATENCY_S, jitter_s=0.3))


def test_a_cut_resets_what_stands_and_refuses_what_comes_until_it_heals() -> None:
    async def test(pair: Pair) -> None:
        pair.net.cut("a", "b")
        with pytest.raises(trio.BrokenResourceError):
            await pair.theirs.receive_some()
        with pytest.raises(OSError, match="No route") as caught:
            await pair.a.network.dial(pair.b.address, PORT)
        assert caught.value.errno == errno.EHOSTUNREACH
        pair.net.heal("a")
        await pair.a.network.dial(pair.b.address, PORT)

    simulate(test)


async def dial_error(machine: SimMachine, host: str, port: int) -> OSError:
    with pytest.raises(OSError, match=r".") as caught:
        await machine.network.dial(host, port)
    return caught.value


def test_dials_that_fail_say_how_and_take_their_time() -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        assert (await dial_error(a, b.address, 9)).errno == errno.ECONNREFUSED
        assert trio.current_time() == pytest.approx(2 * LATENCY_S)
        for silent in (net.machine("nat", nat=Nat.NO_INBOUND).address, "11.9.9.9"):
            began = trio.current_time()
            assert (await dial_error(a, silent, 9)).errno == errno.ETIMEDOUT
            assert trio.current_time() - began == pytest.approx(127)
        router = net.machine("router", nat=Nat.REFUSES_INBOUND)
        await router.network.listen("0.0.0.0", 9)
        assert (await dial_error(a, router.address, 9)).errno == errno.ECONNREFUSED

    run_sim(main, network=SimOptions(link=LinkProfile(latency_s=LATENCY_S)))


def test_a_dialer_who_gives_up_leaves_nothing() -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        bound = await b.network.listen("0.0.0.0", PORT)
        for patience_s in (0.5 * LATENCY_S, 1.5 * LATENCY_S):
            with trio.move_on_after(patience_s):
                await a.network.dial(b.address, PORT)
            await trio.sleep(200)
            assert not a.streams
            assert not b.streams
        with trio.move_on_after(10) as scope:
            await bound.listener.accept()
        assert scope.cancelled_caught

    run_sim(main, network=SimOptions(link=LinkProfile(latency_s=LATENCY_S)))


def test_a_full_backlog_makes_dialers_knock_again() -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        bound = await b.network.listen("0.0.0.0", PORT)
        async with trio.open_nursery() as nursery:
            for _ in range(BACKLOG):
                nursery.start_soon(a.network.dial, b.address, PORT)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.network.dial, b.address, PORT)
            await trio.sleep(0.5)
            await bound.listener.accept()
        assert trio.current_time() - began == pytest.approx(1 + 2 * LATENCY_S)

    run_sim(main, network=SimOptions(link=LinkProfile(latency_s=LATENCY_S)))


def test_ports_and_names() -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        bound = await a.network.listen("0.0.0.0", 0)
        assert bound.port
        with pytest.raises(OSError, match="in use"):
            await a.network.listen(a.address, bound.port)
        with pytest.raises(OSError, match="Cannot assign"):
            await a.network.listen(b.address, 1)
        await bound.listener.aclose()
        await a.network.listen(a.address, bound.port)
        assert await b.network.resolve("a", version=4) == (a.address,)
        net.names["both.example"] = ("11.0.0.9", "2001:db8::1")
        assert await b.network.resolve("both.example", version=6) == ("2001:db8::1",)
        with pytest.raises(OSError, match="not known"):
            await b.network.resolve("nobody.example")

    run_sim(main)
