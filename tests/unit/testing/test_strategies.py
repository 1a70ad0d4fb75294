"""There is a strategy for every public value type; all that is drawn is taken by the code that checks such values."""

from __future__ import annotations

import dataclasses
import doctest
import enum
import importlib
import inspect
import math
import pkgutil
import subprocess
import sys
import typing
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

import hostmesh
from hostmesh import (
    Advert,
    Candidate,
    ChatMessage,
    ChatWork,
    EmbeddingWork,
    EngineEvent,
    Explanation,
    HostChoice,
    HostCriteria,
    HostDescription,
    HostInfo,
    HostState,
    HostStatus,
    JobLimits,
    ModelInfo,
    ModelOffer,
    NodeUsage,
    PeerId,
    Price,
    Role,
    Settings,
    SourceQuery,
    System,
    TextPiece,
    Vector,
    Work,
    load_settings,
    parse_peer_id,
)
from hostmesh.discovery.funnel import Funnel
from hostmesh.discovery.ranking import AUTO, SCALE, Score
from hostmesh.discovery.stats import SourceStats
from hostmesh.discovery.terms import Place
from hostmesh.errors import RemoteProtocolError, UsageError
from hostmesh.jobs.content import build_input, work_of
from hostmesh.jobs.parameters import check_parameters, decode_parameters, encode_parameters
from hostmesh.jobs.stats import JobStats
from hostmesh.messaging.body import decode_body, encode_body
from hostmesh.messaging.direct import Ack, Message
from hostmesh.model_kind import ModelKind
from hostmesh.net.address import address_from_bytes, address_to_bytes, parse_address
from hostmesh.net.network import BoundListener
from hostmesh.reputation.score import Reputation
from hostmesh.settings import LoadedSettings
from hostmesh.status.snapshot import status_from_proto, status_to_proto
from hostmesh.testing import strategies as strategies_module
from hostmesh.testing.broken_records import BrokenRecord
from hostmesh.testing.records import EPOCH_UNIX_S, make_description, make_host_record, read_host_record
from hostmesh.testing.strategies import STRATEGIES, values_of
from hostmesh.v1 import discovery_pb2, job_pb2
from hostmesh.wire.bounds import check_bounds

NO_VALUES = {BoundListener}
"""It holds an open listener."""
BESIDE = {Ack, Message, Reputation}
"""Public values that annotations do not lead to: behind a protocol or ``Any``."""

ITERATES = {"__aiter__", "__anext__", "__aenter__", "__iter__", "__next__", "__enter__"}


# --- none is missing ---


class Closure:
    """The value types that the public names lead to, by the annotations of fields, methods and functions."""

    def __init__(self) -> None:
        self.found: set[object] = set()
        self._names: dict[str, object] = {}
        for module in pkgutil.walk_packages(hostmesh.__path__, "hostmesh."):
            if not any(part in module.name for part in ("libp2p", ".testing", ".cli", ".v1")):
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
    missing = (values | BESIDE | {Work, EngineEvent}) - set(STRATEGIES)
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


# --- what is drawn is accepted ---


def accept_host_info(info: HostInfo) -> None:
    signed = discovery_pb2.SignedHostRecord.FromString(info.signed)
    again = read_host_record(signed, now_unix_s=info.issued_at_unix_s)
    assert again == info
    assert again.dropped_addresses == 0


def accept_description(description: HostDescription) -> None:
    info = read_host_record(make_host_record(description=description))
    assert info.models == description.models
    assert (info.place, info.capabilities, info.protocols) == (
        description.place,
        description.capabilities,
        description.protocols,
    )
    assert (info.max_concurrent_jobs, info.max_queued_jobs) == (
        description.max_concurrent_jobs,
        description.max_queued_jobs,
    )


def accept_offer(offer: ModelOffer) -> None:
    accept_description(HostDescription(models=[offer]))


def accept_broken_record(broken: BrokenRecord) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        read_host_record(broken.signed, now_unix_s=EPOCH_UNIX_S)
    assert type(refused.value) is broken.error


def accept_addresses(value: Candidate | Advert) -> None:
    for address in value.addresses:
        assert str(parse_address(address)) == address
        assert address_from_bytes(address_to_bytes(address)) == address


def accept_choice(choice: HostChoice) -> None:
    assert choice.offer in choice.record.models
    assert choice.to_dict()["model"] == choice.model_id


def accept_funnel(funnel: Funnel) -> None:
    assert sum(funnel.rejected.values()) + funnel.matched == funnel.seen
    assert len(funnel.rejections) == funnel.seen - funnel.matched
    assert funnel.relaxation is None or funnel.matched == 0


def accept_explanation(explanation: Explanation) -> None:
    accept_funnel(explanation.funnel)
    assert len(explanation.choices) == explanation.funnel.matched
    for choice in explanation.choices:
        accept_choice(choice)


def accept_score(score: Score) -> None:
    parts = (score.reputation, score.price, score.uptime, score.latency)
    weights = (AUTO.reputation, AUTO.price, AUTO.uptime, AUTO.latency)
    assert all(0 <= part <= SCALE for part in parts)
    assert score.total == sum(part * weight for part, weight in zip(parts, weights, strict=True))


