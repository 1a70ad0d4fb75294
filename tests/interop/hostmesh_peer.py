"""hostmesh's Node as an interop peer; see :mod:`tests.interop.scenarios`.

It dials, and waits until it knows what the peer speaks: from then on a stream's first bytes go out together with the
protocol's name, as in nearly every call of a program. With ``--at-once`` before the command it does not wait, and the
peer is asked for its consent on every stream first.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from tests.interop import scenarios

from hostmesh.errors import ConnectionLostError, ProtocolNotSupportedError
from hostmesh.net.address import AddressOrigin, split_peer_address
from hostmesh.net.config import NodeConfig
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.ping import PING_ID, Ping


@asynccontextmanager
async def running_node(*listen_addresses: str) -> AsyncIterator[Node]:
    node = Node(NodeConfig(listen_addresses=listen_addresses, enable_dht=False), PeerKey.generate())
    for protocol, handler in scenarios.HANDLERS.items():
        node.set_stream_handler(protocol, handler)
    node.set_stream_handler(PING_ID, Ping().answer)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        yield node
        await node.stop()


async def serve() -> None:
    async with running_node("/ip4/127.0.0.1/tcp/0") as node:
        await scenarios.serve_until_stdin_ends(node.peer_id, node.peer_addresses())


async def learned_protocols(node: Node, peer_id: PeerId) -> tuple[str, ...]:
    """Return what the node's own identify learned, once it has."""
    while True:
        try:
            await node.open_stream(peer_id, "/interop/nobody-serves-this/1")
        except ProtocolNotSupportedError as error:
            if error.offered:
                return error.offered
            # The refusal waits for identify, but not for ever.
            await trio.sleep(0.1)
        else:
            raise AssertionError("the peer agreed to a protocol that it cannot know")


async def dial(address: str, scenario: str, *, is_at_once: bool = False) -> dict[str, Any]:
    _, peer_id = split_peer_address(address)
    assert peer_id is not None
    async with running_node() as node:
        await node.connect(peer_id, (address,), origin=AddressOrigin.CONFIGURED)

        async def open_stream(protocol: str) -> scenarios.PeerStream:
            return await node.open_stream(peer_id, protocol)

        known = () if is_at_once else await learned_protocols(node, peer_id)
        facts = await scenarios.SCENARIOS[scenario](scenarios.Dialer(open_stream, ConnectionLostError))
        if scenario == "identify":
            scenarios.check(set(known) == set(facts["protocols"]), f"the node knows of {known}")
        return facts


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    if "--at-once" in sys.argv:
        sys.argv.remove("--at-once")
        dial = partial(dial, is_at_once=True)
    scenarios.main(serve, dial)
