"""``hostmesh doctor``: what is wrong with this machine, this node and its way into the network, and what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import EXIT_CHECK, print_json
from hostmesh.cli.groups import NodeOptions, grouped
from hostmesh.cli.options import invocation, listed
from hostmesh.cli.terminal import field

if TYPE_CHECKING:
    from hostmesh.discovery.diagnostics import Finding


@grouped
def doctor(
    context: typer.Context,
    *,
    node: NodeOptions,
    announce: Annotated[
        list[str] | None,
        typer.Option("--announce", metavar="MULTIADDR", help="What others shall dial, behind NAT or a name. Repeat."),
    ] = None,
    binding: Annotated[
        Path | None,
        typer.Option("--binding", metavar="FILE", help="Of a host: look whether its binding holds, and how long."),
    ] = None,
    join_s: Annotated[
        float, typer.Option("--join-s", min=0.0, metavar="S", help="Seconds to join the network before it is judged.")
    ] = 5.0,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.01, metavar="S", help="Seconds for what peers are asked.")
    ] = 60.0,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Look over ports, key, bootstrap, reachability (peers dial back), clock, mDNS and DHT; each with its remedy.

    Runs a node of its own for a moment, where the settings say; the key file is looked at and not used.
    Exit code 0: nothing failed; 9: something did.
    """
    state = invocation(context)
    loaded = state.load(verbose=verbose, announce_addresses=listed(announce), **node.settings())
    import platform
    import time
    from importlib.metadata import version

    from hostmesh.cli import doctor_checks
    from hostmesh.discovery.diagnostics import Severity

    found: list[Finding] = []

    def tell(each: Finding) -> None:
        found.append(each)
        if not as_json:
            print_finding(each)

    settings = loaded.settings
    tell(doctor_checks.check_version(version("hostmesh"), platform.python_version()))
    tell(doctor_checks.check_key(settings.key_file or loaded.paths.data_dir / "peer.key"))
    if binding is not None:
        tell(
            doctor_checks.check_binding(
                binding,
                now=time.time(),
                network=settings.network,
                revocations=loaded.paths.data_dir / "revocations.sqlite3",
            )
        )
    ports = doctor_checks.check_ports(settings.listen_addresses)
    for each in ports:
        tell(each)
    # Where something listens already, a node of ours would be judged at another port: it only dials then.
    can_listen = all(each.severity is Severity.OK for each in ports)

    async def examine() -> None:
        import trio

        from hostmesh.cli.client import fresh_wallet
        from hostmesh.discovery.diagnostics import finding
        from hostmesh.errors import HostmeshError
        from hostmesh.sdk import open_sdk

        async with open_sdk(loaded, ephemeral_key=True) as sdk:
            await sdk.authenticate(wallet=fresh_wallet())
            discovery = sdk.get_discovery_manager()
            try:
                nowhere = None if can_listen else ()
                await discovery.create_node(listen=nowhere, announce=nowhere)
            except HostmeshError as error:
                tell(finding("NODE_NOT_STARTED", error.message, remedy=error.remedy))
                return
            if not as_json:
                print(
                    f"joining the network, {join_s:g} s, then asking peers, {timeout_s:g} s at most ...",
                    file=sys.stderr,
                )
            await trio.sleep(join_s)
            await discovery.diagnostics(timeout_s=timeout_s, found=tell)

    state.interrupts.run(examine)
    failed = sum(each.severity is Severity.FAIL for each in found)
    warned = sum(each.severity is Severity.WARN for each in found)
    if as_json:
        print_json({"findings": [each.to_dict() for each in found], "failed": failed, "warned": warned})
    else:
        print(f"{len(found)} findings: {failed} failed, {warned} to look at")
    if failed:
        raise typer.Exit(EXIT_CHECK)


def print_finding(each: Finding) -> None:
    """Print a finding on one line, and its remedy on the next where it is not all right."""
    subject = f" {field(each.subject)}" if each.subject else ""
    print(f"{each.severity.value:<4}  {each.code}{subject}: {field(each.seen)}", flush=True)
    if each.remedy and each.severity.value != "ok":
        print(f"      -> {field(each.remedy)}", flush=True)
