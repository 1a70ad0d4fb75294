"""Where secrets come from: a prompt, a file, or an open descriptor. Never an argument: every process can read those."""

from __future__ import annotations

import getpass
import re
import warnings
from collections.abc import Callable
from pathlib import Path

from hostmesh.errors import UsageError
from hostmesh.identity.files import read_bounded, read_owner_file
from hostmesh.identity.secret import Secret

MAX_SECRET_BYTES = 4096
_DESCRIPTOR = re.compile(r"fd:([0-9]{1,9})\Z")


def read_secret(
    source: str, *, what: str = "password", confirm: bool = False, prompt: Callable[[str], str] = getpass.getpass
) -> Secret:
    """Return a secret from where the user put it.

    Args:
        source: ``prompt`` asks on the terminal without echo; ``file:PATH`` reads a file of mode 0600; ``fd:N`` reads
            the open descriptor N to its end (``fd:0`` is standard input).
        what: the word in the prompt and in errors.
        confirm: ask twice (prompt only), for a new password.
        prompt: asks without echo.

    Returns:
        The secret, without one trailing line end.

    Raises:
        UsageError: another form of source (it is not repeated: it may be the secret itself), no terminal, nothing
            there, or more than 4 KiB.
        KeyFileError: the file is not safe to use.
    """
    if source == "prompt":
        return _ask(what, confirm=confirm, prompt=prompt)
    if source.startswith("file:"):
        return _trim(read_owner_file(Path(source.removeprefix("file:"))), what)
    matched = _DESCRIPTOR.match(source)
    if matched is None:
        raise UsageError(
            f"the {what} does not come from there",
            remedy="use prompt, file:PATH or fd:N; a secret is never an argument",
        )
    return _trim(_drain(int(matched[1]), what), what)


def _ask(what: str, *, confirm: bool, prompt: Callable[[str], str]) -> Secret:
    try:
        with warnings.catch_warnings():
            # Without a terminal getpass would fall back to showing what is typed.
            warnings.simplefilter("error", getpass.GetPassWarning)
            first = Secret(prompt(f"{what}: "))
            again = Secret(prompt(f"{what}, again: ")) if confirm else first
    except (getpass.GetPassWarning, EOFError) as error:
        raise UsageError(f"no terminal to ask for the {what}", remedy="use file:PATH or fd:N") from error
    if first != again:
        raise UsageError(f"the two entries of the {what} differ", remedy="type the same one twice")
    return _trim(first, what)


def _drain(descriptor: int, what: str) -> Secret:
    try:
        return read_bounded(descriptor, MAX_SECRET_BYTES + 2)
    except OSError as error:
        raise UsageError(
            f"cannot read the {what} from descriptor {descriptor}: {error.strerror}",
            remedy="open the descriptor for the process, as in: hostmesh ... 3< FILE",
        ) from error


def _trim(secret: Secret, what: str) -> Secret:
    trimmed = Secret(secret.reveal().removesuffix(b"\n").removesuffix(b"\r"))
    if not 0 < len(trimmed) <= MAX_SECRET_BYTES:
        raise UsageError(f"the {what} is empty or longer than 4 KiB", remedy=f"give the {what} there, on one line")
    return trimmed
