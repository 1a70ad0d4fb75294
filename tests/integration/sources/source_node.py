"""One node with its discovery sources in a process of its own, told what to be by JSON on its command line.

It writes one JSON object a line. ``{"role": "host"}`` advertises; ``"client"`` looks until it has found and reached the
peer ``wanted``; any other role only runs. It ends when its standard input does, and tells what was left.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import trio

from hostmesh.discovery.source import Advert, SourceQuery
from hostmesh.discovery.sources.dht import DhtSource
from hostmesh.discovery.sources.mdns import MdnsSource
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey
from hostmesh.system import System

MODEL = "smollm2-135m-instruct"


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def sources_of(node: Node, wanted: dict, system: System) -> list:
    sources = []
    if wanted.get("mdns"):
        sources.append(MdnsSource(node.peer_id, interfaces=wanted.get("interfaces", ()), system=system))
    if node.dht is not None:
        sources.append(DhtSource(node.dht, network="test", system=system))
    return sources


async def look(node: Node, sources: list, wanted: dict) -> None:
    """Ask every source again and again until the wanted peer was found and reached."""
    query = SourceQuery(model_ids=(MODEL,), country_code=wanted.get("country"), limit=50)
    send, receive = trio.open_memory_channel(1000)

    async def search(source: object) -> None:
        while True:
            await source.find(query, send.send_nowait)
            await trio.sleep(0.2)

    async with trio.open_nursery() as nursery:
        for source in sources:
            nursery.start_soon(search, source)
        async for candidate in receive:
            if candidate.peer_id == wanted["wanted"]:
                tell("found", source=candidate.source, addresses=candidate.addresses)
                await node.connect(candidate.peer_id, candidate.addresses, origin=candidate.origin, timeout_s=10)
                nursery.cancel_scope.cancel()
    reached = [str(connection.address) for connection in node._pool.of(wanted["wanted"])]
    servers = [] if node.dht is None else list(node.dht.servers())
    tell("reached", peer_id=wanted["wanted"], addresses=reached, dht_servers=servers)


async def main(wanted: dict) -> None:
    system = System()
    config = NodeConfig(
        listen_addresses=tuple(wanted.get("listen", ("/ip4/127.0.0.1/tcp/0",))),
        bootstrap_addresses=tuple(wanted.get("bootstrap", ())),
        enable_dht=wanted.get("dht", True),
        dht_server=wanted.get("dht_server", False),
        protocol_prefix=wanted.get("prefix", "/hostmesh"),
        bootstrap_first_retry_s=0.1,
    )
    key = PeerKey(bytes.fromhex(wanted["seed"])) if "seed" in wanted else PeerKey.generate()
    node = Node(config, key, system=system)
    sources = sources_of(node, wanted, system)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        for source in sources:
            await nursery.start(source.run)
        tell("ready", peer_id=node.peer_id, addresses=node.peer_addresses())
        if wanted["role"] == "host":
            advert = Advert(
                model_ids=(MODEL,), country_code=wanted.get("country"), addresses=node.announced_addresses()
            )
            for source in sources:
                await source.advertise(advert)
        elif wanted["role"] == "client":
            nursery.start_soon(look, node, sources, wanted)
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            while await stdin.receive_some():
                pass
        nursery.cancel_scope.cancel()
    await trio.lowlevel.checkpoint()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
    left = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    mdns_threads = [thread.name for thread in threading.enumerate() if "mdns" in thread.name]
    tell("stopped", sockets=[link for link in left if link.startswith("socket:")], threads=mdns_threads)
