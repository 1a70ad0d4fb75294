"""One node of the scenario on real sockets: a bootstrap node, a host or the client, told what to be by JSON.

It writes one JSON object a line and ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.netns.scenario import NETWORK, be_bootstrap, be_host, measure

from hostmesh import SDK, load_settings, open_sdk


def open_real(*, ephemeral_key: bool, serve_dht: bool = False) -> AbstractAsyncContextManager[SDK]:
    settings = load_settings({"network": NETWORK, "enable_mdns": False})
    return open_sdk(settings, ephemeral_key=ephemeral_key, serve_dht=serve_dht)


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def until_end_of_input() -> None:
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while await stdin.receive_some():
            pass


async def serve(wanted: dict) -> None:
    async with trio.open_nursery() as nursery:
        if wanted["role"] == "bootstrap":
            address = await nursery.start(be_bootstrap, open_real)
        else:
            address = await nursery.start(be_host, open_real, wanted["bootstrap"])
        tell("ready", peer_id=address.rpartition("/")[2], addresses=[address])
        await until_end_of_input()
        nursery.cancel_scope.cancel()


async def be_client(wanted: dict) -> None:
    tell("ready", peer_id="", addresses=[])
    watch = await measure(
        open_real,
        wanted["ip"],
        bootstrap=wanted["bootstrap"],
        host=wanted["host"],
        repetitions=wanted["repetitions"],
    )
    tell("measured", taken_s=watch.taken_s)
    await until_end_of_input()


async def main(wanted: dict) -> None:
    await (be_client(wanted) if wanted["role"] == "client" else serve(wanted))
    tell("stopped")


trio.run(main, json.loads(sys.argv[1]))
