"""A node by which others join a network: what ``hostmesh bootstrap`` runs, and what tests run as one.

It answers for the DHT, dials back, tells the time, keeps the records that hosts hand over and tells them, page by page,
to who asks. It publishes nothing of its own and looks for nobody. Everything that it keeps is bounded as on every node:
docs/protocols/discovery.md, "The table".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from hostmesh.identity.wallet import Wallet
from hostmesh.net.network import Network
from hostmesh.rpc.interceptors import ClientInterceptor, ServerInterceptor
from hostmesh.sdk import SDK, open_sdk
from hostmesh.settings import BOOTSTRAP_CONNECTIONS, LoadedSettings
from hostmesh.system import System

LISTEN = ("/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001")
"""Where a bootstrap node listens that is not told otherwise. Source: seed 002, "Port Requirements"."""
KEY_FILE_NAME = "bootstrap.key"
"""Its own, so that a host under the same home can run beside it."""


def bootstrap_settings(loaded: LoadedSettings) -> LoadedSettings:
    """Return the settings of a bootstrap node: what is not said is filled in as it needs it.

    The DHT is on, whatever they say, and mDNS off: who is on the same network segment needs no bootstrap node.
    """
    settings, origins = loaded.settings, loaded.origins
    return replace(
        loaded,
        settings=replace(
            settings,
            listen_addresses=LISTEN if origins["listen_addresses"] == "default" else settings.listen_addresses,
            max_connections=(
                BOOTSTRAP_CONNECTIONS if origins["max_connections"] == "default" else settings.max_connections
            ),
            key_file=settings.key_file or loaded.paths.data_dir / KEY_FILE_NAME,
            enable_dht=True,
            enable_mdns=False,
        ),
    )


@asynccontextmanager
async def open_bootstrap_node(
    loaded: LoadedSettings,
    *,
    system: System | None = None,
    network: Network | None = None,
    wallet: Wallet | None = None,
    client_interceptors: Sequence[ClientInterceptor] = (),
    server_interceptors: Sequence[ServerInterceptor] = (),
) -> AsyncIterator[SDK]:
    """Run a bootstrap node for the life of the block; entering returns once it listens.

    Args:
        loaded: see :func:`bootstrap_settings`.
        system: see :func:`hostmesh.open_sdk`, as of the next.
        network: the sockets.
        wallet: for a test that has more of the node than its place in the network; None = one that is kept nowhere.
        client_interceptors: see :func:`hostmesh.open_sdk`, as of the next.
        server_interceptors: around the node's handlers.

    Raises:
        StartFailedError, InvalidAddressError, KeyInUseError, KeyFileError: see
            :meth:`hostmesh.DiscoveryManager.create_node`; nothing was left running.
        StoreError: a file in the data folder cannot be used.

    Cancellation: safe; clean-up is bounded in time.
    """
    system = system or System()
    async with open_sdk(
        bootstrap_settings(loaded),
        system=system,
        network=network,
        serve_dht=True,
        client_interceptors=client_interceptors,
        server_interceptors=server_interceptors,
    ) as sdk:
        await sdk.authenticate(wallet=wallet or Wallet.generate(system.random_bytes))
        await sdk.get_discovery_manager().create_node()
        yield sdk
