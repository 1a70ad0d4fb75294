"""What metrics and traces tell of calls between two nodes of a simulated network."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.simulated import eventually, simulated

from hostmesh import (
    ClientMetrics,
    ClientTracing,
    RpcClient,
    RpcError,
    ServerMetrics,
    ServerTracing,
    StatusCode,
    System,
    UsageError,
    method,
)
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_service, open_nodes

RELAY = make_service("relay", streams=["Count"], Double=(Int64Value, Int64Value), Count=(Int64Value, Int64Value))
DOUBLE = method(RELAY, "Double", Int64Value, Int64Value)
COUNT = method(RELAY, "Count", Int64Value, Int64Value)
LINK = SimOptions(link=LinkProfile(latency_s=0.01))


class Handler:
    """Doubles what it is given, or has the next node do it."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str]] = []
        self.onward: Any = None
        self.error: Exception | None = None

    async def double(self, request: Int64Value, context: Any) -> Int64Value:
        self.metadata.append(dict(context.metadata))
        if self.error is not None:
            raise self.error
        if request.value < 0:
            await trio.sleep_forever()
        if self.onward is not None:
            return await self.onward(request)
        await trio.sleep(0.2)
        return Int64Value(value=2 * request.value)

    async def count(self, request: Int64Value, context: Any, send: Any) -> None:
        for value in range(request.value):
            await send(Int64Value(value=value))


class World:
    """Three nodes, of which the first is connected to both others."""

    def __init__(self, nodes: tuple[SimNode, ...]) -> None:
        self.nodes = nodes
        self.handlers = [Handler() for _ in nodes]

    def serve(self, number: int, *interceptors: Any) -> None:
        self.nodes[number].sdk.serve(RELAY, self.handlers[number], interceptors=interceptors)

    def client(self, number: int, *interceptors: Any) -> RpcClient:
        return self.nodes[number].sdk.get_rpc_client().with_interceptors(*interceptors)

    def clock_of(self, number: int) -> System:
        return self.nodes[number].machine.system


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 3) as nodes:
        yield World(tuple(nodes))


def samples(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return what a scrape shows: by name and the values of the labels."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, *(sample.labels[key] for key in ("service", "method", "code", "le") if key in sample.labels)): (
            sample.value
        )
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@simulated(world_on, network=LINK)
async def test_calls_are_counted_by_method_and_status_on_both_sides(world: World) -> None:
    made, served = CollectorRegistry(), CollectorRegistry()
    world.serve(0, ServerMetrics(served, system=world.clock_of(0)))
    client = world.client(1, ClientMetrics(made, system=world.clock_of(1)))
    far = world.nodes[0].peer_id
    for _ in range(3):
        await client.unary(far, DOUBLE, Int64Value(value=1), timeout_s=5)
    world.handlers[0].error = RpcError("no", status=StatusCode.NOT_FOUND)
    with pytest.raises(RpcError):
        await client.unary(far, DOUBLE, Int64Value(value=1), timeout_s=5)
    async with client.server_stream(far, COUNT, Int64Value(value=2), timeout_s=5) as responses:
        assert len([each async for each in responses]) == 2
    for side, registry in (("client", made), ("server", served)):
        seen = samples(registry)
        calls = f"hostmesh_rpc_{side}_calls_total"
        assert {key: value for key, value in seen.items() if key[0] == calls} == {
            (calls, "RelayService", "Double", "OK"): 3,
            (calls, "RelayService", "Double", "NOT_FOUND"): 1,
            (calls, "RelayService", "Count", "OK"): 1,
        }
        assert seen[f"hostmesh_rpc_{side}_calls_in_progress", "RelayService", "Double"] == 0
        duration = f"hostmesh_rpc_{side}_call_duration_seconds"
        assert seen[f"{duration}_count", "RelayService", "Double"] == 4
        # Three took the handler's 0.2 s of the simulation's clock, and on the client the way there and back besides.
        assert 0.599 < seen[f"{duration}_sum", "RelayService", "Double"] < 0.8
        assert seen[f"{duration}_bucket", "RelayService", "Double", "0.1"] == 1
        assert seen[f"{duration}_bucket", "RelayService", "Double", "0.25"] == 4


@simulated(world_on, network=LINK)
async def test_calls_in_progress_are_counted_while_they_are(world: World) -> None:
    registry = CollectorRegistry()
    world.serve(0, ServerMetrics(registry, system=world.clock_of(0)))
    in_progress = ("hostmesh_rpc_server_calls_in_progress", "RelayService", "Double")
    async with trio.open_nursery() as nursery:
        for _ in range(5):

            async def call() -> None:
                await world.client(1).unary(world.nodes[0].peer_id, DOUBLE, Int64Value(value=-1), timeout_s=60)

            nursery.start_soon(call)
        await eventually(lambda: samples(registry).get(in_progress) == 5)
        nursery.cancel_scope.cancel()
    await eventually(lambda: samples(registry)[in_progress] == 0)
    assert samples(registry)["hostmesh_rpc_server_calls_total", "RelayService", "Double", "CANCELLED"] == 5


