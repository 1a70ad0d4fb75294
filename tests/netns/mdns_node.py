"""A host, a client or a listener with mDNS as its only source, told what to be by JSON on its command line.

It writes one JSON object a line and ends when its standard input does. A *host* offers a model. A *client* looks for
any host until it has heard of somebody, and tells what became of him. A *listener* is the source alone, on a clock that
a line of its input, a number of seconds, puts forward; it tells whom it knows whenever that changes.
"""

from __future__ import annotations

import json
import os
import sys
import time

import trio
from mesh_node import MODEL, Shouter, tell, until_end_of_input

from hostmesh import HostDescription, ModelOffer, NoHostFoundError, Price, Wallet, open_sdk
from hostmesh.discovery.source import Candidate, SourceQuery
from hostmesh.discovery.sources.mdns import MdnsSource
from hostmesh.net.peer_key import PeerKey
from hostmesh.system import System

LOOK_S = 0.05


async def look(discovery) -> None:
    """Tell what became of whom mDNS named, and how he was reached."""
    while True:
        try:
            choice = await discovery.find_host()
        except NoHostFoundError as error:
            seen = error.seen
        else:
            raise AssertionError(f"{choice.peer_id} is a host")
        stats = discovery.stats()
        if stats.sources["mdns"].candidates:
            break
    peers = {
        peer.peer_id: {"addresses": [each.address for each in peer.connections], "protocols": peer.protocols}
        for peer in discovery.network_topology().peers
    }
    tell("looked", seen=seen, fetches=dict(stats.fetches), peers=peers)


async def be_a_node(wanted: dict) -> None:
    settings = {"enable_mdns": True, "enable_dht": False, **wanted["settings"]}
    async with open_sdk(ephemeral_key=True, **settings) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        discovery = sdk.get_discovery_manager()
        peer_id = await discovery.create_node()
        if wanted["role"] == "host":
            offer = ModelOffer(model_id=MODEL.model_id, price=Price(micros_per_mtok=1_000, currency="USD"))
            async with sdk.get_host_manager().serve(HostDescription(models=[offer], location="US"), Shouter()):
                tell("ready", peer_id=peer_id, addresses=discovery.listen_addresses())
                await until_end_of_input()
        else:
            tell("ready", peer_id=peer_id, addresses=discovery.listen_addresses())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look, discovery)
                await until_end_of_input()
                nursery.cancel_scope.cancel()


async def listen() -> None:
    ahead_s = 0.0
    system = System(monotonic_s=lambda: time.monotonic() + ahead_s)
    peer_id = PeerKey.generate().peer_id
    source = MdnsSource(peer_id, system=system)

    async def known() -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}

        def note(candidate: Candidate) -> None:
            found[candidate.peer_id] = candidate.addresses

        with trio.move_on_after(0):
            await source.find(SourceQuery(model_ids=(), country_code=None, limit=100), note)
        return found

    async def watch() -> None:
        told: dict[str, tuple[str, ...]] = {}
        while True:
            now = await known()
            if now != told:
                told = now
                tell("known", peers=now)
            await trio.sleep(LOOK_S)

    async def follow_the_clock() -> None:
        nonlocal ahead_s
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            async for data in stdin:
                ahead_s += float(data)
                tell("later", peers=await known())

    async with trio.open_nursery() as nursery:
        await nursery.start(source.run)
        nursery.start_soon(watch)
        tell("ready", peer_id=peer_id, addresses=[])
        await follow_the_clock()
        nursery.cancel_scope.cancel()


async def main(wanted: dict) -> None:
    if wanted["role"] == "listener":
        await listen()
    else:
        await be_a_node(wanted)
    tell("stopped")


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
