"""What a host offers, as its operator says it and as its engine does it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hostmesh.discovery.description import HostDescription, ModelOffer
from hostmesh.errors import ConfigError
from hostmesh.jobs.engine import ModelInfo
from hostmesh.sessions.authorization import ModelPrice


def check_offer(offer: ModelOffer, model: ModelInfo) -> None:
    """Check that an operator promises no more than the engine does: clients would come and be refused.

    Raises:
        ConfigError: ``name`` is the field.
    """
    context = model.context_tokens
    most = context if model.max_output_tokens is None else min(context, model.max_output_tokens)
    for name, is_kept in (
        ("kind", offer.kind in (None, model.kind)),
        ("context_tokens", (offer.context_tokens or 0) <= context),
        ("max_output_tokens", (offer.max_output_tokens or 0) <= most),
        ("parameters", set(offer.parameters) <= model.parameters),
    ):
        if not is_kept:
            raise ConfigError(
                f"the engine does not do what {name} of {offer.model_id!r} promises",
                name=name,
                source="argument",
                remedy=f"leave {name} out: the engine's own is taken",
            )


def complete_offer(offer: ModelOffer, model: ModelInfo) -> ModelOffer:
    """Return the offer with what the operator left open filled in by what the engine says of the model."""
    return replace(
        offer,
        kind=offer.kind or model.kind,
        context_tokens=offer.context_tokens or model.context_tokens,
        max_output_tokens=offer.max_output_tokens or model.max_output_tokens,
        quantisation=offer.quantisation or model.quantisation,
        weights_sha256=offer.weights_sha256 or model.weights_sha256,
        tokenizer_sha256=offer.tokenizer_sha256 or model.tokenizer_sha256,
        chat_template_sha256=offer.chat_template_sha256 or model.chat_template_sha256,
        engine=offer.engine or model.engine,
        # The version of another engine than the one that the operator names would be wrong.
        engine_version=offer.engine_version or (model.engine_version if offer.engine is None else None),
        output_millitokens_per_s=offer.output_millitokens_per_s or model.output_millitokens_per_s,
        parameters=offer.parameters or tuple(sorted(model.parameters)),
    )


def lower_prices(some: Mapping[str, ModelPrice], others: Mapping[str, ModelPrice]) -> dict[str, ModelPrice]:
    """Return the lower price of each model; the first where the currencies differ, the only one where there is one."""
    lower = {**others, **some}
    for model_id, other in others.items():
        if other.currency == lower[model_id].currency and other.micros_per_mtok < lower[model_id].micros_per_mtok:
            lower[model_id] = other
    return lower


def prices_of(description: HostDescription) -> dict[str, ModelPrice]:
    """Return the price of each model that has one."""
    return {
        offer.model_id: ModelPrice(micros_per_mtok=offer.price.micros_per_mtok, currency=offer.price.currency)
        for offer in description.models
        if offer.price is not None
    }
