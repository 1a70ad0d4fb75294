"""A real process that is stopped for a while, as a machine that sleeps is, notices it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import trio

from hostmesh.net.liveness import ANSWER_S
from hostmesh.net.machine_watch import LATE_S
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from json_process import json_processes

PROGRAM = Path(__file__).resolve().parents[2] / "support" / "liveness_node.py"
STOPPED_S = 9.5
"""A look of every 4 s is 5 s late then, wherever between two looks it begins."""
NOTICED_S = 15.0


@pytest.mark.timeout(60)
async def test_a_process_that_was_stopped_tells_so_and_stays_connected(nursery):
    host = Node(NodeConfig(enable_dht=False), PeerKey.generate())
    await nursery.start(host.run)
    async with json_processes() as start:
        client = await start(
            [sys.executable, str(PROGRAM), json.dumps(["/ip4/127.0.0.1/tcp/0", host.peer_addresses()])]
        )
        await client.event("connection_opened")
        client.signal(signal.SIGSTOP)
        await trio.sleep(STOPPED_S)
        assert not client.has("network_changed")
        client.signal(signal.SIGCONT)
        change = await client.event("network_changed", within_s=NOTICED_S)
        assert LATE_S <= change["slept_s"] <= STOPPED_S + 5.0
        assert change["changes_reach"]
        # Once it has had its time to answer.
        await trio.sleep(ANSWER_S + 0.5)
        assert host.is_connected(client.peer_id)
        assert not client.has("connection_closed")
        await client.stop()
