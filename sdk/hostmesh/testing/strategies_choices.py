"""Strategies for what a search comes to: criteria, what is known of hosts, scores, choices, funnels.

Funnels and choices come from the shipped sifting and ranking: what is drawn could have been found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hostmesh.discovery.choice import Explanation, HostChoice, choice_of
from hostmesh.discovery.criteria import MAX_REPUTATION, HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.funnel import RECORD, Funnel, Rejection, sift
from hostmesh.discovery.matching import CRITERIA
from hostmesh.discovery.measurement import Path, QuotedPrice, QuoteRefusal, Throttling
from hostmesh.discovery.protocol_range import ProtocolRange
from hostmesh.discovery.ranking import AUTO, SCALE, Anchors, Score, ScorePart, WeightedStrategy, Weights, rank
from hostmesh.discovery.relaxation import Relaxation
from hostmesh.discovery.selection import Diversity
from hostmesh.discovery.view import HostView, ProbeResult, Readiness
from hostmesh.model_kind import ModelKind
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import (
    MAX_UINT32,
    address_lists,
    counts,
    model_ids,
    name_lists,
    peer_ids,
    places,
    prices,
    texts,
)
from hostmesh.testing.strategies_discovery import SOURCE_NAMES, host_infos, measurements, reputations

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_HOSTS_AT_MOST = 4
_WALLETS = ("0x" + "00" * 20, "0x" + "ab" * 20)


def host_criteria() -> SearchStrategy[HostCriteria]:
    """Draw what a client wants, no constraint at all first."""
    listed = st.lists(peer_ids() | st.sampled_from(_WALLETS), max_size=2, unique=True).map(tuple)
    named = st.tuples(name_lists(most_bytes=128), st.just(())) | st.tuples(st.just(()), name_lists(most_bytes=128))

    def build(models: tuple[Sequence[str], Sequence[str]], **others: object) -> HostCriteria:
        return HostCriteria(required_models=models[0], any_models=models[1], **others)  # type: ignore[arg-type]

    return st.builds(
        build,
        models=named,
        kind=st.none() | st.sampled_from(ModelKind),
        max_price=st.none() | prices(),
        quantisation=name_lists(most_bytes=32),
        min_context_tokens=st.none() | counts(),
        min_vram_mib=st.none() | counts(),
        location=st.none() | places().map(str),
        min_uptime_s=st.none() | counts(10 * 366 * 86_400),
        strict_uptime=st.booleans(),
        capabilities=name_lists(most_bytes=64),
        protocols=st.lists(protocol_ranges().map(str), max_size=2, unique=True).map(tuple),
        min_reputation=st.none() | counts(MAX_REPUTATION),
        max_latency_ms=st.none() | st.floats(0, 1e6),
        min_free_slots=st.none() | counts(),
        path=st.sampled_from((None, Path.DIRECT)),
        accept_unmeasured=st.booleans(),
        include=listed,
        exclude=listed,
        preferred=listed,
    )


def protocol_ranges() -> SearchStrategy[ProtocolRange]:
    """Draw a protocol with the versions that will do."""

    def build(name: str, versions: list[tuple[int, int, int]]) -> ProtocolRange:
        ends = sorted(versions)
        return ProtocolRange(name=name, least=ends[0] if ends else None, most=ends[1] if len(ends) > 1 else None)

    number = st.integers(0, 99)
    versions = st.lists(st.tuples(number, number, number), max_size=2)
    return st.builds(build, st.sampled_from(("/hostmesh/job", "/hostmesh/status", "/a")), versions)


def readinesses() -> SearchStrategy[Readiness]:
    """Draw what a host said of its load."""
    return st.builds(
        Readiness,
        state=st.sampled_from(HostState),
        ready_models=st.frozensets(model_ids(), max_size=2),
        free_slots=st.none() | counts(),
    )


def quoted_prices() -> SearchStrategy[QuotedPrice]:
    """Draw what a host asked for a job, at once first."""
    moments = st.floats(0, 2**32)
    return st.builds(QuotedPrice, model_id=model_ids(), price=prices(), jobs_ahead=counts(), at_unix_s=moments)


def quote_refusals() -> SearchStrategy[QuoteRefusal]:
    """Draw why a host gave no quote, because it serves no jobs first."""
    reasons = (QuoteRefusal.NOT_SERVED, QuoteRefusal.UNPRICED, QuoteRefusal.BROKEN, "BUSY")
    return st.builds(QuoteRefusal, reason=st.sampled_from(reasons))


def throttlings() -> SearchStrategy[Throttling]:
    """Draw why a host let itself not be measured, without a time first."""
    return st.builds(
        Throttling,
        reason=st.sampled_from(("RATE_LIMITED", "BUSY")),
        retry_after_ms=st.none() | st.integers(0, 2**31 - 1),
    )


def probe_results() -> SearchStrategy[ProbeResult]:
    """Draw what came of probing a host."""
    quotes = quoted_prices().map(lambda quote: (quote, None))
    refusals = quote_refusals().map(lambda refusal: (None, refusal))

    def build(asked: tuple[QuotedPrice | None, QuoteRefusal | None], **others: object) -> ProbeResult:
        return ProbeResult(quote=asked[0], unquoted=asked[1], **others)  # type: ignore[arg-type]

    return st.builds(
        build,
        asked=st.just((None, None)) | quotes | refusals,
        latency=st.none() | measurements(),
        readiness=st.none() | readinesses(),
        unreachable=st.sampled_from(("", "dial")),
        refuted=st.sampled_from(("", "too near")),
        throttling=st.none() | throttlings(),
        address=address_lists().map(lambda addresses: addresses[0] if addresses else ""),
    )


def host_views() -> SearchStrategy[HostView]:
    """Draw all that a client knows of a host at one moment."""
    return st.builds(
        HostView,
        info=host_infos(),
        uptime=st.none() | measurements(),
        claimed_uptime=st.none() | measurements(),
        reputation=reputations(),
        probe=st.none() | probe_results(),
        sources=st.lists(st.sampled_from(SOURCE_NAMES), max_size=3, unique=True).map(tuple),
    )


def weights() -> SearchStrategy[Weights]:
    """Draw weights per mille."""

    def cut(cuts: list[int]) -> Weights:
        first, second, third = sorted(cuts)
        return Weights(reputation=first, price=second - first, uptime=third - second, latency=1000 - third)

    return st.lists(counts(1000), min_size=3, max_size=3).map(cut)


def anchors() -> SearchStrategy[Anchors]:
    """Draw where numbers have half of their points."""
    some = st.integers(1, MAX_UINT32)
    return st.builds(Anchors, price_micros_per_mtok=some, uptime_s=some, latency_us=some)


def weighted_strategies() -> SearchStrategy[WeightedStrategy]:
    """Draw a way to rank, :data:`hostmesh.discovery.ranking.AUTO` first."""
    return st.just(AUTO) | st.builds(WeightedStrategy, weights=weights(), anchors=anchors())


def score_parts() -> SearchStrategy[ScorePart]:
    """Draw what one number adds to a score."""
    return st.builds(ScorePart, name=st.sampled_from(("price", "latency")), points=counts(SCALE), weight=counts(1000))


def scores() -> SearchStrategy[Score]:
    """Draw a host's points and their sum by the shipped weights."""

    def weighed(**points: int) -> Score:
        parts = (
            ScorePart(name=name, points=number, weight=getattr(AUTO.weights, name)) for name, number in points.items()
        )
        return Score(parts=tuple(parts))

    some = counts(SCALE)
    return st.builds(weighed, reputation=some, price=some, uptime=some, latency=some)


