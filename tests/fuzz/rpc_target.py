"""Calls: a server and a caller fed bytes; every cut gives the same events, and frames read by hand are protobuf's."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fuzz.target import Target, cut, promise

from hostmesh.errors import ConnectionLostError, RemoteProtocolError
from hostmesh.rpc.call import CallEnded, ClientCall, ResponseReceived
from hostmesh.rpc.frames import encode_end, read_frame
from hostmesh.rpc.header import Header
from hostmesh.rpc.method import MAX_MESSAGE_BYTES, method, methods_of
from hostmesh.rpc.outcome import OK, Outcome, outcome_from_proto
from hostmesh.rpc.served_call import CallRefused, CallStarted, ServerCall
from hostmesh.v1 import rpc_pb2, status_pb2
from hostmesh.wire.bounds import parse
from hostmesh.wire.framing import FrameDecoder, encode_frame

SERVICE = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
METHODS = methods_of(SERVICE)
PING = method(SERVICE, "Ping", status_pb2.PingRequest, status_pb2.PingResponse)
WATCH = method(SERVICE, "WatchStatus", status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot)


def run(data: bytes) -> None:
    if not data:
        return
    role, stream = data[0] % 4, data[1:]
    if role == 3:
        read(stream)
        return
    play = (serve, call_ping, call_watch)[role]
    promise(play([stream]) == play(cut(stream)) == play(cut(stream, salt=1)), "any cut gives the same")


def serve(pieces: list[bytes]) -> list[object]:
    call = ServerCall(METHODS)
    found: list[object] = []
    try:
        for piece in pieces:
            call.feed(piece)
            while (event := call.next_event()) is not None:
                match event:
                    case CallStarted(header, which, request):
                        promise(METHODS[header.method] is which, "only what is served is started")
                        found.append(("started", header, request.SerializeToString(deterministic=True)))
                    case CallRefused(outcome, _, violation):
                        promise(outcome.status is not OK.status, "a refusal is no OK")
                        end = encode_end(outcome, None)
                        promise(call_watch([end])[-1:] == [("ended", outcome)], "a refusal reaches the caller")
                        found.append(("refused", outcome, type(violation)))
        call.end_of_stream()
    except RemoteProtocolError as error:
        found.append((type(error), str(error)))
    return found


def call_ping(pieces: list[bytes]) -> list[object]:
    return _call(ClientCall(PING, Header(method="Ping"), status_pb2.PingRequest()), pieces)


def call_watch(pieces: list[bytes]) -> list[object]:
    return _call(ClientCall(WATCH, Header(method="WatchStatus"), status_pb2.WatchStatusRequest()), pieces)


def _call(call: ClientCall, pieces: list[bytes]) -> list[object]:  # type: ignore[type-arg]
    found: list[object] = []
    try:
        for piece in pieces:
            call.feed(piece)
            while (event := call.next_event()) is not None:
                match event:
                    case ResponseReceived(message):
                        promise(not call.ended, "no response after the end")
                        found.append(("response", message.SerializeToString(deterministic=True)))
                    case CallEnded(outcome):
                        promise(call.ended, "the end ends")
                        found.append(("ended", outcome))
        call.end_of_stream()
        promise(call.ended, "a call without a status has not ended well")
    except RemoteProtocolError as error:
        found.append((type(error), str(error)))
    except ConnectionLostError:
        promise(not call.ended, "a call that ended is not lost")
        found.append("lost")
    return found


def read(stream: bytes) -> None:
    """Compare the reading by hand with protobuf's."""
    for pieces in ([stream], cut(stream)):
        decoder, plain = FrameDecoder(MAX_MESSAGE_BYTES), FrameDecoder(MAX_MESSAGE_BYTES)
        for piece in pieces:
            try:
                decoder.feed(piece)
                plain.feed(piece)
                while (size := plain.next_size()) is not None:
                    promise(decoder.next_size() == size, "the same frame")
                    if not _compare(decoder, plain):
                        return
                promise(read_frame(decoder) is None, "no frame where there is none")
            except RemoteProtocolError:
                return


