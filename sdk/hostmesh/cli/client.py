"""What ``find``, ``run`` and ``demo`` share: the wallet, a client's node, and what is said when nobody fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hostmesh.errors import NoHostFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from hostmesh.discovery.funnel import Funnel
    from hostmesh.identity.wallet import Wallet
    from hostmesh.sdk import SDK
    from hostmesh.settings import LoadedSettings


@asynccontextmanager
async def client_sdk(
    loaded: LoadedSettings, wallet: Wallet, *, delegation_file: Path | None = None
) -> AsyncIterator[SDK]:
    """Run a client's node for the life of the block.

    Without a key file in the settings the node has a fresh key, so that several commands can run at once.

    Args:
        loaded: the settings.
        wallet: signs sessions.
        delegation_file: the owner's word for it, where the wallet is a session key.
    """
    from hostmesh.sdk import open_sdk

    async with open_sdk(loaded, ephemeral_key=loaded.settings.key_file is None) as sdk:
        await sdk.authenticate(wallet=wallet, delegation_file=delegation_file)
        await sdk.get_discovery_manager().create_node()
        yield sdk


def fresh_wallet() -> Wallet:
    """Return a wallet that is kept nowhere: finding asks for no particular one."""
    from hostmesh.identity.wallet import Wallet

    return Wallet.generate()


class ExplainedNoHostError(NoHostFoundError):
    """Nobody fits, with the whole funnel for ``--json``."""

    def __init__(self, funnel: Funnel) -> None:
        from hostmesh.discovery.funnel import RECORD
        from hostmesh.discovery.misses import CLOCK_REMEDY, and_the_clock, none_of_now, when_to_retry

        relaxation = "" if funnel.relaxation is None else funnel.relaxation.text
        if funnel.seen == 0:
            message = "no host was found at all"
            remedy = "check --bootstrap and the network, or try again in a moment; see docs/troubleshooting.md"
        elif funnel.rejected.get("throttled"):
            message = f"hosts allow no more calls now: {funnel.describe()}"
            remedy = when_to_retry(funnel.retry_after_ms)
        elif funnel.rejected.get(RECORD) == funnel.seen:
            message, remedy = none_of_now(funnel), CLOCK_REMEDY
        else:
            message = f"no host meets the criteria: {funnel.describe()}"
            remedy = f"would find one: {relaxation}" if relaxation else "relax a criterion"
            remedy += and_the_clock(funnel)
        super().__init__(message, seen=funnel.seen, rejected=funnel.rejected, relaxation=relaxation, remedy=remedy)
        self.funnel = funnel.to_dict()