def diversities() -> SearchStrategy[Diversity]:
    """Draw how many hosts may be alike, any number first."""
    some = st.none() | st.integers(1, 100)
    return st.builds(Diversity, max_per_operator=some, max_per_subnet=some)


def host_choices() -> SearchStrategy[HostChoice]:
    """Draw a host that was found: with a model, and the offer that a job without further wishes would use."""

    def chosen(view: HostView, points: Score) -> HostChoice:
        return choice_of(view, points, HostCriteria())

    return st.builds(chosen, host_views().filter(lambda view: bool(view.info.models)), scores())


def rejections() -> SearchStrategy[Rejection]:
    """Draw why a host was turned away."""
    detail = texts(most_bytes=96)
    return st.builds(Rejection, peer_id=peer_ids(), criterion=st.sampled_from((RECORD, *CRITERIA)), detail=detail)


def relaxations() -> SearchStrategy[Relaxation]:
    """Draw a change of the criteria, in words and as such."""
    return st.builds(Relaxation, text=texts(most_bytes=96), criteria=host_criteria())


def funnels() -> SearchStrategy[Funnel]:
    """Draw how criteria fared with up to 4 hosts, by the shipped sifting; nobody seen first."""
    return st.builds(lambda views, criteria: sift(views, criteria)[1], _one_view_each(), _mild_criteria())


def explanations() -> SearchStrategy[Explanation]:
    """Draw the outcome of a search among up to 4 hosts, by the shipped sifting and ranking; nobody seen first."""

    def explained(views: Sequence[HostView], criteria: HostCriteria, seed: bytes) -> Explanation:
        matched, funnel = sift(views, criteria)
        ranked = rank(matched, criteria, seed=seed)
        return Explanation(
            choices=tuple(choice_of(view, points, criteria) for view, points in ranked if view.info.models),
            funnel=funnel,
        )

    return st.builds(explained, _one_view_each(), _mild_criteria(), st.binary(max_size=4))


def _mild_criteria() -> SearchStrategy[HostCriteria]:
    """Draw criteria, two thirds of the time such as hosts meet, or miss by one: of many at once all hosts miss some."""
    unmeasured = st.booleans()
    nothing = st.builds(HostCriteria, accept_unmeasured=unmeasured)
    one = st.builds(HostCriteria, max_price=prices(), accept_unmeasured=unmeasured) | st.builds(
        HostCriteria, min_reputation=counts(MAX_REPUTATION), accept_unmeasured=unmeasured
    )
    return nothing | one | host_criteria()


def _one_view_each() -> SearchStrategy[list[HostView]]:
    return st.lists(host_views(), max_size=_HOSTS_AT_MOST, unique_by=lambda view: view.info.peer_id)
