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
MAX_GPUS = 16
"""Kinds of GPU that one record may name."""
MAX_UINT32 = 2**32 - 1
_DIGESTS = ("weights_sha256", "tokenizer_sha256", "chat_template_sha256")


class HostState(Enum):
    """Whether a host takes jobs."""

    AVAILABLE = "available"
    DRAINING = "draining"
    """Finishes its jobs, takes no new ones."""
    WITHDRAWN = "withdrawn"
    """A tombstone: the host has left."""
    UNKNOWN = "unknown"
    """A state that this version does not know; treated as not available."""


class Reachability(Enum):
    """How strangers get to a host, as it was told by those who dialled it back. In a record it is a claim."""

    PUBLIC = "public"
    """At the addresses that it listens on."""
    MAPPED = "mapped"
    """At an address that a router forwards to it."""
    RELAYED = "relayed"
    """Through a relay."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """GPUs of one kind; None is "not said".

    Raises:
        ConfigError: a value out of its bounds.
    """

    model: str
    memory_mib: int | None = None
    """Of one of them, in MiB."""
    count: int | None = None

    def __post_init__(self) -> None:
        check_text(self.model, name="gpus", most_bytes=64)
        _check_positive(self, "memory_mib", "count")

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {"model": self.model, "memory_mib": self.memory_mib, "count": self.count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a host says it runs on; None is "not said". Never measured by those who read it.

    Raises:
        ConfigError: a value out of its bounds.
    """

    cpu_model: str | None = None
    cpu_cores: int | None = None
    """Those that the host may use."""
    memory_mib: int | None = None
    """Main memory, in MiB."""
    gpus: Sequence[Gpu] = ()
    """At most 16 kinds."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "gpus", tuple(self.gpus))
        if len(self.gpus) > MAX_GPUS:
            raise ConfigError(f"{len(self.gpus)} kinds of GPU", name="gpus", source="argument")
        if self.cpu_model is not None:
            check_text(self.cpu_model, name="cpu_model", most_bytes=64)
        _check_positive(self, "cpu_cores", "memory_mib")

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "cpu_model": self.cpu_model,
            "cpu_cores": self.cpu_cores,
            "memory_mib": self.memory_mib,
            "gpus": [gpu.to_dict() for gpu in self.gpus],
        }


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
    tokenizer_sha256: bytes | None = None
    """SHA-256 of the tokenizer, 32 bytes: of its own file, or of what the weights file holds of it."""
    chat_template_sha256: bytes | None = None
    """SHA-256 of the chat template's text in UTF-8, 32 bytes."""
    engine_version: str | None = None
    output_millitokens_per_s: int | None = None
    """Thousandths of a token per second that one job alone got, as the host measured it on itself."""

    def __post_init__(self) -> None:
        check_text(self.model_id, name="model_id", most_bytes=128)
        _check_positive(self, "context_tokens", "max_output_tokens", "output_millitokens_per_s")
        for name, most in (("quantisation", 32), ("engine", 64), ("engine_version", 32)):
            if getattr(self, name) is not None:
                check_text(getattr(self, name), name=name, most_bytes=most)
        for name in _DIGESTS:
            digest = getattr(self, name)
            if digest is not None and len(digest) != 32:
                raise ConfigError(f"{name} has not 32 bytes", name=name, source="argument")
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
            **{name: None if getattr(self, name) is None else getattr(self, name).hex() for name in _DIGESTS},
            "engine": self.engine,
            "engine_version": self.engine_version,
            "output_millitokens_per_s": self.output_millitokens_per_s,
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
    hardware: Hardware | None = None
    reachability: Reachability | None = None
    """None: not said."""

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


def _check_positive(value: object, *names: str) -> None:
    for name in names:
        if getattr(value, name) is not None:
            check_integer(getattr(value, name), name=name, least=1, most=MAX_UINT32)
