"""Strategies for what engines and jobs speak of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hostmesh.discovery.terms import MAX_UINT64
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.engine import (
    ChatMessage,
    ChatWork,
    EmbeddingWork,
    EngineEvent,
    Finished,
    FinishReason,
    ModelInfo,
    ParameterValue,
    Role,
    TextPiece,
    Vector,
    Work,
)
from hostmesh.jobs.offer import QuoteOffer, open_quote, seal_quote
from hostmesh.jobs.parameters import ALLOWED, IntegerRule, NumberRule, Rule
from hostmesh.jobs.quotes import QuotedTerms
from hostmesh.jobs.stats import JobOutcome, JobStats
from hostmesh.jobs.transcript import TextDelta
from hostmesh.jobs.usage import Usage
from hostmesh.model_kind import ModelKind
from hostmesh.receipts.pricing import cost_micros
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import (
    MAX_UINT32,
    counts,
    currencies,
    host_names,
    model_ids,
    texts,
    unix_seconds,
)
from hostmesh.testing.wallets import TEST_NETWORK, make_peer_key

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_MOST_TOKENS = 1_000_000
_REFUSALS = ("BUSY", "DRAINING", "UNSUPPORTED_MODEL", "UNPRICED")


def model_infos() -> SearchStrategy[ModelInfo]:
    """Draw a model as its engine describes it; an embedding model has neither an answer's limit nor settings."""

    def described(kind: ModelKind) -> SearchStrategy[ModelInfo]:
        is_chat = kind is ModelKind.CHAT
        return st.builds(
            ModelInfo,
            model_id=model_ids(),
            kind=st.just(kind),
            context_tokens=st.integers(1, MAX_UINT32),
            max_output_tokens=st.none() | st.integers(1, MAX_UINT32) if is_chat else st.none(),
            quantisation=st.none() | texts(most_bytes=32),
            weights_sha256=st.none() | st.binary(min_size=32, max_size=32),
            engine=texts(most_bytes=64),
            tokenizer_sha256=st.none() | st.binary(min_size=32, max_size=32),
            chat_template_sha256=st.none() | st.binary(min_size=32, max_size=32) if is_chat else st.none(),
            engine_version=st.none() | texts(most_bytes=32),
            output_millitokens_per_s=st.none() | st.integers(1, MAX_UINT32) if is_chat else st.none(),
            parameters=st.frozensets(st.sampled_from(sorted(ALLOWED))) if is_chat else st.just(frozenset[str]()),
        )

    return st.sampled_from(ModelKind).flatmap(described)


def chat_messages() -> SearchStrategy[ChatMessage]:
    """Draw a message of a conversation."""
    return st.builds(ChatMessage, role=st.sampled_from(Role), content=texts(most_bytes=256, least_chars=0))


def job_parameters() -> SearchStrategy[dict[str, ParameterValue]]:
    """Draw checked settings of a job, none first; every one that there is, in its whole range."""
    # Each is there or not by a choice of its own. Of optional keys Hypothesis draws which comes next among those left,
    # so that none can be taken away without another choice turning into another key: shrinking ends early.
    drawn = st.fixed_dictionaries({name: st.none() | _values(rule) for name, rule in ALLOWED.items()})
    return drawn.map(lambda values: {name: value for name, value in values.items() if value is not None})


def _values(rule: Rule) -> SearchStrategy[ParameterValue]:
    match rule:
        case NumberRule():
            return st.floats(rule.low, rule.high, exclude_min=rule.above_low, allow_subnormal=False)
        case IntegerRule():
            return st.integers(rule.low, rule.high)
        case _:
            each = texts(most_bytes=rule.max_bytes)
            return st.lists(each, min_size=1, max_size=min(rule.max_items, 3)).map(tuple)


def chat_works() -> SearchStrategy[ChatWork]:
    """Draw a conversation of 1 to 3 messages to continue."""
    return st.builds(
        ChatWork,
        model_id=model_ids(),
        messages=st.lists(chat_messages(), min_size=1, max_size=3).map(tuple),
        max_output_tokens=st.integers(1, MAX_UINT32),
        parameters=job_parameters(),
    )


def embedding_works() -> SearchStrategy[EmbeddingWork]:
    """Draw 1 to 3 texts to embed, none of them empty."""
    inputs = st.lists(texts(most_bytes=256), min_size=1, max_size=3).map(tuple)
    return st.builds(EmbeddingWork, model_id=model_ids(), texts=inputs)


def works() -> SearchStrategy[Work]:
    """Draw work of either kind."""
    return chat_works() | embedding_works()


def text_pieces() -> SearchStrategy[TextPiece]:
    """Draw a piece of an answer; empty is a piece, too."""
    content = texts(most_bytes=256, least_chars=0)
    return st.builds(TextPiece, text=content, completion_tokens=st.none() | counts(_MOST_TOKENS))


