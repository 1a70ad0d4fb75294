"""Strategies for what discovery speaks of.

Records are signed and verified: what is drawn could have been found. What is said of several hosts is in
:mod:`hostmesh.testing.strategies_choices`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.discovery.description import Gpu, Hardware, HostDescription, HostState, ModelOffer, Reachability
from hostmesh.discovery.measurement import Measurement, Origin, Path
from hostmesh.discovery.record import MAX_LIFE_S, HostInfo
from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.discovery.stats import DiscoveryStats, SourceStats
from hostmesh.discovery.terms import MAX_UINT64
from hostmesh.model_kind import ModelKind
from hostmesh.net.address import AddressOrigin
from hostmesh.reputation.score import Reputation
from hostmesh.testing.broken_records import BrokenRecord, RecordFault, make_broken_record
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.records import make_host_info
from hostmesh.testing.strategies_basic import (
    MAX_UINT32,
    address_lists,
    country_codes,
    counts,
    host_names,
    model_ids,
    name_lists,
    peer_ids,
    places,
    prices,
    texts,
    unix_seconds,
    unix_times,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SOURCE_NAMES = ("bootstrap", "dht", "mdns")


def gpus() -> SearchStrategy[Gpu]:
    """Draw GPUs of one kind, with nothing but a name first."""
    some = st.none() | st.integers(1, MAX_UINT32)
    return st.builds(Gpu, model=texts(most_bytes=64), memory_mib=some, count=some)


def hardware() -> SearchStrategy[Hardware]:
    """Draw what a host says it runs on, nothing first."""
    some = st.none() | st.integers(1, MAX_UINT32)
    return st.builds(
        Hardware,
        cpu_model=st.none() | texts(most_bytes=64),
        cpu_cores=some,
        memory_mib=some,
        gpus=st.lists(gpus(), max_size=2),
    )


def model_offers() -> SearchStrategy[ModelOffer]:
    """Draw one model of a host, with nothing but its id first."""
    return st.builds(
        ModelOffer,
        model_id=model_ids(),
        kind=st.none() | st.sampled_from(ModelKind),
        price=st.none() | prices(),
        context_tokens=st.none() | st.integers(1, MAX_UINT32),
        max_output_tokens=st.none() | st.integers(1, MAX_UINT32),
        quantisation=st.none() | texts(most_bytes=32),
        weights_sha256=st.none() | st.binary(min_size=32, max_size=32),
        engine=st.none() | texts(most_bytes=64),
        parameters=name_lists(most_bytes=32),
        tokenizer_sha256=st.none() | st.binary(min_size=32, max_size=32),
        chat_template_sha256=st.none() | st.binary(min_size=32, max_size=32),
        engine_version=st.none() | texts(most_bytes=32),
        output_millitokens_per_s=st.none() | st.integers(1, MAX_UINT32),
    )


def host_descriptions() -> SearchStrategy[HostDescription]:
    """Draw what an operator states: 1 to 3 models, and all else."""
    offers = st.lists(model_offers(), min_size=1, max_size=3, unique_by=lambda offer: offer.model_id)
    return st.builds(
        HostDescription,
        models=offers,
        location=st.none() | places().map(str),
        capabilities=name_lists(most_bytes=64),
        max_concurrent_jobs=st.integers(1, MAX_UINT32),
        max_queued_jobs=counts(),
        software=st.none() | texts(most_bytes=64),
        protocols=name_lists(most_bytes=64),
        hardware=st.none() | hardware(),
        reachability=st.none() | st.sampled_from(Reachability),
    )


def host_infos() -> SearchStrategy[HostInfo]:
    """Draw a verified record of one of the 100 hosts of :func:`host_names`; ``signed`` is the record as it travels."""
    return st.builds(
        make_host_info,
        host_names(),
        host_descriptions(),
        sequence=st.integers(1, MAX_UINT64),
        issued_at_unix_s=unix_seconds(),
        life_s=st.integers(1, MAX_LIFE_S),
        addresses=address_lists(),
        state=st.sampled_from((HostState.AVAILABLE, HostState.DRAINING, HostState.WITHDRAWN)),
    )


def broken_records() -> SearchStrategy[BrokenRecord]:
    """Draw a record with one fault, to be read at :data:`hostmesh.testing.records.EPOCH_UNIX_S`."""
    return st.builds(make_broken_record, st.sampled_from(RecordFault), host_names(), host_descriptions())


def measurements() -> SearchStrategy[Measurement]:
    """Draw a measured, claimed or counted number."""
    return st.builds(
        Measurement,
        value=st.floats(0, 1e9),
        unit=st.sampled_from(("ms", "s")),
        at_unix_s=unix_times(),
        samples=st.integers(1, 1000),
        origin=st.sampled_from(Origin),
        spread=st.none() | st.floats(0, 1e9),
        path=st.none() | st.sampled_from(Path),
    )


def reputations() -> SearchStrategy[Reputation]:
    """Draw what a client has seen of a host, nothing first."""
    return st.builds(Reputation, good=counts(10_000), bad=counts(10_000))


def candidates() -> SearchStrategy[Candidate]:
    """Draw a peer that may be a host."""
    return st.builds(
        Candidate,
        peer_id=peer_ids(),
        addresses=address_lists(),
        source=st.sampled_from(SOURCE_NAMES),
        origin=st.sampled_from(AddressOrigin),
        named_by=st.none() | peer_ids(),
    )


def source_queries() -> SearchStrategy[SourceQuery]:
    """Draw what a find asks of a source."""
    return st.builds(
        SourceQuery,
        model_ids=name_lists(most_bytes=128),
        country_code=st.none() | country_codes(),
        limit=st.integers(1, 1000),
    )


def adverts() -> SearchStrategy[Advert]:
    """Draw what a host lets the sources say about it."""
    return st.builds(
        Advert,
        model_ids=name_lists(most_bytes=128),
        country_code=st.none() | country_codes(),
        addresses=address_lists(),
    )


def source_stats() -> SearchStrategy[SourceStats]:
    """Draw a source's counts, which add up: attempts are those that succeeded, failed or were cut short."""

    def added_up(successes: int, failures: int, cut_short: int, candidates: int, error: str, at: float) -> SourceStats:
        return SourceStats(
            attempts=successes + failures + cut_short,
            successes=successes,
            failures=failures,
            cut_short=cut_short,
            candidates=candidates,
            total_s=successes * 0.5,
            last_ok_unix_s=at if successes else None,
            last_failure_unix_s=at if failures else None,
            last_error=error if failures else "",
        )

    few = counts(1000)
    return st.builds(added_up, few, few, few, few, texts(most_bytes=64), unix_times())


def discovery_stats() -> SearchStrategy[DiscoveryStats]:
    """Draw the counts of discovery."""

    def by(*words: str) -> SearchStrategy[dict[str, int]]:
        return st.dictionaries(st.sampled_from(words), counts(1000))

    return st.builds(
        DiscoveryStats,
        sources=st.dictionaries(st.sampled_from(SOURCE_NAMES), source_stats()),
        fetches=by("ok", "fresh", "not_a_host", "dropped", "DIAL_FAILED"),
        records=by("added", "replaced", "known", "older"),
        probe_cache_hit_rate=st.none() | st.floats(0, 1),
        searches=by("warm", "swept"),
    )
