"""The stacks without libp2p, in this process: they carry every payload, and TLS checks whom it speaks with."""

from __future__ import annotations

import pytest
import trio
from tests.benchmarks.transport.peers.certificate import join_address, make_certificate, split_address
from tests.benchmarks.transport.peers.client import WrongAnswerError, run_paced, run_stream, verify
from tests.benchmarks.transport.peers.endpoint import Call, Stack
from tests.benchmarks.transport.peers.payload import REQUEST
from tests.benchmarks.transport.peers.tcp import TcpStack
from tests.benchmarks.transport.peers.tls import TlsStack


@pytest.mark.parametrize("stack", [TcpStack(), TlsStack()], ids=["tcp", "tls"])
async def test_every_payload_is_carried(stack: Stack) -> None:
    async with stack.serve() as served, stack.endpoint() as endpoint:
        await endpoint.dial(served.address)
        await verify(endpoint)


async def test_the_age_of_a_paced_message_is_that_of_its_arrival() -> None:
    async with TcpStack().serve() as served, TcpStack().endpoint() as endpoint:
        await endpoint.dial(served.address)
        measured = await run_paced(endpoint, 5)
    assert measured["ops"] == 5
    assert 0 < measured["latency_us"]["p50"] < measured["wall_s"] * 1e6


async def test_messages_of_another_size_fail_the_run() -> None:
    async with TcpStack().serve() as served, TcpStack().endpoint() as endpoint:
        await endpoint.dial(served.address)
        with pytest.raises(WrongAnswerError, match="40 bytes instead of 41"):
            await run_stream(endpoint, Call.BURST, 1, 41)


async def test_a_server_of_another_authority_is_refused() -> None:
    async with TlsStack().serve() as served, TlsStack().endpoint() as endpoint:
        target, _ = split_address(served.address)
        port = int(target.rpartition(":")[2])
        await endpoint.dial(join_address(port, make_certificate().authority))
        with pytest.raises(trio.BrokenResourceError) as caught:
            await endpoint.unary(REQUEST)
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)
