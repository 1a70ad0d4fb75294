"""What travels with a request: the ``CallHeader`` (rpc.proto) as a value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from google.protobuf.message import Message

from hostmesh.errors import MalformedMessageError, UsageError
from hostmesh.rpc.method import AnyMethod
from hostmesh.v1 import rpc_pb2
from hostmesh.wire.bounds import check_bounds
from hostmesh.wire.framing import encode_length

MAX_DEADLINE_S = 10.0**9
"""A longer deadline (31 years) is taken as this one."""

NO_METADATA: Mapping[str, str] = MappingProxyType({})
"""What calls without metadata share."""

_DEADLINE_TAG = b"\x10"


@dataclass(slots=True, kw_only=True)
class Header:
    """What travels with the request."""

    method: str
    deadline_left_s: float | None = None
    """Time that the caller still waits; None = no deadline."""
    session_id: bytes = b""
    """16 bytes, or empty."""
    idempotency_key: bytes = b""
    """Up to 32 bytes; empty for none."""
    metadata: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)


def encode_header(method: AnyMethod, deadline_left_s: float | None, rest: bytes) -> bytes:
    """Return a serialised header; ``rest`` is of :func:`encode_header_rest`."""
    if deadline_left_s is None:
        return method.header + rest
    left_ms = round(min(max(deadline_left_s, 0.0), MAX_DEADLINE_S) * 1000)
    return method.header + _DEADLINE_TAG + encode_length(left_ms) + rest


def encode_header_rest(header: Header, method: AnyMethod) -> bytes:
    """Return the fields of a serialised header that come after the method and the deadline.

    Raises:
        UsageError: a value is outside its bounds.
    """
    if not header.session_id and not header.idempotency_key and not header.metadata:
        return b""
    message = rpc_pb2.CallHeader(
        method=method.name, session_id=header.session_id, idempotency_key=header.idempotency_key
    )
    for key, value in header.metadata.items():
        message.metadata.add(key=key, value=value)
    if len(header.session_id) not in (0, 16):
        raise UsageError("a session id has 16 bytes")
    encode_own(message)
    message.ClearField("method")
    return message.SerializeToString()


def header_from_proto(message: rpc_pb2.CallHeader) -> Header:
    """Return the value of a header whose bounds were checked.

    Raises:
        MalformedMessageError: a session id of another size, or a metadata key that stands twice.
    """
    if len(message.session_id) not in (0, 16):
        raise MalformedMessageError("a session id has 16 bytes or none", field="header.session_id")
    left_ms = message.deadline_left_ms if message.HasField("deadline_left_ms") else None
    entries = message.metadata
    metadata = {entry.key: entry.value for entry in entries} if entries else NO_METADATA
    if len(metadata) != len(entries):
        raise MalformedMessageError("a metadata key stands twice", field="header.metadata")
    return Header(
        method=message.method,
        deadline_left_s=None if left_ms is None else min(left_ms / 1000, MAX_DEADLINE_S),
        session_id=message.session_id,
        idempotency_key=message.idempotency_key,
        metadata=metadata,
    )


def encode_own(message: Message) -> bytes:
    """Serialise a message that we made.

    Raises:
        UsageError: a field is outside its bounds.
    """
    data = message.SerializeToString()
    try:
        check_bounds(message, len(data))
    except MalformedMessageError as error:
        raise UsageError(error.message, remedy=f"change {error.field}") from error
    return data
