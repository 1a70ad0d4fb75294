"""What ``find``, ``run`` and ``demo`` share: criteria from options, the wallet, and a client's node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from hostmesh.errors import ConfigError, NoHostFoundError

if TYPE_CHECKING:
    from hostmesh.discovery.criteria import HostCriteria
    from hostmesh.discovery.funnel import Funnel
    from hostmesh.discovery.ranking import Strategy
    from hostmesh.discovery.terms import ModelKind
    from hostmesh.identity.wallet import Wallet
    from hostmesh.sdk import SDK
    from hostmesh.settings import LoadedSettings

ValueT = TypeVar("ValueT")


def host_criteria(
    *,
    models: list[str] | None = None,
    any_models: list[str] | None = None,
    max_price_micros: int | None = None,
    currency: str = "USD",
    min_reputation: int | None = None,
    max_latency_ms: float | None = None,
    min_uptime_s: int | None = None,
    location: str | None = None,
    capabilities: list[str] | None = None,
    accept_unmeasured: bool = False,
    kind: ModelKind | str | None = None,
    quantisation: list[str] | None = None,
    min_context_tokens: int | None = None,
    min_vram_mib: int | None = None,
    strict_uptime: bool = False,
    protocols: list[str] | None = None,
    min_free_slots: int | None = None,
    path: str = "any",
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    preferred: list[str] | None = None,
) -> HostCriteria:
    """Return the criteria that the options say.

    Raises:
        ConfigError: a value out of its range.
    """
    from hostmesh.discovery.criteria import HostCriteria
    from hostmesh.discovery.measurement import Path
    from hostmesh.discovery.terms import ModelKind, Price

    price = None if max_price_micros is None else Price(micros_per_mtok=max_price_micros, currency=currency)
    return HostCriteria(
        required_models=models or (),
        any_models=any_models or (),
        kind=_one_of("kind", kind, {each.value: each for each in ModelKind}) if isinstance(kind, str) else kind,
        max_price=price,
        min_reputation=min_reputation,
        max_latency_ms=max_latency_ms,
        min_uptime_s=min_uptime_s,
        location=location,
        capabilities=capabilities or (),
        accept_unmeasured=accept_unmeasured,
        quantisation=quantisation or (),
        min_context_tokens=min_context_tokens,
        min_vram_mib=min_vram_mib,
        strict_uptime=strict_uptime,
        protocols=protocols or (),
        min_free_slots=min_free_slots,
        path=_one_of("path", path, {"any": None, "direct": Path.DIRECT}),
        include=include or (),
        exclude=exclude or (),
        preferred=preferred or (),
    )


def strategy_called(name: str) -> Strategy:
    """Return the strategy of this name, in either case.

    Raises:
        ConfigError: there is none.
    """
    from hostmesh.discovery import ranking

    shipped: dict[str, Strategy] = {
        "auto": ranking.AUTO,
        "cheapest": ranking.CHEAPEST,
        "fastest": ranking.FASTEST,
        "reliable": ranking.RELIABLE,
        "specific": ranking.SPECIFIC,
    }
    return _one_of("strategy", name.lower(), shipped)


def _one_of(option: str, given: str, known: Mapping[str, ValueT]) -> ValueT:
    if given not in known:
        raise ConfigError(
            f"--{option} is {given!r}", name=option, source="argument", remedy=f"one of {', '.join(known)}"
        )
    return known[given]


@asynccontextmanager
async def client_sdk(loaded: LoadedSettings, wallet: Wallet) -> AsyncIterator[SDK]:
    """Run a client's node for the life of the block.

    Without a key file in the settings the node has a fresh key, so that several commands can run at once.
    """
    from hostmesh.sdk import open_sdk

    async with open_sdk(loaded, ephemeral_key=loaded.settings.key_file is None) as sdk:
        await sdk.authenticate(wallet=wallet)
        await sdk.get_discovery_manager().create_node()
        yield sdk


def fresh_wallet() -> Wallet:
    """Return a wallet that is kept nowhere: finding asks for no particular one."""
    from hostmesh.identity.wallet import Wallet

    return Wallet.generate()


class ExplainedNoHostError(NoHostFoundError):
    """Nobody fits, with the whole funnel for ``--json``."""

    def __init__(self, funnel: Funnel) -> None:
        from hostmesh.discovery.misses import when_to_retry

        relaxation = "" if funnel.relaxation is None else funnel.relaxation.text
        if funnel.seen == 0:
            message = "no host was found at all"
            remedy = "check --bootstrap and the network, or try again in a moment; see docs/troubleshooting.md"
        elif funnel.rejected.get("throttled"):
            message = f"hosts allow no more calls now: {funnel.describe()}"
            remedy = when_to_retry(funnel.retry_after_ms)
        else:
            message = f"no host meets the criteria: {funnel.describe()}"
            remedy = f"would find one: {relaxation}" if relaxation else "relax a criterion"
        super().__init__(message, seen=funnel.seen, rejected=funnel.rejected, relaxation=relaxation, remedy=remedy)
        self.funnel = funnel.to_dict()
