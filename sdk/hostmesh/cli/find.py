"""``hostmesh find``: who is there, who fits, and why the others do not."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.groups import CriteriaOptions, NodeOptions, grouped
from hostmesh.cli.options import invocation
from hostmesh.errors import UsageError


@grouped
def find(
    context: typer.Context,
    *,
    criteria: CriteriaOptions,
    kind: options.Kind = None,
    max_per_operator: options.MaxPerOperator = None,
    max_per_subnet: options.MaxPerSubnet = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Most hosts shown.")] = 20,
    watch: options.Watch = False,
    node: NodeOptions,
    timeout_s: options.TimeoutS = 10.0,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Show the hosts that meet the criteria, best first, and what turned each of the others away.

    Peers of the DHT learn which model you ask for. A host that runs a prompt later reads it and its answer.
    """
    state = invocation(context)
    loaded = state.load(verbose=verbose, **node.settings())
    from hostmesh.cli.client import ExplainedNoHostError, client_sdk, fresh_wallet
    from hostmesh.cli.privacy import tell_once
    from hostmesh.cli.show import print_choices, print_funnel
    from hostmesh.discovery.selection import Diversity

    wanted, ranking = criteria.criteria(kind), criteria.ranking()
    diversity = Diversity(max_per_operator=max_per_operator, max_per_subnet=max_per_subnet)

    async def follow() -> None:
        from hostmesh.cli.watch import watch_hosts

        async with client_sdk(loaded, fresh_wallet()) as sdk:
            tell_once(loaded, is_quiet=as_json)
            await watch_hosts(sdk, wanted, ranking, timeout_s=timeout_s, as_json=as_json)

    if watch and diversity != Diversity():
        raise UsageError("--watch tells of every host", remedy="leave out --max-per-operator and --max-per-subnet")

    async def search() -> None:
        async with client_sdk(loaded, fresh_wallet()) as sdk:
            tell_once(loaded, is_quiet=as_json)
            found = await sdk.get_discovery_manager().explain(
                wanted, limit, strategy=ranking, diversity=diversity, timeout_s=timeout_s
            )
        if not found.choices:
            if not as_json and found.funnel.seen:
                print_funnel(found.funnel, sys.stderr)
            raise ExplainedNoHostError(found.funnel)
        if as_json:
            print_json({"hosts": [choice.to_dict() for choice in found.choices], "funnel": found.funnel.to_dict()})
        else:
            print_choices(found.choices)
            print_funnel(found.funnel, sys.stderr)

    state.interrupts.run(follow if watch else search)
