"""What meets at one time: dialling, freezing, killing, cutting, parting, and machines that come later."""

from __future__ import annotations

import errno

import pytest
import trio

from hostmesh.errors import UsageError
from hostmesh.testing import LinkProfile, SimMachine, SimNetwork, SimOptions, run_sim

LATENCY_S = 0.05
PORT = 7
SLOW = SimOptions(link=LinkProfile(latency_s=LATENCY_S), max_sim_s=600)


async def carries(source: SimMachine, target: SimMachine, port: int = PORT, *, within_s: float = 10.0) -> bool:
    """Tell whether a new connection to a new listener comes about, and carries a byte."""
    bound = await target.network.listen("0.0.0.0", port)
    try:
        with trio.move_on_after(within_s):
            ours = await source.network.dial(target.address, port)
            theirs = await bound.listener.accept()
            await ours.send_all(b"x")
            return await theirs.receive_some() == b"x"
        return False
    finally:
        await bound.listener.aclose()


@pytest.mark.parametrize("end", ["kill", "power_off"])
def test_what_waited_for_a_frozen_machine_does_not_block_it_after_its_process_ended(end: str) -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        bound = await b.network.listen("0.0.0.0", PORT)
        stream = await a.network.dial(b.address, PORT)
        theirs = await bound.listener.accept()
        b.freeze()
        await stream.send_all(b"never read")
        await theirs.send_all(b"never sent")
        await trio.sleep(1)
        getattr(b, end)()
        await b.restart()
        assert await carries(a, b)
        if end == "kill":
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

    run_sim(main, network=SLOW)


def test_a_frozen_machine_does_not_dial_until_it_is_resumed() -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        await b.network.listen("0.0.0.0", PORT)
        a.freeze()
        net.agenda.at(20.0, a.resume)
        await a.network.dial(b.address, PORT)
        assert trio.current_time() == pytest.approx(20 + 2 * LATENCY_S)
        assert [event.time_s for event in net.trace if event.kind == "syn"] == [pytest.approx(20 + LATENCY_S)]

    run_sim(main, network=SLOW)


@pytest.mark.parametrize("cut_s", [0.5 * LATENCY_S, 1.5 * LATENCY_S])
def test_a_cut_meets_who_is_dialling(cut_s: float) -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        await b.network.listen("0.0.0.0", PORT)
        net.agenda.at(cut_s, net.cut, a, b)
        with pytest.raises(OSError) as caught:
            await a.network.dial(b.address, PORT)
        assert caught.value.errno == errno.EHOSTUNREACH
        assert trio.current_time() < 2
        assert not a.streams
        assert not b.streams

    run_sim(main, network=SLOW)


@pytest.mark.parametrize("cut_s", [0.5 * LATENCY_S, 1.5 * LATENCY_S])
def test_who_is_dialling_survives_a_short_cut(cut_s: float) -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        bound = await b.network.listen("0.0.0.0", PORT)
        net.agenda.at(cut_s, net.cut, a, b)
        net.agenda.at(cut_s + 0.1, net.heal)
        ours = await a.network.dial(b.address, PORT)
        theirs = await bound.listener.accept()
        await ours.send_all(b"x")
        assert await theirs.receive_some() == b"x"
        assert (len(a.streams), len(b.streams)) == (1, 1)

    run_sim(main, network=SLOW)


def test_what_a_stall_holds_is_lost_in_a_cut() -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        bound = await b.network.listen("0.0.0.0", PORT)
        ours = await a.network.dial(b.address, PORT)
        theirs = await bound.listener.accept()
        net.stall(a, b)
        await ours.send_all(b"held")
        await trio.sleep(1)
        net.cut(a, b)
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive_some()
        assert net.trace.counts["lost"] == 1

    run_sim(main, network=SLOW)


def test_a_machine_that_comes_during_a_partition_reaches_nobody_until_all_is_healed() -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        net.partition([[a], [b]])
        late = net.machine("late")
        assert not await carries(late, a)
        assert not await carries(b, late)
        net.heal(late)
        assert await carries(late, a)
        assert not await carries(a, b)
        net.heal()
        assert await carries(net.machine("later"), late)

    run_sim(main, network=SLOW)


def test_links_of_machines_that_are_not_there_are_refused() -> None:
    async def main(net: SimNetwork) -> None:
        net.machine("a")
        for act in (net.link, net.stall, net.cut):
            with pytest.raises(UsageError, match="'b'"):
                act("a", "b")
        with pytest.raises(UsageError, match="'b'"):
            net.partition([["a", "b"]])

    run_sim(main)


class _Outcome(BaseException):
    """As the outcomes of pytest and Hypothesis are."""


def test_what_is_no_exception_comes_out_of_a_simulation_as_it_is() -> None:
    async def main(net: SimNetwork) -> None:
        raise _Outcome

    with pytest.raises(_Outcome):
        run_sim(main)
