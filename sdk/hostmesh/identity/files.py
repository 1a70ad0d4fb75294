"""Files that belong to one person: created once, whole or not at all, readable by their owner alone.

Content goes in as a :class:`Secret` and no local here holds it in the clear, so that no traceback shows it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from hostmesh.errors import KeyFileError
from hostmesh.identity.secret import Secret

MAX_FILE_BYTES = 64 * 1024


def create_owner_file(path: Path, data: Secret) -> None:
    """Write a new file with mode 0600, flushed to the disk. Never replaces anything.

    The bytes go to a draft beside the path, which is then linked there: the file appears whole or not at all, and of
    several creators at once exactly one succeeds.

    Args:
        path: where; missing directories are made with mode 0700.
        data: the whole content.

    Raises:
        KeyFileError: something has that name already (a dangling symbolic link too), others may write to the directory,
            or the file system refuses. Nothing was changed.
    """
    _write(path, data, replace=False)


def replace_owner_file(path: Path, data: Secret) -> None:
    """Write a file with mode 0600 in the place of an older one, atomically.

    Raises:
        KeyFileError: as for :func:`create_owner_file`, but for an existing file. The older one is untouched.
    """
    _write(path, data, replace=True)


def _write(path: Path, data: Secret, *, replace: bool) -> None:
    try:
        _make_directory(path.parent)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_directory(directory, path)
            # A name, not a secret; it keeps creators apart.
            draft = f".{path.name}.{secrets.token_hex(8)}"
            _write_draft(directory, draft, data)
            try:
                if replace:
                    os.rename(draft, path.name, src_dir_fd=directory, dst_dir_fd=directory)
                else:
                    os.link(draft, path.name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
                    os.unlink(draft, dir_fd=directory)
            except OSError:
                os.unlink(draft, dir_fd=directory)
                raise
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError as error:
        raise KeyFileError(
            f"{path} exists already and is not overwritten",
            path=str(path),
            remedy="choose another path, or move the existing file away yourself",
        ) from error
    except OSError as error:
        raise _cannot("write", path, error) from error


def _make_directory(path: Path) -> None:
    """Make a directory and the missing ones above it; unlike ``mkdir(parents=True)``, all of them the owner's alone."""
    if not path.is_dir():
        _make_directory(path.parent)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


def _write_draft(directory: int, name: str, data: Secret) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        try:
            os.fchmod(descriptor, 0o600)
            view = memoryview(data.reveal())
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        os.unlink(name, dir_fd=directory)
        raise


def _check_directory(descriptor: int, path: Path) -> None:
    status = os.fstat(descriptor)
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(
            f"the directory of {path} belongs to another user",
            path=str(path),
            remedy="choose a directory of your own",
        )
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise KeyFileError(
            f"others may write to the directory of {path}", path=str(path), remedy=f"chmod 700 {path.parent}"
        )


def read_owner_file(path: Path, *, private: bool = True) -> Secret:
    """Return the content of a file that is the user's own.

    Args:
        path: the file itself; a symbolic link is refused.
        private: whether it must also be readable by nobody else.

    Raises:
        KeyFileError: missing, a symbolic link, no regular file, of another user, writable (or, if private, readable) by
            others, or over 64 KiB. ``remedy`` says what to do.
    """
    try:
        # O_NONBLOCK: opening a pipe that stands in the file's place must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise KeyFileError(
                f"{path} is a symbolic link", path=str(path), remedy="give the path of the file itself"
            ) from error
        raise _cannot("read", path, error) from error
    try:
        _check_file(descriptor, path, private=private)
        content = read_bounded(descriptor, MAX_FILE_BYTES)
    except OSError as error:
        raise _cannot("read", path, error) from error
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise _too_large(path)
    return content


def read_bounded(descriptor: int, max_bytes: int) -> Secret:
    """Return what a descriptor gives to its end, or its first ``max_bytes + 1`` bytes if it gives more.

    Raises:
        OSError: reading failed.
    """
    content = Secret(b"")
    while len(content) <= max_bytes:
        more = Secret(os.read(descriptor, max_bytes + 1 - len(content)))
        if len(more) == 0:
            break
        content = Secret(content.reveal() + more.reveal())
    return content


def _check_file(descriptor: int, path: Path, *, private: bool) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is not a file", path=str(path), remedy="give the path of a file")
    if status.st_uid != os.geteuid():
        raise KeyFileError(f"{path} belongs to another user", path=str(path), remedy=f"chown {os.geteuid()} {path}")
    if private and status.st_mode & 0o077:
        raise KeyFileError(
            f"others can read {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            path=str(path),
            remedy=f"chmod 600 {path}; if others had access to this machine, make a new key",
        )
    if status.st_mode & 0o022:
        raise KeyFileError(f"others can write {path}", path=str(path), remedy=f"chmod 600 {path}")
    if status.st_size > MAX_FILE_BYTES:
        raise _too_large(path)


def _too_large(path: Path) -> KeyFileError:
    return KeyFileError(f"{path} is larger than 64 KiB", path=str(path), remedy="give the path of a key file")


def _cannot(verb: str, path: Path, error: OSError) -> KeyFileError:
    remedies = {
        errno.ENOENT: "check the path; `hostmesh wallet new` makes a wallet",
        errno.EACCES: "check who owns the file and its directories",
        errno.ENOSPC: "free some disk space",
    }
    return KeyFileError(
        f"cannot {verb} {path}: {error.strerror or 'input/output error'}",
        path=str(path),
        remedy=remedies.get(error.errno or 0, "check the path and the file system"),
    )
