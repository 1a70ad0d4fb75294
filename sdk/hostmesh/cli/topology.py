"""``hostmesh topology``: the network as a node sees it, as text, JSON or a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.groups import NodeOptions, grouped
from hostmesh.cli.options import invocation
from hostmesh.cli.terminal import field
from hostmesh.errors import UsageError

if TYPE_CHECKING:
    from hostmesh.discovery.topology import NetworkTopology


@grouped
def topology(
    context: typer.Context,
    *,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with a picture here; FILE is replaced.")
    ] = None,
    node: NodeOptions,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.01, metavar="S", help="Seconds of looking around first.")
    ] = 10.0,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Join the network, look for every host, and show what this node sees: peers, hosts, and who told of whom."""
    state = invocation(context)
    loaded = state.load(verbose=verbose, **node.settings())
    from hostmesh.cli.client import client_sdk, fresh_wallet

    async def look() -> None:
        async with client_sdk(loaded, fresh_wallet()) as sdk:
            discovery = sdk.get_discovery_manager()
            if not as_json:
                print(f"looking for every host, {timeout_s:g} s at most ...", file=sys.stderr)
            await discovery.explain(timeout_s=timeout_s)
            seen = discovery.network_topology()
        if html is not None:
            _write(html, seen)
        if as_json:
            print_json(seen.to_dict())
        elif html is None:
            print_topology(seen)
        else:
            print(html)

    state.interrupts.run(look)


def _write(path: Path, seen: NetworkTopology) -> None:
    from hostmesh.cli.topology_page import topology_page

    try:
        path.write_text(topology_page(seen), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}", remedy="name a file in a folder that you may write"
        ) from error


def print_topology(seen: NetworkTopology) -> None:
    """Print one line for each connection and each host."""
    print(f"node {seen.peer_id}")
    for peer in seen.peers:
        what = ", ".join([*(["bootstrap"] if peer.is_bootstrap else []), *(kind.value for kind in peer.kinds)]) or "?"
        for connection in peer.connections:
            way = "dialled" if connection.is_outbound else "dialled us from"
            rtt = "?" if connection.rtt_ms is None else f"{connection.rtt_ms:.1f} ms"
            print(f"  peer {peer.peer_id}  {way} {field(connection.address or '?')}  {rtt}  {what}")
    for host in seen.hosts:
        told = f", record from {host.introducer}" if host.introducer else ""
        models = field(", ".join(host.models))
        print(f"  host {host.peer_id}  {host.state}  {models}  heard of by {'+'.join(host.sources) or 'itself'}{told}")
    by_peers = len({each.by for each in seen.relations})
    print(f"{len(seen.peers)} peers, {len(seen.hosts)} hosts; {by_peers} peers told of {len(seen.relations)} others")
