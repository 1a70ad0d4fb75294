"""Secrets come from a prompt, a file or a descriptor, and from nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostmesh.errors import KeyFileError, UsageError
from hostmesh.identity.files import create_owner_file
from hostmesh.identity.secret import Secret
from hostmesh.identity.secret_input import MAX_SECRET_BYTES, read_secret


def pipe_with(data: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"horse", b"horse"),
        (b"horse\n", b"horse"),
        (b"horse\r\n", b"horse"),
        (b"horse\n\n", b"horse\n"),
        (b" horse battery ", b" horse battery "),
        (b"x" * MAX_SECRET_BYTES + b"\n", b"x" * MAX_SECRET_BYTES),
    ],
)
def test_a_descriptor_is_read_to_its_end(data: bytes, secret: bytes) -> None:
    descriptor = pipe_with(data)
    try:
        assert read_secret(f"fd:{descriptor}") == Secret(secret)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("data", [b"", b"\n", b"x" * (MAX_SECRET_BYTES + 1), b"x" * 60_000])
def test_nothing_and_too_much_are_refused(data: bytes) -> None:
    descriptor = pipe_with(data)
    try:
        with pytest.raises(UsageError, match="empty or longer"):
            read_secret(f"fd:{descriptor}")
    finally:
        os.close(descriptor)


def test_a_closed_descriptor_is_named() -> None:
    descriptor = pipe_with(b"x")
    os.close(descriptor)
    with pytest.raises(UsageError, match=f"descriptor {descriptor}"):
        read_secret(f"fd:{descriptor}")


def test_a_file_must_be_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "password"
    create_owner_file(path, Secret("horse\n"))
    assert read_secret(f"file:{path}") == Secret("horse")
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="others can read"):
        read_secret(f"file:{path}")


@pytest.mark.parametrize("source", ["", "0x" + "ab" * 32, "hunter2", "env:PASSWORD", "fd:", "fd:-1", "fd:x", "fd:3 "])
def test_a_secret_is_never_an_argument_and_never_repeated(source: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_secret(source)
    said = (caught.value.message + caught.value.remedy).replace("fd:N", "").replace("file:PATH", "")
    assert not source or source not in said


def test_the_prompt_asks_once_or_twice() -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return "horse"

    assert read_secret("prompt", what="wallet password", prompt=answer) == Secret("horse")
    assert read_secret("prompt", prompt=answer, confirm=True) == Secret("horse")
    assert asked == ["wallet password: ", "password: ", "password, again: "]


def test_two_different_entries_are_refused() -> None:
    answers = iter(["horse", "house"])
    with pytest.raises(UsageError, match="differ"):
        read_secret("prompt", prompt=lambda _: next(answers), confirm=True)


def test_an_empty_entry_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        read_secret("prompt", prompt=lambda _: "")


ASK = """
from hostmesh.errors import UsageError
from hostmesh.identity.secret_input import read_secret
try:
    secret = read_secret("prompt")
except UsageError as error:
    print("REFUSED", error)
else:
    print("GOT", len(secret))
"""


def test_without_a_terminal_nothing_is_asked_in_the_open() -> None:
    """getpass would print a warning and show what is typed."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=b"hunter2\n", capture_output=True, start_new_session=True, check=True
    )
    assert done.stdout.startswith(b"REFUSED no terminal")
    assert b"hunter2" not in done.stdout + done.stderr


def test_a_terminal_does_not_show_what_is_typed() -> None:
    controller, terminal = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ASK], stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, start_new_session=True
    ) as child:
        os.close(terminal)
        shown = b""
        while b"password: " not in shown:
            shown += os.read(controller, 1024)
        # The prompt is written after echo is off.
        os.write(controller, b"hunter2\n")
        answer, _ = child.communicate()
    try:
        while more := os.read(controller, 1024):
            shown += more
    except OSError:
        pass  # Linux says so when the last process has left the terminal
    os.close(controller)
    assert answer == b"GOT 7\n"
    assert b"hunter2" not in shown
