"""The server of the conformance suite, as a process: ``python -m tests.conformance.server``.

It announces ``{"address": ...}`` on standard output, and then answers each line of standard input with a line:
``{"begin": case}`` before a case is given to the client, and ``{"end": case}`` after its result, which is answered with
what the server saw. It goes when standard input ends.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from typing import Any

import trio
from tests.conformance.playing import PROTOCOLS, PlayingServer
from tests.conformance.schema import SERVICE
from tests.conformance.service import ConformanceHandler, Journal

from hostmesh.net.config import NodeConfig
from hostmesh.net.node import Node
from hostmesh.net.peer_key import PeerKey
from hostmesh.rpc import server as rpc_server
from hostmesh.rpc.limits import RpcLimits
from hostmesh.rpc.server import RpcServer
from hostmesh.system import System

SETTLE_LIMIT_S = 5.0
"""How long the server may take to see what the client did."""

# Ten times as often as elsewhere: a suite is to be over in seconds. The page says so.
rpc_server.HEARTBEAT_S = 1.0
_LIMITS = RpcLimits(request_timeout_s=3.0)


class Control:
    """Answers the runner."""

    def __init__(self, journal: Journal, playing: PlayingServer) -> None:
        self._journal = journal
        self._playing = playing

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if (case := command.get("begin")) is not None:
            self._journal.entries.clear()
            self._playing.begin(case.get("script", []))
            return {}
        expect = command["end"]["expect"]
        # What does not come in time is missing in the answer, which the runner then finds.
        with trio.move_on_after(SETTLE_LIMIT_S):
            await self._journal.wait_ended(len(expect.get("journal", ())))
            if "end" in expect.get("script", {}):
                await self._playing.wait_end(expect["script"]["end"])
        self._playing.leave()
        return {"journal": [asdict(entry) for entry in self._journal.entries], "script": self._playing.seen()}


async def main() -> None:
    node = Node(NodeConfig(listen_addresses=("/ip4/127.0.0.1/tcp/0",), enable_dht=False), PeerKey.generate())
    journal, playing = Journal(), PlayingServer()
    rpc = RpcServer(prefix="/hostmesh", system=System(), limits=_LIMITS)
    rpc.add_service(SERVICE, ConformanceHandler(journal))
    for protocol_id, handler in rpc.stream_handlers().items():
        node.set_stream_handler(protocol_id, handler)
    for protocol_id in PROTOCOLS:
        node.set_stream_handler(protocol_id, playing.serve)
    control = Control(journal, playing)
    async with trio.open_nursery() as nursery:
        await nursery.start(rpc.run)
        await nursery.start(node.run)
        _print({"address": node.peer_addresses()[0]})
        async for line in trio.wrap_file(sys.stdin):
            _print(await control.answer(json.loads(line)))
        await node.stop()
        nursery.cancel_scope.cancel()


def _print(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    trio.run(main)
