"""The allow list of job parameters."""

from __future__ import annotations

import math

import pytest

from hostmesh.errors import ParameterError
from hostmesh.jobs.parameters import check_parameters, decode_parameters, encode_parameters
from hostmesh.v1 import job_pb2
from hostmesh.wire.bounds import check_bounds


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [
        ("temperature", 0, 0.0),
        ("temperature", 2, 2.0),
        ("top_p", 1, 1.0),
        ("top_p", 0.001, 0.001),
        ("top_k", 0, 0),
        ("top_k", 1000, 1000),
        ("seed", 2**31 - 1, 2**31 - 1),
        ("stop", "END", ("END",)),
        ("stop", ["a", "b"], ("a", "b")),
        ("stop", ["é" * 128] * 16, ("é" * 128,) * 16),
        ("frequency_penalty", -2, -2.0),
        ("presence_penalty", 2.0, 2.0),
    ],
)
def test_the_edges_of_every_range_are_in_it_and_survive_the_wire(name: str, value: object, normal: object) -> None:
    checked = check_parameters({name: value})
    assert checked == {name: normal}
    assert type(checked[name]) is type(normal)
    wire = encode_parameters(checked)
    for item in wire:
        check_bounds(item)
    assert decode_parameters([job_pb2.Parameter.FromString(item.SerializeToString()) for item in wire]) == checked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.001),
        ("temperature", 2.001),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", 10**400),
        ("temperature", "0.5"),
        ("temperature", True),
        ("temperature", None),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", 1.0),
        ("top_k", -1),
        ("top_k", 1001),
        ("top_k", True),
        ("seed", 2**31),
        ("seed", -1),
        ("stop", []),
        ("stop", ["x"] * 17),
        ("stop", ["x" * 257]),
        ("stop", ["é" * 129]),
        ("stop", ""),
        ("stop", [1]),
        ("stop", "\ud800"),
        ("stop", 7),
        ("frequency_penalty", -2.1),
        ("presence_penalty", 2.1),
    ],
)
def test_what_is_out_of_range_or_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ParameterError) as caught:
        check_parameters({name: value})
    assert caught.value.parameter == name
    assert caught.value.reason == "INVALID_PARAMETER"
    assert repr(name) in caught.value.message
    assert not caught.value.may_have_executed


@pytest.mark.parametrize("name", ["n", "logit_bias", "tools", "Temperature", "temperature ", "", "n_predict", "model"])
def test_what_is_not_on_the_list_is_refused_by_name(name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        check_parameters({"temperature": 0, name: 1})
    assert (caught.value.parameter, caught.value.reason) == (name, "UNSUPPORTED_PARAMETER")


def test_what_the_model_does_not_take_is_refused_by_name() -> None:
    with pytest.raises(ParameterError) as caught:
        check_parameters({"seed": 1, "top_k": 5}, supported={"seed"})
    assert (caught.value.parameter, caught.value.reason) == ("top_k", "UNSUPPORTED_PARAMETER")
    assert "seed" in caught.value.remedy


def test_the_limit_on_the_answer_is_an_argument_and_no_parameter() -> None:
    with pytest.raises(ParameterError) as caught:
        check_parameters({"max_tokens": 5})
    assert "max_output_tokens" in caught.value.remedy


def test_a_name_twice_and_a_name_without_value_are_refused_on_the_wire() -> None:
    one = job_pb2.Parameter(name="seed", integer=1)
    with pytest.raises(ParameterError, match="twice"):
        decode_parameters([one, one])
    with pytest.raises(ParameterError, match="seed"):
        decode_parameters([job_pb2.Parameter(name="seed")])
    with pytest.raises(ParameterError, match="seed"):
        decode_parameters([job_pb2.Parameter(name="seed", flag=True)])


def test_a_whole_number_is_a_number_on_the_wire_but_not_the_other_way() -> None:
    assert decode_parameters([job_pb2.Parameter(name="temperature", integer=1)]) == {"temperature": 1.0}
    with pytest.raises(ParameterError):
        decode_parameters([job_pb2.Parameter(name="top_k", number=1.0)])


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(ParameterError):
        check_parameters({f"p{n}": 1 for n in range(33)})
