"""What an operator states about a host: models, prices, place, capacity. Pure.

The host adds what the operator cannot know or must not choose (peer id, sequence, times, addresses) when it signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.discovery.terms import ModelKind, Place, Price, check_integer, check_names, check_text
from hostmesh.errors import ConfigError

MAX_MODELS = 64
MAX_UINT32 = 2**32 - 1


class HostState(Enum):
    """Whether a host takes jobs."""

    AVAILABLE = "available"
    DRAINING = "draining"
    """Finishes its jobs, takes no new ones."""
    WITHDRAWN = "withdrawn"
    """A tombstone: the host has left."""
    UNKNOWN = "unknown"
    """A state that this version does not know; treated as not available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOffer:
    """One model that a host serves. Everything in it is the host's claim; None is "not said".

    Raises:
        ConfigError: a value out of its bounds.
    """

    model_id: str
    kind: ModelKind | None = None
    price: Price | None = None
    """None: unpriced, which is not free."""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    quantisation: str | None = None
    weights_sha256: bytes | None = None
    """SHA-256 of the weights file, 32 bytes."""
    engine: str | None = None
    parameters: Sequence[str] = ()
    """Job parameters that the model takes, by name."""

    def __post_init__(self) -> None:
        check_text(self.model_id, name="model_id", most_bytes=128)
        for name in ("context_tokens", "max_output_tokens"):
            if getattr(self, name) is not None:
                check_integer(getattr(self, name), name=name, least=1, most=MAX_UINT32)
        for name, most in (("quantisation", 32), ("engine", 64)):
            if getattr(self, name) is not None:
                check_text(getattr(self, name), name=name, most_bytes=most)
        if self.weights_sha256 is not None and len(self.weights_sha256) != 32:
            raise ConfigError("weights_sha256 has not 32 bytes", name="weights_sha256", source="argument")
        object.__setattr__(
            self, "parameters", check_names(self.parameters, name="parameters", most_items=32, most_bytes=32)
        )

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "model_id": self.model_id,
            "kind": None if self.kind is None else self.kind.value,
            "price": None if self.price is None else self.price.to_dict(),
            "context_tokens": self.context_tokens,
            "max_output_tokens": self.max_output_tokens,
            "quantisation": self.quantisation,
            "weights_sha256": None if self.weights_sha256 is None else self.weights_sha256.hex(),
            "engine": self.engine,
            "parameters": list(self.parameters),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDescription:
    """What an operator states about a host.

    Raises:
        ConfigError: no model, two models of one id, or a value out of its bounds; ``name`` names the field.
    """

    models: Sequence[ModelOffer]
    """1 to 64, each id once."""
    location: str | None = None
    """``US`` or ``US/california``."""
    capabilities: Sequence[str] = ()
    max_concurrent_jobs: int = 1
    max_queued_jobs: int = 0
    software: str | None = None
    """Name and version of the host's software."""
    protocols: Sequence[str] = ()
    """Protocol ids that the host serves."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "models", tuple(self.models))
        if not 1 <= len(self.models) <= MAX_MODELS:
            raise ConfigError(
                f"a host offers 1 to {MAX_MODELS} models, not {len(self.models)}", name="models", source="argument"
            )
        ids = [offer.model_id for offer in self.models]
        twice = next((model_id for model_id in ids if ids.count(model_id) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"model {twice!r} is offered twice", name="models", source="argument", remedy="offer each model id once"
            )
        if self.location is not None:
            put(self, "location", str(Place.parse(self.location)))
        put(
            self,
            "capabilities",
            check_names(self.capabilities, name="capabilities", most_items=32, most_bytes=64),
        )
        put(self, "protocols", check_names(self.protocols, name="protocols", most_items=16, most_bytes=64))
        check_integer(self.max_concurrent_jobs, name="max_concurrent_jobs", least=1, most=MAX_UINT32)
        check_integer(self.max_queued_jobs, name="max_queued_jobs", least=0, most=MAX_UINT32)
        if self.software is not None:
            check_text(self.software, name="software", most_bytes=64)

    @property
    def place(self) -> Place | None:
        """``location``, parsed."""
        return None if self.location is None else Place.parse(self.location)

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The ids of all models offered."""
        return tuple(offer.model_id for offer in self.models)
