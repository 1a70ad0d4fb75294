"""Values of every structure that a wallet can sign, and what they are in the form that other implementations take.

All follows the field tables of :mod:`hostmesh.identity.structs`, so that a new structure is drawn, too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hostmesh.identity import structs
from hostmesh.identity.address import keccak256
from hostmesh.identity.typed_data import (
    ADDRESS_BYTES,
    DOMAIN_NAME,
    DOMAIN_VERSION,
    MAX_BYTES,
    MAX_ITEMS,
    WORD_BYTES,
    TypedStruct,
)

# What text goes through unharmed only when nobody normalises, trims, escapes or cuts it.
_TEXTS = (
    "a",
    "\U0010ffff" * 64,
    "smollm2-135m-instruct",
    "é",
    "e\u0301",
    "\0",
    ' "\\\n\r\t\u2028 ',
    "\ufeff模型",
    "👩‍👩‍👧🦙",
    "\u202eﬁ",
)


def struct_types() -> tuple[type[TypedStruct], ...]:
    """Return every structure of the module, those that others hold as well."""
    return tuple(each for each in vars(structs).values() if isinstance(each, type) and "TYPE_NAME" in vars(each))


def make_struct(kind: type[TypedStruct], values: Sequence[Any]) -> TypedStruct:
    """Return the structure with these values, in the order of its field table."""
    return kind(**{attribute: value for (_, _, attribute), value in zip(kind.FIELDS, values, strict=True)})


def boundary_structs(kind: type[TypedStruct]) -> list[TypedStruct]:
    """Return structures of the least values, of the greatest, and of others where an implementation may slip."""
    columns = [_boundaries(kind, field) for field, _, _ in kind.FIELDS]
    return [
        make_struct(kind, [column[row % len(column)] for column in columns]) for row in range(max(map(len, columns)))
    ]


def drawn_struct(kind: type[TypedStruct], seed: int) -> TypedStruct:
    """Return the structure that a seed gives."""
    return _drawn(kind, random.Random(f"{kind.TYPE_NAME} {seed}"))


def _drawn(kind: type[TypedStruct], dice: random.Random) -> TypedStruct:
    return make_struct(kind, [_drawn_value(kind, field, dice) for field, _, _ in kind.FIELDS])


def _member(kind: type[TypedStruct], name: str) -> type[TypedStruct]:
    return next(member for member in kind.MEMBERS if name == member.TYPE_NAME)


def _boundaries(kind: type[TypedStruct], field: str) -> list[Any]:
    if field.endswith("[]"):
        items = _boundaries(kind, field[:-2])
        full = [items[index % len(items)] for index in range(MAX_ITEMS)]
        return [(items[0],), tuple(full), tuple(reversed(full)), (items[0],) * MAX_ITEMS]
    match field:
        case "address" | "bytes32":
            size = ADDRESS_BYTES if field == "address" else WORD_BYTES
            return [bytes(size), b"\xff" * size, bytes(range(1, size + 1))]
        case "bytes":
            return [b"\0", b"\xff" * MAX_BYTES, b"\0" * WORD_BYTES, b"\0" * (WORD_BYTES + 1)]
        case "string":
            return list(_TEXTS)
        case "uint8":
            return [0, 2**8 - 1, 1, 2**7]
        case "uint64":
            # 2**53 + 1 is the first integer that a JavaScript number does not have.
            return [0, 2**64 - 1, 1, 2**53 + 1, 2**63, 1_700_000_000]
        case _:
            return list(boundary_structs(_member(kind, field)))


def _drawn_value(kind: type[TypedStruct], field: str, dice: random.Random) -> Any:
    if field.endswith("[]"):
        return tuple(_drawn_value(kind, field[:-2], dice) for _ in range(dice.randint(1, MAX_ITEMS)))
    match field:
        case "address":
            return dice.randbytes(ADDRESS_BYTES)
        case "bytes32":
            return dice.randbytes(WORD_BYTES)
        case "bytes":
            return dice.randbytes(dice.randint(1, MAX_BYTES))
        case "string":
            return "".join(_drawn_character(dice) for _ in range(dice.randint(1, 80)))
        case "uint8" | "uint64":
            # As many small ones as great ones.
            return dice.getrandbits(dice.randint(1, int(field[4:])))
        case _:
            return _drawn(_member(kind, field), dice)


def _drawn_character(dice: random.Random) -> str:
    code = dice.getrandbits(dice.randint(1, 20))
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)


def eip712_domain(network: str) -> dict[str, str]:
    """Return the domain as libraries of Ethereum take it."""
    return {"name": DOMAIN_NAME, "version": DOMAIN_VERSION, "salt": "0x" + keccak256(network.encode()).hex()}


def eip712_types(kind: type[TypedStruct]) -> dict[str, list[dict[str, str]]]:
    """Return the types of a structure and of those that it holds."""
    return {
        each.TYPE_NAME: [{"name": name, "type": field} for field, name, _ in each.FIELDS]
        for each in (kind, *kind.MEMBERS)
    }


def eip712_message(struct: TypedStruct) -> dict[str, Any]:
    """Return the values in JSON: bytes in hex, integers as decimal text."""
    return {name: _to_json(getattr(struct, attribute)) for _, name, attribute in struct.FIELDS}


def _to_json(value: Any) -> Any:
    match value:
        case bytes():
            return "0x" + value.hex()
        case int():
            return str(value)
        case str():
            return value
        case tuple():
            return [_to_json(item) for item in value]
        case _:
            return eip712_message(value)


def struct_of_message(kind: type[TypedStruct], message: dict[str, Any]) -> TypedStruct:
    """Return the structure of which :func:`eip712_message` made the message."""
    return make_struct(kind, [_of_json(kind, field, message[name]) for field, name, _ in kind.FIELDS])


def _of_json(kind: type[TypedStruct], field: str, value: Any) -> Any:
    if field.endswith("[]"):
        return tuple(_of_json(kind, field[:-2], item) for item in value)
    match field:
        case "address" | "bytes32" | "bytes":
            return bytes.fromhex(value.removeprefix("0x"))
        case "uint8" | "uint64":
            return int(value)
        case "string":
            return value
        case _:
            return struct_of_message(_member(kind, field), value)
