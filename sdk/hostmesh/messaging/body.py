"""The body of a direct message: bytes, or a JSON object. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hostmesh.errors import FrameTooLargeError, MalformedMessageError, UsageError
from hostmesh.json_text import parse_json
from hostmesh.v1 import message_pb2

MAX_BODY_BYTES = 256 * 1024
"""The bound of ``SendRequest.body`` in message.proto."""

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]
Body = bytes | dict[str, JSON]
"""What a handler gets."""


def encode_body(message_id: bytes, body: bytes | Mapping[str, Any]) -> message_pb2.SendRequest:
    """Return the request that carries a body.

    Raises:
        FrameTooLargeError: the body, or its JSON text, is over 256 KiB.
        UsageError: neither bytes nor an object that JSON can carry.
    """
    if isinstance(body, bytes):
        _check_size(len(body))
        return message_pb2.SendRequest(message_id=message_id, data=body)
    if not isinstance(body, Mapping):
        raise UsageError("a message is bytes or a mapping", remedy="send bytes, or a dict with string keys")
    try:
        text = json.dumps(dict(body), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"JSON cannot carry this message: {error}") from error
    _check_size(size)
    return message_pb2.SendRequest(message_id=message_id, json=text)


def decode_body(request: message_pb2.SendRequest) -> Body:
    """Return the body of a request whose bounds were checked.

    Raises:
        MalformedMessageError: no body, or a text that is no JSON object.
    """
    match request.WhichOneof("body"):
        case "data":
            return request.data
        case "json":
            try:
                value = parse_json(request.json)
            except ValueError as error:
                raise MalformedMessageError("the message is no JSON", field="json") from error
            if not isinstance(value, dict):
                raise MalformedMessageError("the message is no JSON object", field="json")
            return value
        case _:
            raise MalformedMessageError("a message without a body", field="body")


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise FrameTooLargeError(
            f"a message of {size} bytes is over the limit of {MAX_BODY_BYTES}",
            size_bytes=size,
            limit_bytes=MAX_BODY_BYTES,
            remedy="send less in one message",
        )
