"""There is a strategy for every public value type; all that is drawn is taken by the code that checks such values."""

from __future__ import annotations

import dataclasses
import doctest
import enum
import importlib
import inspect
import pkgutil
import subprocess
import sys
import typing
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import hostmesh
from hostmesh import (
    ChatMessage,
    ChatWork,
    EngineEvent,
    Explanation,
    HostCriteria,
    HostDescription,
    HostInfo,
    HostState,
    JobLimits,
    ModelOffer,
    PeerId,
    Price,
    Role,
    SourceQuery,
    Work,
)
from hostmesh.discovery.funnel import Funnel
from hostmesh.discovery.ranking import Score
from hostmesh.discovery.terms import Place
from hostmesh.errors import UsageError
from hostmesh.jobs.stats import JobStats
from hostmesh.jobs.watch import WatchedJob
from hostmesh.messaging.direct import Ack, Message
from hostmesh.net.network import BoundListener
from hostmesh.reputation.score import Reputation
from hostmesh.testing import DhtLies, DhtManner, HostLies, JobLie, LinkProfile, PingLie, SlowKind, Slowness
from hostmesh.testing import strategies as strategies_module
from hostmesh.testing.strategies import STRATEGIES, values_of
from hostmesh.v1 import discovery_pb2

NO_VALUES = {BoundListener, WatchedJob}
"""An open listener, and a job that runs."""
BESIDE = {Ack, Message, Reputation}
"""Public values that annotations do not lead to: behind a protocol or ``Any``."""
OF_THE_KIT = {DhtLies, DhtManner, HostLies, JobLie, LinkProfile, PingLie, SlowKind, Slowness}
"""What adversaries and links of the kit are told."""

ITERATES = {"__aiter__", "__anext__", "__aenter__", "__iter__", "__next__", "__enter__"}


# --- none is missing ---


class Closure:
    """The value types that the public names lead to, by the annotations of fields, methods and functions."""

    def __init__(self) -> None:
        self.found: set[object] = set()
        self._names: dict[str, object] = {}
        for module in pkgutil.walk_packages(hostmesh.__path__, "hostmesh."):
            if not any(part in module.name for part in ("libp2p", ".testing", ".cli", ".v1", ".__main__")):
                for name, value in vars(importlib.import_module(module.name)).items():
                    if str(getattr(value, "__module__", "")).startswith("hostmesh"):
                        self._names[name] = value

    def walk(self, thing: Any) -> None:
        if isinstance(thing, list | tuple):
            for each in thing:
                self.walk(each)
            return
        self.walk(typing.get_args(thing))
        home = getattr(thing, "__module__", "") or ""
        if not home.startswith("hostmesh") or home.startswith("hostmesh.v1") or thing in self.found:
            return
        if isinstance(thing, FunctionType):
            self._hints(thing)
        elif isinstance(thing, typing.NewType) or inspect.isclass(thing):
            self.found.add(thing)
            if inspect.isclass(thing) and not issubclass(thing, enum.Enum | Exception):
                self._hints(thing)
                for name, member in vars(thing).items():
                    member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                    if (not name.startswith("_") or name in ITERATES) and callable(member):
                        self.walk(inspect.unwrap(member))

    def _hints(self, thing: Any) -> None:
        names = {**self._names, **vars(sys.modules[thing.__module__])}
        for name, hint in inspect.get_annotations(thing).items():
            if name != "task_status":  # of trio_typing, which nobody needs at run time
                self.walk(eval(hint, names) if isinstance(hint, str) else hint)

    def values(self) -> set[object]:
        def is_value(thing: object) -> bool:
            if isinstance(thing, typing.NewType):
                return True
            assert inspect.isclass(thing)
            return dataclasses.is_dataclass(thing) or issubclass(thing, enum.Enum)

        return {thing for thing in self.found if is_value(thing)} - NO_VALUES


def test_no_public_value_type_is_missing() -> None:
    closure = Closure()
    for name in hostmesh.__all__:
        closure.walk(getattr(hostmesh, name))
    values = closure.values()
    # The search itself works: it finds what is named, and what is only led to.
    assert {HostInfo, PeerId, Price, Place, HostState, Score} <= values
    missing = (values | BESIDE | OF_THE_KIT | {Work, EngineEvent}) - set(STRATEGIES)
    assert not missing, sorted(str(each) for each in missing)