def accept_work(work: ChatWork | EmbeddingWork) -> None:
    kind = ModelKind.CHAT if isinstance(work, ChatWork) else ModelKind.EMBEDDING
    model = ModelInfo(model_id=work.model_id, kind=kind, context_tokens=1, engine="e")
    limit, settings_of_job = 0, {}
    if isinstance(work, ChatWork):
        request = job_pb2.RunRequest(quote_id=b"q" * 16, chat=build_input(messages=work.messages))  # type: ignore[arg-type]
        limit, settings_of_job = work.max_output_tokens, dict(work.parameters)
        assert check_parameters(settings_of_job) == settings_of_job
        assert decode_parameters(encode_parameters(settings_of_job)) == settings_of_job
    else:
        request = job_pb2.RunRequest(quote_id=b"q" * 16, embedding=build_input(texts=work.texts))  # type: ignore[arg-type]
    check_bounds(request)
    assert work_of(request, model, max_output_tokens=limit, parameters=settings_of_job) == work


def accept_message(message: ChatMessage) -> None:
    build_input(messages=[message])


def accept_vector(vector: Vector) -> None:
    wire = job_pb2.EmbeddingVector(index=vector.index, values=vector.values)
    check_bounds(wire)
    assert all(map(math.isfinite, vector.values))
    assert tuple(wire.values) == vector.values


def accept_piece(piece: TextPiece) -> None:
    assert len(piece.text.encode()) <= 65_536


def accept_model(model: ModelInfo) -> None:
    accept_offer(
        ModelOffer(
            model_id=model.model_id,
            kind=model.kind,
            context_tokens=model.context_tokens,
            max_output_tokens=model.max_output_tokens,
            quantisation=model.quantisation,
            weights_sha256=model.weights_sha256,
            engine=model.engine,
            parameters=tuple(sorted(model.parameters)),
        )
    )


def accept_status(status: HostStatus) -> None:
    wire = status_to_proto(status)
    check_bounds(wire)
    assert status_from_proto(wire) == status


def accept_job_stats(stats: JobStats) -> None:
    assert sum(stats.outcomes.values()) == stats.accepted - stats.active_jobs - stats.queued_jobs
    assert stats.active_jobs <= stats.max_concurrent_jobs
    assert stats.queued_jobs <= stats.max_queued_jobs


def accept_settings(drawn: Settings) -> None:
    given_values = {field.name: getattr(drawn, field.name) for field in dataclasses.fields(drawn)}
    assert load_settings(given_values, {"HOSTMESH_HOME": "/nowhere"}).settings == drawn


def accept_loaded(loaded: LoadedSettings) -> None:
    accept_settings(loaded.settings)
    assert set(loaded.origins) == {field.name for field in dataclasses.fields(Settings)}


def accept_system(system: System) -> None:
    assert system.unix_s() == system.unix_s()
    assert system.random_bytes(16) != system.random_bytes(16)
    assert len(system.random_bytes(3)) == 3


def accept_usage(usage: NodeUsage) -> None:
    assert usage.inbound_connections <= usage.connections


def accept_direct_message(message: Message) -> None:
    request = encode_body(message.message_id, message.body)
    check_bounds(request)
    assert decode_body(request) == message.body


def accept_source_stats(stats: SourceStats) -> None:
    assert stats.attempts == stats.successes + stats.failures + stats.cut_short


CHECKS: dict[object, Callable[[Any], object]] = {
    Advert: accept_addresses,
    BrokenRecord: accept_broken_record,
    Candidate: accept_addresses,
    ChatMessage: accept_message,
    ChatWork: accept_work,
    EmbeddingWork: accept_work,
    Explanation: accept_explanation,
    Funnel: accept_funnel,
    HostChoice: accept_choice,
    HostDescription: accept_description,
    HostInfo: accept_host_info,
    HostStatus: accept_status,
    JobStats: accept_job_stats,
    LoadedSettings: accept_loaded,
    Message: accept_direct_message,
    ModelInfo: accept_model,
    ModelOffer: accept_offer,
    NodeUsage: accept_usage,
    PeerId: parse_peer_id,
    Place: lambda place: Place.parse(str(place)) == place or pytest.fail("another place"),
    Price: lambda price: accept_description(make_description(price_micros_per_mtok=price.micros_per_mtok)),
    Score: accept_score,
    Settings: accept_settings,
    SourceStats: accept_source_stats,
    System: accept_system,
    TextPiece: accept_piece,
    Vector: accept_vector,
    Work: accept_work,
}
"""What takes such a value in the shipped code; the others have their constructor alone."""


def is_of(value: object, kind: object) -> bool:
    if isinstance(kind, typing.NewType):
        return isinstance(value, kind.__supertype__)
    return isinstance(value, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", STRATEGIES, ids=str)
def test_what_is_drawn_is_accepted(kind: Any) -> None:
    @settings(suppress_health_check=[HealthCheck.too_slow], max_examples=min(settings.default.max_examples, 50))
    @given(values_of(kind))
    def check(value: Any) -> None:
        assert is_of(value, kind)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            assert type(value)(**parts) == value
        CHECKS.get(kind, repr)(value)

    check()


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
