"""All that a strategy draws is taken by the shipped code that checks such values."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from hostmesh import (
    Advert,
    Candidate,
    ChatMessage,
    ChatWork,
    EmbeddingWork,
    Explanation,
    Gpu,
    Hardware,
    HostChoice,
    HostCriteria,
    HostDescription,
    HostInfo,
    HostStatus,
    ModelInfo,
    ModelOffer,
    NodeUsage,
    PeerId,
    Price,
    Settings,
    System,
    TextPiece,
    Vector,
    Work,
    load_settings,
    parse_peer_id,
)
from hostmesh.discovery.funnel import Funnel
from hostmesh.discovery.protocol_range import ProtocolRange
from hostmesh.discovery.ranking import AUTO, SCALE, Score
from hostmesh.discovery.stats import SourceStats
from hostmesh.discovery.terms import Place
from hostmesh.errors import RemoteProtocolError
from hostmesh.jobs.content import build_input, work_of
from hostmesh.jobs.parameters import check_parameters, decode_parameters, encode_parameters
from hostmesh.jobs.stats import JobStats
from hostmesh.messaging.body import decode_body, encode_body
from hostmesh.messaging.direct import Message
from hostmesh.model_kind import ModelKind
from hostmesh.net.address import parse_address
from hostmesh.net.address_bytes import address_from_bytes, address_to_bytes
from hostmesh.settings import LoadedSettings
from hostmesh.status.snapshot import status_from_proto, status_to_proto
from hostmesh.testing.adversary_host import HostLies
from hostmesh.testing.broken_records import BrokenRecord
from hostmesh.testing.records import EPOCH_UNIX_S, make_description, make_host_record, read_host_record
from hostmesh.testing.strategies import STRATEGIES, values_of
from hostmesh.v1 import discovery_pb2, job_pb2
from hostmesh.wire.bounds import check_bounds


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
    assert (info.hardware, info.reachability) == (description.hardware, description.reachability)


def accept_hardware(hardware: Hardware) -> None:
    accept_description(HostDescription(models=[ModelOffer(model_id="m")], hardware=hardware))


def accept_gpu(gpu: Gpu) -> None:
    accept_hardware(Hardware(gpus=[gpu]))


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
    weights = AUTO.weights
    assert all(0 <= part.points <= SCALE for part in score.parts)
    assert score.total == (
        score.points("reputation") * weights.reputation
        + score.points("price") * weights.price
        + score.points("uptime") * weights.uptime
        + score.points("latency") * weights.latency
    )


def accept_range(wanted: ProtocolRange) -> None:
    assert ProtocolRange.parse(str(wanted)) == wanted
    assert HostCriteria(protocols=[str(wanted)]).protocol_ranges == (wanted,)
    version = "" if wanted.least is None else "/" + ".".join(map(str, wanted.least))
    assert wanted.is_served_by([wanted.name + version])


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
            tokenizer_sha256=model.tokenizer_sha256,
            chat_template_sha256=model.chat_template_sha256,
            engine=model.engine,
            engine_version=model.engine_version,
            output_millitokens_per_s=model.output_millitokens_per_s,
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


def accept_lies(lies: HostLies) -> None:
    """A host that lies so has a record that verifies: what is caught is caught later."""
    truth = make_description("m")
    claims = lies.claims(truth)
    record = make_host_record(description=claims, started_at_unix_s=max(EPOCH_UNIX_S - lies.extra_uptime_s, 1))
    assert len(read_host_record(record).models) == len(claims.models)


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
    Gpu: accept_gpu,
    Hardware: accept_hardware,
    HostDescription: accept_description,
    HostInfo: accept_host_info,
    HostLies: accept_lies,
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
    ProtocolRange: accept_range,
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
            parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
            assert type(value)(**parts) == value
        CHECKS.get(kind, repr)(value)

    check()
