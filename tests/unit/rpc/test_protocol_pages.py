"""The examples in the docstrings of wire/ and rpc/, and the bytes and limits in the protocol's page, are true."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import pytest

from hostmesh.messaging.body import MAX_BODY_BYTES
from hostmesh.messaging.deliveries import DeliveryLimits
from hostmesh.rpc import frames, method
from hostmesh.rpc.call import HEADER_ALLOWANCE_BYTES, ClientCall
from hostmesh.rpc.header import Header
from hostmesh.rpc.keyed import ALONE_S
from hostmesh.rpc.keys import KEPT_S, MAX_STATUS_BYTES, ROW_BYTES, KeyLimits
from hostmesh.rpc.limits import BUILT_IN_LIMITS, RpcLimits
from hostmesh.rpc.outcome import OK
from hostmesh.rpc.served_call import ServerCall, encode_last
from hostmesh.status.server import MAX_WATCHERS, MAX_WATCHERS_PER_PEER, MIN_WATCH_INTERVAL_S
from hostmesh.v1 import status_pb2
from hostmesh.wire import bounds, framing

PAGES = Path(__file__).resolve().parents[3] / "docs" / "protocols"


@pytest.mark.parametrize("module", [bounds, framing, frames, method], ids=lambda module: module.__name__)
def test_docstring_examples(module: ModuleType) -> None:
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0


def test_the_bytes_of_the_page() -> None:
    page = (PAGES / "rpc.md").read_text()
    service = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
    ping = method.method(service, "Ping", status_pb2.PingRequest, status_pb2.PingResponse)
    request = ClientCall(ping, Header(method="Ping"), status_pb2.PingRequest(nonce=b"abcdefgh")).start(5.0)
    server = ServerCall({"Ping": ping})
    server.feed(request)
    assert server.next_event() is not None
    response = encode_last(ping, OK, status_pb2.PingResponse(nonce=b"abcdefgh"))
    for data in (request, response):
        assert f"\n    {data.hex()}\n" in page


def test_the_limits_of_the_pages() -> None:
    limits, ids = RpcLimits(), DeliveryLimits()
    rpc = (PAGES / "rpc.md").read_text()
    own = BUILT_IN_LIMITS
    for row, who in (
        ("calls of a peer, over hostmesh's own services", own.per_peer),
        ("calls to one of them, of all peers", own.per_service),
    ):
        numbers = f"{who.max_concurrent} at once, {who.calls_per_s:.0f} a second, {who.burst} in a burst"
        assert f"| {row} | {numbers} |" in rpc
    for row, who in (
        ("calls of a peer, over all other services", limits.per_peer),
        ("calls to one of those, of all peers", limits.per_service),
    ):
        numbers = f"{who.max_concurrent} at once, {who.calls_per_s:,.0f} a second, {who.burst:,} in a burst"
        assert f"| {row} | {numbers} |" in rpc
    assert f"and its end within {limits.request_timeout_s:.0f} s | reset" in rpc
    assert f"for {limits.linger_timeout_s:.0f} s and 2 MiB" in rpc
    assert f"waits for {limits.max_lingering} such callers" in rpc
    assert f"groups | {limits.max_tracked_peers}, the least recently seen" in rpc
    assert f"and {HEADER_ALLOWANCE_BYTES // 1024} KiB |" in rpc
    assert f"nesting of messages | {bounds.MAX_DEPTH} |" in rpc
    keys = KeyLimits()
    of_peer = f"{keys.max_keys_per_peer:,} and {keys.max_bytes_per_peer >> 20} MiB; {keys.max_running_per_peer} calls"
    of_all = f"{keys.max_keys:,} and {keys.max_bytes >> 20} MiB; {keys.max_running:,} calls"
    assert f"| idempotency keys of a peer | {of_peer} that run |" in rpc
    assert f"| idempotency keys of all | {of_all} that run |" in rpc
    assert f"and {ROW_BYTES} bytes; while" in rpc
    assert f"largest response ({MAX_STATUS_BYTES >> 10} KiB at least)" in rpc
    assert f"for {KEPT_S / 3600:.0f} hours after its end" in rpc
    assert f"and {ALONE_S / 60:.0f} minutes at most" in rpc
    message = (PAGES / "message.md").read_text()
    assert (
        f"{ids.ttl_s / 60:.0f} minutes; the last {ids.max_per_sender:,} of a sender, the last {ids.max_total:,}"
        in message
    )
    assert f"| {ids.max_in_progress}, {ids.max_in_progress_per_sender} of one sender; further messages" in message
    assert f"body | {MAX_BODY_BYTES:,} bytes" in message
    status = (PAGES / "status.md").read_text()
    assert f"{MIN_WATCH_INTERVAL_S * 1000:.0f} ms |" in status
    assert f"{MAX_WATCHERS_PER_PEER} a peer, {MAX_WATCHERS} in all" in status
