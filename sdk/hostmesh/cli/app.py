"""The commands of ``hostmesh``, by name. What they do is imported when one of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hostmesh.cli import config, proto, receipts, reputation, wallet
from hostmesh.cli.bootstrap import bootstrap
from hostmesh.cli.call import call
from hostmesh.cli.demo import demo
from hostmesh.cli.doctor import doctor
from hostmesh.cli.find import find
from hostmesh.cli.options import invocation
from hostmesh.cli.run import run
from hostmesh.cli.sim import sim
from hostmesh.cli.topology import topology

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # rich would cost more than the rest of --help
    pretty_exceptions_enable=False,
    help="Find a compute host that you can trust, and run your work on it.",
    epilog="Exit codes: 0 done, 1 fault, 2 usage, 3 key file, 4 no host, 5 network, 6 peer broke the protocol, "
    "7 refused, 8 job failed, 9 check failed, 130 Ctrl-C, 143 SIGTERM.",
)
app.command()(demo)
app.command()(find)
app.command()(run)
app.command()(bootstrap)
app.command()(call)
app.command()(doctor)
app.command()(topology)
app.command()(sim)
app.add_typer(wallet.app, name="wallet")
app.add_typer(config.app, name="config")
app.add_typer(proto.app, name="proto")
app.add_typer(reputation.app, name="reputation")
app.add_typer(receipts.app, name="receipts")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"hostmesh {version('hostmesh')}")
        raise typer.Exit


@app.callback()
def hostmesh(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, show_default=False, help="Log more; -vv: everything.")
    ] = 0,
    log: Annotated[
        str | None, typer.Option("--log", metavar="FILTER", help="A level, or area=level,...: net=debug.")
    ] = None,
    log_json: Annotated[bool | None, typer.Option("--log-json", help="Log one JSON object a line.")] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Read the settings from this TOML file.")
    ] = None,
) -> None:
    """Find a compute host that you can trust, and run your work on it."""
    del version
    state = invocation(context)
    state.verbosity, state.log, state.log_json, state.config_file = verbose, log, log_json, config_file
