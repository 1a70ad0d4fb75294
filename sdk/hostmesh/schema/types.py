"""What a reader of one field type makes of what a writer of another wrote. Pure.

Source: protobuf, "Encoding" (wire types) and "Updating a Message Type"; held against protobuf itself by
``tests/unit/schema/test_wire_truth.py``.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType


class TypeChange(Enum):
    """What becomes of values when the type of a field changes."""

    NONE = "none"
    WIDENED = "widened"
    """A reader of the new type takes every old value as it was; a reader of the old type not every new one."""
    NARROWED = "narrowed"
    """It reads, but some old values as others, or it refuses them."""
    UNREADABLE = "unreadable"
    """It loses the field, refuses the message, or reads another number out of the same bytes."""


_INT32 = (-(2**31), 2**31 - 1)
_INT64 = (-(2**63), 2**63 - 1)
_UINT32 = (0, 2**32 - 1)
_UINT64 = (0, 2**64 - 1)

_ENCODINGS = MappingProxyType(
    {
        "int32": ("varint", _INT32),
        "int64": ("varint", _INT64),
        "uint32": ("varint", _UINT32),
        "uint64": ("varint", _UINT64),
        "bool": ("varint", (0, 1)),
        # Numbers that the enum does not name are UNSPECIFIED to hostmesh, so no integer fits into an enum.
        "enum": ("varint", _INT32),
        "sint32": ("zigzag", _INT32),
        "sint64": ("zigzag", _INT64),
        "fixed32": ("32 bits", _UINT32),
        "sfixed32": ("32 bits", _INT32),
        "fixed64": ("64 bits", _UINT64),
        "sfixed64": ("64 bits", _INT64),
    }
)
"""Integers: how they are written, and the least and the largest value."""


def type_change(old: str, new: str) -> TypeChange:
    """Compare two field types; enums and messages by their kind only.

    >>> type_change("int32", "int64").value, type_change("int64", "int32").value
    ('widened', 'narrowed')
    >>> type_change("string", "bytes").value, type_change("int32", "sint32").value
    ('widened', 'unreadable')
    """
    if old == new:
        return TypeChange.NONE
    if (old, new) == ("string", "bytes"):
        return TypeChange.WIDENED
    if (old, new) == ("bytes", "string"):
        return TypeChange.NARROWED
    if old not in _ENCODINGS or new not in _ENCODINGS:
        return TypeChange.UNREADABLE
    (old_form, (old_least, old_most)), (new_form, (new_least, new_most)) = _ENCODINGS[old], _ENCODINGS[new]
    if old_form != new_form:
        return TypeChange.UNREADABLE
    fits = new != "enum" and new_least <= old_least and old_most <= new_most
    return TypeChange.WIDENED if fits else TypeChange.NARROWED