def spans_of(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


def traced() -> tuple[TracerProvider, InMemorySpanExporter]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


@simulated(world_on, network=LINK)
async def test_one_trace_over_three_nodes(world: World) -> None:
    """Each node exports its own spans, as separate processes do; the wire alone connects them."""
    (first, seen_first), (middle, seen_middle), (last, seen_last) = traced(), traced(), traced()
    client = world.client(1, ClientTracing(first))
    onward = world.client(0, ClientTracing(middle))

    async def ask_last(request: Int64Value) -> Int64Value:
        return await onward.unary(world.nodes[2].peer_id, DOUBLE, request, timeout_s=5)

    world.handlers[0].onward = ask_last
    world.serve(0, ServerTracing(middle))
    world.serve(2, ServerTracing(last))
    with first.get_tracer("application").start_as_current_span("application") as root:
        answer = await client.unary(world.nodes[0].peer_id, DOUBLE, Int64Value(value=21), timeout_s=5)
    assert answer.value == 42
    (made, application) = sorted(spans_of(seen_first), key=lambda span: span.name != "RelayService/Double")
    served, asked = spans_of(seen_middle)
    (served_last,) = spans_of(seen_last)
    chain = [application, made, served, asked, served_last]
    assert [span.name for span in chain[1:]] == ["RelayService/Double"] * 4
    assert [span.kind.name for span in chain[1:]] == ["CLIENT", "SERVER", "CLIENT", "SERVER"]
    assert {span.context.trace_id for span in chain} == {root.get_span_context().trace_id}
    for above, below in pairwise(chain):
        assert below.parent is not None
        assert below.parent.span_id == above.context.span_id
    assert dict(made.attributes or {}) == {
        "rpc.system.name": "hostmesh",
        "rpc.method": "RelayService/Double",
        "rpc.response.status_code": "OK",
    }
    # As W3C Trace Context, section 3.2 writes it.
    context = made.context
    flags = f"{context.trace_flags:02x}"
    assert world.handlers[0].metadata == [{"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags}"}]
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize(
    ("status", "is_fault"), [(StatusCode.NOT_FOUND, False), (StatusCode.INTERNAL, True), (StatusCode.UNKNOWN, True)]
)
@simulated(world_on, network=LINK)
async def test_what_failed_is_marked_without_its_text(world: World, status: StatusCode, is_fault: bool) -> None:
    (first, seen_first), (last, seen_last) = traced(), traced()
    world.serve(0, ServerTracing(last))
    world.handlers[0].error = RpcError("the prompt was: secret", status=status)
    with pytest.raises(RpcError):
        await world.client(1, ClientTracing(first)).unary(
            world.nodes[0].peer_id, DOUBLE, Int64Value(value=1), timeout_s=5
        )
    (made,), (served,) = spans_of(seen_first), spans_of(seen_last)
    assert (made.status.is_ok, served.status.status_code.name) == (False, "ERROR" if is_fault else "UNSET")
    for span in (made, served):
        assert (span.attributes or {})["rpc.response.status_code"] == status.name
        assert "secret" not in span.to_json()


HOSTILE = (
    "",
    "00-0-0-0",
    "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
    "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
    "x" * 1024,
    "é" * 500,
)


@pytest.mark.parametrize("told", HOSTILE, ids=lambda told: told[:12])
@simulated(world_on, network=LINK)
async def test_a_trace_that_is_none_is_no_reason_to_fail(
    world: World, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    last, seen = traced()
    world.serve(0, ServerTracing(last))
    metadata = {"traceparent": told, "tracestate": "y" * 1024}
    answer = await world.client(1).unary(
        world.nodes[0].peer_id, DOUBLE, Int64Value(value=1), timeout_s=5, metadata=metadata
    )
    assert answer.value == 2
    (served,) = spans_of(seen)
    assert served.parent is None
    assert "opentelemetry" not in {record.name.partition(".")[0] for record in caplog.records}


@simulated(world_on, network=LINK)
async def test_metadata_that_is_full_goes_without_a_trace(world: World) -> None:
    first, seen = traced()
    world.serve(0)
    metadata = {f"key{number}": "v" for number in range(16)}
    await world.client(1, ClientTracing(first)).unary(
        world.nodes[0].peer_id, DOUBLE, Int64Value(value=1), timeout_s=5, metadata=metadata
    )
    assert world.handlers[0].metadata == [metadata]
    assert len(spans_of(seen)) == 1


@pytest.mark.parametrize(
    ("make", "library", "extra"),
    [
        (ClientMetrics, "prometheus_client", "metrics"),
        (ServerMetrics, "prometheus_client", "metrics"),
        (ClientTracing, "opentelemetry", "tracing"),
        (ServerTracing, "opentelemetry", "tracing"),
    ],
)
def test_without_its_extra_the_error_says_what_to_install(
    make: Any, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError) as raised:
        make()
    assert raised.value.remedy == f"pip install 'hostmesh[{extra}]'"
