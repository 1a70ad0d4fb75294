"""``hostmesh bootstrap``: a node by which others join the network."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation, listed
from hostmesh.settings import BOOTSTRAP_CONNECTIONS

LISTEN = ("/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001")
"""Where a bootstrap node listens that is not told otherwise. Source: seed 002, "Port Requirements"."""
KEY_FILE_NAME = "bootstrap.key"
"""Its own, so that a host under the same home can run beside it."""


def bootstrap(
    context: typer.Context,
    listen: options.Listen = None,
    announce: Annotated[
        list[str] | None,
        typer.Option("--announce", metavar="MULTIADDR", help="What others shall dial, behind NAT or a name. Repeat."),
    ] = None,
    key: options.KeyFile = None,
    join: Annotated[
        list[str] | None, typer.Option("--bootstrap", metavar="MULTIADDR", help="Another bootstrap node. Repeat.")
    ] = None,
    max_connections: Annotated[int | None, typer.Option("--max-connections", metavar="N")] = None,
    protocol_prefix: options.Prefix = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run a bootstrap node: others join the network through it, and it answers for the DHT.

    Its key is made at the first start and kept, so that its id and multiaddr stay. Ends on Ctrl-C and SIGTERM.
    """
    state = invocation(context)
    loaded = state.load(
        verbose=verbose,
        listen_addresses=listed(listen),
        announce_addresses=listed(announce),
        bootstrap_nodes=listed(join),
        key_file=key,
        max_connections=max_connections,
        protocol_prefix=protocol_prefix,
    )
    settings, origins = loaded.settings, loaded.origins
    import trio

    from hostmesh.net.config import NodeConfig
    from hostmesh.net.node import Node
    from hostmesh.net.peer_key import open_peer_key

    config = NodeConfig(
        listen_addresses=LISTEN if origins["listen_addresses"] == "default" else settings.listen_addresses,
        announce_addresses=settings.announce_addresses,
        bootstrap_addresses=settings.bootstrap_nodes,
        enable_dht=True,
        dht_server=True,
        protocol_prefix=settings.protocol_prefix,
        max_connections=BOOTSTRAP_CONNECTIONS if origins["max_connections"] == "default" else settings.max_connections,
        connection_timeout_s=settings.connection_timeout_s,
    )
    _allow_open_files()
    key_file = settings.key_file or loaded.paths.data_dir / KEY_FILE_NAME

    async def serve() -> None:
        with open_peer_key(key_file) as peer_key:
            node = Node(config, peer_key)
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run)
                addresses = [f"{address}/p2p/{node.peer_id}" for address in node.announced_addresses()]
                if as_json:
                    print_json({"event": "ready", "peer_id": node.peer_id, "addresses": addresses, "pid": os.getpid()})
                else:
                    print("\n".join(addresses), flush=True)
                    print(f"bootstrap node {node.peer_id}, key {key_file}; Ctrl-C ends it", file=sys.stderr)

    state.interrupts.run(serve)


def _allow_open_files() -> None:
    """Raise this process's limit of open files to the highest allowed: each connection is one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
