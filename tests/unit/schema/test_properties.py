"""What holds for every pair of sets: nothing of nothing, there and back, adding is safe, order is nothing."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.schema.change import Change, Pairing
from hostmesh.schema.compatibility import compare
from hostmesh.v1 import options_pb2

SCALARS = ("INT32", "INT64", "UINT32", "SINT64", "FIXED32", "BOOL", "DOUBLE", "STRING", "BYTES")
SIZED = ("STRING", "BYTES")


def add_field(message: Any, number: int, kind: str, *, repeated: bool, limit: int, name: str = "") -> None:
    field = message.field.add(name=name or f"f{number}", number=number)
    field.type = getattr(FieldDescriptorProto, f"TYPE_{kind}")
    field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    if kind in SIZED:
        field.options.Extensions[options_pb2.max_bytes] = limit
    if repeated:
        field.options.Extensions[options_pb2.max_items] = limit


def add_service_options(draw: st.DrawFn, extensions: Any) -> None:
    highest, lowest = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    extensions[options_pb2.version] = f"1.{max(highest, lowest)}.0"
    extensions[options_pb2.min_version] = f"1.{min(highest, lowest)}.0"
    for option in (options_pb2.calls_per_peer, options_pb2.calls_of_all):
        stated = extensions[option]
        stated.max_concurrent = draw(st.sampled_from([0, 1, 10**6]))
        stated.calls_per_s = draw(st.sampled_from([0.0, 0.1, 1e6]))
        stated.burst = draw(st.sampled_from([0, 1, 10**6]))


@st.composite
def sets(draw: st.DrawFn) -> FileDescriptorSet:
    """A file with a few messages that refer to each other, an enum, and a service that takes and gives them."""
    file = FileDescriptorProto(name="t.proto", package="t", syntax="proto3", dependency=["hostmesh/v1/options.proto"])
    names = [f"M{n}" for n in range(draw(st.integers(2, 5)))]
    enum = file.enum_type.add(name="E")
    for number in range(draw(st.integers(1, 4))):
        enum.value.add(name=f"V{number}", number=number)
    for name in names:
        message = file.message_type.add(name=name)
        for number in draw(st.sets(st.integers(1, 30), max_size=6)):
            if draw(st.booleans()):
                other = message.field.add(
                    name=f"f{number}", number=number, type_name=f".t.{draw(st.sampled_from(names))}"
                )
                other.type, other.label = FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.LABEL_OPTIONAL
            else:
                kind, limit = draw(st.sampled_from(SCALARS)), draw(st.integers(1, 100))
                add_field(message, number, kind, repeated=draw(st.booleans()), limit=limit)
        start = draw(st.integers(40, 50))
        message.reserved_range.add(start=start, end=start + draw(st.integers(1, 9)))
    service = file.service.add(name="S")
    service.options.Extensions[options_pb2.protocol] = "p"
    add_service_options(draw, service.options.Extensions)
    for number in range(draw(st.integers(0, 3))):
        method = service.method.add(name=f"Call{number}", server_streaming=draw(st.booleans()))
        method.input_type, method.output_type = (f".t.{draw(st.sampled_from(names))}" for _ in range(2))
        method.options.Extensions[options_pb2.max_request_bytes] = draw(st.integers(1, 100))
        method.options.Extensions[options_pb2.max_response_bytes] = draw(st.integers(1, 100))
        if timeout_ms := draw(st.integers(0, 5)):
            method.options.Extensions[options_pb2.default_timeout_ms] = timeout_ms
        if level := draw(st.integers(0, 2)):
            method.options.idempotency_level = level
    return FileDescriptorSet(file=[file])


def copy_of(files: FileDescriptorSet) -> FileDescriptorSet:
    return FileDescriptorSet.FromString(files.SerializeToString())


@given(sets())
def test_a_set_and_itself_have_no_change(files: FileDescriptorSet) -> None:
    assert compare(files, copy_of(files)) == []


@given(sets(), st.randoms())
def test_order_is_nothing(files: FileDescriptorSet, random: Any) -> None:
    other = copy_of(files)
    (file,) = other.file
    for part in (
        file.message_type,
        *(message.field for message in file.message_type),
        *(s.method for s in file.service),
    ):
        shuffled = list(part)
        random.shuffle(shuffled)
        del part[:]
        part.extend(shuffled)
    assert compare(files, other) == []


@given(sets(), st.data())
def test_adding_is_no_change(files: FileDescriptorSet, data: st.DataObject) -> None:
    other = copy_of(files)
    (file,) = other.file
    for message in file.message_type:
        for number in data.draw(st.sets(st.integers(60, 70), max_size=3)):
            add_field(message, number, data.draw(st.sampled_from(SCALARS)), repeated=data.draw(st.booleans()), limit=9)
    file.message_type.add(name="Added").field.add(
        name="more", number=1, type=FieldDescriptorProto.TYPE_MESSAGE, label=1, type_name=".t.Added"
    )
    file.enum_type[0].value.add(name="LATER", number=77)
    file.service[0].method.add(name="Later", input_type=".t.Added", output_type=".t.M0")
    beside = file.service.add(name="S2")
    beside.CopyFrom(file.service[0])
    beside.name = "S2"
    beside.options.Extensions[options_pb2.version] = "2.0.0"
    beside.options.Extensions[options_pb2.min_version] = ""
    # And a range that goes on, above and below.
    grown = file.service[0].options.Extensions
    for option, more in ((options_pb2.version, 1), (options_pb2.min_version, -1)):
        minor = int(grown[option].split(".")[1])
        grown[option] = f"1.{max(0, minor + more)}.0"
    assert compare(files, other) == []


@given(sets(), sets())
def test_there_and_back_agree(one: FileDescriptorSet, two: FileDescriptorSet) -> None:
    """A narrower limit is a wider one on the way back, between the same peers; another type is another both ways."""
    names = [{message.name for message in files.file[0].message_type} | {"S"} for files in (one, two)]

    def of_both(changes: list[Change]) -> list[Change]:
        # A message that only one set has may be compared with what took its place, one way only.
        return [each for each in changes if each.place.split(".")[1] in names[0] & names[1]]

    there, back = of_both(compare(one, two)), of_both(compare(two, one))

    def places(changes: Any, *kinds: str) -> set[tuple[str, str, str]]:
        return {(each.place, each.was, each.now) for each in changes if each.kind in kinds}

    def turned(found: set[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
        return {(place, now, was) for place, was, now in found}

    assert places(there, "LIMIT_NARROWED") == turned(places(back, "LIMIT_WIDENED"))
    assert places(there, "CALL_LIMIT_NARROWED") == turned(places(back, "CALL_LIMIT_WIDENED"))
    for kinds in (
        ("FIELD_CARDINALITY_CHANGED",),
        ("FIELD_TYPE_NARROWED", "FIELD_TYPE_WIDENED"),
        ("METHOD_STREAMING_CHANGED",),
        ("LIMIT_NARROWED", "LIMIT_WIDENED"),
        ("CALL_LIMIT_NARROWED", "CALL_LIMIT_WIDENED"),
        ("DEFAULT_TIMEOUT_SHORTENED", "DEFAULT_TIMEOUT_LENGTHENED", "DEFAULT_TIMEOUT_REMOVED"),
        ("METHOD_NO_LONGER_IDEMPOTENT", "METHOD_NOW_IDEMPOTENT"),
        ("PROTOCOL_VERSION_CHANGED",),
    ):
        assert places(there, *kinds) == turned(places(back, *kinds))

    def pairings(changes: Any, kind: str) -> dict[tuple[str, frozenset[str]], set[Pairing]]:
        found = [each for each in changes if each.kind == kind]
        return {(each.place, frozenset({each.was, each.now})): set(each.pairings) for each in found}

    narrowed, widened = pairings(there, "LIMIT_NARROWED"), pairings(back, "LIMIT_WIDENED")
    # What turns old clients away from new servers lets new clients overtax old servers on the way back.
    for where, who in narrowed.items():
        assert widened[where] == {_other(each) for each in who} or len(who) == 2


def _other(pairing: Pairing) -> Pairing:
    return next(each for each in Pairing if each is not pairing)


@given(sets(), sets())
def test_the_same_question_has_the_same_answer(one: FileDescriptorSet, two: FileDescriptorSet) -> None:
    first = compare(one, two)
    assert first == compare(copy_of(one), copy_of(two))
    assert len(first) == len(set(first))
    assert [each.is_breaking for each in first] == sorted((each.is_breaking for each in first), reverse=True)
