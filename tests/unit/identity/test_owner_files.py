"""Files of one person: what is refused, and that many creators leave one whole file."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hostmesh.errors import KeyFileError
from hostmesh.identity import files
from hostmesh.identity.files import MAX_FILE_BYTES, create_owner_file, read_owner_file, replace_owner_file
from hostmesh.identity.secret import Secret

DATA = Secret(b"data\n")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("write", [create_owner_file, replace_owner_file])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_modes_do_not_depend_on_the_umask(
    write: Callable[[Path, Secret], None], umask: int, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    old = os.umask(umask)
    try:
        write(path, DATA)
    finally:
        os.umask(old)
    assert mode_of(path) == 0o600
    assert read_owner_file(path) == DATA


def test_missing_directories_are_the_owners(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        create_owner_file(tmp_path / "a" / "file", DATA)
    finally:
        os.umask(old)
    assert mode_of(tmp_path / "a") == 0o700


def taken_by_file(path: Path) -> None:
    path.write_bytes(b"old")


def taken_by_link(path: Path) -> None:
    (path.parent / "target").write_bytes(b"old")
    path.symlink_to(path.parent / "target")


def taken_by_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "target")


def taken_by_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("take", [taken_by_file, taken_by_link, taken_by_dangling_link, taken_by_directory])
def test_nothing_that_exists_is_replaced(take: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    take(path)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    with pytest.raises(KeyFileError, match="exists already") as caught:
        create_owner_file(path, DATA)
    assert caught.value.path == str(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
    assert not path.is_file() or path.read_bytes() == b"old"


def test_replacing_takes_the_place_of_a_link_and_not_of_its_target(tmp_path: Path) -> None:
    taken_by_link(tmp_path / "file")
    replace_owner_file(tmp_path / "file", DATA)
    assert not (tmp_path / "file").is_symlink()
    assert read_owner_file(tmp_path / "file") == DATA
    assert (tmp_path / "target").read_bytes() == b"old"


@pytest.mark.parametrize("write", [create_owner_file, replace_owner_file])
def test_a_directory_that_others_may_write_to_is_refused(write: Callable[[Path, Secret], None], tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for mode in (0o777, 0o770, 0o702):
        place.chmod(mode)
        with pytest.raises(KeyFileError, match="others may write"):
            write(place / "file", DATA)
    assert list(place.iterdir()) == []
    # As /tmp: others cannot take our file's name there.
    place.chmod(0o1777)
    write(place / "file", DATA)


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path.stat().st_uid
    real = os.fstat

    def foreign(descriptor: int) -> os.stat_result:
        fields = list(real(descriptor))
        fields[stat.ST_UID] = owner + 1
        return os.stat_result(fields)

    monkeypatch.setattr(files.os, "fstat", foreign)
    with pytest.raises(KeyFileError, match="belongs to another user"):
        create_owner_file(tmp_path / "file", DATA)


@pytest.mark.parametrize("write", [create_owner_file, replace_owner_file])
@pytest.mark.parametrize("step", ["write", "fsync", "fchmod"])
def test_a_failing_disk_leaves_nothing(
    write: Callable[[Path, Secret], None], step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(KeyFileError, match="No space left") as caught:
        write(tmp_path / "file", DATA)
    assert "disk space" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_file_and_directory_are_flushed_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, flushed = os.fsync, []

    def fsync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        # By the time the directory is flushed, the file must have its name in it.
        flushed.append((is_directory, (tmp_path / "file").exists()))
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    create_owner_file(tmp_path / "file", DATA)
    assert flushed == [(False, False), (True, True)]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: real(descriptor, data[:2]))
    create_owner_file(tmp_path / "file", DATA)
    assert read_owner_file(tmp_path / "file") == DATA


def test_of_many_creators_one_wins_and_its_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    together = threading.Barrier(16)
    won: list[int] = []
    lost: list[KeyFileError] = []

    def create(number: int) -> None:
        together.wait()
        try:
            create_owner_file(path, Secret(bytes([number]) * 20_000))
        except KeyFileError as error:
            lost.append(error)
        else:
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 15
    assert path.read_bytes() == bytes([won[0]]) * 20_000
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# --- reading ---


@pytest.fixture
def file(tmp_path: Path) -> Path:
    create_owner_file(tmp_path / "file", DATA)
    return tmp_path / "file"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o777])
def test_a_private_file_that_others_can_use_is_refused(mode: int, file: Path) -> None:
    file.chmod(mode)
    with pytest.raises(KeyFileError, match="others can") as caught:
        read_owner_file(file)
    assert f"chmod 600 {file}" in caught.value.remedy


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_file_of_the_owner_is_read(mode: int, file: Path) -> None:
    file.chmod(mode)
    assert read_owner_file(file) == DATA


def test_a_public_file_may_be_read_but_not_written_by_others(file: Path) -> None:
    file.chmod(0o644)
    assert read_owner_file(file, private=False) == DATA
    file.chmod(0o664)
    with pytest.raises(KeyFileError, match="others can write"):
        read_owner_file(file, private=False)


def test_a_symbolic_link_is_refused(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    with pytest.raises(KeyFileError, match="symbolic link"):
        read_owner_file(link)


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(files.os, "geteuid", lambda: uid + 1)
    with pytest.raises(KeyFileError, match="belongs to another user"):
        read_owner_file(file)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="is not a file"):
        read_owner_file(tmp_path / "pipe")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="is not a file"):
        read_owner_file(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file") as caught:
        read_owner_file(tmp_path / "none")
    assert caught.value.path == str(tmp_path / "none")
    assert caught.value.remedy


@pytest.mark.parametrize(("size", "fits"), [(MAX_FILE_BYTES, True), (MAX_FILE_BYTES + 1, False), (10**6, False)])
def test_a_file_has_64_kib_at_most(size: int, fits: bool, tmp_path: Path) -> None:
    create_owner_file(tmp_path / "file", Secret(bytes(size)))
    if fits:
        assert len(read_owner_file(tmp_path / "file")) == size
        return
    with pytest.raises(KeyFileError, match="64 KiB"):
        read_owner_file(tmp_path / "file")


def test_a_file_that_grows_while_it_is_read_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def endless(descriptor: int, size: int) -> bytes:
        asked.append(size)
        return bytes(min(size, 4096))

    monkeypatch.setattr(files.os, "read", endless)
    with pytest.raises(KeyFileError, match="64 KiB"):
        read_owner_file(file)
    assert max(asked) == MAX_FILE_BYTES + 1


def test_a_failing_read_is_a_key_file_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, size: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files.os, "read", fail)
    with pytest.raises(KeyFileError, match="cannot read"):
        read_owner_file(file)


def test_no_descriptor_stays_open(file: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    read_owner_file(file)
    with pytest.raises(KeyFileError):
        create_owner_file(file, DATA)
    file.chmod(0o644)
    with pytest.raises(KeyFileError):
        read_owner_file(file)
    assert descriptors() == before
