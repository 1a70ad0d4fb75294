"""Where a host's files lie, and which wallet signs for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hostmesh.errors import NotAuthenticatedError, UsageError
from hostmesh.settings import LoadedSettings

if TYPE_CHECKING:
    from hostmesh import Wallet

HOST_DIR_NAME = "host"
KEY_FILE_NAME = "peer.key"
BINDING_FILE_NAME = "binding.json"
MAX_CONNECTIONS = 1000
"""Of a host that is not told otherwise. Source: architecture, decision 10."""


def host_dir(loaded: LoadedSettings) -> Path:
    """Return the folder of the host's key, binding, offer and control socket."""
    return loaded.paths.data_dir / HOST_DIR_NAME


def for_host(loaded: LoadedSettings) -> LoadedSettings:
    """Return the node's settings with a host's own defaults: a key of its own, and room for many clients."""
    settings = loaded.settings
    if settings.key_file is None:
        settings = replace(settings, key_file=host_dir(loaded) / KEY_FILE_NAME)
    if loaded.origins["max_connections"] == "default":
        settings = replace(settings, max_connections=MAX_CONNECTIONS)
    return replace(loaded, settings=settings)


def open_host_wallet(
    loaded: LoadedSettings,
    *,
    binding_file: Path,
    make_new: bool,
    without: bool,
    password_file: Path | None,
    password_fd: int | None,
) -> Wallet | None:
    """Return the operator's wallet; None = the binding alone signs for the host. Blocks: a keystore takes a second.

    Args:
        loaded: names the wallet's file.
        binding_file: enough by itself while it holds.
        make_new: make a wallet where there is none.
        without: leave the wallet alone.
        password_file: holds its password.
        password_fd: descriptor to read the password from; both None = ask.

    Raises:
        NotAuthenticatedError: there is neither a wallet nor a binding.
        KeyFileError: the wallet's file cannot be used.
    """
    path = loaded.settings.wallet_file or loaded.paths.wallet_file
    if without:
        if make_new:
            raise UsageError("--new-wallet and --no-wallet exclude each other", remedy="leave one of the two out")
        return None
    if path.exists():
        from hostmesh import read_wallet_file
        from hostmesh.cli.password import password_source, read_password

        source = password_source(password_file, password_fd)
        return read_wallet_file(path, lambda: read_password(source))
    if make_new:
        from hostmesh import create_wallet_file

        return create_wallet_file(path, password=None)
    if binding_file.exists() and loaded.settings.wallet_file is None:
        return None
    raise NotAuthenticatedError(
        f"there is no wallet at {path}",
        remedy="make one: hostmesh wallet new, or hostmesh-host start --new-wallet (unencrypted); "
        "or sign this host's key where the wallet is: hostmesh-host bind",
    )
