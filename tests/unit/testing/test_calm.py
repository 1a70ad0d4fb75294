"""What a network's faults say of themselves: when they happened, and whether two machines are undisturbed."""

from __future__ import annotations

import trio

from hostmesh.testing import EventKind, FaultKind, NetworkEvent, SimMachine, SimNetwork, StreamFault, run_sim


async def send(source: SimMachine, target: SimMachine, data: bytes, port: int) -> bytes:
    """Return what arrives over a new connection."""
    bound = await target.network.listen("0.0.0.0", port)
    near = await source.network.dial(target.address, port)
    far = await bound.listener.accept()
    await near.send_all(data)
    await near.aclose()
    received = b""
    while piece := await far.receive_some():
        received += piece
    return received


def test_two_machines_are_calm_once_what_happened_to_them_is_over() -> None:
    async def main(net: SimNetwork) -> None:
        for name in ("a", "b", "c"):
            net.machine(name)
        stall = NetworkEvent(kind=EventKind.STALL, machines=("a", "b"), at_s=10, for_s=5)
        net.faults.schedule([stall, NetworkEvent(kind=EventKind.STALL, machines=("a", "c"), at_s=1000)])
        await trio.sleep_until(9)
        assert net.faults.was_calm("a", "b", for_s=9)
        await trio.sleep_until(12)
        assert not net.faults.was_calm("a", "b", for_s=1)
        assert not net.faults.was_calm("b", "c", for_s=1)
        await trio.sleep_until(18)
        assert net.faults.was_calm("a", "b", for_s=2)
        assert not net.faults.was_calm("a", "b", for_s=4)
        assert net.faults.was_calm("c", "c", for_s=18)
        assert (net.faults.happened, net.faults.happened_at_s) == ([stall], [10])

    run_sim(main)


def test_a_fault_that_is_called_off_hits_nothing() -> None:
    async def main(net: SimNetwork) -> None:
        a, b = net.machine("a"), net.machine("b")
        flip = StreamFault(kind=FaultKind.CORRUPT, source="a", target="b")
        net.faults.schedule([flip, flip])
        assert await send(a, b, b"text", 1) == b"uext"
        (hit,) = [event for event in net.trace if event.kind == "fault-corrupt"]
        assert net.faults.happened_at_s == [hit.time_s]
        assert not net.faults.was_calm("b", "a", for_s=1)
        net.faults.call_off()
        assert await send(a, b, b"text", 2) == b"text"
        assert net.faults.happened == [flip]

    run_sim(main)
