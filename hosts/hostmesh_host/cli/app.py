"""The commands of ``hostmesh-host``, by name. What they do is imported when one of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hostmesh.cli.options import invocation
from hostmesh_host.cli import models
from hostmesh_host.cli.bind import bind
from hostmesh_host.cli.offer import register, status, update, withdraw
from hostmesh_host.cli.revoke import revoke
from hostmesh_host.cli.start import start

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # rich would cost more than the rest of --help
    pretty_exceptions_enable=False,
    help="Serve models to a hostmesh network.",
    epilog="Exit codes are those of hostmesh: 0 done, 1 fault, 2 usage, 3 key file, 5 network, 8 engine failed, "
    "130 Ctrl-C, 143 SIGTERM.",
)
app.command()(start)
app.command()(register)
app.command()(update)
app.command()(withdraw)
app.command()(status)
app.command()(bind)
app.command()(revoke)
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"hostmesh-host {version('hostmesh')}")
        raise typer.Exit


@app.callback()
def hostmesh_host(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, show_default=False, help="Log more; -vv: everything.")
    ] = 0,
    log: Annotated[
        str | None, typer.Option("--log", metavar="FILTER", help="A level, or area=level,...: host=debug.")
    ] = None,
    log_json: Annotated[bool | None, typer.Option("--log-json", help="Log one JSON object a line.")] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Read the node's settings from this TOML file.")
    ] = None,
) -> None:
    """Serve models to a hostmesh network."""
    del version
    state = invocation(context)
    state.verbosity, state.log, state.log_json, state.config_file = verbose, log, log_json, config_file
