"""What a host offers: put together from the settings and what its engines have, and kept between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from hostmesh import Hardware, HostDescription, ModelOffer, Price, __version__
from hostmesh.errors import ConfigError, UsageError
from hostmesh_host.settings import EMBEDDED, HostSettings, LoadedHostSettings, is_url

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

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> OfferChange:
        """Read what a command sends.

        Raises:
            UsageError: it names what this version does not know.
        """
        unknown = set(document) - {item.name for item in fields(cls)}
        if unknown:
            raise UsageError(f"the host cannot change {min(unknown)!r}", remedy="use commands of one version")
        return cls(**document)


def models_at_url(settings: HostSettings) -> tuple[str, ...]:
    """Return the models that the engine at a URL shall serve: those named and not of an embedded engine.

    Raises:
        UsageError: there is such an engine and no model is named: it may have many, and each needs a price.
    """
    if not any(map(is_url, settings.engines)):
        return ()
    embedded = {EMBEDDED[name] for name in settings.engines if name in EMBEDDED}
    named = tuple(model_id for model_id in settings.models if model_id not in embedded)
    if not named:
        raise UsageError(
            "no model of the engine is named", remedy="say which to serve, and the price: --model ID=PRICE"
        )
    return named


def offered_models(loaded: LoadedHostSettings, stored: Mapping[str, Any]) -> dict[str, int]:
    """Return the price of each model to offer.

    An argument or environment variable beats what ``update`` kept, which beats ``host.toml``.

    Args:
        loaded: the settings.
        stored: what ``update`` kept; models in it that no engine has are left out.

    Raises:
        ConfigError: a model that no engine has, or one without a price, or no model.
        UsageError: see :func:`models_at_url`.
    """
    settings = loaded.settings
    ids = [*(EMBEDDED[name] for name in settings.engines if name in EMBEDDED), *models_at_url(settings)]
    for model_id in settings.models:
        if model_id not in ids:
            raise ConfigError(
                f"no engine here has the model {model_id!r}",
                name="models",
                source=loaded.origins["models"],
                remedy=f"offer one of: {', '.join(ids)}",
            )
    kept: Mapping[str, int] = stored.get("prices", {})
    if stored.get("currency", settings.currency) != settings.currency:
        kept = {}  # prices in another currency than is asked for now
    said_models, said_price = loaded.said_now("models"), loaded.said_now("price")
    removed = () if said_models else stored.get("removed", ())
    wanted = [*(settings.models or ids), *(model_id for model_id in kept if model_id in ids)]
    prices: dict[str, int] = {}
    for model_id in dict.fromkeys(wanted):
        if model_id in removed:
            continue
        own = settings.models.get(model_id)
        order = (
            own if said_models else None,
            settings.price if said_price else None,
            kept.get(model_id),
            own,
            settings.price,
        )
        price = next((price for price in order if price is not None), None)
        if price is None:
            raise ConfigError(
                f"no price for {model_id!r}",
                name="price",
                source="argument",
                remedy=f"say --model {model_id}=PRICE or --price PRICE, in micro-units per million tokens; 0 is free",
            )
        prices[model_id] = price
    if not prices:
        raise ConfigError("no model is offered", name="models", source="stored offer", remedy="say --model ID=PRICE")
    return prices


def describe_host(
    prices: Mapping[str, int],
    *,
    currency: str,
    location: str | None,
    capabilities: Sequence[str],
    hardware: Hardware | None = None,
) -> HostDescription:
    """Return the description of a host with these models.

    What the engines know of their models is filled in when they are served; how strangers reach the host is not said,
    since nobody has dialled it back.

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
        hardware=hardware,
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


def merge_stored(stored: Mapping[str, Any], change: OfferChange) -> dict[str, object]:
    """Return what is kept for the next start, with the change made."""
    set_now = dict(change.models or {})
    prices = {**stored.get("prices", {}), **set_now}
    removed = [model_id for model_id in stored.get("removed", ()) if model_id not in set_now]
    for model_id in change.remove_models:
        prices.pop(model_id, None)
        removed.append(model_id)
    merged: dict[str, object] = {**stored, "prices": prices, "removed": list(dict.fromkeys(removed))}
    if change.currency is not None:
        merged["currency"] = change.currency
    if change.location is not None:
        merged["location"] = change.location
    if change.capabilities is not None:
        merged["capabilities"] = list(change.capabilities)
    return merged