def text_deltas() -> SearchStrategy[TextDelta]:
    """Draw a piece of an answer as a job's client gets it; none is empty."""
    return st.builds(TextDelta, index=counts(_MOST_TOKENS), text=texts(most_bytes=256))


def vectors() -> SearchStrategy[Vector]:
    """Draw an embedding of 1 to 8 numbers, each of which 32 bits carry exactly."""
    numbers = st.floats(-1, 1, width=32)
    return st.builds(Vector, index=counts(255), values=st.lists(numbers, min_size=1, max_size=8).map(tuple))


def finishes() -> SearchStrategy[Finished]:
    """Draw the end of work that was done."""
    return st.builds(
        Finished,
        prompt_tokens=counts(_MOST_TOKENS),
        completion_tokens=counts(_MOST_TOKENS),
        finish_reason=st.sampled_from(FinishReason),
    )


def engine_events() -> SearchStrategy[EngineEvent]:
    """Draw any event of an engine; a list of them is seldom what a real engine says."""
    return text_pieces() | vectors() | finishes()


def usages() -> SearchStrategy[Usage]:
    """Draw what a job used, and what that costs at some price."""

    def priced(prompt_tokens: int, completion_tokens: int, micros_per_mtok: int, currency: str) -> Usage:
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_micros=cost_micros(prompt_tokens + completion_tokens, micros_per_mtok),
            currency=currency,
        )

    return st.builds(priced, counts(_MOST_TOKENS), counts(_MOST_TOKENS), counts(10**9), currencies())


def quote_offers() -> SearchStrategy[QuoteOffer]:
    """Draw a verified quote of a host for the client ``client``; ``envelope`` is what the host signed."""

    def sealed(
        name: str, issued_at_unix_s: int, lifetime_s: int, queue_position: int, terms: dict[str, object]
    ) -> QuoteOffer:
        client, host = make_peer_key("client").peer_id, make_peer_key(name)
        quoted = QuotedTerms(peer_id=client, expires_at_s=math.inf, **terms)  # type: ignore[arg-type]
        envelope = seal_quote(
            host,
            quoted,
            network=TEST_NETWORK,
            issued_at_unix_s=issued_at_unix_s,
            lifetime_s=lifetime_s,
            queue_position=queue_position,
        )
        return open_quote(
            envelope,
            network=TEST_NETWORK,
            client_peer_id=client,
            host_peer_id=host.peer_id,
            model_id=quoted.model_id,
            max_output_tokens=None,
            max_price_micros_per_mtok=None,
            currency=None,
            now=issued_at_unix_s,
        )

    terms: SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
        {
            "quote_id": st.binary(min_size=16, max_size=16),
            "model_id": model_ids(),
            "price_micros_per_mtok": counts(MAX_UINT64),
            "currency": currencies(),
            "max_output_tokens": counts(),
            "context_tokens": st.integers(1, MAX_UINT32),
        }
    )
    return st.builds(sealed, host_names(), unix_seconds(), st.integers(1, 3600), counts(), terms)


def job_limits() -> SearchStrategy[JobLimits]:
    """Draw how much work a host takes."""
    seconds = st.floats(0.001, 86_400, allow_subnormal=False)
    return st.builds(
        JobLimits,
        max_concurrent_jobs=st.integers(1, MAX_UINT32),
        max_queued_jobs=counts(),
        max_jobs_per_peer=st.integers(1, MAX_UINT32),
        quote_lifetime_s=st.floats(1, 3600),
        max_output_tokens=st.none() | st.integers(1, MAX_UINT32),
        max_job_s=seconds,
        engine_silence_s=seconds,
        retry_after_ms=counts(),
    )


def job_stats() -> SearchStrategy[JobStats]:
    """Draw a host's load and what became of its jobs; the numbers add up and keep to the host's limits."""
    few = counts(1000)

    def added_up(
        slots: tuple[int, int],
        queue: tuple[int, int],
        is_draining: bool,
        outcomes: dict[JobOutcome, int],
        refused: dict[str, int],
        tokens: tuple[int, int],
    ) -> JobStats:
        active, queued = min(slots), min(queue)
        return JobStats(
            active_jobs=active,
            queued_jobs=queued,
            max_concurrent_jobs=max(slots),
            max_queued_jobs=max(queue),
            is_draining=is_draining,
            accepted=sum(outcomes.values()) + active + queued,
            outcomes=outcomes,
            refused=refused,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
        )

    return st.builds(
        added_up,
        st.tuples(few, st.integers(1, 1000)),
        st.tuples(few, few),
        st.booleans(),
        st.dictionaries(st.sampled_from(JobOutcome), few),
        st.dictionaries(st.sampled_from(_REFUSALS), few),
        st.tuples(counts(_MOST_TOKENS), counts(_MOST_TOKENS)),
    )
