"""What ``find``, ``run`` and ``demo`` share: criteria from options, the wallet, and a client's node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hostmesh.errors import NoHostFoundError

if TYPE_CHECKING:
    from hostmesh.discovery.criteria import HostCriteria
    from hostmesh.discovery.funnel import Funnel
    from hostmesh.discovery.terms import ModelKind
    from hostmesh.identity.wallet import Wallet
    from hostmesh.sdk import SDK
    from hostmesh.settings import LoadedSettings


def host_criteria(
    *,
    models: list[str] | None = None,
    max_price_micros: int | None = None,
    currency: str = "USD",
    min_reputation: int | None = None,
    max_latency_ms: float | None = None,
    min_uptime_s: int | None = None,
    location: str | None = None,
    capabilities: list[str] | None = None,
    accept_unmeasured: bool = False,
    kind: ModelKind | None = None,
) -> HostCriteria:
    """Return the criteria that the options say.

    Raises:
        ConfigError: a value out of its range.
    """
    from hostmesh.discovery.criteria import HostCriteria
    from hostmesh.discovery.terms import Price

    price = None if max_price_micros is None else Price(micros_per_mtok=max_price_micros, currency=currency)
    return HostCriteria(
        required_models=models or (),
        kind=kind,
        max_price=price,
        min_reputation=min_reputation,
        max_latency_ms=max_latency_ms,
        min_uptime_s=min_uptime_s,
        location=location,
        capabilities=capabilities or (),
        accept_unmeasured=accept_unmeasured,
    )


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
        relaxation = "" if funnel.relaxation is None else funnel.relaxation.text
        if funnel.seen == 0:
            message = "no host was found at all"
            remedy = "check --bootstrap and the network, or try again in a moment; see docs/troubleshooting.md"
        else:
            message = f"no host meets the criteria: {funnel.describe()}"
            remedy = f"would find one: {relaxation}" if relaxation else "relax a criterion"
        super().__init__(message, seen=funnel.seen, rejected=funnel.rejected, relaxation=relaxation, remedy=remedy)
        self.funnel = funnel.to_dict()
