"""The bounds of decoded messages, as the options in the .proto files state them. Pure.

Every string, bytes and repeated field of hostmesh.v1 names its most bytes and items (``options.proto``). A field
without a bound is a bug of ours, and refused when the first message of its type is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from hostmesh.errors import FrameTooLargeError, MalformedMessageError
from hostmesh.v1 import options_pb2

MessageT = TypeVar("MessageT", bound=Message)

MAX_DEPTH = 16
"""Messages inside messages. Ours have four; protobuf itself stops parsing at 100."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What to check of one field."""

    name: str
    repeated: bool
    presence: bool
    max_items: int
    text: bool
    sized: bool
    max_bytes: int
    min_bytes: int
    child: Descriptor | None


def check_bounds(message: Message) -> None:
    """Check a decoded message, and those inside it, against the bounds of its fields.

    An absent field passes where its type tells absence (messages, ``optional``, ``oneof``); otherwise absent is empty,
    and refused when the field has a least size.

    Raises:
        MalformedMessageError: ``field`` names the first that breaks a bound, as in ``models[3].model_id``.

    Cost: linear in the fields that have bounds.
    """
    _check(message, _plan(message.DESCRIPTOR), "", 0)


def parse(message_type: type[MessageT], data: bytes, max_bytes: int) -> MessageT:
    """Decode a message from a peer and check its bounds.

    Fields that this version does not know are dropped, so that they are never handed on. An unknown enum value stays as
    it is; the caller takes it as UNSPECIFIED.

    Args:
        message_type: a generated class.
        data: the serialised message.
        max_bytes: most bytes that ``data`` may have.

    Raises:
        FrameTooLargeError: more than ``max_bytes``; nothing was decoded.
        MalformedMessageError: no such message, or a field outside its bounds.

    >>> from hostmesh.v1 import status_pb2
    >>> parse(status_pb2.PingRequest, bytes.fromhex("0a0161"), 64).nonce
    b'a'
    """
    if len(data) > max_bytes:
        raise FrameTooLargeError(
            f"{message_type.DESCRIPTOR.name} of {len(data)} bytes is over the limit of {max_bytes}",
            size_bytes=len(data),
            limit_bytes=max_bytes,
        )
    message = message_type()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MalformedMessageError(f"not a {message_type.DESCRIPTOR.name}") from error
    message.DiscardUnknownFields()
    check_bounds(message)
    return message


@cache
def _plan(descriptor: Descriptor) -> tuple[_Step, ...]:
    steps = (_step(field) for field in descriptor.fields)
    return tuple(step for step in steps if step is not None)


def _step(field: FieldDescriptor) -> _Step | None:
    # The stubs know an extension as a plain field.
    extensions: Any = field.GetOptions().Extensions
    repeated = field.is_repeated
    text = field.type == FieldDescriptor.TYPE_STRING
    sized = text or field.type == FieldDescriptor.TYPE_BYTES
    child: Descriptor | None = field.message_type
    max_bytes: int = extensions[options_pb2.max_bytes]
    max_items: int = extensions[options_pb2.max_items]
    if (sized and not max_bytes) or (repeated and not max_items):
        raise TypeError(f"{field.full_name} has no bound: give it max_bytes or max_items in its .proto")
    if child is not None and child.GetOptions().map_entry:
        raise TypeError(f"{field.full_name} is a map, which bounds do not cover: use a repeated message")
    if not sized and not repeated and child is None:
        return None
    return _Step(
        name=field.name,
        repeated=repeated,
        presence=field.has_presence,
        max_items=max_items,
        text=text,
        sized=sized,
        max_bytes=max_bytes,
        min_bytes=extensions[options_pb2.min_bytes],
        child=child,
    )


def _check(message: Message, plan: tuple[_Step, ...], path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedMessageError(f"messages nested deeper than {MAX_DEPTH}", field=path.rstrip("."))
    for step in plan:
        if step.repeated:
            values = getattr(message, step.name)
            count = len(values)
            if count > step.max_items:
                raise MalformedMessageError(
                    f"{path}{step.name} has {count} items, at most {step.max_items} are allowed",
                    field=path + step.name,
                )
            if step.sized:
                for index, value in enumerate(values):
                    _check_size(value, step, f"{path}{step.name}[{index}]")
            elif step.child is not None:
                child = _plan(step.child)
                for index, value in enumerate(values):
                    _check(value, child, f"{path}{step.name}[{index}].", depth + 1)
        elif step.presence and not message.HasField(step.name):
            continue
        elif step.child is not None:
            _check(getattr(message, step.name), _plan(step.child), f"{path}{step.name}.", depth + 1)
        else:
            _check_size(getattr(message, step.name), step, path + step.name)


def _check_size(value: Any, step: _Step, path: str) -> None:
    size = len(value)
    if step.text and not value.isascii():
        size = len(value.encode())
    if size > step.max_bytes:
        raise MalformedMessageError(f"{path} has {size} bytes, at most {step.max_bytes} are allowed", field=path)
    if size < step.min_bytes:
        raise MalformedMessageError(f"{path} has {size} bytes, at least {step.min_bytes} are needed", field=path)
