"""What a client wants of a host. Pure.

``None`` is "no constraint"; 0 is a value; an empty list constrains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hostmesh.discovery.terms import ModelKind, Place, Price, check_integer, check_names
from hostmesh.errors import ConfigError

MAX_NAMES = 64
MAX_REPUTATION = 1000
_TEN_YEARS_S = 10 * 366 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCriteria:
    """All of these must hold.

    Raises:
        ConfigError: a value out of its range; ``name`` names the field.

    Source: seed 002, "Peer Filtering".

    >>> HostCriteria(required_models=["smollm2-135m-instruct"], location="us").place
    Place(country_code='US', region=None)
    """

    required_models: Sequence[str] = ()
    """Exact model ids; the host must serve all of them."""
    kind: ModelKind | None = None
    """What the required models, or at least one model, must do. A model of undeclared kind does not match."""
    max_price: Price | None = None
    """Inclusive. A free model passes, an unpriced one and one in another currency do not."""
    location: str | None = None
    """``US`` or ``US/california``: claimed by the host."""
    min_uptime_s: int | None = None
    """Time since start as the host claims it, unless an earlier record of it contradicts."""
    capabilities: Sequence[str] = ()
    """Exact names; all of them."""
    min_reputation: int | None = None
    """0 to 1000, from this client's own outcomes; a new host has 100."""
    max_latency_ms: float | None = None
    """Median round-trip time as measured from here, inclusive."""
    accept_unmeasured: bool = False
    """Let hosts pass ``max_latency_ms`` whose latency could not be measured; they rank after every measured one."""
    include: Sequence[str] = ()
    """Peer ids or operator addresses (0x...): only these hosts; empty = all."""
    exclude: Sequence[str] = ()
    """Peer ids or operator addresses that never match; beats ``include``."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "required_models", self._names("required_models", 128))
        put(self, "capabilities", self._names("capabilities", 64))
        put(self, "include", _fold_wallets(self._names("include", 64)))
        put(self, "exclude", _fold_wallets(self._names("exclude", 64)))
        if self.kind is not None and not isinstance(self.kind, ModelKind):
            raise ConfigError("kind is not a ModelKind", name="kind", source="argument")
        if self.max_price is not None and not isinstance(self.max_price, Price):
            raise ConfigError(
                "max_price is not a Price",
                name="max_price",
                source="argument",
                remedy='Price(micros_per_mtok=150_000, currency="USD")',
            )
        if self.location is not None:
            put(self, "location", str(Place.parse(self.location)))
        if self.min_uptime_s is not None:
            check_integer(self.min_uptime_s, name="min_uptime_s", least=0, most=_TEN_YEARS_S)
        if self.min_reputation is not None:
            check_integer(self.min_reputation, name="min_reputation", least=0, most=MAX_REPUTATION)
        self._check_latency()
        if not isinstance(self.accept_unmeasured, bool):
            raise ConfigError("accept_unmeasured is not a bool", name="accept_unmeasured", source="argument")

    def _names(self, field: str, most_bytes: int) -> tuple[str, ...]:
        return check_names(getattr(self, field), name=field, most_items=MAX_NAMES, most_bytes=most_bytes)

    def _check_latency(self) -> None:
        value = self.max_latency_ms
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise ConfigError(
                f"max_latency_ms is {value!r}",
                name="max_latency_ms",
                source="argument",
                remedy="give milliseconds, 0 or more",
            )

    @property
    def place(self) -> Place | None:
        """``location``, parsed."""
        return None if self.location is None else Place.parse(self.location)


def _fold_wallets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Wallet addresses are hexadecimal and compare without case (their checksum is in it); peer ids are base58."""
    return tuple(name.lower() if name[:2] in ("0x", "0X") else name for name in names)
