"""``hostmesh-host bind``: the operator's wallet signs a host's key, and need not be where the host is."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation
from hostmesh.settings import LoadedSettings

if TYPE_CHECKING:
    from hostmesh import PeerId

DAY_S = 86_400
MAX_DAYS = 7


def bind(
    context: typer.Context,
    days: Annotated[int, typer.Option("--days", min=1, max=MAX_DAYS, help="How long the binding holds.")] = MAX_DAYS,
    peer_id: Annotated[
        str | None, typer.Option("--peer-id", metavar="ID", help="The host's id. Default: that of the key here.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it. Default: where start reads it.")
    ] = None,
    wallet: options.WalletFile = None,
    password_file: options.PasswordFile = None,
    password_fd: options.PasswordFd = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", callback=options.no_secret, help="The host's key; made when missing."),
    ] = None,
    network: options.Network = None,
    revocation_epoch: Annotated[
        int | None,
        typer.Option(
            "--revocation-epoch", min=0, help="Voids bindings of lower ones. Default: that of the binding it replaces."
        ),
    ] = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Sign a host's key with the wallet. Start the host with --no-wallet then; the wallet can be on another machine."""
    loaded = invocation(context).load(verbose=verbose, key_file=key, wallet_file=wallet, network=network)
    from hostmesh import InvalidAddressError, UsageError, parse_peer_id, save_binding, sign_binding
    from hostmesh_host.cli.places import BINDING_FILE_NAME, for_host, host_dir, open_host_wallet

    target = out or host_dir(loaded) / BINDING_FILE_NAME
    signer = open_host_wallet(
        loaded,
        binding_file=Path(),
        make_new=False,
        without=False,
        password_file=password_file,
        password_fd=password_fd,
    )
    assert signer is not None, "without a wallet and a binding it raises"
    try:
        bound = parse_peer_id(peer_id) if peer_id is not None else _own_peer_id(for_host(loaded))
    except InvalidAddressError as error:
        raise UsageError(error.message, remedy="give the id that the host's start prints: 12D3KooW...") from error
    sign = partial(
        sign_binding, signer, bound, network=loaded.settings.network, now=time.time(), lifetime_s=days * DAY_S
    )
    binding = sign(revocation_epoch=revocation_epoch or 0)
    if revocation_epoch is None and (epoch := _epoch_replaced(target, binding.operator, binding.peer_id)):
        binding = sign(revocation_epoch=epoch)
    save_binding(target, binding)
    if as_json:
        print_json(
            {
                "peer_id": bound,
                "operator": signer.address,
                "expires_at_unix_s": binding.expires_at_unix_s,
                "revocation_epoch": binding.revocation_epoch,
                "path": str(target),
            }
        )
    else:
        print(f"{signer.address} binds {bound} for {days} days")
        print(f"in {target}")


def _epoch_replaced(target: Path, operator: bytes, peer_id: bytes) -> int:
    """Return the epoch of the binding that is replaced: under a lower one the host would not be believed."""
    from hostmesh import KeyFileError, load_binding

    try:
        before = load_binding(target)
    except KeyFileError:
        return 0  # there is none, or nobody can read it
    return before.revocation_epoch if (before.operator, before.peer_id) == (operator, peer_id) else 0


def _own_peer_id(loaded: LoadedSettings) -> PeerId:
    """Return the id of this host's key; of a host that runs, which holds the key, it is asked."""
    from hostmesh import KeyInUseError, PeerId, open_peer_key

    assert loaded.settings.key_file is not None
    try:
        with open_peer_key(loaded.settings.key_file) as own:
            return own.peer_id
    except KeyInUseError:
        import trio

        from hostmesh_host.cli.places import host_dir
        from hostmesh_host.control import ask_daemon

        return PeerId(str(trio.run(ask_daemon, host_dir(loaded), {"do": "status"})["peer_id"]))
