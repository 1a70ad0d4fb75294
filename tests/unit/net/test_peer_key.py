"""The peer key and its file."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys

import pytest

from hostmesh.errors import KeyFileError, KeyInUseError
from hostmesh.net.peer_key import PeerKey, open_peer_key

SEED = bytes(range(32))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "peer.key"


def test_peer_id_is_that_of_libp2p():
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    pair = create_new_key_pair(SEED)
    key = PeerKey(SEED)
    assert key.peer_id == ID.from_pubkey(pair.public_key).to_base58()
    assert pair.public_key.verify(b"data", key.sign(b"data"))
    assert not pair.public_key.verify(b"other", key.sign(b"data"))


def test_secret_is_not_shown():
    key = PeerKey(SEED)
    assert key.peer_id in repr(key)
    for shown in (repr(key), str(key), f"{key}"):
        assert SEED.hex() not in shown
        assert repr(SEED) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert not hasattr(key, "__dict__")


def test_generate_takes_the_given_randomness():
    assert PeerKey.generate(lambda size: SEED[:size]).private_bytes == SEED
    assert PeerKey.generate().peer_id != PeerKey.generate().peer_id


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_seed_must_have_32_bytes(size):
    with pytest.raises(ValueError, match="32 bytes"):
        PeerKey(bytes(size))


def test_new_file_is_private_and_stays_the_same(path):
    with open_peer_key(path) as key:
        first = key.peer_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["peer.key"]
    content = path.read_bytes()
    with open_peer_key(path) as key:
        assert key.peer_id == first
        assert content == b"hostmesh-peer-key-1\n" + key.private_bytes.hex().encode() + b"\n"
    assert path.read_bytes() == content


def test_new_file_is_private_under_any_umask(path):
    before = os.umask(0)
    try:
        with open_peer_key(path):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lock_is_held_for_the_block_only(path):
    with open_peer_key(path) as key:
        with pytest.raises(KeyInUseError) as caught, open_peer_key(path):
            pass
        assert str(path) in caught.value.message
        assert caught.value.path == str(path)
        assert caught.value.retry_safe
        assert caught.value.remedy
        assert key.sign(b"x")
    with open_peer_key(path):
        pass


def test_second_process_is_refused_with_the_path(path):
    program = """
import pathlib, sys
from hostmesh.errors import KeyInUseError
from hostmesh.net.peer_key import open_peer_key
try:
    with open_peer_key(pathlib.Path(sys.argv[1])) as key:
        print(key.peer_id)
except KeyInUseError as error:
    print(error.code, error.message)
"""

    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, timeout=30
        ).stdout

    with open_peer_key(path) as key:
        answer = other()
        assert answer.startswith("KEY_IN_USE")
        assert str(path) in answer
        expected = key.peer_id
    assert other().strip() == expected


def test_lock_goes_with_a_killed_process(path):
    program = """
import pathlib, sys, time
from hostmesh.net.peer_key import open_peer_key
with open_peer_key(pathlib.Path(sys.argv[1])) as key:
    print(key.peer_id, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        peer_id = child.stdout.readline().strip()
        with pytest.raises(KeyInUseError), open_peer_key(path):
            pass
        child.kill()
        child.wait()
        with open_peer_key(path) as key:
            assert key.peer_id == peer_id


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o660])
def test_readable_by_others_is_refused(path, mode):
    with open_peer_key(path):
        pass
    path.chmod(mode)
    with pytest.raises(KeyFileError) as caught, open_peer_key(path):
        pass
    assert "chmod 600" in caught.value.remedy
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_directory_that_others_can_write_is_refused(path):
    path.parent.mkdir(mode=0o700)
    path.parent.chmod(0o777)
    with pytest.raises(KeyFileError) as caught, open_peer_key(path):
        pass
    assert "chmod 700" in caught.value.remedy
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"hostmesh-peer-key-1\n" + b"g" * 64 + b"\n",
        b"hostmesh-peer-key-1\n" + b"0" * 62 + b"\n",
        b"hostmesh-peer-key-1\n" + b"0" * 64,
        b"hostmesh-peer-key-2\n" + b"0" * 64 + b"\n",
        b"hostmesh-peer-key-1\n" + b"0" * 64 + b"\nmore",
        b"hostmesh-peer-key-1\n" + b"0 " * 32 + b"\n",
        bytes(64),
        b"\xff" * 85,
    ],
)
def test_garbage_is_refused_and_kept(path, content):
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught, open_peer_key(path):
        pass
    assert not isinstance(caught.value, KeyInUseError)
    assert str(path) in caught.value.message
    assert path.read_bytes() == content


def test_symbolic_link_is_refused(path, tmp_path):
    with open_peer_key(path):
        pass
    link = tmp_path / "keys" / "link.key"
    link.symlink_to(path)
    with pytest.raises(KeyFileError, match="symbolic link"), open_peer_key(link):
        pass
    dangling = tmp_path / "keys" / "dangling.key"
    dangling.symlink_to(tmp_path / "elsewhere.key")
    with pytest.raises(KeyFileError), open_peer_key(dangling):
        pass
    assert not (tmp_path / "elsewhere.key").exists()


def test_directory_and_pipe_are_no_key_files(path):
    path.mkdir(parents=True, mode=0o700)
    with pytest.raises(KeyFileError), open_peer_key(path):
        pass
    pipe = path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(KeyFileError, match="not a file"), open_peer_key(pipe):
        pass


def test_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(KeyFileError) as caught, open_peer_key(tmp_path / "file" / "peer.key"):
        pass
    assert "peer.key" in caught.value.message


def test_file_that_appears_meanwhile_is_not_overwritten(path):
    with open_peer_key(path.with_name("other.key")) as other:
        theirs = other.peer_id

    def slow_random(size: int) -> bytes:
        if not path.exists():
            path.with_name("other.key").rename(path)
        return os.urandom(size)

    with open_peer_key(path, slow_random) as key:
        assert key.peer_id == theirs
    assert [entry.name for entry in path.parent.iterdir()] == ["peer.key"]
