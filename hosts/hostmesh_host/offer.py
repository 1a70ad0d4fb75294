"""What a host offers: put together from the settings and what its engines have, and kept between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hostmesh import HostDescription, ModelInfo, ModelOffer, Price, __version__
from hostmesh.errors import ConfigError
from hostmesh_host.settings import HostSettings

SOFTWARE = f"hostmesh-host/{__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferChange:
    """What ``update`` changes; None = leave as it is."""

    models: Mapping[str, int] | None = None
    """Prices to set by model id; a model that was not offered is now."""
    remove_models: Sequence[str] = ()
    currency: str | None = None
    location: str | None = None
    capabilities: Sequence[str] | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing changes."""
        return self == OfferChange()

    def to_dict(self) -> dict[str, object]:
        """Return what travels to the daemon."""
        return {
            "models": None if self.models is None else dict(self.models),
            "remove_models": list(self.remove_models),
            "currency": self.currency,
            "location": self.location,
            "capabilities": None if self.capabilities is None else list(self.capabilities),
        }


def offered_models(settings: HostSettings, known: Sequence[ModelInfo]) -> dict[str, int]:
    """Return the price of each model that the settings offer.

    Raises:
        ConfigError: a model that no engine has, or one without a price.
    """
    ids = [model.model_id for model in known]
    for model_id in settings.models:
        if model_id not in ids:
            raise ConfigError(
                f"no engine here has the model {model_id!r}",
                name="models",
                source="argument",
                remedy=f"offer one of: {', '.join(ids)}",
            )
    prices: dict[str, int] = {}
    for model_id in settings.models or ids:
        own = settings.models.get(model_id)
        price = settings.price if own is None else own
        if price is None:
            raise ConfigError(
                f"no price for {model_id!r}",
                name="price",
                source="argument",
                remedy=f"say --model {model_id}=PRICE or --price PRICE, in micro-units per million tokens; 0 is free",
            )
        prices[model_id] = price
    return prices


def describe_host(
    prices: Mapping[str, int], *, currency: str, location: str | None, capabilities: Sequence[str]
) -> HostDescription:
    """Return the description of a host with these models.

    Raises:
        ConfigError: a value out of its bounds.
    """
    return HostDescription(
        models=[
            ModelOffer(model_id=model_id, price=Price(micros_per_mtok=price, currency=currency))
            for model_id, price in prices.items()
        ],
        location=location,
        capabilities=capabilities,
        software=SOFTWARE,
    )


def apply_change(description: HostDescription, change: OfferChange) -> HostDescription:
    """Return the description with the change made.

    Raises:
        ConfigError: a value out of its bounds, a model to remove that is not there, or no model left.
    """
    offers = {offer.model_id: offer for offer in description.models}
    first = next(iter(offers.values())).price
    currency = change.currency or (first.currency if first is not None else "USD")
    for model_id in change.remove_models:
        if offers.pop(model_id, None) is None:
            raise ConfigError(
                f"{model_id!r} is not offered", name="models", source="argument", remedy="see: hostmesh-host status"
            )
    for model_id, price in (change.models or {}).items():
        offers[model_id] = ModelOffer(model_id=model_id, price=Price(micros_per_mtok=price, currency=currency))
    if change.currency is not None:
        offers = {
            model_id: replace(offer, price=Price(micros_per_mtok=offer.price.micros_per_mtok, currency=currency))
            for model_id, offer in offers.items()
            if offer.price is not None
        }
    return replace(
        description,
        models=tuple(offers.values()),
        location=description.location if change.location is None else change.location,
        capabilities=description.capabilities if change.capabilities is None else change.capabilities,
    )


def stored_form(description: HostDescription) -> dict[str, object]:
    """Return what is kept of a description."""
    prices = {offer.model_id: offer.price for offer in description.models if offer.price is not None}
    return {
        "models": {model_id: price.micros_per_mtok for model_id, price in prices.items()},
        "currency": next(iter(prices.values())).currency,
        "location": description.location,
        "capabilities": list(description.capabilities),
    }


def merge_stored(stored: Mapping[str, Any], change: OfferChange) -> dict[str, object]:
    """Return what is kept with the change made: for a host that does not run now."""
    models = {**stored.get("models", {}), **(change.models or {})}
    for model_id in change.remove_models:
        models.pop(model_id, None)
    merged: dict[str, object] = {**stored, "models": models}
    if change.currency is not None:
        merged["currency"] = change.currency
    if change.location is not None:
        merged["location"] = change.location
    if change.capabilities is not None:
        merged["capabilities"] = list(change.capabilities)
    return merged
