"""What a client wants of a host. Pure.

``None`` is "no constraint"; 0 is a value; an empty list constrains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hostmesh.discovery.description import MAX_UINT32
from hostmesh.discovery.measurement import Path
from hostmesh.discovery.protocol_range import MAX_RANGE_BYTES, ProtocolRange
from hostmesh.discovery.terms import ModelKind, Place, Price, check_integer, check_names
from hostmesh.errors import ConfigError

MAX_NAMES = 64
MAX_REPUTATION = 1000
_TEN_YEARS_S = 10 * 366 * 86_400
_MOST = {
    "min_context_tokens": MAX_UINT32,
    "min_vram_mib": 2**40,
    "min_uptime_s": _TEN_YEARS_S,
    "min_reputation": MAX_REPUTATION,
    "min_free_slots": MAX_UINT32,
}
"""The integers among the criteria; each from 0."""


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
    any_models: Sequence[str] = ()
    """Exact model ids; the host must serve one of them, which the criteria below are asked of. Not together with
    ``required_models``."""
    kind: ModelKind | None = None
    """What the required models, or at least one model, must do. A model of undeclared kind does not match."""
    max_price: Price | None = None
    """Inclusive. A free model passes, an unpriced one and one in another currency do not."""
    quantisation: Sequence[str] = ()
    """Names such as ``Q4_K_M``, in either case; the model must be in one of them. Claimed by the host."""
    min_context_tokens: int | None = None
    """Context length of the model, as the host claims it; unknown fails."""
    min_vram_mib: int | None = None
    """Memory of all of the host's GPUs together, as it claims it; unknown fails."""
    location: str | None = None
    """``US`` or ``US/california``: claimed by the host, and refuted where the measured round trip is too short."""
    min_uptime_s: int | None = None
    """Time since start as the host claims it, unless an earlier record of it contradicts; or as observed from here."""
    strict_uptime: bool = False
    """Let ``min_uptime_s`` count nothing but the time over which this client itself saw the host answering."""
    capabilities: Sequence[str] = ()
    """Exact names; all of them."""
    protocols: Sequence[str] = ()
    """The host must serve each: ``/hostmesh/job/1.1.0`` (or a later version of the same major one),
    ``/hostmesh/job/1.0.0..1.4.0``, or an id without a version."""
    min_reputation: int | None = None
    """0 to 1000, from this client's own outcomes; a new host has 100."""
    max_latency_ms: float | None = None
    """Median round-trip time as measured from here, inclusive."""
    min_free_slots: int | None = None
    """Jobs that would start at once, as the host said when it was probed."""
    path: Path | None = None
    """``Path.DIRECT``: no host that is reached through a relay; None = any."""
    accept_unmeasured: bool = False
    """Let hosts pass ``max_latency_ms``, ``min_free_slots`` and ``path`` where nothing could be learnt of theirs; they
    rank after every host of whom it could."""
    include: Sequence[str] = ()
    """Peer ids or operator addresses (0x...): only these hosts; empty = all."""
    exclude: Sequence[str] = ()
    """Peer ids or operator addresses that never match; beats ``include`` and ``preferred``."""
    preferred: Sequence[str] = ()
    """Peer ids or operator addresses that rank before all others, if they meet the criteria; the first named first."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "required_models", self._names("required_models", 128))
        put(self, "any_models", self._names("any_models", 128))
        put(self, "quantisation", self._names("quantisation", 32))
        put(self, "capabilities", self._names("capabilities", 64))
        ranges = map(ProtocolRange.parse, self._names("protocols", MAX_RANGE_BYTES))
        put(self, "protocols", tuple(dict.fromkeys(map(str, ranges))))
        for listed in ("include", "exclude", "preferred"):
            put(self, listed, _fold_wallets(self._names(listed, 64)))
        if self.required_models and self.any_models:
            raise ConfigError(
                "any_models stands beside required_models",
                name="any_models",
                source="argument",
                remedy="say either which models the host must all serve, or of which it must serve one",
            )
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
        for name, most in _MOST.items():
            if getattr(self, name) is not None:
                check_integer(getattr(self, name), name=name, least=0, most=most)
        self._check_latency()
        for name in ("accept_unmeasured", "strict_uptime"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is not a bool", name=name, source="argument")
        if self.path not in (None, Path.DIRECT):
            raise ConfigError(
                f"path is {self.path!r}", name="path", source="argument", remedy="Path.DIRECT, or None for any"
            )

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

    @property
    def protocol_ranges(self) -> tuple[ProtocolRange, ...]:
        """``protocols``, parsed."""
        return tuple(map(ProtocolRange.parse, self.protocols))


def _fold_wallets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Wallet addresses are hexadecimal and compare without case (their checksum is in it); peer ids are base58."""
    return tuple(name.lower() if name[:2] in ("0x", "0X") else name for name in names)
