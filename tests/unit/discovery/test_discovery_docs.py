"""The pages on discovery say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
from discovery_world import EPOCH, FakeReputation, make_description, make_info

from hostmesh.discovery.bans import INTRODUCER_WINDOW_S, MAX_BANS, MAX_STRANGERS_PER_INTRODUCER
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import MAX_GPUS
from hostmesh.discovery.funnel import sift
from hostmesh.discovery.matching import CRITERIA, HostView, ProbeResult
from hostmesh.discovery.measurement import Measurement, Origin
from hostmesh.discovery.misses import no_host
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.publisher import PublisherConfig
from hostmesh.discovery.ranking import AUTO, CHEAPEST, FASTEST, RELIABLE, SCALE, WeightedStrategy
from hostmesh.discovery.reach_watch import KEEP_S, SETTLE_S
from hostmesh.discovery.record import GRACE_S, MAX_ENVELOPE_BYTES, MAX_LIFE_S, MAX_RECORD_BYTES, MAX_SKEW_S
from hostmesh.discovery.records import MAX_NAMED
from hostmesh.discovery.search import SearchConfig
from hostmesh.discovery.sources.dht import MAX_PEERS_SOUGHT
from hostmesh.discovery.sweep import SweepConfig
from hostmesh.discovery.table import MAX_PAST_BYTES, MAX_PER_INTRODUCER, MAX_SEQUENCES_PER_ROW
from hostmesh.discovery.terms import Price
from hostmesh.jobs.throughput import LEAST_TOKENS, MAX_JOBS
from hostmesh.reputation.score import points
from hostmesh.status.server import STATUS_LIMITS

DOCS = Path(__file__).resolve().parents[3] / "docs"
GUIDE = (DOCS / "discovery.md").read_text(encoding="utf-8")
PROTOCOL = (DOCS / "protocols" / "discovery.md").read_text(encoding="utf-8")


def view(index: int, model: str = "m", price: int = 1, reputation: int = 100, latency_ms: float = 700) -> HostView:
    latency = Measurement(value=latency_ms, unit="ms", at_unix_s=EPOCH, samples=3, origin=Origin.MEASURED)
    return HostView(
        info=make_info(f"h{index}", make_description(model, price=price)),
        uptime=None,
        reputation=FakeReputation(points=reputation),
        probe=ProbeResult(latency=latency, readiness=None),
        sources=(),
    )


def test_the_example_of_a_funnel_is_what_the_code_says() -> None:
    views = [view(index, model="other") for index in range(29)]
    views += [view(100 + index, price=9) for index in range(3)]
    views += [view(200 + index, reputation=10) for index in range(6)]
    views += [view(300), view(301), view(302, latency_ms=611.5)]
    criteria = HostCriteria(
        required_models=["m"],
        max_price=Price(micros_per_mtok=5, currency="USD"),
        min_reputation=100,
        max_latency_ms=500,
    )
    error = no_host(sift(views, criteria)[1], criteria, AUTO)
    assert f"    {error.message}\n    {error.remedy}\n" in GUIDE


def test_the_example_of_a_wrong_clock_is_what_the_code_says() -> None:
    detail = "issued 60 s after the time of this machine's clock"
    untimely = {make_info(f"h{index}").peer_id: detail for index in range(3)}
    error = no_host(sift([], HostCriteria(), untimely=untimely)[1], HostCriteria(), AUTO)
    assert f"    {error.message}\n" in GUIDE
    assert f"more than {MAX_SKEW_S} s from this machine's clock" in GUIDE
    assert GRACE_S == MAX_SKEW_S


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("points from 0 to {:,}", SCALE),
        ("latency | {} ms / (", AUTO.anchors.latency_us // 1000),
        ("at most {} a search", SweepConfig().max_candidates),
        ("For {:.0f} s after a search", SearchConfig().warm_s),
        ("{:.0f} s after a first measured host matched", SearchConfig().settle_s),
        ("watches](#watching) take one of the last {:.0f} s for new", ProbeConfig().max_age_s),
        ("(up to {} for a `limit` above 32", ProbeConfig().max_attempts),
        ("a host takes [{} a second of one peer]", int(STATUS_LIMITS.per_peer.calls_per_s)),
        ("may search {:.0f} times a second", STATUS_LIMITS.per_peer.calls_per_s / (ProbeConfig().samples + 1)),
        ("and {:.0f} times at once", STATUS_LIMITS.per_peer.burst / (ProbeConfig().samples + 1)),
        ("(the DHT is asked for {:.0f} of them at most)", MAX_PEERS_SOUGHT),
        ("five at a time (not counting the slow ones), at most {} that fit", ProbeConfig().max_probes),
        ("that fit and {} in all", ProbeConfig().max_attempts),
        ("{} after ten failures", points(0, 10)),
        ("{} after ninety good jobs", points(90, 0)),
    ],
)
def test_the_guide_names_the_numbers_of_the_code(text: str, value: float) -> None:
    assert text.format(value) in GUIDE.replace("\n", " ").replace("  ", " ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 to {} s after it was issued", MAX_LIFE_S),
        ("accepted for {} s more", GRACE_S),
        ("gone everywhere within {} s", MAX_LIFE_S + GRACE_S),
        ("at most {:,} bytes", MAX_RECORD_BYTES),
        ("its envelope {:,}", MAX_ENVELOPE_BYTES),
        ("may bring {} other hosts", MAX_PER_INTRODUCER),
        ("renewed every {:.0f} s", PublisherConfig().renew_every_s),
        ("tries again every {:.0f} s", PublisherConfig().retry_every_s),
        ("at most {} connected peers", PublisherConfig().max_pushed),
        ("one proof or revocation in {:.0f} s", PublisherConfig().news_pause_s),
        ("renewed at once, then at most every {:.0f} s", PublisherConfig().least_between_s),
        ("dial the host back](reachability.md), {:.0f} s after", SETTLE_S),
        ("nobody could judge since holds for {:.0f} hours", KEEP_S / 3600),
        ("had {} tokens after the first piece", LEAST_TOKENS),
        ("the median of the last {} since the start", MAX_JOBS),
        ("across restarts (`bans.sqlite3` in the data directory): {:,} keys", MAX_BANS),
        ("of which one peer may tell {} in an hour", int(MAX_STRANGERS_PER_INTRODUCER * 3600 / INTRODUCER_WINDOW_S)),
        ("up to {} MiB of superseded ones", MAX_PAST_BYTES // 2**20),
        ("the digests of {} sequences", MAX_SEQUENCES_PER_ROW),
        ("remembered for {:,} peers of each source", MAX_NAMED),
        ("up to {} kinds of GPU", MAX_GPUS),
    ],
)
def test_the_protocol_page_names_the_numbers_of_the_code(text: str, value: float) -> None:
    assert text.format(value) in PROTOCOL.replace("\n", " ").replace("  ", " ")


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("AUTO", AUTO), ("CHEAPEST", CHEAPEST), ("RELIABLE", RELIABLE), ("FASTEST", FASTEST)],
)
def test_the_guide_has_the_weights_of_every_strategy(name: str, strategy: WeightedStrategy) -> None:
    weights = strategy.weights
    row = f"| `{name}` | {weights.reputation} | {weights.price} | {weights.uptime} | {weights.latency} |"
    assert row in GUIDE


def test_the_guide_lists_every_criterion_in_the_order_of_asking() -> None:
    names = {
        "listed": "`include`, `exclude`, *standing*",
        "state": "*state*",
        "model": "`required_models`, `any_models`",
        "kind": "`kind`",
        "price": "`max_price`",
        "quantisation": "`quantisation`",
        "context": "`min_context_tokens`",
        "hardware": "`min_vram_mib`",
        "location": "`location`",
        "uptime": "`min_uptime_s`, `strict_uptime`",
        "capabilities": "`capabilities`",
        "protocols": "`protocols`",
        "reputation": "`min_reputation`",
        "asked": "*asked*",
        "reachable": "*reachable*",
        "throttled": "*throttled*",
        "ready": "*ready*",
        "slots": "`min_free_slots`",
        "path": "`path`",
        "latency": "`max_latency_ms`",
    }
    places = [GUIDE.index(f"| {names[criterion]} |") for criterion in CRITERIA]
    assert places == sorted(places)
