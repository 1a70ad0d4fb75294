"""Whether a client's result and the server's account of it are those of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from tests.conformance.schema import METHODS
from tests.conformance.values import bytes_of, frame_fields, summary, text_of
from tests.support.wire_frames import split_frames

_SHOWN_CHARACTERS = 300


def differences(case: Mapping[str, Any], result: Mapping[str, Any], account: Mapping[str, Any]) -> list[str]:
    """Return what differs, a line each; none: the case passes."""
    expect = case["expect"]
    wanted, got = expect["client"], result
    if "call" in case:
        wanted, got = _with_responses(case, wanted), _with_responses(case, got)
        if wanted["end"]["kind"] == got["end"]["kind"]:
            got = {**got, "end": {"message": "", **got["end"]}}
    else:
        got = _raw_result(got)
    found = list(_differ(wanted, got, "client"))
    if "journal" in expect:
        found += _differ(expect["journal"], account["journal"], "journal")
    if "script" in expect:
        script, seen = dict(expect["script"]), dict(account["script"])
        if "frames" in script:
            seen["frames"] = [_whole(frame) for frame in seen["frames"][: len(script["frames"])]]
            script["frames"] = [_whole(frame) for frame in script["frames"]]
        found += _differ(script, seen, "script")
    return found


def _with_responses(case: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    descriptor = METHODS[case["call"]["method"]].response_type.DESCRIPTOR
    return {**result, "responses": [_canonical(descriptor, each) for each in result["responses"]]}


def _raw_result(result: Mapping[str, Any]) -> dict[str, Any]:
    payloads = list(split_frames(bytes.fromhex(result["received"])))
    frames = [frame_fields(payload) for payload in payloads if payload]
    return {"end": result["end"], "frames": frames, "heartbeats": len(payloads) - len(frames)}


def _whole(frame: Mapping[str, Any]) -> dict[str, Any]:
    """Return a frame in which absence is told, not passed over."""
    return {"header": None, "message": None, "status": None, **frame}


def _canonical(descriptor: Any, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message in the one form in which results of all programs and the table are compared."""
    fields: dict[str, Any] = {}
    for name, value in message.items():
        field = descriptor.fields_by_name.get(name)
        if field is None:
            fields[name] = value
        elif field.is_repeated:
            items = [_one(field, each) for each in value]
            if items:
                # Pairs come in no promised order.
                fields[name] = sorted(items, key=lambda pair: pair["key"]) if name == "metadata" else items
        else:
            one = _one(field, value)
            if field.has_presence or one not in (0, "", _EMPTY):
                fields[name] = one
    return fields


_EMPTY = summary(b"")


def _one(field: Any, value: Any) -> Any:
    if isinstance(value, Mapping) and "at_least" in value:
        return value
    if field.message_type is not None:
        return _canonical(field.message_type, value)
    if field.enum_type is not None and value not in field.enum_type.values_by_number:
        return 0  # UNSPECIFIED, which a client may tell as the number that it is
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value if isinstance(value, Mapping) and "sha256" in value else summary(bytes_of(value))
    return text_of(value) if field.type == FieldDescriptor.TYPE_STRING else int(value)


def _differ(wanted: Any, got: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, Mapping) and "at_least" in wanted:
        if not isinstance(got, int) or not wanted["at_least"] <= got <= wanted["at_most"]:
            yield f"{path} is {got!r}, not from {wanted['at_least']} to {wanted['at_most']}"
    elif isinstance(wanted, Mapping) and isinstance(got, Mapping):
        # Messages and details are compared whole, everything else in the fields that the table names.
        for key in wanted.keys() | (got.keys() if _is_whole(path) else set()):
            if key not in wanted:
                yield f"{path}.{key} is {_shown(got[key])}, and should not be there"
            elif key not in got:
                yield f"{path}.{key} is not there, and should be {_shown(wanted[key])}"
            else:
                yield from _differ(wanted[key], got[key], f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(got, list):
        if len(wanted) != len(got):
            yield f"{path} has {len(got)} items and not {len(wanted)}: {_shown(got)}"
        for index, (each, other) in enumerate(zip(wanted, got, strict=False)):
            yield from _differ(each, other, f"{path}[{index}]")
    elif wanted != got:
        yield f"{path} is {_shown(got)}, not {_shown(wanted)}"


def _is_whole(path: str) -> bool:
    return path.startswith("client.responses[") or path.endswith((".details", ".metadata"))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"
