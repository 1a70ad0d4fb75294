"""The differences of two messages or two enums, field by field and value by value. Pure.

A field is its number. One whose name is found under another number was renumbered; one whose number has another name
was renamed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hostmesh.schema.change import BOTH, Change, Pairing, change
from hostmesh.schema.model import EnumType, Field, MessageType, Ranges
from hostmesh.schema.types import TypeChange, type_change


class Relation(NamedTuple):
    """How a message or enum that a field or method has now stands to the one that it had."""

    is_same: bool
    difference: str = ""
    """Why another one does not read the same; empty where it does."""


Relate = Callable[[str, str], Relation]
"""Compares what two fields refer to, by full names."""


@dataclass(frozen=True, slots=True)
class Role:
    """Who writes a message: clients into requests, servers into responses; neither known: anybody."""

    in_requests: bool = False
    in_responses: bool = False

    def hurts_new_readers(self) -> tuple[Pairing, ...]:
        """Return for whom it fails when new readers refuse what old writers send."""
        return self._pairings(Pairing.OLD_CLIENT_NEW_SERVER, Pairing.NEW_CLIENT_OLD_SERVER)

    def hurts_old_readers(self) -> tuple[Pairing, ...]:
        """Return for whom it fails when old readers refuse what new writers send."""
        return self._pairings(Pairing.NEW_CLIENT_OLD_SERVER, Pairing.OLD_CLIENT_NEW_SERVER)

    def _pairings(self, request: Pairing, response: Pairing) -> tuple[Pairing, ...]:
        if self.in_requests == self.in_responses:
            return BOTH
        return (request,) if self.in_requests else (response,)


def update_first(pairings: tuple[Pairing, ...], until: str) -> str:
    """Return the remedy where old readers must be updated before new writers go beyond them.

    >>> update_first((Pairing.NEW_CLIENT_OLD_SERVER,), "fill it until then")
    'update servers first, and fill it until then'
    """
    who = "everybody"
    if len(pairings) == 1:
        who = "servers" if pairings[0] is Pairing.NEW_CLIENT_OLD_SERVER else "clients"
    return f"update {who} first, and {until}"


def message_changes(old: MessageType, new: MessageType, role: Role, relate: Relate) -> Iterator[Change]:
    """Yield the changes from one message to another."""
    old_numbers = {field.number: field for field in old.fields}
    new_numbers = {field.number: field for field in new.fields}
    new_names = {field.name: field for field in new.fields}
    pairs: list[tuple[Field, Field]] = []
    for field in old.fields:
        namesake, follower = new_names.get(field.name), new_numbers.get(field.number)
        if namesake is not None and namesake.number != field.number:
            yield change(
                "FIELD_RENUMBERED",
                field.full_name,
                old.file,
                was=f"number {field.number}",
                now=f"number {namesake.number}",
            )
        elif follower is None:
            yield from _removed_field(field, old, new, role)
        else:
            pairs.append((field, follower))
    for field, follower in pairs:
        yield from field_changes(field, follower, old.file, role, relate)
    yield from _oneof_changes(pairs, old)
    old_names = {field.name for field in old.fields}
    for field in new.fields:
        if field.is_needed and field.number not in old_numbers and field.name not in old_names:
            now = "required" if field.is_label_required else f"min_bytes {field.min_bytes}, always there"
            yield change(
                "FIELD_ADDED_NEEDED", field.full_name, new.file, was="none", now=now, pairings=role.hurts_new_readers()
            )
    added = [(field.name, field.number, field.full_name) for field in new.fields if field.number not in old_numbers]
    yield from _reservation_changes(old, new, added, {field.number for field in new.fields}, set(new_names))


def field_changes(old: Field, new: Field, file: str, role: Role, relate: Relate) -> Iterator[Change]:
    """Yield the changes from one field to another of the same number, but for those of their oneofs."""

    def made(kind: str, was: str, now: str, pairings: tuple[Pairing, ...] | None = None, remedy: str = "") -> Change:
        return change(kind, old.full_name, file, was=was, now=now, pairings=pairings, remedy=remedy)

    if old.name != new.name:
        yield made("FIELD_RENAMED", old.name, new.name)
    elif old.json_name != new.json_name:
        yield made("FIELD_JSON_NAME_CHANGED", old.json_name, new.json_name)
    if old.is_repeated != new.is_repeated:
        yield made("FIELD_CARDINALITY_CHANGED", old.type_text, new.type_text)
        return
    values = type_change(old.kind, new.kind)
    if values is TypeChange.UNREADABLE:
        yield made("FIELD_TYPE_CHANGED", old.type_text, new.type_text)
        return
    if values is TypeChange.NONE and old.type_name != new.type_name:
        relation = relate(old.type_name, new.type_name)
        if relation.difference:
            yield made("FIELD_TYPE_CHANGED", old.type_text, f"{new.type_text} ({relation.difference})")
            return
        if not relation.is_same and not (old.is_map and new.is_map):
            yield made("TYPE_REPLACED", old.type_text, new.type_text)
    if values is TypeChange.NARROWED:
        # Where the old type cannot hold the new one's values either, both sides misread.
        also_back = type_change(new.kind, old.kind) is TypeChange.NARROWED
        pairings = BOTH if also_back else role.hurts_new_readers()
        yield made("FIELD_TYPE_NARROWED", old.type_text, new.type_text, pairings)
    elif values is TypeChange.WIDENED:
        pairings = role.hurts_old_readers()
        remedy = update_first(pairings, "write no value beyond the old type until then")
        yield made("FIELD_TYPE_WIDENED", old.type_text, new.type_text, pairings, remedy)
    if old.default != new.default and not old.is_repeated:
        yield made("FIELD_DEFAULT_CHANGED", old.default or "none", new.default or "none")
    if old.is_packed != new.is_packed:
        was, now = ("packed" if field.is_packed else "not packed" for field in (old, new))
        yield made("FIELD_PACKING_CHANGED", was, now)
    yield from _presence_changes(old, new, file, role)
    for name, narrows_when_lower in (("max_bytes", True), ("min_bytes", False), ("max_items", True)):
        yield from limit_changes(
            name,
            (getattr(old, name), getattr(new, name)),
            (old.full_name, file),
            role,
            narrows_when_lower=narrows_when_lower,
        )


def limit_changes(
    name: str,
    limits: tuple[int | None, int | None],
    place: tuple[str, str],
    role: Role,
    *,
    narrows_when_lower: bool = True,
) -> Iterator[Change]:
    """Yield the change of a limit, if there is one.

    Args:
        name: of the option.
        limits: before and after; None = no limit.
        place: full name and file.
        role: who writes what is limited.
        narrows_when_lower: False for a least size.
    """
    old, new = limits
    if old == new:
        return
    was, now = (f"no {name}" if limit is None else f"{name} {limit}" for limit in limits)
    is_narrowed = old is None or (new is not None and (new < old) == narrows_when_lower)
    if is_narrowed:
        yield change("LIMIT_NARROWED", *place, was=was, now=now, pairings=role.hurts_new_readers())
    else:
        pairings = role.hurts_old_readers()
        remedy = update_first(pairings, "stay within the old limit until then")
        yield change("LIMIT_WIDENED", *place, was=was, now=now, pairings=pairings, remedy=remedy)


def enum_changes(old: EnumType, new: EnumType) -> Iterator[Change]:
    """Yield the changes from one enum to another."""
    new_numbers = dict(new.values)
    followers: dict[int, str] = {}
    for name, number in new.values:
        followers.setdefault(number, name)
    for name, number in old.values:
        place = f"{old.full_name}.{name}"
        found = new_numbers.get(name)
        if found == number:
            continue
        if found is not None:
            yield change("ENUM_VALUE_RENUMBERED", place, old.file, was=f"number {number}", now=f"number {found}")
            continue
        if number in followers:
            yield change("ENUM_VALUE_RENAMED", place, old.file, was=name, now=followers[number])
        else:
            yield from _removed("ENUM_VALUE_REMOVED", place, (name, number), old, new)
    if old.values[0][1] != new.values[0][1]:
        was, now = (f"{name} = {number}" for name, number in (old.values[0], new.values[0]))
        yield change("ENUM_DEFAULT_CHANGED", old.full_name, old.file, was=was, now=now)
    known = {number for _, number in old.values}
    added = [(name, number, f"{new.full_name}.{name}") for name, number in new.values if number not in known]
    yield from _reservation_changes(old, new, added, set(new_numbers.values()), set(new_numbers))


def _removed_field(field: Field, old: MessageType, new: MessageType, role: Role) -> Iterator[Change]:
    yield from _removed("FIELD_REMOVED", field.full_name, (field.name, field.number), old, new)
    if field.is_needed:
        was = "required" if field.is_label_required else f"min_bytes {field.min_bytes}, always there"
        pairings = role.hurts_old_readers()
        yield change("FIELD_REMOVED_NEEDED", field.full_name, old.file, was=was, now="removed", pairings=pairings)


def _removed(
    kind: str, place: str, what: tuple[str, int], old: MessageType | EnumType, new: MessageType | EnumType
) -> Iterator[Change]:
    name, number = what
    was = f"{name} = {number}"
    if _covers(new.reserved, number):
        has_name = name in new.reserved_names
        remedy = "" if has_name else f'reserve the name too: reserved "{name}";'
        yield change(kind, place, old.file, was=was, now="reserved" if has_name else "number reserved", remedy=remedy)
    else:
        remedy = f'reserve it: reserved {number}; reserved "{name}";'
        yield change(f"{kind}_UNRESERVED", place, old.file, was=was, now="removed, not reserved", remedy=remedy)


def _presence_changes(old: Field, new: Field, file: str, role: Role) -> Iterator[Change]:
    def text(field: Field) -> str:
        if field.is_label_required:
            return "required"
        return "optional" if field.has_presence else "always there"

    if old.is_needed != new.is_needed:
        # A least size that is new says so itself.
        if (old.min_bytes is None) == (new.min_bytes is None):
            pairings = role.hurts_new_readers() if new.is_needed else role.hurts_old_readers()
            kind = "FIELD_NOW_NEEDED" if new.is_needed else "FIELD_NO_LONGER_NEEDED"
            remedy = "" if new.is_needed else update_first(pairings, "fill the field until then")
            yield change(kind, old.full_name, file, was=text(old), now=text(new), pairings=pairings, remedy=remedy)
    elif old.has_presence != new.has_presence and old.oneof == new.oneof:
        yield change("FIELD_PRESENCE_CHANGED", old.full_name, file, was=text(old), now=text(new))


def _oneof_changes(pairs: list[tuple[Field, Field]], message: MessageType) -> Iterator[Change]:
    """Yield what became of oneofs, as far as fields of both sets are concerned."""
    old_groups = _groups((old.oneof, old.number) for old, _ in pairs)
    new_groups = _groups((new.oneof, old.number) for old, new in pairs)
    renamed: set[str] = set()
    for old, new in pairs:
        if old.oneof == new.oneof:
            continue
        before, after = old_groups.get(old.oneof, set()), new_groups.get(new.oneof, set())
        was, now = old.oneof or "in no oneof", new.oneof or "in no oneof"
        if before == after:
            if old.oneof not in renamed:
                renamed.add(old.oneof)
                yield change("ONEOF_RENAMED", f"{message.full_name}.{old.oneof}", message.file, was=was, now=now)
        elif len(before) <= 1 and len(after) <= 1:
            yield change("FIELD_ONEOF_OF_ONE", old.full_name, message.file, was=was, now=now)
        else:
            yield change("FIELD_ONEOF_CHANGED", old.full_name, message.file, was=was, now=now)


def _groups(members: Iterator[tuple[str, int]]) -> dict[str, set[int]]:
    groups: dict[str, set[int]] = {}
    for oneof, number in members:
        if oneof:
            groups.setdefault(oneof, set()).add(number)
    return groups


def _reservation_changes(
    old: MessageType | EnumType,
    new: MessageType | EnumType,
    added: list[tuple[str, int, str]],
    used_numbers: set[int],
    used_names: set[str],
) -> Iterator[Change]:
    for name, number, place in added:
        if _covers(old.reserved, number):
            yield change("RESERVED_NUMBER_REUSED", place, new.file, was=f"{number} reserved", now=f"{name} = {number}")
        if name in old.reserved_names:
            yield change("RESERVED_NAME_REUSED", place, new.file, was=f'"{name}" reserved', now=f"{name} = {number}")
    used = tuple(sorted((number, number) for number in used_numbers))
    for first, last in _without(old.reserved, tuple(sorted((*new.reserved, *used)))):
        text = str(first) if first == last else f"{first} to {last}"
        yield change(
            "RESERVATION_REMOVED",
            old.full_name,
            old.file,
            was=f"{text} reserved",
            now="not reserved",
            remedy=f"reserve it again: reserved {text};",
        )
    for name in old.reserved_names:
        if name not in new.reserved_names and name not in used_names:
            remedy = f'reserve it again: reserved "{name}";'
            yield change(
                "RESERVED_NAME_REMOVED",
                old.full_name,
                old.file,
                was=f'"{name}" reserved',
                now="not reserved",
                remedy=remedy,
            )


def _covers(ranges: Ranges, number: int) -> bool:
    """Return whether a number is in one of sorted ranges, which never overlap."""
    index = bisect_right(ranges, (number, number))
    return any(first <= number <= last for first, last in ranges[max(0, index - 1) : index + 1])


def _without(ranges: Ranges, taken: Ranges) -> Iterator[tuple[int, int]]:
    """Yield what of sorted ranges is in none of the sorted taken ones.

    >>> list(_without(((2, 9), (20, 20)), ((1, 2), (5, 6), (20, 30))))
    [(3, 4), (7, 9)]
    """
    index = 0
    for first, last in ranges:
        start = first
        while index < len(taken) and taken[index][1] < start:
            index += 1
        position = index
        while position < len(taken) and taken[position][0] <= last:
            taken_first, taken_last = taken[position]
            if taken_first > start:
                yield start, taken_first - 1
            start = max(start, taken_last + 1)
            position += 1
        if start <= last:
            yield start, last
