"""A simulated node is the shipped one: its functions, lines and files; nothing is replaced but what it is given."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.simulated.shipped_code import altered, attributes, import_all, kit_objects, replaced

import hostmesh
import hostmesh.wire.yamux as shipped
from hostmesh.testing import SimNetwork, make_wallet, run_sim

ROOT = Path(__file__).resolve().parents[2]
CALLED = {
    "sdk": "open_sdk SDK.authenticate",
    "hosting": "HostManager.serve Serving.withdraw",
    "node_stack": "run_stack",
    "store": "Store.transaction",
    "net/node": "Node.run",
    "net/listening": "Listening.run",
    "net/bootstrap": "BootstrapLoop.run",
    "net/dialer": "Dialer.dial",
    "net/links": "link_over",
    "net/upgrade": "Upgrader.inbound Upgrader.outbound",
    "net/muxer": "Muxer.run",
    "net/connection": "Connection.run Connection.open_stream",
    "net/node_stream": "NodeStream.send NodeStream.receive_chunk",
    "net/identify": "Identify.ask Identify.answer",
    "net/peer_key": "open_peer_key",
    "net/envelope": "seal_envelope open_envelope",
    "net/dht": "Dht.provide Dht.find_providers",
    "net/dht_server": "DhtServer.serve",
    "net/dht_table": "RoutingTable.add",
    "wire/handshake": "Handshake.receive",
    "wire/multistream": "Proposer.receive Responder.receive",
    "wire/noise": "NoiseHandshake.receive NoiseHandshake._verify",
    "wire/noise_channel": "NoiseChannel.seal_parts NoiseChannel.open",
    "wire/yamux": "Yamux.receive",
    "wire/yamux_outgoing": "YamuxOutgoing.send",
    "wire/framing": "encode_frame",
    "wire/bounds": "parse check_bounds",
    "rpc/client": "RpcClient.unary RpcClient.server_stream",
    "rpc/call": "ClientCall.feed",
    "rpc/served_call": "ServerCall.feed",
    "rpc/server": "RpcServer._serve_admitted",
    "identity/wallet": "Wallet.sign",
    "identity/typed_data": "recover_signer",
    "identity/binding": "sign_binding verify_binding",
    "discovery/manager": "DiscoveryManager.find_host",
    "discovery/record": "build_record verify_record",
    "discovery/publisher": "HostPublisher.announce HostPublisher.withdraw",
    "discovery/sources/dht": "DhtSource.advertise DhtSource.find",
    "discovery/search": "Searcher.search",
    "discovery/probe": "Prober.probe",
    "discovery/ranking": "rank",
    "sessions/client": "SessionManager.open_session",
    "sessions/server": "SessionServer.authorize SessionServer.require_session SessionServer.close_session",
    "jobs/client": "JobManager.request_quote JobManager.run",
    "jobs/server": "JobServer.quote JobServer.run",
    "jobs/delivery": "Delivery.run",
    "jobs/bill": "JobBill.take_text JobBill.finish",
    "jobs/receipt_desk": "ReceiptDesk.open_bill ReceiptDesk.countersign",
    "jobs/countersigning": "Countersigner.piece Countersigner.receipt Countersigner.deliver",
    "jobs/job": "Job.read_text",
    "receipts/receipt": "seal_receipt open_sealed verify_countersignature",
    "receipts/chain": "input_sha256 OutputChain.add_text",
    "receipts/host_ledger": "HostLedger.issued HostLedger.acknowledged",
    "receipts/client_ledger": "JobAudit.text JobAudit.receipt",
    "receipts/store": "ReceiptStore.put_issued ReceiptStore.put_countersignature ReceiptStore.put_countersigned",
    "status/client": "StatusClient.ping StatusClient.watch_status",
    "messaging/direct": "DirectMessenger.send",
    "messaging/inbox": "Inbox.send",
    "reputation/store": "EvidenceStore.add",
}
GIVEN = {
    "hostmesh.testing.clock.MachineClock",
    "hostmesh.testing.sockets.SimSockets",
    "hostmesh.testing.stream.SimListener",
    "hostmesh.testing.stream.SimStream",
    "hostmesh.testing.wallets.PublicKeyWallet",
}
"""What a node has of the kit: sockets, clocks, and the wallet that the test authenticated it with."""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.simulated.shipped_code"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def test_the_functions_that_matter_are_called(seen: dict[str, Any]) -> None:
    assert seen["text"] == "It is a law of nature."
    wanted = {f"{module}:{name}" for module, names in CALLED.items() for name in names.split()}
    assert wanted - set(seen["functions"]) == set()


def test_they_are_those_of_the_installed_package(seen: dict[str, Any]) -> None:
    assert seen["root"] == str(Path(hostmesh.__file__).resolve().parent)
    assert seen["elsewhere"] == []


def test_nothing_of_hostmesh_is_replaced(seen: dict[str, Any]) -> None:
    assert seen["replaced while nodes ran"] == []
    assert seen["replaced afterwards"] == []
    assert seen["altered"] == []


def test_a_node_holds_nothing_of_the_kit_but_what_it_is_given(seen: dict[str, Any]) -> None:
    assert set(seen["of the kit in a client"]) == GIVEN
    assert set(seen["of the kit in a host"]) == GIVEN | {"hostmesh.testing.engine.FakeEngine"}


def test_what_the_guide_says_of_the_lines_that_run(seen: dict[str, Any]) -> None:
    ran, there = Counter[str](), Counter[str]()
    for file, (lines_run, lines) in seen["lines"].items():
        package = file.split("/")[0] if "/" in file else "the rest"
        ran[package] += lines_run
        there[package] += lines
    rows = re.findall(r"^\| `?([a-z ]+?)`? \| (\d+) % \|", (ROOT / "docs/testing.md").read_text(), flags=re.MULTILINE)
    assert {package for package, _ in rows} == set(there)
    for package, percent in rows:
        assert 100 * ran[package] / there[package] > int(percent) - 5, package


# --- what these checks are worth: each finds what is planted ---


def test_a_replaced_method_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = import_all()
    before = attributes(modules)
    assert replaced(before, attributes(modules)) == []
    assert altered(modules, before) == []
    monkeypatch.setattr(shipped.Yamux, "receive", lambda self, data: None)
    assert "hostmesh.wire.yamux:Yamux.receive" in replaced(before, attributes(modules))


def test_a_function_with_other_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = import_all()
    before = attributes(modules)

    def go_away(self: object) -> None:
        pass

    monkeypatch.setattr(shipped.Yamux.go_away, "__code__", go_away.__code__)
    assert "hostmesh.wire.yamux_outgoing:YamuxOutgoing.go_away.__code__" in replaced(before, attributes(modules))


def test_an_object_of_the_kit_inside_a_node_is_found() -> None:
    async def main(net: SimNetwork) -> None:
        machine = net.machine("ann")
        async with machine.open_sdk() as sdk:
            await sdk.authenticate(wallet=make_wallet("ann"))
            await sdk.get_discovery_manager().create_node()
            assert set(kit_objects(sdk)) < GIVEN
            sdk._running().rpc._node._planted = net.faults.schedule
            assert "hostmesh.testing.faults.Faults" in kit_objects(sdk)

    run_sim(main)
