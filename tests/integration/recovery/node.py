"""A bootstrap node, a host or a client on the public SDK, told what to be by JSON on its command line.

Its key and its stores are in ``HOSTMESH_HOME``. It writes one JSON object a line and ends when its standard input does.
A client looks once for each line of its input, and tells whom it found and how long that took.
"""

from __future__ import annotations

import json
import sys
import time

import trio

from hostmesh import SDK, HostCriteria, HostDescription, ModelOffer, NoHostFoundError, open_sdk

WANTED = HostCriteria(required_models=["m"])


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def look(sdk: SDK, *, for_all: bool) -> None:
    began_s = time.monotonic()
    manager = sdk.get_discovery_manager()
    if for_all:
        found = [choice.peer_id for choice in await manager.find_all_hosts(WANTED, timeout_s=5)]
    else:
        try:
            found = [(await manager.find_host(WANTED, timeout_s=5)).peer_id]
        except NoHostFoundError:
            found = []
    tell("found", peer_ids=sorted(found), took_s=time.monotonic() - began_s)


async def main(role: str, settings: dict[str, object]) -> None:
    async with open_sdk(serve_dht=role != "client", enable_mdns=False, **settings) as sdk:
        await sdk.authenticate(private_key="0x" + "ab" * 32)
        manager = sdk.get_discovery_manager()
        peer_id = await manager.create_node()
        if role == "host":
            await manager.announce(HostDescription(models=[ModelOffer(model_id="m")]))
        tell("ready", peer_id=peer_id, addresses=manager.listen_addresses())
        async with trio.lowlevel.FdStream(0) as stdin:
            while lines := await stdin.receive_some():
                for line in lines.decode().split():
                    await look(sdk, for_all=line == "all")
    tell("stopped")


if __name__ == "__main__":
    trio.run(main, *json.loads(sys.argv[1]))
