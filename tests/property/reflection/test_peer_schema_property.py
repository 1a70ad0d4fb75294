"""Any bytes of a peer give a pool or one kind of error."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.peer_files import NAME, echo_file

from hostmesh.errors import MalformedMessageError
from hostmesh.reflection.peer_schema import read_schema_of
from hostmesh.v1 import discovery_pb2, status_pb2

SOUND = [echo_file().SerializeToString(), *(each.DESCRIPTOR.serialized_pb for each in (discovery_pb2, status_pb2))]
NAMES = [NAME, "hostmesh.v1.StatusService"]


@st.composite
def damaged(draw: st.DrawFn) -> list[bytes]:
    """Sound files with some bytes changed, cut out, put in or doubled."""
    files = [bytearray(each) for each in SOUND]
    for _ in range(draw(st.integers(0, 4))):
        file = draw(st.sampled_from(files))
        place = draw(st.integers(0, max(0, len(file) - 1)))
        end = min(len(file), place + draw(st.integers(0, 24)))
        file[place:end] = draw(st.one_of(st.binary(max_size=8), st.just(bytes(file[place:end] * 2))))
    return [bytes(each) for each in draw(st.permutations(files))]


def read(sent: list[bytes]) -> None:
    try:
        schema = read_schema_of(sent, NAMES)
    except MalformedMessageError as error:
        assert error.remedy  # noqa: PT017 - both ways are right
        return
    for methods in schema.methods.values():
        for method in methods.values():
            # What was built can be used.
            assert method.response_type.FromString(method.response_type().SerializeToString()) is not None


@given(st.lists(st.binary(max_size=400), max_size=4))
def test_any_bytes(sent: list[bytes]) -> None:
    read(sent)


@settings(max_examples=500)
@given(damaged())
def test_damaged_files(sent: list[bytes]) -> None:
    read(sent)
