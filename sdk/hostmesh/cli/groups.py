"""Options that several commands have, in groups: a parameter whose type is a group stands for every option of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from hostmesh.cli import options
from hostmesh.cli.options import listed
from hostmesh.errors import ConfigError

if TYPE_CHECKING:
    from hostmesh.discovery.criteria import HostCriteria
    from hostmesh.discovery.ranking import Strategy
    from hostmesh.discovery.terms import ModelKind

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """How a command's own node joins the network."""

    bootstrap: options.Bootstrap = None
    listen: options.Listen = None
    dht: options.EnableDht = None
    mdns: options.EnableMdns = None
    protocol_prefix: options.Prefix = None
    network: options.Network = None
    key: options.KeyFile = None

    def settings(self) -> dict[str, Any]:
        """Return the settings that the options say; None = not given."""
        return {
            "bootstrap_nodes": listed(self.bootstrap),
            "listen_addresses": listed(self.listen),
            "enable_dht": self.dht,
            "enable_mdns": self.mdns,
            "protocol_prefix": self.protocol_prefix,
            "network": self.network,
            "key_file": self.key,
        }


@dataclass(frozen=True, kw_only=True)
class CriteriaOptions:
    """What a host must meet, and which one is best. The kind of model is the command's to say."""

    model: options.Models = None
    any_model: options.AnyModels = None
    max_price_micros: options.MaxPrice = None
    currency: options.Currency = "USD"
    quantisation: options.Quantisation = None
    min_context_tokens: options.MinContextTokens = None
    min_vram_mib: options.MinVramMib = None
    max_latency_ms: options.MaxLatencyMs = None
    min_reputation: options.MinReputation = None
    min_uptime_s: options.MinUptimeS = None
    strict_uptime: options.StrictUptime = False
    location: options.Location = None
    capability: options.Capabilities = None
    protocol: options.Protocols = None
    min_free_slots: options.MinFreeSlots = None
    path: options.PathName = "any"
    accept_unmeasured: options.AcceptUnmeasured = False
    include: options.Include = None
    exclude: options.Exclude = None
    prefer: options.Prefer = None
    strategy: options.StrategyName = "auto"

    def criteria(self, kind: ModelKind | str | None = None) -> HostCriteria:
        """Return the criteria that the options say.

        Args:
            kind: what the model must do, or its name; None = anything.

        Raises:
            ConfigError: a value out of its range.
        """
        from hostmesh.discovery.criteria import HostCriteria
        from hostmesh.discovery.measurement import Path
        from hostmesh.discovery.terms import ModelKind, Price

        micros = self.max_price_micros
        return HostCriteria(
            required_models=self.model or (),
            any_models=self.any_model or (),
            kind=_one_of("kind", kind, {each.value: each for each in ModelKind}) if isinstance(kind, str) else kind,
            max_price=None if micros is None else Price(micros_per_mtok=micros, currency=self.currency),
            quantisation=self.quantisation or (),
            min_context_tokens=self.min_context_tokens,
            min_vram_mib=self.min_vram_mib,
            max_latency_ms=self.max_latency_ms,
            min_reputation=self.min_reputation,
            min_uptime_s=self.min_uptime_s,
            strict_uptime=self.strict_uptime,
            location=self.location,
            capabilities=self.capability or (),
            protocols=self.protocol or (),
            min_free_slots=self.min_free_slots,
            path=_one_of("path", self.path, {"any": None, "direct": Path.DIRECT}),
            accept_unmeasured=self.accept_unmeasured,
            include=self.include or (),
            exclude=self.exclude or (),
            preferred=self.prefer or (),
        )

    def ranking(self) -> Strategy:
        """Return the strategy that the options name, in either case.

        Raises:
            ConfigError: there is none of this name.
        """
        from hostmesh.discovery import ranking

        shipped: dict[str, Strategy] = {
            "auto": ranking.AUTO,
            "cheapest": ranking.CHEAPEST,
            "fastest": ranking.FASTEST,
            "reliable": ranking.RELIABLE,
            "specific": ranking.SPECIFIC,
        }
        return _one_of("strategy", self.strategy.lower(), shipped)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that has each option of the groups among its parameters, where they stand.

    A group is a dataclass whose fields are annotated as options and have defaults.
    """
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = parameter.annotation
        if not (isinstance(group, type) and is_dataclass(group)):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = group
        hints = get_type_hints(group, include_extras=True)
        parameters += (
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
            )
            for field in fields(group)
        )

    @functools.wraps(command)
    def with_groups(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    # Typer reads both: the first is what it goes by.
    with_groups.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_groups.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del with_groups.__wrapped__
    return with_groups


def _one_of(option: str, given: str, known: Mapping[str, ValueT]) -> ValueT:
    if given not in known:
        raise ConfigError(
            f"--{option} is {given!r}", name=option, source="argument", remedy=f"one of {', '.join(known)}"
        )
    return known[given]
