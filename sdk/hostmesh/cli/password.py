"""Where a command gets a wallet's password: a prompt, a file or a descriptor, never the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostmesh.errors import UsageError

if TYPE_CHECKING:
    from hostmesh.identity.secret import Secret


def password_source(file: Path | None, descriptor: int | None) -> str:
    """Return the source in the words of :func:`hostmesh.identity.secret_input.read_secret`.

    Raises:
        UsageError: both were given.
    """
    if file is not None and descriptor is not None:
        raise UsageError("--password-file and --password-fd exclude each other", remedy="give one of them")
    if file is not None:
        return f"file:{file}"
    return "prompt" if descriptor is None else f"fd:{descriptor}"


def read_password(source: str, *, confirm: bool = False) -> Secret:
    """Read the password once. Blocks.

    Raises:
        UsageError: there is none to be had.
        KeyFileError: the file is not safe to use.
    """
    from hostmesh.identity.secret_input import read_secret

    if source == "prompt" and not sys.stdin.isatty():
        raise UsageError("no terminal to ask for the password", remedy="give --password-file or --password-fd")
    return read_secret(source, what="password", confirm=confirm)
