"""A node that keeps the connection to a wanted peer, told by JSON on its command line, and tells its events.

It writes one JSON object a line and ends when its standard input does.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from typing import Any

import trio

from hostmesh.net.address import AddressOrigin, split_peer_address
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey


def tell(event: str, **told: Any) -> None:
    print(json.dumps({"event": event, **told}, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else value.value


async def main(listen: str, wanted: list[str]) -> None:
    node = Node(NodeConfig(listen_addresses=(listen,), enable_dht=False), PeerKey.generate())
    with node.watch_events() as events:

        async def tell_events() -> None:
            async for event in events:
                name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
                tell(name, **dataclasses.asdict(event))

        async def want(text: str) -> None:
            address, peer_id = split_peer_address(text)
            assert peer_id is not None
            with node.want(peer_id, (address,), origin=AddressOrigin.CONFIGURED):
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            nursery.start_soon(tell_events)
            for text in wanted:
                nursery.start_soon(want, text)
            tell("ready", peer_id=node.peer_id, addresses=node.peer_addresses())
            stdin = trio.lowlevel.FdStream(0)
            while await stdin.receive_some():
                pass
            nursery.cancel_scope.cancel()
    tell("stopped")


if __name__ == "__main__":
    trio.run(main, *json.loads(sys.argv[1]))
