"""``hostmesh find``: who is there, who fits, and why the others do not."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation, listed
from hostmesh.errors import UsageError


def find(
    context: typer.Context,
    model: options.Models = None,
    any_model: options.AnyModels = None,
    kind: options.Kind = None,
    max_price_micros: options.MaxPrice = None,
    currency: options.Currency = "USD",
    quantisation: options.Quantisation = None,
    min_context_tokens: options.MinContextTokens = None,
    min_vram_mib: options.MinVramMib = None,
    max_latency_ms: options.MaxLatencyMs = None,
    min_reputation: options.MinReputation = None,
    min_uptime_s: options.MinUptimeS = None,
    strict_uptime: options.StrictUptime = False,
    location: options.Location = None,
    capability: options.Capabilities = None,
    protocol: options.Protocols = None,
    min_free_slots: options.MinFreeSlots = None,
    path: options.PathName = "any",
    accept_unmeasured: options.AcceptUnmeasured = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    prefer: options.Prefer = None,
    strategy: options.StrategyName = "auto",
    max_per_operator: options.MaxPerOperator = None,
    max_per_subnet: options.MaxPerSubnet = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Most hosts shown.")] = 20,
    watch: options.Watch = False,
    bootstrap: options.Bootstrap = None,
    listen: options.Listen = None,
    dht: options.EnableDht = None,
    mdns: options.EnableMdns = None,
    protocol_prefix: options.Prefix = None,
    network: options.Network = None,
    key: options.KeyFile = None,
    timeout_s: options.TimeoutS = 10.0,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Show the hosts that meet the criteria, best first, and what turned each of the others away."""
    state = invocation(context)
    loaded = state.load(
        verbose=verbose,
        bootstrap_nodes=listed(bootstrap),
        listen_addresses=listed(listen),
        enable_dht=dht,
        enable_mdns=mdns,
        protocol_prefix=protocol_prefix,
        network=network,
        key_file=key,
    )
    from hostmesh.cli.client import ExplainedNoHostError, client_sdk, fresh_wallet, host_criteria, strategy_called
    from hostmesh.cli.show import print_choices, print_funnel
    from hostmesh.discovery.selection import Diversity

    criteria = host_criteria(
        models=model,
        any_models=any_model,
        kind=kind,
        max_price_micros=max_price_micros,
        currency=currency,
        min_reputation=min_reputation,
        max_latency_ms=max_latency_ms,
        min_uptime_s=min_uptime_s,
        location=location,
        capabilities=capability,
        accept_unmeasured=accept_unmeasured,
        quantisation=quantisation,
        min_context_tokens=min_context_tokens,
        min_vram_mib=min_vram_mib,
        strict_uptime=strict_uptime,
        protocols=protocol,
        min_free_slots=min_free_slots,
        path=path,
        include=include,
        exclude=exclude,
        preferred=prefer,
    )
    ranking = strategy_called(strategy)
    diversity = Diversity(max_per_operator=max_per_operator, max_per_subnet=max_per_subnet)

    async def follow() -> None:
        from hostmesh.cli.watch import watch_hosts

        async with client_sdk(loaded, fresh_wallet()) as sdk:
            await watch_hosts(sdk, criteria, ranking, timeout_s=timeout_s, as_json=as_json)

    if watch and diversity != Diversity():
        raise UsageError("--watch tells of every host", remedy="leave out --max-per-operator and --max-per-subnet")

    async def search() -> None:
        async with client_sdk(loaded, fresh_wallet()) as sdk:
            found = await sdk.get_discovery_manager().explain(
                criteria, strategy=ranking, diversity=diversity, timeout_s=timeout_s
            )
        if not found.choices:
            if not as_json and found.funnel.seen:
                print_funnel(found.funnel, sys.stderr)
            raise ExplainedNoHostError(found.funnel)
        choices = found.choices[:limit]
        if as_json:
            print_json({"hosts": [choice.to_dict() for choice in choices], "funnel": found.funnel.to_dict()})
        else:
            print_choices(choices)
            print_funnel(found.funnel, sys.stderr)

    state.interrupts.run(follow if watch else search)
