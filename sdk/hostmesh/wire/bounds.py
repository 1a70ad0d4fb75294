"""The bounds of decoded messages, as the options in the .proto files state them. Pure.

Every string, bytes and repeated field of hostmesh.v1 names its most bytes and items (``options.proto``). A field
without a bound is a bug of ours, and refused when the first message of its type is checked.

A check starts from the message's own size: no string and no list in a message of 40 bytes can break a bound of 64, so
that most messages are within their bounds before a field was read.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from hostmesh.errors import FrameTooLargeError, MalformedMessageError
from hostmesh.v1 import options_pb2

MessageT = TypeVar("MessageT", bound=Message)

MAX_DEPTH = 16
"""Messages inside messages. Ours have four; protobuf itself stops parsing at 100."""
MAX_PLANS = 1024
"""Message types whose bounds are remembered; then all are read anew. Each keeps its file alive, and those of a peer's
reflection come with every question. Ours are some sixty."""


def check_bounds(message: Message, size_bytes: int | None = None) -> None:
    """Check a message, and those inside it, against the bounds of its fields.

    An absent field passes where its type tells absence (messages, ``optional``, ``oneof``); otherwise absent is empty,
    and refused when the field has a least size.

    Args:
        message: decoded, or about to be sent.
        size_bytes: of the serialised message, where the caller knows it.

    Raises:
        MalformedMessageError: ``field`` names one that breaks a bound, as in ``models[3].model_id``.

    Cost: linear in the fields that could break a bound in a message of this size.
    """
    plan = _plans.get(message.DESCRIPTOR)
    if plan is None:
        made: dict[object, _Plan] = {}
        plan = _plan(message.DESCRIPTOR, made)
        if len(_plans) >= MAX_PLANS:
            _plans.clear()
        _plans.update(made)
    if plan.levels > MAX_DEPTH + 1:
        # It may nest too deeply, which its size does not tell.
        size_bytes = sys.maxsize
    elif size_bytes is None:
        size_bytes = message.ByteSize()
    if size_bytes <= plan.harmless_bytes:
        return
    try:
        _check(message, plan, size_bytes, 0)
    except _BreachError as breach:
        raise MalformedMessageError(breach.text, field=breach.path) from None


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
    size_bytes = len(data)
    if size_bytes > max_bytes:
        raise FrameTooLargeError(
            f"{message_type.DESCRIPTOR.name} of {size_bytes} bytes is over the limit of {max_bytes}",
            size_bytes=size_bytes,
            limit_bytes=max_bytes,
        )
    try:
        message = message_type.FromString(data)
    except DecodeError as error:
        raise MalformedMessageError(f"not a {message_type.DESCRIPTOR.name}") from error
    # Cheaper than to ask whether there are any.
    message.DiscardUnknownFields()
    check_bounds(message, size_bytes)
    return message


class _Size(NamedTuple):
    """The bounds of a string or bytes."""

    most: int
    least: int
    text: bool


class _Plan:
    """What to check of one message type."""

    __slots__ = ("children", "harmless_bytes", "levels", "lists", "oneofs", "sized")

    def __init__(self) -> None:
        self.sized: list[tuple[str, bool, _Size]] = []
        """Strings and bytes: name, whether absence is told, bounds."""
        self.lists: list[tuple[str, int, _Size | None, _Plan | None]] = []
        """Repeated fields: name, most items, what to check of each."""
        self.children: list[tuple[str, _Plan]] = []
        """Messages."""
        self.oneofs: list[tuple[str, dict[str, _Plan]]] = []
        """Messages of which at most one is there, by the name of their ``oneof``."""
        self.harmless_bytes = -1
        """No message up to this size breaks a bound, whatever is in it; negative where even an empty one may."""
        self.levels = sys.maxsize
        """How deep messages of this type can nest; endless for one that can be inside itself."""


class _BreachError(Exception):
    """A field breaks a bound. Its path grows on the way out, so that only then it is made."""

    def __init__(self, path: str, says: str) -> None:
        super().__init__(path, says)
        self.path = path
        self.says = says

    @property
    def text(self) -> str:
        return f"{self.path or 'the message'} {self.says}"

    def inside(self, path: str) -> _BreachError:
        return _BreachError(f"{path}.{self.path}" if self.path else path, self.says)


_plans: dict[object, _Plan] = {}
"""By descriptor; complete ones only."""


def _plan(descriptor: Any, made: dict[object, _Plan]) -> _Plan:
    plan = _plans.get(descriptor) or made.get(descriptor)
    if plan is None:
        # Before it is complete, for a type that is inside itself.
        plan = made[descriptor] = _Plan()
        _complete(plan, descriptor, made)
    return plan


def _complete(plan: _Plan, descriptor: Descriptor, made: dict[object, _Plan]) -> None:
    bounds: list[int] = []
    inner: list[_Plan] = []
    for field in descriptor.fields:
        size, max_items = _bounds_of(field)
        child = None if field.message_type is None else _plan(field.message_type, made)
        if size is not None:
            bounds.append(-1 if size.least else size.most)
        if child is not None:
            bounds.append(child.harmless_bytes)
            inner.append(child)
        if field.is_repeated:
            bounds.append(max_items)
            plan.lists.append((field.name, max_items, size, child))
        elif size is not None:
            plan.sized.append((field.name, field.has_presence, size))
        elif child is not None:
            oneof = field.containing_oneof
            if oneof is None or len(oneof.fields) == 1:
                plan.children.append((field.name, child))
            elif plan.oneofs and plan.oneofs[-1][0] == oneof.name:
                plan.oneofs[-1][1][field.name] = child
            else:
                plan.oneofs.append((oneof.name, {field.name: child}))
    plan.harmless_bytes = min(bounds, default=sys.maxsize)
    plan.levels = 1 + max((child.levels for child in inner), default=0)


def _bounds_of(field: FieldDescriptor) -> tuple[_Size | None, int]:
    # The stubs know an extension as a plain field.
    extensions: Any = field.GetOptions().Extensions
    text = field.type == FieldDescriptor.TYPE_STRING
    sized = text or field.type == FieldDescriptor.TYPE_BYTES
    max_bytes: int = extensions[options_pb2.max_bytes]
    max_items: int = extensions[options_pb2.max_items]
    if (sized and not max_bytes) or (field.is_repeated and not max_items):
        raise TypeError(f"{field.full_name} has no bound: give it max_bytes or max_items in its .proto")
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        raise TypeError(f"{field.full_name} is a map, which bounds do not cover: use a repeated message")
    return (_Size(max_bytes, extensions[options_pb2.min_bytes], text) if sized else None), max_items


def _check(message: Message, plan: _Plan, budget: int, depth: int) -> None:
    """Raise :class:`_BreachError` for a message outside its bounds.

    ``budget`` is the size of the whole message. What is bounded above it is not read: reading copies it.
    """
    if depth > MAX_DEPTH:
        raise _BreachError("", f"has messages nested deeper than {MAX_DEPTH}")
    for name, tells_absence, size in plan.sized:
        if (size.most < budget or size.least) and not (tells_absence and not message.HasField(name)):
            _check_size(name, getattr(message, name), size)
    for name, child in plan.children:
        if budget > child.harmless_bytes and message.HasField(name):
            _check_child(name, getattr(message, name), child, budget, depth)
    for name, by_field in plan.oneofs:
        field = message.WhichOneof(name)
        inner = None if field is None else by_field.get(field)
        if field is not None and inner is not None and budget > inner.harmless_bytes:
            _check_child(field, getattr(message, field), inner, budget, depth)
    for name, max_items, each, inner in plan.lists:
        values = getattr(message, name)
        if len(values) > max_items:
            raise _BreachError(name, f"has {len(values)} items, at most {max_items} are allowed")
        if each is not None and (each.most < budget or each.least):
            for index, value in enumerate(values):
                _check_size(f"{name}[{index}]", value, each)
        elif inner is not None and budget > inner.harmless_bytes:
            for index, value in enumerate(values):
                _check_child(f"{name}[{index}]", value, inner, budget, depth)


def _check_child(path: str, message: Message, plan: _Plan, budget: int, depth: int) -> None:
    try:
        _check(message, plan, budget, depth + 1)
    except _BreachError as breach:
        raise breach.inside(path) from None


def _check_size(path: str, value: Any, size: _Size) -> None:
    count = len(value)
    if size.text and not value.isascii():
        count = len(value.encode())
    if count > size.most:
        raise _BreachError(path, f"has {count} bytes, at most {size.most} are allowed")
    if count < size.least:
        raise _BreachError(path, f"has {count} bytes, at least {size.least} are needed")
