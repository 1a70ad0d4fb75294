"""Bounds against a reading of every field, without a shortcut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.errors import MalformedMessageError
from hostmesh.v1 import discovery_pb2, envelope_pb2, job_pb2, message_pb2, options_pb2, rpc_pb2, session_pb2, status_pb2
from hostmesh.wire.bounds import check_bounds, parse


def breaches(message: Message, path: str = "") -> Iterator[str]:
    """Return the path of every field that is outside its bounds."""
    for field in message.DESCRIPTOR.fields:
        options: Any = field.GetOptions().Extensions
        value = getattr(message, field.name)
        if field.is_repeated:
            if len(value) > options[options_pb2.max_items]:
                yield path + field.name
            elements = [(f"{path}{field.name}[{index}]", element) for index, element in enumerate(value)]
        elif field.has_presence and not message.HasField(field.name):
            continue
        else:
            elements = [(path + field.name, value)]
        for name, element in elements:
            if field.message_type is not None:
                yield from breaches(element, name + ".")
            elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                size = len(element.encode() if isinstance(element, str) else element)
                if not options[options_pb2.min_bytes] <= size <= options[options_pb2.max_bytes]:
                    yield name


def refused_field(check: Callable[[], object]) -> str | None:
    """Return what a check complains about: empty for a message that is none, None when it passes."""
    try:
        check()
    except MalformedMessageError as error:
        return error.field
    return None


texts = st.text(max_size=40)
ids = st.binary(min_size=14, max_size=18)
parameters = st.builds(
    job_pb2.Parameter,
    name=texts,
    texts=st.none() | st.builds(job_pb2.TextList, values=st.lists(st.text(max_size=5), max_size=18)),
) | st.builds(job_pb2.Parameter, name=texts, text=st.integers(0, 300).map(lambda size: "x" * size))
entries = st.builds(rpc_pb2.MetadataEntry, key=st.text(max_size=70), value=st.sampled_from(["", "é" * 512, "é" * 513]))
messages = st.one_of(
    st.builds(status_pb2.PingRequest, nonce=st.binary(max_size=40)),
    st.builds(rpc_pb2.CallHeader, method=texts, session_id=ids, metadata=st.lists(entries, max_size=18)),
    st.builds(rpc_pb2.Frame, message=st.none() | st.binary(max_size=40), status=st.none() | st.builds(rpc_pb2.Status)),
    st.builds(job_pb2.QuoteRequest, model_id=texts, parameters=st.lists(parameters, max_size=34)),
    st.builds(job_pb2.RunRequest, quote_id=ids, parameters=st.lists(parameters, max_size=2)),
    st.builds(job_pb2.RunResponse, accepted=st.builds(job_pb2.JobAccepted, job_id=ids)),
    st.builds(job_pb2.RunResponse, text=st.builds(job_pb2.TextDelta, text=texts)),
    st.builds(session_pb2.CloseSessionRequest, session_id=ids),
)  # fmt: skip


@given(message=messages)
@example(message=job_pb2.EmbeddingVector(values=[0.0] * 16385))
@example(message=job_pb2.RunResponse(completed=job_pb2.JobCompleted(finish_reason="x" * 33)))
@example(message=discovery_pb2.HostRecord())
@example(message=rpc_pb2.Frame(message=bytes(1048577)))
def test_a_message_is_refused_exactly_when_a_field_is_outside_its_bounds(message: Message) -> None:
    wrong = list(breaches(message)) or [None]
    assert refused_field(lambda: check_bounds(message)) in wrong
    assert refused_field(lambda: check_bounds(message, message.ByteSize())) in wrong


TYPES = (
    rpc_pb2.Frame,
    discovery_pb2.AnnounceRequest,
    discovery_pb2.HostRecord,
    envelope_pb2.SignedEnvelope,
    job_pb2.RunRequest,
    job_pb2.RunResponse,
    message_pb2.SendRequest,
    session_pb2.AuthorizeRequest,
)


@given(data=st.binary(max_size=400), kind=st.sampled_from(TYPES))
def test_garbage_is_read_as_protobuf_reads_it_and_checked_in_full(data: bytes, kind: type[Message]) -> None:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        with pytest.raises(MalformedMessageError, match="not a"):
            parse(kind, data, 400)
        return
    message.DiscardUnknownFields()
    wrong = list(breaches(message)) or [None]
    assert refused_field(lambda: parse(kind, data, 400)) in wrong
    if wrong == [None]:
        read = parse(kind, data, 400)
        assert read.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