def test_every_union_that_is_named_has_one() -> None:
    unions = [getattr(hostmesh, name) for name in hostmesh.__all__]
    for union in unions:
        if typing.get_args(union):
            assert union in STRATEGIES


def test_an_unknown_type_is_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match="no strategy for dict") as refused:
        values_of(dict)
    assert "STRATEGIES" in refused.value.remedy


def test_docstring_examples() -> None:
    failed, attempted = doctest.testmod(strategies_module)
    assert attempted > 0
    assert failed == 0


# --- it shrinks well ---


def minimal(kind: Any) -> Any:
    return find(values_of(kind), lambda value: True)


@pytest.mark.parametrize(
    ("kind", "smallest"),
    [
        (HostCriteria, HostCriteria()),
        (Price, Price(micros_per_mtok=0, currency="USD")),
        (Place, Place(country_code="US")),
        (ModelOffer, ModelOffer(model_id="0")),
        (HostDescription, HostDescription(models=[ModelOffer(model_id="0")])),
        (SourceQuery, SourceQuery(model_ids=(), country_code=None, limit=1)),
        (Reputation, Reputation(good=0, bad=0)),
        (HostState, HostState.AVAILABLE),
        (HostLies, HostLies()),
        (DhtLies, DhtLies(honest_requests=0)),
        (Slowness, Slowness()),
        (JobLimits, None),
    ],
    ids=str,
)
def test_it_shrinks_to_the_smallest(kind: Any, smallest: object) -> None:
    drawn = minimal(kind)
    if smallest is None:
        assert drawn.max_concurrent_jobs == drawn.max_jobs_per_peer == 1
        assert drawn.max_output_tokens is None
    else:
        assert drawn == smallest


def test_it_shrinks_to_what_matters() -> None:
    """Nothing is left beside what the condition asks for."""
    criteria = find(values_of(HostCriteria), lambda value: value.max_price and value.max_price.micros_per_mtok >= 5)
    assert criteria == HostCriteria(max_price=Price(micros_per_mtok=5, currency="USD"))
    work = find(values_of(ChatWork), lambda value: "stop" in value.parameters)
    assert work == ChatWork(
        model_id="0",
        messages=(ChatMessage(role=Role.SYSTEM, content=""),),
        max_output_tokens=1,
        parameters={"stop": ("0",)},
    )


@pytest.mark.parametrize(
    ("kind", "is_rare"),
    [
        (HostCriteria, lambda value: value.max_price is not None and value.location is not None),
        (ChatWork, lambda value: {"stop", "temperature"} <= set(value.parameters)),
        (JobStats, lambda value: value.active_jobs and value.outcomes),
        (HostInfo, lambda value: value.state is HostState.WITHDRAWN),
        (Funnel, lambda value: value.relaxation is not None),
        (Explanation, lambda value: value.choices),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_more_than_the_smallest_is_drawn(kind: Any, is_rare: Callable[[Any], object]) -> None:
    """A strategy that always gives the smallest would pass all of the above."""
    only_look = settings(phases=[Phase.generate], max_examples=1000, derandomize=True, database=None, deadline=None)
    assert is_rare(find(values_of(kind), lambda value: bool(is_rare(value)), settings=only_look))


@given(st.data())
def test_the_record_that_is_drawn_is_of_a_host_whose_keys_exist(data: st.DataObject) -> None:
    info = data.draw(values_of(HostInfo))
    assert discovery_pb2.SignedHostRecord.FromString(info.signed).binding.operator == info.operator


# --- Hypothesis is not needed for anything else ---


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_hypothesis_is_imported_when_the_first_strategy_is_made() -> None:
    code = """
import sys
from hostmesh import Price
from hostmesh.testing import strategies
print("hypothesis" in sys.modules)
strategies.values_of(Price)
print("hypothesis" in sys.modules)
"""
    assert run(code).split() == ["False", "True"]


def test_without_hypothesis_the_error_says_what_to_do() -> None:
    code = """
import sys
sys.modules["hypothesis"] = None
from hostmesh import Price, UsageError
from hostmesh.testing import strategies
try:
    strategies.values_of(Price)
except UsageError as error:
    print(error, "|", error.remedy)
"""
    said = run(code)
    assert "Hypothesis, which is not installed" in said
    assert "pip install" in said
