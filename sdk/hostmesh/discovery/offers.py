"""Which of a host's models the criteria are asked of, and which one a job would use. Pure.

Where models are required, each of them must meet every criterion of a model. Otherwise one model must, of those named
by ``any_models`` or of all that the host serves: the criteria are then asked one after the other, each of the models
that the ones before it left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import ModelOffer
from hostmesh.discovery.measurement import QuoteRefusal
from hostmesh.discovery.terms import Price
from hostmesh.discovery.view import HostView

Test = Callable[[ModelOffer, HostCriteria], bool]


def is_of_kind(offer: ModelOffer, criteria: HostCriteria) -> bool:
    """Tell whether the model does what is wanted; one that says nothing of itself does not."""
    return criteria.kind in (None, offer.kind)


def is_affordable(offer: ModelOffer, criteria: HostCriteria) -> bool:
    """Tell whether the price is within the limit, in its currency. Nothing costs nothing in every currency."""
    limit, price = criteria.max_price, offer.price
    if limit is None:
        return True
    if price is None:
        return False
    return price.micros_per_mtok == 0 or (
        price.currency == limit.currency and price.micros_per_mtok <= limit.micros_per_mtok
    )


def is_quantised_so(offer: ModelOffer, criteria: HostCriteria) -> bool:
    """Tell whether the model is in one of the wanted quantisations; one that says none is not."""
    if not criteria.quantisation:
        return True
    said = offer.quantisation
    return said is not None and said.casefold() in {name.casefold() for name in criteria.quantisation}


def has_context(offer: ModelOffer, criteria: HostCriteria) -> bool:
    """Tell whether the context is long enough; one of unknown length is not."""
    least = criteria.min_context_tokens
    return least is None or (offer.context_tokens is not None and offer.context_tokens >= least)


OFFER_TESTS: dict[str, Test] = {
    "kind": is_of_kind,
    "price": is_affordable,
    "quantisation": is_quantised_so,
    "context": has_context,
}
"""The criteria of a model, in the order of asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whom one criterion is asked of, and who meets it."""

    asked: tuple[ModelOffer, ...]
    passed: tuple[ModelOffer, ...]
    needs_all: bool
    """Whether all of them must, or one."""

    @property
    def is_met(self) -> bool:
        """Whether enough of them meet it."""
        return len(self.passed) == len(self.asked) if self.needs_all else bool(self.passed)


def ask_offers(view: HostView, criteria: HostCriteria, criterion: str) -> Question:
    """Ask one criterion of :data:`OFFER_TESTS`, or ``ready`` (loaded, as the host said), of the models in question."""
    asked = _named(view, criteria)
    needs_all = bool(criteria.required_models)
    for name, test in OFFER_TESTS.items():
        if name == criterion:
            break
        if not needs_all:
            # Where one criterion leaves nobody, the host fails it; what comes after is asked as if it were not there.
            asked = tuple(offer for offer in asked if test(offer, criteria)) or asked
    if criterion == "ready":
        passed = tuple(offer for offer in asked if _may_be_ready(view, offer))
    else:
        passed = tuple(offer for offer in asked if OFFER_TESTS[criterion](offer, criteria))
    return Question(asked=asked, passed=passed, needs_all=needs_all)


def chosen_offer(view: HostView, criteria: HostCriteria) -> ModelOffer | None:
    """Return the offer that a job under these criteria would use.

    The first required model; where none is required the cheapest that meets them all, and an unpriced one only if all
    are. None: the host serves no model at all, or lacks the one required.
    """
    if criteria.required_models:
        return view.info.offer(criteria.required_models[0])
    question = ask_offers(view, criteria, "ready")
    return min(
        question.passed or question.asked,
        key=lambda offer: (offer.price is None, offer.price.micros_per_mtok if offer.price else 0, offer.model_id),
        default=None,
    )


def broken_price(view: HostView) -> str | None:
    """Return how the price that a host quoted breaks the word of its record; None = it does not, or was not asked."""
    refusal = view.unquoted
    if refusal is not None and refusal.reason in QuoteRefusal.OF_PRICE:
        return "its quote is broken" if refusal.reason == QuoteRefusal.BROKEN else "quotes no price, unlike its record"
    quote = None if view.probe is None else view.probe.quote
    offer = None if quote is None else view.info.offer(quote.model_id)
    if quote is None or offer is None or offer.price is None:
        return None
    quoted, claimed = quote.price, offer.price
    if quoted.micros_per_mtok == 0 or (
        quoted.currency == claimed.currency and quoted.micros_per_mtok <= claimed.micros_per_mtok
    ):
        return None
    return f"quotes {quoted}, its record says {claimed}"


def price_in_question(view: HostView, criteria: HostCriteria) -> Price | None:
    """Return the price that ranking compares: the dearest of the required models, or that of the chosen offer.

    None: one of them is unpriced, they are in different currencies, or the host was asked for a quote and gave none: a
    price that nobody is held to ranks as no price.
    """
    if view.unquoted is not None:
        return None
    if not criteria.required_models:
        offer = chosen_offer(view, criteria)
        return None if offer is None else offer.price
    prices = [offer.price for offer in _named(view, criteria)]
    priced = [price for price in prices if price is not None]
    if not priced or len(priced) < len(prices) or len({price.currency for price in priced}) > 1:
        return None
    return max(priced, key=lambda price: price.micros_per_mtok)


def missing_models(view: HostView, criteria: HostCriteria) -> list[str]:
    """Return the required models that the host does not serve."""
    return [model_id for model_id in criteria.required_models if view.info.offer(model_id) is None]


def _named(view: HostView, criteria: HostCriteria) -> tuple[ModelOffer, ...]:
    names = criteria.required_models or criteria.any_models
    named = tuple(offer for offer in view.info.models if not names or offer.model_id in names)
    # A host without any of them fails "model"; its answers to the rest speak of what it has.
    return named if criteria.required_models else named or view.info.models


def _may_be_ready(view: HostView, offer: ModelOffer) -> bool:
    return view.readiness is None or offer.model_id in view.readiness.ready_models
