"""Who may open sessions on this host: from its settings, a list of wallets that may change, and a plug-in.

The list is a text file: an address a line, ``#`` begins a comment. Who may write to it decides who is served, so nobody
but its owner may.
"""

from __future__ import annotations

import importlib
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import ConfigError, HostmeshError, UsageError
from hostmesh_host.settings import HostSettings

if TYPE_CHECKING:
    from hostmesh import AdmissionPolicy, DepositVerifier

logger = logging.getLogger("hostmesh_host.admission")

MAX_LIST_BYTES = 8 * 1024 * 1024
LOOK_S = 2.0
"""How often the list's file is looked at."""

_Seen = tuple[int, int, int, int]


def admission_policy(host: HostSettings) -> AdmissionPolicy:
    """Return whom the host takes by its settings, with the list as it is now. Blocks: it reads the list.

    Raises:
        ConfigError: the list cannot be used.
    """
    from hostmesh import AdmissionPolicy, AttackLimits, per_minute

    first_bits = AttackLimits().first_bits
    most = host.max_work_bits
    return AdmissionPolicy(
        only_listed=host.only_allowed,
        allowed_wallets=frozenset() if host.allow_list is None else read_allow_list(host.allow_list),
        min_reputation=host.min_client_reputation,
        sessions_per_wallet=per_minute(host.sessions_per_wallet),
        sessions_per_peer=per_minute(host.sessions_per_peer),
        sessions_per_network=per_minute(host.sessions_per_network),
        attack=AttackLimits(first_bits=min(first_bits, most) or first_bits, max_bits=most),
    )


def read_allow_list(path: Path) -> frozenset[bytes]:
    """Return the wallets that a file names, 20 bytes each. Blocks.

    Raises:
        ConfigError: it cannot be read, others may write to it, it is over 8 MiB, or a line is no address.
    """
    from hostmesh import parse_allow_list

    try:
        return parse_allow_list(_read(path))
    except UsageError as error:
        raise _wrong(f"{path}, {error.message}", error.remedy) from None


def load_verifier(name: str) -> DepositVerifier:
    """Return what ``module:name`` makes, called without arguments.

    Raises:
        ConfigError: there is no such module or name, it could not be made, or checks no deposits.
    """
    module_name, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), attribute)()
    except Exception as error:  # the operator's own code: whatever it raises, the host cannot start
        # Its own text may hold what it was made with.
        told = f": {error}" if isinstance(error, (ImportError, AttributeError)) else ""
        raise ConfigError(
            f"no deposit verifier {name!r}: {type(error).__name__}{told}",
            name="deposit_verifier",
            source="argument",
            remedy="name a class or function of an importable module, as module:name",
        ) from error
    if not callable(getattr(made, "verify_deposit", None)):
        raise ConfigError(
            f"{name!r} has no verify_deposit",
            name="deposit_verifier",
            source="argument",
            remedy="see hostmesh.DepositVerifier",
        )
    verifier: DepositVerifier = made
    return verifier


class AllowListWatch:
    """Looks at the list's file and says when it has changed.

    A list that cannot be used changes nothing: whoever was served still is, and a warning says why.

    Args:
        host: names the file.
        seen: what :func:`stamp` said when the list was read that holds now.
    """

    def __init__(self, host: HostSettings, seen: _Seen | None) -> None:
        self._host = host
        self._seen = seen

    async def changed(self) -> AdmissionPolicy:
        """Wait for a change that can be used, and return the policy with it.

        Cancellation: safe.
        """
        path = self._host.allow_list
        if path is None:
            await trio.sleep_forever()
        assert path is not None
        while True:
            await trio.sleep(LOOK_S)
            now = await trio.to_thread.run_sync(stamp, path)
            if now == self._seen:
                continue
            self._seen = now
            try:
                policy = await trio.to_thread.run_sync(admission_policy, self._host)
            except HostmeshError as error:
                logger.warning("the list of wallets is as it was: %s", error.message)
            else:
                logger.info("the list of wallets was read again", extra={"wallets": len(policy.allowed_wallets)})
                return policy


def stamp(path: Path) -> _Seen | None:
    """Return what differs once a file was changed or replaced; None = there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path) -> str:
    try:
        # O_NONBLOCK: opening a pipe that stands in the file's place must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _wrong(f"{path} is no file", "name a text file of wallets")
            if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
                raise _wrong(f"others may write to {path}", f"make it your own: chmod 644 {path}")
            content = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise _wrong(f"cannot read {path}: {error.strerror}", "name a file that exists and is readable") from error
    if len(content) > MAX_LIST_BYTES:
        raise _wrong(f"{path} is larger than 8 MiB", "name at most 65,536 wallets")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _wrong(f"{path} is no text", "name a text file of wallets") from error


def _wrong(message: str, remedy: str) -> ConfigError:
    return ConfigError(message, name="allow_list", source="argument", remedy=remedy)
