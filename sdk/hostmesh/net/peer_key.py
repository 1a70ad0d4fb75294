"""The peer key: the Ed25519 key that a peer id names, and its file.

File format, two lines of ASCII: ``hostmesh-peer-key-1`` and the seed of 32 bytes as 64 lower-case hex digits. The file
has mode 0600 in a directory that nobody else can write, belongs to the user, and is locked while a node runs with it:
two nodes with one peer id would take each other's connections.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostmesh.errors import KeyFileError, KeyInUseError
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key

_MAGIC = b"hostmesh-peer-key-1\n"
_SEED_BYTES = 32
_FILE_BYTES = len(_MAGIC) + 2 * _SEED_BYTES + 1


class PeerKey:
    """An Ed25519 key. Its ``repr`` shows the peer id and never the seed."""

    __slots__ = ("_key", "_seed", "peer_id", "public_bytes")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != _SEED_BYTES:
            raise ValueError("a peer key's seed has 32 bytes")
        self._seed = bytes(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(self._seed)
        self.public_bytes: bytes = self._key.public_key().public_bytes_raw()
        """The raw public key, 32 bytes."""
        self.peer_id: PeerId = peer_id_from_public_key(self.public_bytes)
        """The peer id that names this key."""

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes] = os.urandom) -> PeerKey:
        """Return a new key from 32 random bytes."""
        return cls(random_bytes(_SEED_BYTES))

    @property
    def private_bytes(self) -> bytes:
        """The raw seed, 32 bytes. Secret."""
        return self._seed

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature of ``data``, 64 bytes."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"PeerKey({self.peer_id}, <redacted>)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a peer key is not pickled")


@contextmanager
def open_peer_key(path: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> Iterator[PeerKey]:
    """Open the key file, making it when it is missing, and hold its lock for the life of the block.

    Args:
        path: the key file. Missing directories are made with mode 0700.
        random_bytes: source of a new key's seed.

    Yields:
        The key.

    Raises:
        KeyInUseError: another process (or another node of this one) holds the lock. Nothing was changed.
        KeyFileError: the file or directory is not safe (a symbolic link, of another user, readable by others), holds no
            key, or cannot be read or written. Nothing was changed.
    """
    descriptor = _open_locked(path, random_bytes)
    try:
        yield PeerKey(_read_seed(descriptor, path))
    finally:
        os.close(descriptor)


def _open_locked(path: Path, random_bytes: Callable[[int], bytes]) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_directory(path.parent)
        try:
            return _open_existing(path)
        except FileNotFoundError:
            _create(path, random_bytes)
            return _open_existing(path)
    except OSError as error:
        raise KeyFileError(
            f"cannot use the key file {path}: {error.strerror or error}",
            path=str(path),
            remedy="check that the path is right and that you may read and write it",
        ) from error


def _check_directory(directory: Path) -> None:
    status = directory.stat()
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise KeyFileError(
            f"others can write the directory {directory} of the key file",
            path=str(directory),
            remedy=f"chmod 700 {directory}",
        )


def _create(path: Path, random_bytes: Callable[[int], bytes]) -> None:
    """Write a new key beside the path and link it there, so that the file is whole or absent, and never overwritten."""
    draft = path.with_name(f".{path.name}.{random_bytes(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, _MAGIC + random_bytes(_SEED_BYTES).hex().encode("ascii") + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # Another process may have been faster: then its key counts.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path, follow_symlinks=False)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _open_existing(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise KeyFileError(
                f"the key file {path} is a symbolic link", path=str(path), remedy="give the path of the file itself"
            ) from error
        raise
    try:
        _check_file(descriptor, path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise KeyInUseError(
            f"the key file {path} is in use by another running node",
            path=str(path),
            remedy="stop the other node, or give this one a key file of its own",
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(descriptor: int, path: Path) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is not a file", path=str(path), remedy="give the path of a key file")
    if status.st_uid != os.geteuid():
        raise KeyFileError(
            f"the key file {path} belongs to another user", path=str(path), remedy=f"chown {os.geteuid()} {path}"
        )
    if status.st_mode & 0o077:
        raise KeyFileError(f"others can read the key file {path}", path=str(path), remedy=f"chmod 600 {path}")


def _read_seed(descriptor: int, path: Path) -> bytes:
    seed = _parse(os.read(descriptor, _FILE_BYTES + 1))
    if seed is not None:
        return seed
    # Raised out here, where no local holds what the file holds: a traceback with locals would show it.
    raise KeyFileError(
        f"{path} holds no peer key",
        path=str(path),
        remedy="restore it from a backup, or move it away to get a new peer id",
    )


def _parse(data: bytes) -> bytes | None:
    """Return the seed of a file's bytes; None: it holds none."""
    if len(data) != _FILE_BYTES or not data.startswith(_MAGIC) or not data.endswith(b"\n"):
        return None
    with contextlib.suppress(ValueError):
        return bytes.fromhex(data[len(_MAGIC) : -1].decode("ascii"))
    return None
