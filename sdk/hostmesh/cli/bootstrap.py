"""``hostmesh bootstrap``: a node by which others join the network."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation, listed


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
    network: options.Network = None,
    protocol_prefix: options.Prefix = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run a bootstrap node: others join the network through it; it serves the DHT and keeps hosts' records.

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
        network=network,
        protocol_prefix=protocol_prefix,
    )
    from hostmesh.bootstrap_node import open_bootstrap_node

    _allow_open_files()

    async def serve() -> None:
        import trio

        async with open_bootstrap_node(loaded) as sdk:
            itself = sdk.get_discovery_manager().network_topology()
            addresses = [f"{address}/p2p/{itself.peer_id}" for address in itself.addresses]
            if as_json:
                print_json({"event": "ready", "peer_id": itself.peer_id, "addresses": addresses, "pid": os.getpid()})
            else:
                print("\n".join(addresses), flush=True)
                print(f"bootstrap node {itself.peer_id}, key {sdk.settings.key_file}; Ctrl-C ends it", file=sys.stderr)
            await trio.sleep_forever()

    state.interrupts.run(serve)


def _allow_open_files() -> None:
    """Raise this process's limit of open files to the highest allowed: each connection is one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
