"""A call of a million small messages each way, whose caller reads slowly: nothing is lost, and memory stays flat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value

from hostmesh.rpc.method import method
from hostmesh.testing import LinkProfile, SimNetwork, SimOptions, make_service, open_nodes, run_sim

pytestmark = pytest.mark.timeout(180)
MESSAGES = 1_000_000
PAUSE_S = 0.1
"""After each thousand. The link alone would bring ten times as many in that time."""
MAX_GROWTH_MIB = 24
FIRST = 1 << 56
"""So that a message has 12 bytes with its frame, and all of them more than the windows of both ways take."""
MESSAGE_BYTES = 12
MAX_AHEAD_BYTES = 2 * 4 * 1024 * 1024 + 1024 * 1024
"""A window each way, and what the connection and the simulated sockets hold."""
COUNTS = make_service("counts", streams=["Running"], request_streams=["Running"], Running=(Int64Value, Int64Value))
RUNNING = method(COUNTS, "Running", Int64Value, Int64Value)


def resident_mib() -> float:
    """Return the memory of this process, as the kernel counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


class Counter:
    """Checks that the requests come in order, and answers each."""

    def __init__(self) -> None:
        self.received = 0

    async def running(self, requests: Any, context: Any, send: Callable[[Int64Value], Any]) -> None:
        async for request in requests:
            assert request.value == FIRST + self.received
            self.received += 1
            await send(Int64Value(value=FIRST + self.received))


async def call_slowly(net: SimNetwork) -> tuple[int, list[float], int]:
    """Return how many responses came, the memory after each tenth, and how far the sender ever was ahead."""
    counter, memory_mib, answered, most_ahead = Counter(), [], 0, 0
    async with open_nodes(net, 2) as (far, near):
        far.sdk.serve(COUNTS, counter)
        rpc = near.sdk.get_rpc_client()
        async with (
            rpc.bidi_stream(far.peer_id, RUNNING, timeout_s=None) as call,
            trio.open_nursery() as nursery,
        ):

            async def send() -> None:
                nonlocal most_ahead
                for value in range(MESSAGES):
                    await call.send(Int64Value(value=FIRST + value))
                    most_ahead = max(most_ahead, value - answered)
                await call.end()

            nursery.start_soon(send)
            async for response in call:
                answered += 1
                assert response.value == FIRST + answered
                if answered % 1000 == 0:
                    await trio.sleep(PAUSE_S)
                if answered % (MESSAGES // 10) == 0:
                    memory_mib.append(resident_mib())
    assert counter.received == answered
    return answered, memory_mib, most_ahead


def test_a_million_messages_both_ways_with_a_slow_reader() -> None:
    options = SimOptions(link=LinkProfile(latency_s=0.01), max_events=0)
    answered, memory_mib, most_ahead = run_sim(call_slowly, network=options).result
    assert answered == MESSAGES
    assert max(memory_mib) - memory_mib[0] < MAX_GROWTH_MIB
    assert most_ahead * MESSAGE_BYTES < MAX_AHEAD_BYTES < MESSAGES * MESSAGE_BYTES, "the reader held the sender back"
    print(f"{memory_mib[0]:.1f} MiB, at most {max(memory_mib):.1f}; at most {most_ahead:,} messages ahead")
