"""The settings that a job may carry: an allow list with types and ranges. Pure.

A name outside the list, or one that the model does not take, is refused by that name before any work is done; so is a
value of the wrong type or out of range. Nothing is clamped or dropped in silence.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from hostmesh.errors import ParameterError
from hostmesh.jobs.engine import ParameterValue
from hostmesh.v1 import job_pb2

MAX_PARAMETERS = 32
"""Most settings of one job; the bound of the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRule:
    """A real number in a closed range, open below where ``above_low``."""

    low: float
    high: float
    above_low: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerRule:
    """A whole number in a closed range."""

    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextsRule:
    """Some texts, none of them empty."""

    max_items: int
    max_bytes: int


Rule: TypeAlias = NumberRule | IntegerRule | TextsRule

ALLOWED: Mapping[str, Rule] = MappingProxyType(
    {
        "temperature": NumberRule(low=0.0, high=2.0),
        "top_p": NumberRule(low=0.0, high=1.0, above_low=True),
        "top_k": IntegerRule(low=0, high=1000),
        "seed": IntegerRule(low=0, high=2**31 - 1),
        "stop": TextsRule(max_items=16, max_bytes=256),
        "frequency_penalty": NumberRule(low=-2.0, high=2.0),
        "presence_penalty": NumberRule(low=-2.0, high=2.0),
    }
)
"""Every setting there is. Ranges of temperature, top_p and the penalties are the OpenAI API's; ``top_k`` (0 = off) and
the bounds of ``seed`` (what fits a signed 32-bit number) and ``stop`` are chosen here."""

_OWN_ARGUMENTS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "num_predict"})


def check_parameters(
    parameters: Mapping[str, object], *, supported: Collection[str] | None = None
) -> dict[str, ParameterValue]:
    """Return the parameters in their one normal form: floats, ints and tuples of texts.

    Args:
        parameters: by name; a number may be given as int, ``stop`` as one text or a sequence of them.
        supported: names that the model takes; None = not known here, the whole list is let through.

    Returns:
        A new dict in the order given.

    Raises:
        ParameterError: the first one that is not allowed, with its name. Nothing was done; correct it and try again.

    >>> check_parameters({"temperature": 0, "stop": "END"})
    {'temperature': 0.0, 'stop': ('END',)}
    """
    if len(parameters) > MAX_PARAMETERS:
        raise _invalid("parameters", f"{len(parameters)} parameters, at most {MAX_PARAMETERS} are allowed")
    return {name: _check_one(name, value, supported) for name, value in parameters.items()}


def encode_parameters(parameters: Mapping[str, ParameterValue]) -> list[job_pb2.Parameter]:
    """Return the wire form of checked parameters."""
    encoded = []
    for name, value in parameters.items():
        match value:
            case bool():
                item = job_pb2.Parameter(name=name, flag=value)
            case int():
                item = job_pb2.Parameter(name=name, integer=value)
            case float():
                item = job_pb2.Parameter(name=name, number=value)
            case str():
                item = job_pb2.Parameter(name=name, text=value)
            case _:
                item = job_pb2.Parameter(name=name, texts=job_pb2.TextList(values=value))
        encoded.append(item)
    return encoded


def decode_parameters(
    wire: Iterable[job_pb2.Parameter], *, supported: Collection[str] | None = None
) -> dict[str, ParameterValue]:
    """Return the parameters of a request, checked like :func:`check_parameters`.

    Raises:
        ParameterError: one is not allowed, has no value or comes twice.
    """
    parameters: dict[str, object] = {}
    for item in wire:
        if item.name in parameters:
            raise _invalid(item.name, "given twice")
        parameters[item.name] = _wire_value(item)
    return check_parameters(parameters, supported=supported)


def _wire_value(item: job_pb2.Parameter) -> object:
    match item.WhichOneof("value"):
        case "number":
            return item.number
        case "integer":
            return item.integer
        case "text":
            return item.text
        case "flag":
            return item.flag
        case "texts":
            return tuple(item.texts.values)
        case _:
            return None


def _check_one(name: str, value: object, supported: Collection[str] | None) -> ParameterValue:
    rule = ALLOWED.get(name)
    if rule is None:
        raise ParameterError(
            f"no host takes the parameter {name!r}",
            parameter=name,
            reason="UNSUPPORTED_PARAMETER",
            remedy="Give max_output_tokens as its own argument."
            if name in _OWN_ARGUMENTS
            else f"Use one of: {', '.join(sorted(ALLOWED))}.",
        )
    if supported is not None and name not in supported:
        raise ParameterError(
            f"the model does not take the parameter {name!r}",
            parameter=name,
            reason="UNSUPPORTED_PARAMETER",
            remedy=f"Leave it out; the model takes: {', '.join(sorted(supported)) or 'none'}.",
        )
    match rule:
        case NumberRule():
            return _check_number(name, value, rule)
        case IntegerRule():
            return _check_integer(name, value, rule)
        case TextsRule():
            return _check_texts(name, value, rule)


def _check_number(name: str, value: object, rule: NumberRule) -> float:
    if type(value) not in (int, float):
        raise _invalid(name, f"must be a number, not {type(value).__name__}")
    assert isinstance(value, (int, float))
    too_low = value <= rule.low if rule.above_low else value < rule.low
    # The comparison comes before float(): an int may be too large to convert.
    if too_low or value > rule.high or math.isnan(value):
        bracket = "(" if rule.above_low else "["
        raise _invalid(name, f"must be in {bracket}{rule.low:g}, {rule.high:g}]")
    return float(value)


def _check_integer(name: str, value: object, rule: IntegerRule) -> int:
    if type(value) is not int:
        raise _invalid(name, f"must be a whole number, not {type(value).__name__}")
    if not rule.low <= value <= rule.high:
        raise _invalid(name, f"must be in [{rule.low}, {rule.high}]")
    return value


def _check_texts(name: str, value: object, rule: TextsRule) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) for text in texts):
        raise _invalid(name, f"must be a text or a list of texts, not {type(value).__name__}")
    if not 1 <= len(texts) <= rule.max_items:
        raise _invalid(name, f"must be 1 to {rule.max_items} texts")
    if not all(1 <= utf8_size(text) <= rule.max_bytes for text in texts):
        raise _invalid(name, f"each text must be 1 to {rule.max_bytes} bytes of UTF-8")
    return tuple(texts)


def utf8_size(text: str) -> int:
    """Return the size of the text on the wire; 0 when it is empty or cannot be encoded (a lone surrogate)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


def _invalid(name: str, rule: str) -> ParameterError:
    return ParameterError(
        f"parameter {name!r}: {rule}",
        parameter=name,
        reason="INVALID_PARAMETER",
        remedy=f"Correct {name!r} or leave it out.",
    )
