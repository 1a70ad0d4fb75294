"""Whether peers that speak an old set of .proto files and peers that speak a new one understand each other. Pure.

What is compared is what stands on hostmesh's wire: protocol names and versions, method names, field numbers, types and
bounds. Names of packages, services, messages and fields are not on it; they break code and JSON, and are warnings.
What is only added is no change: a reader drops the fields that it does not know. hostmesh's own options are on nobody's
wire, and a set has them only where it uses them: they are left out.

A limit, like a wider type, binds the two sides in turn. A request is written by a client and read by a server: a
narrower limit turns away old clients, a wider one lets new clients send what old servers refuse. With a response it is
the other way round. Which a message is, the methods say that it is reached from; one that no method reaches may travel
as bytes inside others, and counts for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from hostmesh.schema.change import Change, Layer, Severity, change
from hostmesh.schema.descriptor_set import OPTIONS
from hostmesh.schema.fields import Relation, Role, enum_changes, field_changes, message_changes
from hostmesh.schema.model import Schema, read_schema, references
from hostmesh.schema.services import service_changes

MAX_REPLACED_DEPTH = 50
"""How deep messages that stand in for others are followed; deeper ones count as different."""


def compare(old: FileDescriptorSet, new: FileDescriptorSet) -> list[Change]:
    """Return what changed between two sets, what breaks first, then in order of place.

    Raises:
        SchemaError: one is no valid set; see :func:`hostmesh.schema.model.read_schema`.

    Cost: linear in the size of both, but for sorting.
    """
    return compare_schemas(read_schema(old, source="the old set"), read_schema(new, source="the new set"))


def compare_schemas(old: Schema, new: Schema) -> list[Change]:
    """Like :func:`compare`, for sets that were read."""
    found = set(_Comparison(_without_options(old), _without_options(new)).changes())
    return sorted(found, key=_order)


def _without_options(schema: Schema) -> Schema:
    return replace(
        schema,
        files={name: file for name, file in schema.files.items() if name != OPTIONS},
        messages={name: each for name, each in schema.messages.items() if each.file != OPTIONS},
        enums={name: each for name, each in schema.enums.items() if each.file != OPTIONS},
        extensions={name: each for name, each in schema.extensions.items() if each[0] != OPTIONS},
    )


def _order(change: Change) -> tuple[object, ...]:
    pairings = tuple(pairing.value for pairing in change.pairings)
    return (
        not change.is_breaking,
        change.place,
        change.kind,
        change.was,
        change.now,
        change.file,
        pairings,
        change.remedy,
    )


def refused(changes: Iterable[Change], *, strict: bool = False) -> list[Change]:
    """Return the changes that a check refuses.

    Args:
        changes: of :func:`compare`.
        strict: refuse too what breaks JSON or source code.
    """
    return [
        each
        for each in changes
        if each.severity is Severity.BREAKING or (strict and {Layer.JSON, Layer.SOURCE} & set(each.layers))
    ]


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new
        self._old_roles = _roles(old)
        self._new_roles = _roles(new)
        self._pairs: dict[tuple[str, str], tuple[Change, ...] | None] = {}
        """Changes by pair of messages; None while they are being found."""
        self._stand_ins: dict[str, str] = {}
        """Messages and enums that are gone, and what reads the same and stands in their place."""
        self._depth = 0

    def changes(self) -> Iterator[Change]:
        yield from self._files()
        yield from service_changes(self._old.services, self._new.services, self._follower, self._relate)
        for name in self._old.messages:
            follower = self._follower(name)
            if follower in self._new.messages:
                yield from self._message_changes(name, follower)
        for name, enum in self._old.enums.items():
            other = self._new.enums.get(self._follower(name))
            if other is not None:
                yield from enum_changes(enum, other)
        yield from self._extensions()
        for name, follower in self._stand_ins.items():
            if name in self._old.messages:
                yield from self._message_changes(name, follower)
        yield from self._removed_types()

    def _files(self) -> Iterator[Change]:
        for name, file in self._old.files.items():
            other = self._new.files.get(name)
            if other is None:
                continue
            if other.package != file.package:
                was, now = file.package or "none", other.package or "none"
                yield change("PACKAGE_CHANGED", name, name, was=was, now=now)
            if other.syntax != file.syntax:
                yield change("SYNTAX_CHANGED", name, name, was=file.syntax, now=other.syntax)

    def _follower(self, name: str) -> str:
        """Return the full name of a type or service in the new set, as far as names tell: its package may change."""
        new = self._new
        if name in new.messages or name in new.enums or name in new.services:
            return name
        thing = self._old.messages.get(name) or self._old.enums.get(name) or self._old.services.get(name)
        if thing is None or thing.file not in new.files:
            return name
        before, after = self._old.files[thing.file].package, new.files[thing.file].package
        bare = name[len(before) + 1 :] if before else name
        return f"{after}.{bare}" if after else bare

    def _relate(self, old_name: str, new_name: str) -> Relation:
        follower = self._follower(old_name)
        if follower == new_name:
            return Relation(is_same=True)
        if self._pairs.get((old_name, new_name), ()) is None:
            # A message inside itself: nothing speaks against it so far, and who asked first will tell.
            return Relation(is_same=False)
        changes: Iterable[Change]
        if old_name in self._old.messages and new_name in self._new.messages and self._depth < MAX_REPLACED_DEPTH:
            self._depth += 1
            changes = self._message_changes(old_name, new_name)
            self._depth -= 1
        elif old_name in self._old.enums and new_name in self._new.enums:
            changes = enum_changes(self._old.enums[old_name], self._new.enums[new_name])
        else:
            return Relation(is_same=False, difference="another type")
        # Another name for a number is no proof that the meaning is another, but here neither is the type the same.
        for each in changes:
            if each.is_breaking or each.kind.endswith(("_RENAMED", "_REMOVED")):
                return Relation(is_same=False, difference=f"{each.kind} {each.place}: {each.was} -> {each.now}")
        if follower not in self._new.messages and follower not in self._new.enums:
            self._stand_ins[old_name] = new_name
        return Relation(is_same=False)

    def _message_changes(self, old_name: str, new_name: str) -> tuple[Change, ...]:
        pair = old_name, new_name
        if pair not in self._pairs:
            self._pairs[pair] = None
            old, new = self._old.messages[old_name], self._new.messages[new_name]
            self._pairs[pair] = tuple(message_changes(old, new, self._role(*pair), self._relate))
        return self._pairs[pair] or ()

    def _role(self, old_name: str, new_name: str) -> Role:
        roles = self._old_roles.get(old_name, Role()), self._new_roles.get(new_name, Role())
        return Role(any(role.in_requests for role in roles), any(role.in_responses for role in roles))

    def _extensions(self) -> Iterator[Change]:
        by_number = {(extended, field.number): field for _, extended, field in self._new.extensions.values()}
        for name, (file, extended, field) in self._old.extensions.items():
            namesake = self._new.extensions.get(name)
            follower = by_number.get((self._follower(extended), field.number))
            if namesake is not None and namesake[1] == self._follower(extended) and namesake[2].number != field.number:
                was, now = f"number {field.number}", f"number {namesake[2].number}"
                yield change("FIELD_RENUMBERED", name, file, was=was, now=now)
            elif follower is None:
                yield change("EXTENSION_REMOVED", name, file, was=f"{field.number} of {extended}", now="removed")
            else:
                role = self._role(extended, self._follower(extended))
                yield from field_changes(field, follower, file, role, self._relate)

    def _removed_types(self) -> Iterator[Change]:
        referred = {
            inner
            for message in self._old.messages.values()
            for inner in references(message)
            if inner != message.full_name
        }
        referred |= {field.type_name for _, _, field in self._old.extensions.values()}
        known = self._new.messages.keys() | self._new.enums.keys()
        gone = {
            name
            for name in (*self._old.messages, *self._old.enums)
            if self._follower(name) not in known and name not in self._stand_ins
        }
        for name in gone:
            outer = name.rpartition(".")[0]
            message = self._old.messages.get(name)
            if outer in gone or (message is not None and message.is_map_entry):
                continue
            if message is None:
                yield change("ENUM_REMOVED", name, self._old.enums[name].file, was="there", now="removed")
            elif name in self._old_roles or name in referred:
                yield change("MESSAGE_REMOVED", name, message.file, was="there", now="removed")
            else:
                yield change("PAYLOAD_REMOVED", name, message.file, was="there", now="removed")


def _roles(schema: Schema) -> dict[str, Role]:
    """Return the roles of the messages that methods reach."""
    methods = [method for service in schema.services.values() for method in service.methods]
    requests = _reached(schema, (method.request for method in methods))
    responses = _reached(schema, (method.response for method in methods))
    return {name: Role(name in requests, name in responses) for name in requests | responses}


def _reached(schema: Schema, names: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in reached and name in schema.messages:
            reached.add(name)
            waiting.extend(references(schema.messages[name]))
    return reached
