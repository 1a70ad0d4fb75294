"""Nodes that have others dial them back: AutoNAT v2 between whole nodes, and against peers that lie or ask too much."""

from __future__ import annotations

from contextlib import suppress

import trio
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import simulated

from hostmesh.net.autonat_message import (
    DIAL_BACK_ID,
    DIAL_REQUEST_ID,
    MAX_DATA_BYTES,
    DataRequest,
    DialResponse,
    DialStatus,
    ResponseStatus,
    decode_message,
    encode_data,
    encode_data_request,
    encode_dial_back,
    encode_request,
    encode_response,
)
from hostmesh.net.autonat_policy import MAX_DATA_BYTES as MOST_PAID
from hostmesh.net.autonat_policy import MIN_DATA_BYTES
from hostmesh.net.autonat_report import DialBackOutcome, ReachState
from hostmesh.net.dht_server import read_frame
from hostmesh.net.node import Node
from hostmesh.net.stream import Stream
from hostmesh.testing import Nat, SimMachine, make_peer_key
from hostmesh.wire.framing import FrameDecoder


async def a_server(nodes: Nodes) -> Node:
    return await nodes.start(serve_dial_back=True)


def outcomes(client: Node) -> list[DialBackOutcome]:
    assert client.reachability is not None
    return [answer.outcome for answer in client.reachability.answers]


@simulated(nodes_on)
async def test_a_node_that_can_be_reached(nodes: Nodes) -> None:
    server = await a_server(nodes)
    client = await nodes.start()
    await client.connect(server.peer_id, server.peer_addresses())
    before = nodes.dials(server)
    report = await client.check_reachability()
    assert report.state is ReachState.PUBLIC
    assert [(each.address, each.is_reachable) for each in report.addresses] == [(client.listen_addresses()[0], True)]
    assert [answer.peer_id for answer in report.answers] == [server.peer_id]
    assert nodes.dials(server) == before + 1  # a connection of its own, though there was one
    await trio.sleep(5)
    assert server.usage().connections == client.usage().connections == 1
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.send(b"still there")
    assert await stream.receive() == b"still there"


@simulated(nodes_on)
async def test_an_address_that_leads_nowhere(nodes: Nodes) -> None:
    server = await a_server(nodes)
    client = await nodes.start(
        bootstrap_addresses=server.peer_addresses(), announce_addresses=("/ip4/20.9.9.9/tcp/4001",)
    )
    await client.wait_connected(1, 10)
    report = await client.check_reachability()
    assert report.state is ReachState.UNREACHABLE
    assert outcomes(client) == [DialBackOutcome.FAILED]


@simulated(nodes_on)
async def test_an_address_elsewhere_is_paid_for_and_can_be_mapped(nodes: Nodes) -> None:
    server = await a_server(nodes)
    router = nodes.net.machine("router")
    client = await nodes.start(announce_addresses=(f"/ip4/{router.address}/tcp/4001",))
    await client.connect(server.peer_id, server.peer_addresses())
    nodes.nursery.start_soon(forward, router, nodes.machine_of(client))
    await trio.sleep(0.1)
    name = nodes.machine_of(client).name
    sent_before = sum(event.size for event in nodes.net.trace if event.kind == "data" and event.source == name)
    report = await client.check_reachability()
    assert report.state is ReachState.MAPPED
    sent = sum(event.size for event in nodes.net.trace if event.kind == "data" and event.source == name) - sent_before
    assert MIN_DATA_BYTES < sent < MOST_PAID + 20_000


