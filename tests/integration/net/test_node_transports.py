"""Streams over every transport that a node listens on."""

from __future__ import annotations

import pytest
import trio

from hostmesh.net.address import AddressOrigin

ECHO = "/test/echo/1"


async def _pair(start_node, **config):
    server = await start_node(**config)
    client = await start_node()
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    return client, server


async def _call(client, server, data: bytes = b"hello") -> bytes:
    stream = await client.open_stream(server.peer_id, ECHO)

    async def send() -> None:
        await stream.send(data)
        await stream.close_write()

    answer = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while chunk := await stream.receive():
            answer += chunk
    await stream.close()
    return answer


@pytest.mark.parametrize(
    "listen", ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip6/::1/tcp/0/ws"]
)
async def test_echo_over_every_transport(start_node, listen):
    client, server = await _pair(start_node, listen_addresses=(listen,))
    assert server.listen_addresses()[0].startswith(listen.partition("/tcp/")[0])
    assert not server.listen_addresses()[0].endswith("/tcp/0")
    data = bytes(range(256)) * 4096
    with trio.fail_after(5):
        assert await _call(client, server, data) == data


async def test_one_node_listens_on_all_transports(start_node):
    listen = ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip6/::1/tcp/0/ws")
    server = await start_node(listen_addresses=listen)
    assert len(set(server.listen_addresses())) == 4
    for address in server.listen_addresses():
        client = await start_node()
        await client.connect(server.peer_id, [address], origin=AddressOrigin.CONFIGURED)
        assert await _call(client, server) == b"hello"
