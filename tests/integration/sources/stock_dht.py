"""A stock py-libp2p host with its KadDHT, under hostmesh's protocol id. It knows nothing of hostmesh.

Reads one command a line: ``connect ADDRESS``, ``provide HEX``, ``find HEX``; writes one JSON object a line.
"""

from __future__ import annotations

import json
import os

import libp2p.kad_dht.common
import libp2p.kad_dht.kad_dht
import libp2p.kad_dht.peer_routing
import libp2p.kad_dht.provider_store
import libp2p.kad_dht.value_store
import trio
from libp2p import generate_new_ed25519_identity, new_host
from libp2p.crypto import x25519
from libp2p.custom_types import TProtocol
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

for module in (
    libp2p.kad_dht.common,
    libp2p.kad_dht.kad_dht,
    libp2p.kad_dht.peer_routing,
    libp2p.kad_dht.provider_store,
    libp2p.kad_dht.value_store,
):
    module.PROTOCOL_ID = TProtocol("/hostmesh/kad/1.0.0")


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def lines():
    buffer = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        async for data in stdin:
            *done, buffer = (buffer + data).split(b"\n")
            for line in done:
                yield line.decode().split()


async def main() -> None:
    keys = generate_new_ed25519_identity()
    security = {NOISE_ID: NoiseTransport(keys, noise_privkey=x25519.create_new_key_pair().private_key)}
    listen = [Multiaddr("/ip4/127.0.0.1/tcp/0")]
    host = new_host(key_pair=keys, sec_opt=security, listen_addrs=listen)
    async with host.run(listen_addrs=listen):
        dht = KadDHT(host, DHTMode.SERVER, strict_validation=True)
        async with background_trio_service(dht):
            tell("ready", peer_id=host.get_id().to_base58(), addresses=[str(addr) for addr in host.get_addrs()])
            async for command, argument in lines():
                if command == "connect":
                    info = info_from_p2p_addr(Multiaddr(argument))
                    await host.connect(info)
                    await dht.routing_table.add_peer(info)
                    tell("connected")
                elif command == "provide":
                    tell("provided", done=await dht.provider_store.provide(bytes.fromhex(argument)))
                elif command == "find":
                    providers = await dht.provider_store.find_providers(bytes.fromhex(argument))
                    found = {info.peer_id.to_base58(): [str(addr) for addr in info.addrs] for info in providers}
                    tell("found", providers=found)
    tell("stopped")


trio.run(main)
