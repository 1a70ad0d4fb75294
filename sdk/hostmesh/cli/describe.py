"""What a person and a program see of a peer's services. All text of the peer is escaped here for the person."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hostmesh.cli.terminal import escape, field
from hostmesh.rpc.method import AnyMethod, protocol_ids
from hostmesh.v1 import options_pb2

if TYPE_CHECKING:
    from hostmesh.reflection.peer_schema import PeerSchema
    from hostmesh.schema.model import EnumType, Field, MessageType, Schema


def service_object(
    schema: PeerSchema, name: str, methods: Mapping[str, AnyMethod], prefix: str, comments: Mapping[str, str]
) -> dict[str, object]:
    """Return a service as ``--json`` has it, with those of its methods."""
    first = next(iter(schema.methods[name].values()))
    return {
        "name": name,
        "protocol": first.protocol,
        "versions": list(first.versions),
        "protocol_ids": list(protocol_ids(prefix, first)),
        **{which: _calls_object(limits) for which, limits in _calls(schema, name).items()},
        "comment": comments.get(name, ""),
        "methods": [method_object(each, comments.get(f"{name}.{each.name}", "")) for each in methods.values()],
    }


def method_object(method: AnyMethod, comment: str) -> dict[str, object]:
    """Return a method as ``--json`` has it."""
    return {
        "name": method.name,
        "shape": method.cardinality.value,
        "request": method.request_type.DESCRIPTOR.full_name,
        "response": method.response_type.DESCRIPTOR.full_name,
        "max_request_bytes": method.max_request_bytes,
        "max_response_bytes": method.max_response_bytes,
        "default_timeout_s": method.default_timeout_s,
        "is_idempotent": method.is_idempotent,
        "comment": comment,
    }


def service_text(
    schema: PeerSchema, name: str, methods: Mapping[str, AnyMethod], prefix: str, comments: Mapping[str, str]
) -> str:
    """Return a service as a .proto file would nearly have it."""
    first = next(iter(schema.methods[name].values()))
    lines = [*_comment(comments.get(name, ""), ""), f"service {name} {{  // {', '.join(protocol_ids(prefix, first))}"]
    for which, limits in _calls(schema, name).items():
        stated = _calls_object(limits)
        if stated:
            numbers = ", ".join(f"{key} {value:g}" for key, value in stated.items())
            lines.append(f"  // {which}: {numbers}")
    for number, method in enumerate(methods.values()):
        lines += [""] if number else []
        lines += _comment(comments.get(f"{name}.{method.name}", ""), "  ")
        lines += [f"  // {_limits(method)}", f"  {method_text(method)}"]
    return "\n".join([*lines, "}"])


def method_text(method: AnyMethod) -> str:
    """Return a method as it stands in a .proto file."""
    takes, gives = ("stream " if each else "" for each in (method.takes_stream, method.gives_stream))
    request, response = (each.DESCRIPTOR.full_name for each in (method.request_type, method.response_type))
    return f"rpc {method.name}({takes}{request}) returns ({gives}{response});"


def _limits(method: AnyMethod) -> str:
    deadline = "none" if method.default_timeout_s is None else f"{method.default_timeout_s:g} s"
    return (
        f"{method.cardinality.value}; request up to {method.max_request_bytes} bytes, "
        f"response up to {method.max_response_bytes} bytes; default deadline: {deadline}"
        f"{'; idempotent' if method.is_idempotent else ''}"
    )


def _calls(schema: PeerSchema, name: str) -> dict[str, Any]:
    """Return the stated limits of calls, by the name of their option."""
    # The stubs know an extension as a plain field.
    extensions: Any = schema.services[name].GetOptions().Extensions
    return {
        "calls_per_peer": extensions[options_pb2.calls_per_peer],
        "calls_of_all": extensions[options_pb2.calls_of_all],
    }


def _calls_object(limits: Any) -> dict[str, float]:
    """Return the numbers that are stated; for the others the node's own limits hold."""
    numbers = {name: getattr(limits, name) for name in ("max_concurrent", "calls_per_s", "burst")}
    # A double of a stranger may be no number, which JSON has no form for.
    return {name: value for name, value in numbers.items() if value and math.isfinite(value)}


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}// {field(line)}".rstrip() for line in text.splitlines()]


# --- messages ---


def types_of(schema: Schema, method: AnyMethod) -> tuple[list[MessageType], list[EnumType]]:
    """Return the messages and enums that a method reaches, in the order in which they are met.

    protobuf's own are left out.
    """
    messages: dict[str, MessageType] = {}
    enums: dict[str, EnumType] = {}
    ahead = [method.response_type.DESCRIPTOR.full_name, method.request_type.DESCRIPTOR.full_name]
    while ahead:
        name = ahead.pop()
        message = schema.messages.get(name)
        if message is None or name in messages:
            continue
        messages[name] = message
        named = (schema.enums.get(each.type_name) for each in message.fields if each.kind == "enum")
        enums.update({enum.full_name: enum for enum in named if enum is not None})
        ahead += [each.type_name for each in reversed(message.fields) if each.kind in ("message", "group")]
    return [*messages.values()], [*enums.values()]


def message_object(message: MessageType) -> dict[str, object]:
    """Return a message as ``--json`` has it."""
    return {
        "name": message.full_name,
        "fields": [
            {
                "name": each.name,
                "json_name": each.json_name,
                "number": each.number,
                "type": each.type_name or each.kind,
                "repeated": each.is_repeated,
                "oneof": each.oneof,
                "max_bytes": each.max_bytes,
                "min_bytes": each.min_bytes,
                "max_items": each.max_items,
            }
            for each in message.fields
        ],
    }


def enum_object(enum: EnumType) -> dict[str, object]:
    """Return an enum as ``--json`` has it."""
    return {"name": enum.full_name, "values": dict(enum.values)}


def types_text(messages: Sequence[MessageType], enums: Sequence[EnumType]) -> Iterator[str]:
    """Yield each message and enum as a .proto file would nearly have it."""
    for message in messages:
        yield "\n".join([f"message {message.full_name} {{", *(f"  {field_text(each)}" for each in message.fields), "}"])
    for enum in enums:
        values = (f"  {name} = {number};" for name, number in enum.values)
        yield "\n".join([f"enum {enum.full_name} {{", *values, "}"])


def field_text(each: Field) -> str:
    """Return a field as it stands in a .proto file, with its bounds as a comment."""
    is_optional = each.has_presence and not each.oneof and each.kind not in ("message", "group")
    notes = [*_bounds(each), *([f"one of {each.oneof}"] if each.oneof else [])]
    text = f"{'optional ' if is_optional else ''}{each.type_text} {each.name} = {each.number};"
    return escape(f"{text}  // {', '.join(notes)}" if notes else text)


def _bounds(each: Field) -> Iterator[str]:
    if each.max_bytes is not None:
        if each.min_bytes == each.max_bytes:
            yield f"{each.max_bytes} bytes"
        else:
            yield f"{f'{each.min_bytes} to' if each.min_bytes else 'up to'} {each.max_bytes} bytes"
    if each.max_items is not None:
        yield f"up to {each.max_items} items"
