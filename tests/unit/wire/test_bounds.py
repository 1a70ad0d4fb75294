"""Bounds: each is stated where its field stands, and each holds."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import tracemalloc
import weakref

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

import hostmesh.v1
from hostmesh.errors import FrameTooLargeError, MalformedMessageError
from hostmesh.v1 import discovery_pb2, envelope_pb2, job_pb2, options_pb2, rpc_pb2, session_pb2, status_pb2
from hostmesh.wire.bounds import MAX_DEPTH, MAX_PLANS, check_bounds, parse


def all_descriptors() -> list[Descriptor]:
    found: list[Descriptor] = []
    for module in pkgutil.iter_modules(hostmesh.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"hostmesh.v1.{module.name}").DESCRIPTOR
            queue = list(file.message_types_by_name.values())
            while queue:
                descriptor = queue.pop()
                found.append(descriptor)
                queue += descriptor.nested_types
    return found


def test_every_field_of_the_package_is_bounded() -> None:
    descriptors = all_descriptors()
    assert len(descriptors) > 30
    sized = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    unbounded = []
    for descriptor in descriptors:
        for field in descriptor.fields:
            options = field.GetOptions().Extensions
            if field.type in sized and not 0 < options[options_pb2.max_bytes] <= 1048576:
                unbounded.append(f"{field.full_name} lacks max_bytes")
            if field.is_repeated and not 0 < options[options_pb2.max_items] <= 65536:
                unbounded.append(f"{field.full_name} lacks max_items")
            if options[options_pb2.min_bytes] > options[options_pb2.max_bytes]:
                unbounded.append(f"{field.full_name} has min_bytes over max_bytes")
    assert unbounded == []


def test_every_message_of_the_package_can_be_checked() -> None:
    refused = {}
    for descriptor in all_descriptors():
        message = message_factory.GetMessageClass(descriptor)()
        try:
            check_bounds(message)
        except MalformedMessageError as error:
            refused[descriptor.name] = error.message
    # An empty message may break a least size, and nothing else.
    assert [message for message in refused.values() if "at least" not in message] == []
    assert refused["SessionGrant"].startswith("network has 0 bytes")


def test_a_field_without_a_bound_is_a_bug() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="t/unbounded.proto", package="t", syntax="proto3")
    fields = file.message_type.add(name="Unbounded").field
    fields.add(
        name="text",
        number=1,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Unbounded"))()
    with pytest.raises(TypeError, match=r"t\.Unbounded\.text"):
        check_bounds(message)


def price(currency: str = "USD") -> discovery_pb2.Price:
    return discovery_pb2.Price(price_micros_per_mtok=1, currency=currency)


CASES: list[tuple[Message, str]] = [
    (price(currency=""), "currency"),
    (price(currency="x" * 17), "currency"),
    (price(currency="é" * 9), "currency"),  # 9 characters, 18 bytes
    (discovery_pb2.ModelOffer(model_id="m" * 129), "model_id"),
    (discovery_pb2.ModelOffer(model_id="m", price=discovery_pb2.Price()), "price.currency"),
    (discovery_pb2.ModelOffer(model_id="m", parameters=["a"] * 33), "parameters"),
    (discovery_pb2.ModelOffer(model_id="m", parameters=["a", "b" * 33]), "parameters[1]"),
    (discovery_pb2.AnnounceRequest(record=discovery_pb2.SignedHostRecord(envelope=b"")), "record.envelope"),
    (envelope_pb2.PeerPublicKey(data=bytes(31)), "data"),
    (session_pb2.CloseSessionRequest(session_id=bytes(17)), "session_id"),
    (job_pb2.RunRequest(quote_id=bytes(16), chat=job_pb2.ChatInput(messages=[job_pb2.ChatMessage()])),
     "chat.messages[0].role"),
    (job_pb2.EmbeddingVector(values=[0.0] * 16385), "values"),
    (rpc_pb2.CallHeader(method="M", metadata=[rpc_pb2.MetadataEntry(key="k")] * 17), "metadata"),
    (rpc_pb2.Frame(status=rpc_pb2.Status(message="x" * 1025)), "status.message"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "field"), CASES, ids=[field for _, field in CASES])
def test_a_field_outside_its_bounds_is_named(message: Message, field: str) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        check_bounds(message)
    assert caught.value.field == field
    with pytest.raises(MalformedMessageError):
        parse(type(message), message.SerializeToString(), 1048576)


@pytest.mark.parametrize(
    "message",
    [
        price(currency="é" * 8),  # 16 bytes
        discovery_pb2.ModelOffer(model_id="m", parameters=["p" * 32] * 32),
        job_pb2.Parameter(name="stop", texts=job_pb2.TextList(values=["x"] * 16)),
        job_pb2.Parameter(name="n", text=""),
        job_pb2.EmbeddingVector(values=[0.0] * 16384),
        rpc_pb2.Frame(message=b""),
        status_pb2.PingRequest(),
    ],
)
def test_the_bounds_themselves_pass(message: Message) -> None:
    check_bounds(message)
    assert parse(type(message), message.SerializeToString(), 1048576) == message


def test_the_size_is_checked_before_parsing() -> None:
    with pytest.raises(FrameTooLargeError) as caught:
        parse(status_pb2.PingRequest, bytes(65), 64)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (65, 64)


@pytest.mark.parametrize(
    "data",
    [
        "0a",  # a length that is missing
        "0aff01",  # a length beyond the end
        "0f",  # an end-group tag without its group
        "00",  # field number 0
        "0a05616263",
    ],
)
def test_what_is_no_message_is_refused(data: str) -> None:
    with pytest.raises(MalformedMessageError):
        parse(status_pb2.PingRequest, bytes.fromhex(data), 64)


def test_invalid_utf8_is_refused() -> None:
    with pytest.raises(MalformedMessageError):
        parse(discovery_pb2.Price, bytes.fromhex("1201ff"), 64)


def test_unknown_fields_are_dropped_and_unknown_enums_stay() -> None:
    # field 1 (kind) = 99, field 15 = varint 7
    snapshot = parse(status_pb2.StatusSnapshot, bytes.fromhex("08637807"), 64)
    assert snapshot.state == 99
    assert snapshot.SerializeToString().hex() == "0863"


def test_what_cannot_break_a_bound_is_not_copied_to_look_at_it() -> None:
    data = rpc_pb2.Frame(message=bytes(262144)).SerializeToString()
    parse(rpc_pb2.Frame, data, 300_000)
    tracemalloc.start()
    try:
        parse(rpc_pb2.Frame, data, 300_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000


def test_a_type_that_holds_one_without_bounds_is_a_bug_each_time() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="t/mutual.proto", package="t", syntax="proto3")
    optional = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    for name, other in (("Left", "Right"), ("Right", "Left")):
        message = file.message_type.add(name=name)
        message.field.add(
            name="other",
            number=1,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
            label=optional,
            type_name=f".t.{other}",
        )
        message.field.add(name="text", number=2, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING, label=optional)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    for name in ("t.Left", "t.Right", "t.Left"):
        with pytest.raises(TypeError, match="has no bound"):
            check_bounds(message_factory.GetMessageClass(pool.FindMessageTypeByName(name))())


def test_depth_is_bounded() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="t/deep.proto", package="t", syntax="proto3")
    file.message_type.add(name="Deep").field.add(
        name="inner",
        number=1,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        type_name=".t.Deep",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    deep = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Deep"))

    def nested(levels: int) -> Message:
        message = inner = deep()
        for _ in range(levels):
            inner = inner.inner
            inner.SetInParent()
        return message

    check_bounds(nested(MAX_DEPTH))
    with pytest.raises(MalformedMessageError, match="nested deeper"):
        check_bounds(nested(MAX_DEPTH + 1))


def test_the_types_of_a_strange_schema_are_not_kept_for_ever() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="t/strange.proto", package="t", syntax="proto3")
    file.message_type.add(name="Strange")

    def check_strange() -> weakref.ref[type[Message]]:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        strange = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Strange"))
        check_bounds(strange())
        return weakref.ref(strange)

    seen = [check_strange() for _ in range(2 * MAX_PLANS)]
    gc.collect()
    assert sum(each() is not None for each in seen) <= MAX_PLANS
    check_bounds(price())