def _compare(decoder: FrameDecoder, plain: FrameDecoder) -> bool:
    frame = plain.next_frame()
    assert frame is not None
    try:
        message = parse(rpc_pb2.Frame, frame, MAX_MESSAGE_BYTES)
    except RemoteProtocolError as error:
        try:
            read_frame(decoder)
        except RemoteProtocolError as same:
            promise((type(same), str(same)) == (type(error), str(error)), "the same error")
            return False
        promise(False, "a frame is read that is none")
    found = read_frame(decoder)
    assert found is not None
    promise((found.header is None) is not message.HasField("header"), "the same header")
    promise(found.header is None or found.header == message.header, "the same header")
    promise(found.message == (message.message if message.HasField("message") else None), "the same message")
    expected = outcome_from_proto(message.status) if message.HasField("status") else None
    promise(found.outcome == expected, "the same outcome")
    return True


def seeds() -> Iterable[bytes]:
    header = rpc_pb2.CallHeader(method="Ping", deadline_left_ms=5000, session_id=bytes(16))
    header.metadata.add(key="a", value="b")
    snapshot = status_pb2.StatusSnapshot(active_jobs=3, models=[status_pb2.ModelStatus(model_id="m")])
    ping = status_pb2.PingRequest(nonce=b"abcdefgh").SerializeToString()
    frames = [
        rpc_pb2.Frame(header=header, message=ping),
        rpc_pb2.Frame(header=rpc_pb2.CallHeader(method="WatchStatus"), message=b""),
        rpc_pb2.Frame(header=rpc_pb2.CallHeader(method="Pong"), message=b""),
        rpc_pb2.Frame(header=rpc_pb2.CallHeader(method="Ping", session_id=b"short"), message=ping),
        rpc_pb2.Frame(header=header),
        rpc_pb2.Frame(message=ping),
        rpc_pb2.Frame(header=header, message=ping, status=rpc_pb2.Status()),
        rpc_pb2.Frame(header=header, message=b"\xff"),
        rpc_pb2.Frame(),
        rpc_pb2.Frame(message=snapshot.SerializeToString()),
        rpc_pb2.Frame(message=snapshot.SerializeToString(), status=rpc_pb2.Status()),
        rpc_pb2.Frame(message=bytes(200), status=rpc_pb2.Status(code=5)),
        rpc_pb2.Frame(status=rpc_pb2.Status(code=5, message="no", reason="NO", retry_after_ms=9)),
        rpc_pb2.Frame(status=rpc_pb2.Status(code=99)),
        rpc_pb2.Frame(status=rpc_pb2.Status()),
        rpc_pb2.Frame(status=Outcome(status=OK.status, details={"a": "b"}).to_proto()),
    ]
    twice = rpc_pb2.CallHeader(method="Ping")
    for _ in range(2):
        twice.metadata.add(key="same", value="x")
    frames.append(rpc_pb2.Frame(header=twice, message=ping))
    raw = [encode_frame(frame.SerializeToString()) for frame in frames]
    raw += [bytes.fromhex(text) for text in ("0412820061", "041200121a", "05120161ff00", "0512fffffff7", "00", "8000")]
    raw += [encode_frame(b"\x12\x03abc\x1a\x01"), encode_frame(b"\x12\xff\xff\xff\x7f"), encode_frame(b"\x12\x81\x00a")]
    for role in range(4):
        for frame in raw:
            yield bytes((role,)) + frame
        yield bytes((role,)) + raw[9] + raw[9] + raw[14]
        yield bytes((role,)) + raw[9] + raw[10] + raw[9]
        yield bytes((role,)) + raw[0] + b"x"


TARGET = Target(
    run=run,
    seeds=seeds,
    code=(
        "hostmesh.rpc.served_call:ServerCall.feed",
        "hostmesh.rpc.served_call:ServerCall.next_event",
        "hostmesh.rpc.served_call:ServerCall.end_of_stream",
        "hostmesh.rpc.served_call:ServerCall._start",
        "hostmesh.rpc.call:ClientCall.feed",
        "hostmesh.rpc.call:ClientCall.next_event",
        "hostmesh.rpc.call:ClientCall.end_of_stream",
        "hostmesh.rpc.call:ClientCall._check_end",
        "hostmesh.rpc.frames:read_frame",
        "hostmesh.rpc.frames:_read_message",
        "hostmesh.rpc.frames:_through_protobuf",
        "hostmesh.rpc.header:header_from_proto",
        "hostmesh.rpc.outcome:outcome_from_proto",
    ),
    max_bytes=4096,
)
