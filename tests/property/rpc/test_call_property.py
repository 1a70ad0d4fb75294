"""The state machines of a call: any split gives the same events, and garbage raises one family of errors."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.errors import RemoteProtocolError, StatusCode
from hostmesh.rpc.call import ClientCall
from hostmesh.rpc.header import Header
from hostmesh.rpc.method import method, methods_of
from hostmesh.rpc.outcome import Outcome
from hostmesh.rpc.served_call import ServerCall, encode_last, encode_response
from hostmesh.v1 import rpc_pb2, status_pb2

SERVICE = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
METHODS = methods_of(SERVICE)
PING = method(SERVICE, "Ping", status_pb2.PingRequest, status_pb2.PingResponse)
WATCH = method(SERVICE, "WatchStatus", status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot)


def varint(number: int) -> bytes:
    """Write a length, apart from the code under test."""
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127)
    return bytes([group | 128 for group in groups[:-1]] + [groups[-1]])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def client_events(call: ClientCall, parts: list[bytes]) -> list[object]:  # type: ignore[type-arg]
    found: list[object] = []
    try:
        for part in parts:
            call.feed(part)
            while (event := call.next_event()) is not None:
                found.append(event)
    except RemoteProtocolError as error:
        found.append((type(error), str(error)))
    return found


def server_events(parts: list[bytes]) -> list[object]:
    call = ServerCall(METHODS)
    found: list[object] = []
    try:
        for part in parts:
            call.feed(part)
            while (event := call.next_event()) is not None:
                # The violation inside is an exception, and those compare by identity.
                found.append((type(event), getattr(event, "outcome", None), getattr(event, "header", None)))
    except RemoteProtocolError as error:
        found.append((type(error), str(error)))
    return found


def watch_call() -> ClientCall[status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot]:
    return ClientCall(WATCH, Header(method="WatchStatus"), status_pb2.WatchStatusRequest())


def ping_call() -> ClientCall[status_pb2.PingRequest, status_pb2.PingResponse]:
    return ClientCall(PING, Header(method="Ping"), status_pb2.PingRequest())


snapshots = st.builds(
    status_pb2.StatusSnapshot,
    active_jobs=st.integers(0, 2**32 - 1),
    uptime_ms=st.integers(0, 2**64 - 1),
    models=st.lists(st.builds(status_pb2.ModelStatus, model_id=st.text(min_size=1, max_size=20)), max_size=3),
)
frames = st.builds(
    rpc_pb2.Frame,
    header=st.none() | st.builds(rpc_pb2.CallHeader, method=st.sampled_from(["Ping", "WatchStatus", "Pong", ""])),
    message=st.none() | st.binary(max_size=20) | snapshots.map(lambda snapshot: snapshot.SerializeToString()),
    status=st.none() | st.builds(rpc_pb2.Status, code=st.integers(0, 20), message=st.text(max_size=10)),
).map(lambda frame: frame.SerializeToString())
streams = st.lists(frames.map(lambda data: varint(len(data)) + data), max_size=6).map(b"".join)
cut_lists = st.lists(st.integers(0, 400), max_size=12)


@given(data=streams | st.binary(max_size=200), cuts=cut_lists)
@example(data=bytes.fromhex("041a02080500"), cuts=[5])
def test_any_split_gives_the_caller_the_same_events(data: bytes, cuts: list[int]) -> None:
    for make in (watch_call, ping_call):
        assert client_events(make(), [data]) == client_events(make(), pieces(data, cuts))


@given(data=streams | st.binary(max_size=200), cuts=cut_lists)
@example(data=b"\x80\x00", cuts=[2])
def test_any_split_gives_the_server_the_same_events(data: bytes, cuts: list[int]) -> None:
    assert server_events([data]) == server_events(pieces(data, cuts))


@given(
    responses=st.lists(snapshots, max_size=5),
    status=st.sampled_from(StatusCode),
    message=st.text(max_size=40),
    details=st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=4),
    together=st.booleans(),
    cuts=cut_lists,
)
def test_what_the_server_says_the_caller_hears(
    responses: list[status_pb2.StatusSnapshot],
    status: StatusCode,
    message: str,
    details: dict[str, str],
    together: bool,
    cuts: list[int],
) -> None:
    server = ServerCall(METHODS)
    caller = watch_call()
    server.feed(caller.start(None))
    assert server.next_event() is not None
    outcome = Outcome(status=status, message=message, details=details)
    last = responses[-1] if responses and together else None
    data = b"".join(
        part for response in (responses[:-1] if last else responses) for part in encode_response(WATCH, response)
    )
    data += encode_last(WATCH, outcome, last)
    found = client_events(caller, pieces(data, cuts))
    assert [event.message for event in found[:-1]] == responses  # type: ignore[attr-defined]
    assert found[-1].outcome == outcome  # type: ignore[attr-defined]
    caller.end_of_stream()


@given(
    header=st.builds(
        Header,
        method=st.just("Ping"),
        deadline_left_s=st.none() | st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000),
        session_id=st.sampled_from([b"", bytes(range(16))]),
        idempotency_key=st.binary(max_size=32),
        metadata=st.dictionaries(st.text(min_size=1, max_size=16), st.text(max_size=100), max_size=16),
    ),
    nonce=st.binary(max_size=32),
    cuts=cut_lists,
)
def test_what_the_caller_says_the_server_hears(header: Header, nonce: bytes, cuts: list[int]) -> None:
    call = ClientCall(PING, header, status_pb2.PingRequest(nonce=nonce))
    server = ServerCall(METHODS)
    found = []
    for part in pieces(call.start(header.deadline_left_s), cuts):
        server.feed(part)
        while (event := server.next_event()) is not None:
            found.append(event)
    (started,) = found
    assert started.header == header  # type: ignore[union-attr]
    assert started.request == status_pb2.PingRequest(nonce=nonce)  # type: ignore[union-attr]
