"""The values of the table: messages, bytes and texts as JSON, see docs/protocols/conformance.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from hostmesh.v1 import rpc_pb2

_LONGEST_HEX_BYTES = 256
_LONG_INTEGERS = {FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_INT64}


def bytes_of(value: Any) -> bytes:
    """Return the bytes that a value stands for."""
    if isinstance(value, list):
        return b"".join(map(bytes_of, value))
    if isinstance(value, Mapping):
        return bytes.fromhex(value["hex"]) * int(value["times"])
    return bytes.fromhex(value)


def text_of(value: Any) -> str:
    """Return the text that a value stands for."""
    return value["text"] * value["times"] if isinstance(value, Mapping) else str(value)


def to_message(message_type: Any, fields: Mapping[str, Any]) -> Any:
    """Return a message of the table as protobuf's."""
    message = message_type()
    _fill(message, fields)
    return message


def _fill(message: Any, fields: Mapping[str, Any]) -> None:
    message.SetInParent()
    for name, value in fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None and field.is_repeated:
            for each in value:
                _fill(getattr(message, name).add(), each)
        elif field.message_type is not None:
            _fill(getattr(message, name), value)
        elif field.is_repeated:
            getattr(message, name).extend(_scalar(field, each) for each in value)
        else:
            setattr(message, name, _scalar(field, value))


def _scalar(field: Any, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes_of(value)
    if field.type == FieldDescriptor.TYPE_STRING:
        return text_of(value)
    return int(value) if field.type in _LONG_INTEGERS else value


def from_message(message: Any) -> dict[str, Any]:
    """Return protobuf's message as a result has it."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [_one(field, each) for each in value]
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return from_message(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value.hex() if len(value) <= _LONGEST_HEX_BYTES else summary(value)
    return str(value) if field.type in _LONG_INTEGERS else value


def summary(data: bytes) -> dict[str, Any]:
    """Return what a result says of long bytes."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


# --- frames ---


def frame_fields(payload: bytes) -> dict[str, Any]:
    """Return a frame as the table has it; of what is none, its bytes."""
    try:
        frame = rpc_pb2.Frame.FromString(payload)
    except DecodeError:
        return {"malformed": payload.hex()}
    fields: dict[str, Any] = {}
    if frame.HasField("header"):
        header = frame.header
        fields["header"] = {
            "method": header.method,
            "deadline_left_ms": header.deadline_left_ms if header.HasField("deadline_left_ms") else None,
            "session_id": header.session_id.hex(),
            "idempotency_key": header.idempotency_key.hex(),
            "metadata": {entry.key: entry.value for entry in header.metadata},
        }
    if frame.HasField("message"):
        fields["message"] = frame.message.hex()
    if frame.HasField("status"):
        status = frame.status
        fields["status"] = {
            "code": status.code,
            "message": status.message,
            "reason": status.reason,
            "retry_after_ms": status.retry_after_ms,
            "details": {entry.key: entry.value for entry in status.details},
        }
    return fields
