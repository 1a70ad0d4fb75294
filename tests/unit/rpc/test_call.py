"""The state machines of a call, against frames written by hand."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from tests.support.peer_files import NAME, echo_file

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    FrameTooLargeError,
    MalformedMessageError,
    RpcError,
    StatusCode,
    UsageError,
)
from hostmesh.rpc.call import CallEnded, ClientCall, ResponseReceived
from hostmesh.rpc.header import Header
from hostmesh.rpc.method import Cardinality, handler_name, method, methods_of, protocol_ids
from hostmesh.rpc.outcome import OK, Outcome
from hostmesh.rpc.served_call import CallRefused, CallStarted, ServerCall, encode_last, encode_response
from hostmesh.v1 import discovery_pb2, job_pb2, rpc_pb2, session_pb2, status_pb2

SERVICE = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
METHODS = methods_of(SERVICE)
PING = method(SERVICE, "Ping", status_pb2.PingRequest, status_pb2.PingResponse)
WATCH = method(SERVICE, "WatchStatus", status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot)

# By hand: length 23; header (9 bytes): method "Ping", deadline_left_ms 5000; message (10 bytes): nonce "abcdefgh".
PING_REQUEST = bytes.fromhex("170a090a0450696e67108827120a0a086162636465666768")
# Length 14; message (10 bytes): nonce; an empty status, which is OK.
PING_RESPONSE = bytes.fromhex("0e120a0a0861626364656667681a00")
# Length 2; status OK alone.
STATUS_OK = bytes.fromhex("021a00")
# Length 4; status with code 5.
STATUS_NOT_FOUND = bytes.fromhex("041a020805")
# Length 4; message: active_jobs 1.
SNAPSHOT = bytes.fromhex("0412021001")


def ping_call() -> ClientCall[status_pb2.PingRequest, status_pb2.PingResponse]:
    return ClientCall(PING, Header(method="Ping"), status_pb2.PingRequest(nonce=b"abcdefgh"))


def watch_call() -> ClientCall[status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot]:
    return ClientCall(WATCH, Header(method="WatchStatus"), status_pb2.WatchStatusRequest())


def events(call: ClientCall | ServerCall, data: bytes) -> list[object]:  # type: ignore[type-arg]
    call.feed(data)
    found = []
    while (event := call.next_event()) is not None:
        found.append(event)
    return found


# --- methods ---


def test_methods_come_from_the_service_block() -> None:
    assert set(METHODS) == {"Ping", "GetSnapshot", "WatchStatus"}
    assert METHODS["Ping"] == PING
    assert WATCH.cardinality is Cardinality.SERVER_STREAM
    assert (WATCH.max_request_bytes, WATCH.max_response_bytes) == (64, 16384)
    assert protocol_ids("/fabstir-llm", WATCH) == ("/fabstir-llm/status/1.0.0",)
    assert protocol_ids("/hostmesh", session_pb2.DESCRIPTOR.services_by_name["SessionService"]) == (
        "/hostmesh/session/1.0.0",
    )


@pytest.mark.parametrize(
    ("name", "python"),
    [("Ping", "ping"), ("GetRecord", "get_record"), ("CloseSession", "close_session"), ("Import", "import_")],
)
def test_handler_names(name: str, python: str) -> None:
    assert handler_name(name) == python


def test_a_method_constant_with_wrong_types_is_refused() -> None:
    with pytest.raises(TypeError):
        method(SERVICE, "Ping", status_pb2.PingRequest, status_pb2.StatusSnapshot)
    with pytest.raises(TypeError):
        method(SERVICE, "Pong", status_pb2.PingRequest, status_pb2.PingResponse)


def test_two_methods_of_one_name_are_refused() -> None:
    """protoc refuses them, a pool does not: one of the two would be served under the name of both."""
    file = echo_file()
    file.service[0].method.add().CopyFrom(file.service[0].method[0])
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    with pytest.raises(TypeError, match=r"acme\.v1\.EchoService has two methods of one name"):
        methods_of(pool.FindServiceByName(NAME))


# --- the caller's end ---


def test_the_request_is_one_frame() -> None:
    assert ping_call().start(5.0) == PING_REQUEST


def test_a_unary_response_and_its_status_are_one_frame() -> None:
    call = ping_call()
    assert events(call, PING_RESPONSE) == [
        ResponseReceived(status_pb2.PingResponse(nonce=b"abcdefgh")),
        CallEnded(OK),
    ]
    assert call.ended
    call.end_of_stream()


def test_a_stream_of_responses_ends_with_its_status() -> None:
    one = ResponseReceived(status_pb2.StatusSnapshot(active_jobs=1))
    assert events(watch_call(), SNAPSHOT * 2 + STATUS_OK) == [one, one, CallEnded(OK)]
    together = bytes.fromhex("06120210011a00")
    assert events(watch_call(), SNAPSHOT + together) == [one, one, CallEnded(OK)]
    assert events(watch_call(), STATUS_OK) == [CallEnded(OK)]


def test_an_error_status_may_follow_responses_of_a_stream() -> None:
    found = events(watch_call(), SNAPSHOT + STATUS_NOT_FOUND)
    assert found[1] == CallEnded(Outcome(status=StatusCode.NOT_FOUND))


VIOLATIONS_OF_THE_SERVER = {
    "a frame of unknown fields": ("021805", "without a message or status"),
    "a header from the server": ("060a040a025069", "header from the server"),
    "garbage": ("03ffffff", "not a Frame"),
    "a message that is none": ("031201ff", "not a PingResponse"),
    "a field outside its bounds": ("2512230a21" + "61" * 33, "nonce has 33 bytes"),
    "an OK status without the response": (STATUS_OK.hex(), "without a response"),
    "two responses": ("0212000412001a00", "a response too many"),
    "a response with an error status": ("0612001a020805", "an error status after the response"),
    "a response before an error status": ("021200041a020805", "an error status after the response"),
    "a response after the status": (STATUS_NOT_FOUND.hex() + "021200", "after the status"),
    "a second status": (STATUS_NOT_FOUND.hex() * 2, "after the status"),
    "a byte after the status": (STATUS_NOT_FOUND.hex() + "00", "after the status"),
    "an overlong length": ("8000", "shortest form"),
}


@pytest.mark.parametrize(("data", "says"), VIOLATIONS_OF_THE_SERVER.values(), ids=VIOLATIONS_OF_THE_SERVER.keys())
def test_what_a_server_may_not_send(data: str, says: str) -> None:
    with pytest.raises(MalformedMessageError, match=says):
        events(ping_call(), bytes.fromhex(data))


def test_a_gibibyte_from_a_server_is_refused() -> None:
    with pytest.raises(FrameTooLargeError):
        events(ping_call(), bytes.fromhex("8080808004"))


def test_a_response_over_the_methods_size_is_refused() -> None:
    # 65 bytes of response, within the frame's own limit: 2 + 65 = 0x43
    with pytest.raises(FrameTooLargeError) as caught:
        events(ping_call(), bytes.fromhex("431241") + bytes(65))
    assert caught.value.limit_bytes == 64


@pytest.mark.parametrize("data", [b"", PING_RESPONSE[:-1], SNAPSHOT[:1]])
def test_a_stream_that_ends_without_a_status_is_of_unknown_outcome(data: bytes) -> None:
    call = ping_call()
    assert events(call, data) == []
    with pytest.raises(ConnectionLostError) as caught:
        call.end_of_stream()
    assert caught.value.may_have_executed


def test_responses_without_a_status_are_of_unknown_outcome() -> None:
    call = watch_call()
    events(call, SNAPSHOT)
    with pytest.raises(ConnectionLostError) as caught:
        call.end_of_stream()
    assert caught.value.may_have_executed


def test_an_unknown_status_code_is_unknown() -> None:
    # length 4: status { code: 99 }
    (end,) = events(ping_call(), bytes.fromhex("041a020863"))
    assert isinstance(end, CallEnded)
    assert end.outcome.status is StatusCode.UNKNOWN


def test_a_request_outside_its_bounds_never_starts() -> None:
    with pytest.raises(UsageError, match="nonce has 33 bytes"):
        ClientCall(PING, Header(method="Ping"), status_pb2.PingRequest(nonce=bytes(33)))
    run = method(job_pb2.DESCRIPTOR.services_by_name["JobService"], "Run", job_pb2.RunRequest, job_pb2.RunResponse)
    message = job_pb2.ChatMessage(role="user", content="x" * 262144)
    big = job_pb2.RunRequest(quote_id=bytes(16), chat=job_pb2.ChatInput(messages=[message] * 5))
    with pytest.raises(FrameTooLargeError) as caught:
        ClientCall(run, Header(method="Run"), big)
    assert caught.value.limit_bytes == 1048576
    assert not caught.value.may_have_executed


@pytest.mark.parametrize(
    "header",
    [
        Header(method="Ping", session_id=bytes(15)),
        Header(method="Ping", idempotency_key=bytes(33)),
        Header(method="Ping", metadata={"": "x"}),
        Header(method="Ping", metadata={"k": "x" * 1025}),
        Header(method="Ping", metadata={str(number): "" for number in range(17)}),
    ],
)
def test_a_header_outside_its_bounds_never_starts(header: Header) -> None:
    with pytest.raises(UsageError):
        ClientCall(PING, header, status_pb2.PingRequest())


# --- the server's end ---


def test_a_request_starts_the_call() -> None:
    call = ServerCall(METHODS)
    (started,) = events(call, PING_REQUEST)
    assert started == CallStarted(
        Header(method="Ping", deadline_left_s=5.0), PING, status_pb2.PingRequest(nonce=b"abcdefgh")
    )
    call.end_of_stream()
    assert encode_last(PING, OK, status_pb2.PingResponse(nonce=b"abcdefgh")) == PING_RESPONSE


def test_the_header_passes_through() -> None:
    header = Header(
        method="Ping",
        deadline_left_s=0.25,
        session_id=bytes(range(16)),
        idempotency_key=b"key",
        metadata={"trace": "a", "lang": "é"},
    )
    data = ClientCall(PING, header, status_pb2.PingRequest()).start(0.25)
    (started,) = events(ServerCall(METHODS), data)
    assert isinstance(started, CallStarted)
    assert started.header == header


def test_no_deadline_is_not_a_deadline_of_zero() -> None:
    (started,) = events(ServerCall(METHODS), ping_call().start(None))
    (late,) = events(ServerCall(METHODS), ping_call().start(-1.0))
    assert isinstance(started, CallStarted)
    assert isinstance(late, CallStarted)
    assert started.header.deadline_left_s is None
    assert late.header.deadline_left_s == 0.0


def test_responses_of_a_stream() -> None:
    assert b"".join(encode_response(WATCH, status_pb2.StatusSnapshot(active_jobs=1))) == SNAPSHOT
    assert encode_last(WATCH, Outcome(status=StatusCode.NOT_FOUND)) == STATUS_NOT_FOUND
    with pytest.raises(UsageError):
        encode_response(WATCH, status_pb2.PingResponse())


def refused(data: bytes) -> CallRefused:
    (event,) = events(ServerCall(METHODS), data)
    assert isinstance(event, CallRefused)
    return event


def frame(**fields: object) -> bytes:
    data = rpc_pb2.Frame(**fields).SerializeToString()  # type: ignore[arg-type]
    assert len(data) < 128
    return bytes([len(data)]) + data


def test_an_unknown_method_is_unimplemented() -> None:
    event = refused(frame(header=rpc_pb2.CallHeader(method="Pong"), message=b""))
    assert event.violation is None
    assert event.outcome.status is StatusCode.UNIMPLEMENTED
    assert event.outcome.reason == "VERSION"
    assert event.outcome.details == {"needed": "Pong", "offered": "GetSnapshot Ping WatchStatus"}


def test_too_large_is_said_so() -> None:
    announced = refused(bytes.fromhex("8080808004"))
    assert (announced.outcome.status, announced.outcome.reason) == (StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
    assert announced.outcome.details["size_bytes"] == str(2**30)
    request = refused(frame(header=rpc_pb2.CallHeader(method="Ping"), message=bytes(65)))
    assert request.outcome.reason == "TOO_LARGE"
    assert request.outcome.details == {"size_bytes": "65", "limit_bytes": "64"}


PING_HEADER = rpc_pb2.CallHeader(method="Ping")
BROKEN_REQUESTS = {
    "garbage": (b"\x03\xff\xff\xff", "not a Frame"),
    "an empty frame": (b"\x00", "without a header"),
    "no header": (frame(message=b""), "without a header"),
    "no message": (frame(header=PING_HEADER), "without a request"),
    "a status": (frame(header=PING_HEADER, message=b"", status=rpc_pb2.Status()), "status from the caller"),
    "no method": (frame(header=rpc_pb2.CallHeader(), message=b""), "method has 0 bytes"),
    "a session id of 3 bytes": (
        frame(header=rpc_pb2.CallHeader(method="Ping", session_id=b"abc"), message=b""),
        "session id has 16 bytes",
    ),
    "a metadata key twice": (
        frame(header=rpc_pb2.CallHeader(method="Ping", metadata=[rpc_pb2.MetadataEntry(key="k")] * 2), message=b""),
        "stands twice",
    ),
    "a request that is none": (frame(header=PING_HEADER, message=b"\xff"), "not a PingRequest"),
    "a request outside its bounds": (frame(header=PING_HEADER, message=b"\x0a\x21" + bytes(33)), "nonce has 33"),
    # method (field 1) as a varint instead of a string: an unknown field, so that the method is missing
    "a wrong type": (bytes.fromhex("060a0208011200"), "method has 0 bytes"),
}


@pytest.mark.parametrize(("data", "says"), BROKEN_REQUESTS.values(), ids=BROKEN_REQUESTS.keys())
def test_a_broken_request_is_refused_as_such(data: bytes, says: str) -> None:
    event = refused(data)
    assert isinstance(event.violation, MalformedMessageError)
    assert says in event.violation.message
    assert event.outcome.status is StatusCode.INVALID_ARGUMENT
    assert event.outcome.reason == "MESSAGE_MALFORMED"


@pytest.mark.parametrize("more", [b"\x00", PING_REQUEST])
def test_more_than_a_request_breaks_the_call(more: bytes) -> None:
    call = ServerCall(METHODS)
    with pytest.raises(MalformedMessageError):
        events(call, PING_REQUEST + more)


@pytest.mark.parametrize("data", [b"", PING_REQUEST[:-1]])
def test_an_end_before_the_request_breaks_the_call(data: bytes) -> None:
    call = ServerCall(METHODS)
    assert events(call, data) == []
    with pytest.raises(MalformedMessageError):
        call.end_of_stream()


@pytest.mark.parametrize(
    "response",
    [
        status_pb2.PingResponse(nonce=bytes(33)),
        discovery_pb2.GetRecordResponse(),
        None,
    ],
)
def test_a_response_that_breaks_the_protocol_is_our_own_error(response: object) -> None:
    with pytest.raises(UsageError):
        encode_last(PING, OK, response)  # type: ignore[arg-type]


# --- outcomes ---


def test_an_outcome_is_always_sendable() -> None:
    outcome = Outcome(
        status=StatusCode.NOT_FOUND,
        message="é" * 2000,
        reason="R" * 100,
        retry_after_ms=-5,
        details={"": "dropped", "k" * 100: "v" * 2000} | {str(number): "x" for number in range(30)},
    )
    data = rpc_pb2.Frame(status=outcome.to_proto()).SerializeToString()
    prefix = bytearray()
    size = len(data)
    while size >= 128:
        prefix.append(size & 127 | 128)
        size >>= 7
    prefix.append(size)
    (end,) = events(ping_call(), bytes(prefix) + data)
    assert isinstance(end, CallEnded)
    assert end.outcome.message == "é" * 512
    assert end.outcome.reason == "R" * 64
    assert end.outcome.retry_after_ms is None
    assert len(end.outcome.details) == 15


def test_an_outcome_becomes_the_callers_error() -> None:
    error = Outcome(
        status=StatusCode.RESOURCE_EXHAUSTED, reason="BUSY", retry_after_ms=250, details={"a": "b"}
    ).to_error()
    assert isinstance(error, RpcError)
    assert (error.status, error.reason, error.retry_after_ms) == (StatusCode.RESOURCE_EXHAUSTED, "BUSY", 250)
    assert error.details == {"a": "b"}
    assert error.retry_safe
    assert not error.may_have_executed
    assert isinstance(Outcome(status=StatusCode.DEADLINE_EXCEEDED).to_error(), DeadlineExceededError)
    own = Outcome(status=StatusCode.DEADLINE_EXCEEDED, reason="JOB_TIME_LIMIT").to_error()
    assert isinstance(own, RpcError)
