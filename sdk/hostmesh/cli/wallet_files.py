"""Wallet files as commands name them: where one is, how it is opened, and that none is overwritten."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hostmesh.errors import KeyFileError

if TYPE_CHECKING:
    from hostmesh.identity.wallet import Wallet
    from hostmesh.settings import LoadedSettings


def wallet_path(loaded: LoadedSettings) -> Path:
    """Return the wallet file that is configured, or else the one in the data folder."""
    return loaded.settings.wallet_file or loaded.paths.wallet_file


def open_wallet_file(loaded: LoadedSettings, password_file: Path | None, password_fd: int | None) -> Wallet:
    """Return the wallet at :func:`wallet_path`. Blocks: a keystore takes a second, a prompt as long as the user does.

    Raises:
        KeyFileError: the file cannot be used.
        UsageError: a password is needed, and there is none to be had.
    """
    from hostmesh.cli.password import password_source, read_password
    from hostmesh.identity.keystore import read_wallet_file

    source = password_source(password_file, password_fd)
    return read_wallet_file(wallet_path(loaded), lambda: read_password(source))


def refuse_existing(path: Path) -> None:
    """Refuse a path that is taken, before anybody types a password; whoever writes creates exclusively as well.

    Raises:
        KeyFileError: something is there, be it a dangling link.
    """
    if os.path.lexists(path):
        raise KeyFileError(
            f"{path} exists already and is not overwritten",
            path=str(path),
            remedy="choose another path, or move the existing file away yourself",
        )
