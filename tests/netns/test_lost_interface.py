"""A machine that loses its interface, and gets another address: what its kernel tells is noticed within 15 s."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio
from tests.netns.namespaces import Lan

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from json_process import json_processes

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "liveness_node.py"
NOTICED_S = 15.0


@pytest.mark.timeout(90)
async def test_a_lost_interface_ends_its_connections_and_a_new_address_brings_them_back(lan: Lan) -> None:
    host_side, client_side = lan.join("198.18.0.1/24"), lan.join("198.18.0.2/24")
    async with json_processes() as start:

        async def start_node(namespace: str, wanted: list[str]):
            told = json.dumps(["/ip4/0.0.0.0/tcp/4001", wanted])
            return await start(["ip", "netns", "exec", namespace, sys.executable, str(PROGRAM), told])

        host = await start_node(host_side, [])
        client = await start_node(client_side, host.addresses)
        await client.event("connection_opened")
        began_s = trio.current_time()
        lan.unplug(client_side)
        closed = await client.event("connection_closed", within_s=NOTICED_S)
        assert (closed["cause"], closed["peer_id"]) == ("address-gone", host.peer_id)
        lost = await client.event("network_changed")
        assert lost["removed"] == ["198.18.0.2"]
        assert trio.current_time() - began_s < NOTICED_S
        # Nobody at the other end knows yet.
        assert not host.has("connection_closed")
        await trio.sleep(8)
        began_s = trio.current_time()
        lan.plug_in(client_side, "198.18.0.3/24")
        await client.event("connection_opened", number=1, within_s=NOTICED_S)
        assert trio.current_time() - began_s < NOTICED_S
        await client.stop()
