"""``hostmesh wallet``: make a wallet, show its address; what it delegates and may spend is in modules of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hostmesh.cli.boundary import print_json
from hostmesh.cli.budget import budget
from hostmesh.cli.delegation import delegate, revoke
from hostmesh.cli.options import AsJson, PasswordFd, PasswordFile, Verbose, invocation, no_secret
from hostmesh.cli.wallet_files import open_wallet_file, refuse_existing, wallet_path
from hostmesh.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make a wallet, show its address; delegate to session keys, take that back; bound what is spent.",
)
app.command()(delegate)
app.command()(revoke)
app.command()(budget)

_Path = Annotated[
    Path | None,
    typer.Option("--wallet", metavar="FILE", callback=no_secret, help="Wallet file. Default: as configured."),
]


@app.command("new")
def new_wallet(
    context: typer.Context,
    wallet: _Path = None,
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    no_password: Annotated[bool, typer.Option("--no-password", help="Write the raw key, without encryption.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Make a new wallet. An existing file is never overwritten."""
    path = wallet_path(invocation(context).load(verbose=verbose, wallet_file=wallet))
    if no_password and (password_file is not None or password_fd is not None):
        raise UsageError("--no-password excludes a password", remedy="leave one of the two out")
    refuse_existing(path)
    from hostmesh.cli.password import password_source, read_password
    from hostmesh.identity.keystore import create_wallet_file

    source = password_source(password_file, password_fd)
    password = None if no_password else read_password(source, confirm=True)
    made = create_wallet_file(path, password=password)
    _show(made.address, path, as_json=as_json)


@app.command("address")
def show_address(
    context: typer.Context,
    wallet: _Path = None,
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Show the address of a wallet."""
    loaded = invocation(context).load(verbose=verbose, wallet_file=wallet)
    _show(open_wallet_file(loaded, password_file, password_fd).address, wallet_path(loaded), as_json=as_json)


def _show(address: str, path: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"address": address, "path": str(path)})
    else:
        print(address)
        print(f"in {path}")
