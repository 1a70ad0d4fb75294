"""Lines of standard input for ``hostmesh call``: as they come, however they are cut, and bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import trio

from hostmesh.cli.call_messages import MAX_JSON_BYTES, InputLines
from hostmesh.errors import UsageError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end."""
    near, far = os.pipe()
    yield near, far
    os.close(near)


async def lines_of(pipe: tuple[int, int], data: bytes) -> list[tuple[int, str]]:
    near, far = pipe
    os.write(far, data)
    os.close(far)
    lines = InputLines(near)
    found = []
    while (line := await lines.read_line()) is not None:
        found.append((lines.number, line))
    assert await lines.read_line() is None, "the end stays the end"
    return found


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n \n", []),
        (b"{}", [(1, "{}")]),
        (b"a\n\n\r\nb\nc", [(1, "a"), (4, "b"), (5, "c")]),
        ("é\n".encode(), [(1, "é")]),
    ],
)
async def test_lines_with_something_on_them(pipe: tuple[int, int], data: bytes, lines: list[tuple[int, str]]) -> None:
    assert await lines_of(pipe, data) == lines


async def test_a_line_is_there_before_the_next_one_comes(pipe: tuple[int, int]) -> None:
    near, far = pipe
    lines = InputLines(near)
    for word in ("one", "two"):
        for part in (word, "\n"):
            os.write(far, part.encode())
        assert await lines.read_line() == word
    with trio.move_on_after(0.05) as scope:
        await lines.read_line()
    assert scope.cancelled_caught
    os.close(far)


async def test_what_is_no_text_is_refused(pipe: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        await lines_of(pipe, b"\xff\n")


async def test_a_line_without_end_is_refused(pipe: tuple[int, int]) -> None:
    near, far = pipe
    lines = InputLines(near)

    def pour() -> None:
        try:
            while True:
                os.write(far, bytes(65_536).replace(b"\0", b"x"))
        except BrokenPipeError:
            os.close(far)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, pour)
        with pytest.raises(UsageError, match=f"more than {MAX_JSON_BYTES} bytes"):
            await lines.read_line()
        # The reading end is closed under the writer, which ends it.
        spare = os.open(os.devnull, os.O_RDONLY)
        os.dup2(spare, near)
        os.close(spare)


async def test_a_descriptor_that_cannot_be_read(tmp_path: object) -> None:
    folder = os.open(str(tmp_path), os.O_RDONLY)
    try:
        with pytest.raises(UsageError, match="cannot read standard input"):
            await InputLines(folder).read_all()
    finally:
        os.close(folder)
