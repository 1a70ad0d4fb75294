"""``hostmesh-host revoke``: the operator's wallet takes back what it said of a host's key."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation
from hostmesh.settings import LoadedSettings

if TYPE_CHECKING:
    from hostmesh import DiscoveryManager

JOIN_S = 30.0
"""Most time for reaching the first peer."""
REVOCATIONS_DIR_NAME = "revocations"


def revoke(
    context: typer.Context,
    peer_id: Annotated[
        str | None, typer.Option("--peer-id", metavar="ID", help="The host's id: 12D3KooW... Not with --file.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Spread what was signed elsewhere; needs no wallet.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Sign and write it, and tell nobody.")] = False,
    least_epoch: Annotated[
        int | None,
        typer.Option("--least-epoch", min=1, help="Lowest epoch that still holds. Default: the time in seconds."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it. Default: beside the host's files.")
    ] = None,
    bootstrap: options.Bootstrap = None,
    wallet: options.WalletFile = None,
    password_file: options.PasswordFile = None,
    password_fd: options.PasswordFd = None,
    network: options.Network = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Take back the wallet's bindings of a host's key: of a machine that was stolen. Other hosts are not touched."""
    state = invocation(context)
    loaded = state.load(verbose=verbose, wallet_file=wallet, network=network, bootstrap_nodes=bootstrap)
    from hostmesh import UsageError, load_revocation, verify_revocation

    if (peer_id is None) == (file is None):
        raise UsageError("revoke takes --peer-id or --file", remedy="hostmesh-host revoke --peer-id 12D3KooW...")
    if file is not None:
        path = file
    else:
        assert peer_id is not None
        path = _sign(loaded, peer_id, least_epoch, out, password_file, password_fd)
    revocation = load_revocation(path)
    revoked = verify_revocation(revocation, network=loaded.settings.network, now=time.time())
    told = 0

    async def spread() -> None:
        nonlocal told
        async with _joined(loaded) as discovery:
            told = await discovery.spread_revocation(revocation)

    if not offline:
        state.interrupts.run(spread)
    operator = f"0x{revocation.operator.hex()}"
    if as_json:
        print_json(
            {
                "peer_id": revoked,
                "operator": operator,
                "least_epoch": revocation.least_epoch,
                "path": str(path),
                "told": told,
            }
        )
        return
    print(f"{operator} revokes its bindings of {revoked} below epoch {revocation.least_epoch}")
    print(f"in {path}")
    print(f"{told} peers took it" if told else f"nobody was told: hostmesh-host revoke --file {path}")
    print(f"should the machine be yours again: hostmesh-host bind --revocation-epoch {revocation.least_epoch}")


def _sign(
    loaded: LoadedSettings,
    peer_id: str,
    least_epoch: int | None,
    out: Path | None,
    password_file: Path | None,
    password_fd: int | None,
) -> Path:
    from hostmesh import InvalidAddressError, UsageError, parse_peer_id, save_revocation, sign_revocation
    from hostmesh_host.cli.places import host_dir, open_host_wallet

    try:
        revoked = parse_peer_id(peer_id)
    except InvalidAddressError as error:
        raise UsageError(error.message, remedy="give the id that the host's start prints: 12D3KooW...") from error
    signer = open_host_wallet(
        loaded,
        binding_file=Path(),
        make_new=False,
        without=False,
        password_file=password_file,
        password_fd=password_fd,
    )
    assert signer is not None, "without a wallet and a binding it raises"
    revocation = sign_revocation(
        signer, revoked, network=loaded.settings.network, now=time.time(), least_epoch=least_epoch
    )
    path = out or host_dir(loaded) / REVOCATIONS_DIR_NAME / f"{revoked}.json"
    # On disk before anybody hears of it: it can be spread again.
    save_revocation(path, revocation)
    return path


@asynccontextmanager
async def _joined(loaded: LoadedSettings) -> AsyncIterator[DiscoveryManager]:
    """Run a node of its own for the life of the block, once it has a peer."""
    from hostmesh import Wallet, open_sdk

    async with open_sdk(loaded, ephemeral_key=True) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        await discovery.wait_ready(timeout_s=JOIN_S)
        yield discovery
