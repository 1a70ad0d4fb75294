"""What the sources are asked for, given the criteria. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.source import SourceQuery
from hostmesh.errors import InvalidAddressError
from hostmesh.net.peer_id import PeerId, parse_peer_id

MAX_MODEL_QUERIES = 4
"""Of so many models, any of which will do, each is asked for by itself; of more, hosts of any model are asked for."""


def source_queries(criteria: HostCriteria, *, limit: int) -> list[SourceQuery]:
    """Return the questions, at least one; a host that meets the criteria is an answer to one of them."""
    place = criteria.place
    query = SourceQuery(
        model_ids=tuple(criteria.required_models),
        country_code=None if place is None else place.country_code,
        limit=limit,
        peer_ids=tuple(_peer_ids(criteria.include)),
    )
    if not 1 <= len(criteria.any_models) <= MAX_MODEL_QUERIES:
        return [query]
    return [replace(query, model_ids=(model_id,)) for model_id in criteria.any_models]


def _peer_ids(names: Iterable[str]) -> Iterator[PeerId]:
    """Yield those that are peer ids; others are wallets, or names that no host has."""
    for name in names:
        try:
            yield parse_peer_id(name)
        except InvalidAddressError:
            continue
