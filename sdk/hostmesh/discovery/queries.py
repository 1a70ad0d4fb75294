"""What the sources are asked for, given the criteria. Pure."""

from __future__ import annotations

from dataclasses import replace

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.source import SourceQuery

MAX_MODEL_QUERIES = 4
"""Of so many models, any of which will do, each is asked for by itself; of more, hosts of any model are asked for."""


def source_queries(criteria: HostCriteria, *, limit: int) -> list[SourceQuery]:
    """Return the questions, at least one; a host that meets the criteria is an answer to one of them."""
    place = criteria.place
    query = SourceQuery(
        model_ids=tuple(criteria.required_models),
        country_code=None if place is None else place.country_code,
        limit=limit,
    )
    if not 1 <= len(criteria.any_models) <= MAX_MODEL_QUERIES:
        return [query]
    return [replace(query, model_ids=(model_id,)) for model_id in criteria.any_models]