async def forward(router: SimMachine, to: SimMachine) -> None:
    """Forward a port, as a router does."""
    bound = await router.network.listen(router.address, 4001)

    async def copy(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(65536):
                await target.send_all(data)
        await target.aclose()

    async with trio.open_nursery() as nursery:
        while True:
            outside = await bound.listener.accept()
            inside = await router.network.dial(to.address, 4001)
            nursery.start_soon(copy, outside, inside)
            nursery.start_soon(copy, inside, outside)


@simulated(nodes_on)
async def test_two_strangers_must_agree_that_a_node_cannot_be_reached(nodes: Nodes) -> None:
    servers = [await a_server(nodes), await a_server(nodes)]
    client = await nodes.start(announce_addresses=("/ip4/20.9.9.9/tcp/4001",))
    await client.connect(servers[0].peer_id, servers[0].peer_addresses())
    assert (await client.check_reachability()).state is None
    assert outcomes(client) == [DialBackOutcome.FAILED]
    await client.connect(servers[1].peer_id, servers[1].peer_addresses())
    assert (await client.check_reachability()).state is ReachState.UNREACHABLE


@simulated(nodes_on)
async def test_a_node_behind_a_nat(nodes: Nodes) -> None:
    server = await a_server(nodes)
    machine = nodes.net.machine("behind", nat=Nat.NO_INBOUND)
    client = await nodes.start(
        on=machine,
        listen_addresses=("/ip4/0.0.0.0/tcp/4001",),
        announce_addresses=(f"/ip4/{machine.address}/tcp/4001",),
        bootstrap_addresses=server.peer_addresses(),
    )
    await client.wait_connected(1, 10)
    assert (await client.check_reachability()).state is ReachState.UNREACHABLE


@simulated(nodes_on)
async def test_without_a_server_nothing_is_known(nodes: Nodes) -> None:
    other, client = await nodes.start(), await nodes.start()
    await client.connect(other.peer_id, other.peer_addresses())
    report = await client.check_reachability()
    assert (report.state, report.answers) == (None, ())


@simulated(nodes_on)
async def test_dht_servers_dial_back_and_others_do_not(nodes: Nodes) -> None:
    served = [
        await nodes.start(enable_dht=True, dht_server=True),
        await nodes.start(enable_dht=True, dht_server=True, serve_dial_back=False),
        await nodes.start(enable_dht=True),
    ]
    client = await nodes.start()
    for node in served:
        await client.connect(node.peer_id, node.peer_addresses())
    await trio.sleep(1)
    assert [DIAL_REQUEST_ID in client.protocols_of(node.peer_id) for node in served] == [True, False, False]
    assert all(DIAL_BACK_ID in client.protocols_of(node.peer_id) for node in served)


# --- servers that lie ---


async def read_request(stream: Stream) -> int:
    frame = await read_frame(stream, FrameDecoder(8192))
    assert frame is not None
    return decode_message(frame).nonce  # type: ignore[union-attr]


DONE = DialResponse(status=ResponseStatus.OK, dial_status=DialStatus.OK)


@simulated(nodes_on)
async def test_a_word_without_a_dial_back_proves_nothing(nodes: Nodes) -> None:
    async def lie(stream: Stream) -> None:
        await read_request(stream)
        await stream.send(encode_response(DONE), end=True)

    liar, client = await nodes.start(), await nodes.start()
    liar.set_stream_handler(DIAL_REQUEST_ID, lie)
    await client.connect(liar.peer_id, liar.peer_addresses())
    assert (await client.check_reachability()).state is None
    assert outcomes(client) == [DialBackOutcome.UNPROVEN]


@simulated(nodes_on)
async def test_a_dial_back_over_the_connection_that_was_there_proves_nothing(nodes: Nodes) -> None:
    liar, client = await nodes.start(), await nodes.start()
    answered: list[bytes] = []

    async def lie(stream: Stream) -> None:
        nonce = await read_request(stream)
        back = await liar.open_stream(stream.peer_id, DIAL_BACK_ID)
        await back.send(encode_dial_back(nonce), end=True)
        try:
            answered.append(await back.receive())
        finally:
            await stream.send(encode_response(DONE), end=True)

    liar.set_stream_handler(DIAL_REQUEST_ID, lie)
    await client.connect(liar.peer_id, liar.peer_addresses())
    assert (await client.check_reachability()).state is None
    assert answered == []
    await client.disconnect(liar.peer_id)
    # Nor over one that the server had made before it was asked.
    await liar.connect(client.peer_id, client.peer_addresses())
    assert (await client.check_reachability()).state is None
    assert answered == []


@simulated(nodes_on)
async def test_another_nonce_proves_nothing(nodes: Nodes) -> None:
    liar, client, helper = await nodes.start(), await nodes.start(), await nodes.start()

    async def lie(stream: Stream) -> None:
        nonce = await read_request(stream)
        await helper.connect(client.peer_id, client.peer_addresses())
        back = await helper.open_stream(client.peer_id, DIAL_BACK_ID)
        await back.send(encode_dial_back(nonce ^ 1), end=True)
        await stream.send(encode_response(DONE), end=True)

    liar.set_stream_handler(DIAL_REQUEST_ID, lie)
    await client.connect(liar.peer_id, liar.peer_addresses())
    assert (await client.check_reachability()).state is None


@simulated(nodes_on)
async def test_a_dial_back_under_another_key_is_proof(nodes: Nodes) -> None:
    """go-libp2p dials back under a key of its own."""
    server, client, helper = await nodes.start(), await nodes.start(), await nodes.start()

    async def serve(stream: Stream) -> None:
        nonce = await read_request(stream)
        await helper.connect(client.peer_id, client.peer_addresses())
        back = await helper.open_stream(client.peer_id, DIAL_BACK_ID)
        await back.send(encode_dial_back(nonce), end=True)
        assert await back.receive()
        await stream.send(encode_response(DONE), end=True)

    server.set_stream_handler(DIAL_REQUEST_ID, serve)
    await client.connect(server.peer_id, server.peer_addresses())
    assert (await client.check_reachability()).state is ReachState.PUBLIC


@simulated(nodes_on)
async def test_nobody_is_paid_more_than_the_specification_says(nodes: Nodes) -> None:
    received = 0

    async def greedy(stream: Stream) -> None:
        nonlocal received
        await read_request(stream)
        await stream.send(encode_data_request(DataRequest(index=0, num_bytes=MOST_PAID + 1)))
        while data := await stream.receive():
            received += len(data)

    server, client = await nodes.start(), await nodes.start()
    server.set_stream_handler(DIAL_REQUEST_ID, greedy)
    await client.connect(server.peer_id, server.peer_addresses())
    assert (await client.check_reachability()).state is None
    assert (outcomes(client), received) == ([DialBackOutcome.NO_ANSWER], 0)


@simulated(nodes_on)
async def test_a_silent_server_is_not_waited_for(nodes: Nodes) -> None:
    async def silent(stream: Stream) -> None:
        await trio.sleep_forever()

    server, client = await nodes.start(), await nodes.start()
    server.set_stream_handler(DIAL_REQUEST_ID, silent)
    await client.connect(server.peer_id, server.peer_addresses())
    began_s = trio.current_time()
    assert (await client.check_reachability(timeout_s=5)).state is None
    assert trio.current_time() - began_s < 6


# --- askers that want too much ---


async def ask(asker: Node, server: Node, *addresses: str) -> Stream:
    stream = await asker.open_stream(server.peer_id, DIAL_REQUEST_ID)
    await stream.send(encode_request(addresses, 7))
    return stream


async def response(stream: Stream) -> object:
    frame = await read_frame(stream, FrameDecoder(8192))
    assert frame is not None
    return decode_message(frame)


@simulated(nodes_on)
async def test_private_addresses_are_refused(nodes: Nodes) -> None:
    server, asker = await a_server(nodes), await nodes.start()
    await asker.connect(server.peer_id, server.peer_addresses())
    before = nodes.dials(server)
    for address in ("/ip4/127.0.0.1/tcp/4001", "/ip4/10.0.0.1/tcp/80", "/ip4/169.254.169.254/tcp/80"):
        stream = await ask(asker, server, address)
        assert await response(stream) == DialResponse(status=ResponseStatus.REFUSED)
    assert nodes.dials(server) == before


@simulated(nodes_on)
async def test_a_victim_is_not_dialled_before_it_is_paid_for(nodes: Nodes) -> None:
    server, asker = await a_server(nodes), await nodes.start()
    victim = nodes.net.machine("victim")
    await asker.connect(server.peer_id, server.peer_addresses())
    before = nodes.dials(server)
    stream = await ask(asker, server, f"/ip4/{victim.address}/tcp/80")
    wanted = await response(stream)
    assert isinstance(wanted, DataRequest)
    assert MIN_DATA_BYTES <= wanted.num_bytes <= MOST_PAID
    left = wanted.num_bytes
    while left > MAX_DATA_BYTES:
        await stream.send(encode_data(MAX_DATA_BYTES))
        left -= MAX_DATA_BYTES
    await trio.sleep(10)
    assert nodes.dials(server) == before
    await stream.send(encode_data(MAX_DATA_BYTES))
    told = await response(stream)
    assert told == DialResponse(status=ResponseStatus.OK, dial_status=DialStatus.DIAL_ERROR)
    assert nodes.dials(server) == before + 1


@simulated(nodes_on)
async def test_data_in_crumbs_is_not_taken(nodes: Nodes) -> None:
    server, asker = await a_server(nodes), await nodes.start()
    await asker.connect(server.peer_id, server.peer_addresses())
    stream = await ask(asker, server, "/ip4/20.9.9.9/tcp/80")
    assert isinstance(await response(stream), DataRequest)
    await stream.send(encode_data(1))
    with trio.fail_after(1):
        await stream.wait_reset()


@simulated(nodes_on)
async def test_one_request_of_a_peer_at_a_time(nodes: Nodes) -> None:
    server, asker = await a_server(nodes), await nodes.start()
    await asker.connect(server.peer_id, server.peer_addresses())
    first = await ask(asker, server, "/ip4/20.9.9.9/tcp/80")
    assert isinstance(await response(first), DataRequest)
    second = await ask(asker, server, asker.listen_addresses()[0])
    assert await response(second) == DialResponse(status=ResponseStatus.REJECTED)
    await first.reset()
    await trio.sleep(1)
    third = await ask(asker, server, asker.listen_addresses()[0])
    told = await response(third)
    # The nonce is not one that the asker waits for, so the dial-back is not answered.
    assert told == DialResponse(status=ResponseStatus.OK, dial_status=DialStatus.DIAL_BACK_ERROR)


@simulated(nodes_on)
async def test_whoever_is_at_the_address_must_be_the_asker(nodes: Nodes) -> None:
    """A stranger cannot have a node deliver something to another node behind the stranger's own address."""
    server, asker = await a_server(nodes), await nodes.start()
    machine = nodes.machine_of(asker)
    neighbour = await nodes.start(
        on=machine, key=make_peer_key("neighbour"), listen_addresses=(f"/ip4/{machine.address}/tcp/4002",)
    )
    await asker.connect(server.peer_id, server.peer_addresses())
    told = await response(await ask(asker, server, neighbour.listen_addresses()[0]))
    assert told == DialResponse(status=ResponseStatus.OK, dial_status=DialStatus.DIAL_ERROR)
    assert neighbour.usage().connections == 0
