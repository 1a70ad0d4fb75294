"""Applies unified diffs to a copy of the shipped code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import hostmesh

_FILE = re.compile(r"^--- a/(\S+)\n\+\+\+ b/(\S+)\n", re.MULTILINE)
_HUNK = re.compile(r"^@@ .*@@.*\n", re.MULTILINE)


class PatchError(Exception):
    """A patch does not fit the code any more: plant its bug anew."""


def plant(patch: Path, folder: Path) -> Path:
    """Copy the package into a folder, apply a patch to it, and return what to put on ``PYTHONPATH``.

    Lines may have moved. What a hunk replaces must stand in its file, and once.
    """
    package = Path(hostmesh.__file__).parent
    shutil.copytree(package, folder / "hostmesh", ignore=shutil.ignore_patterns("__pycache__"))
    for name, hunks in _files_of(patch.read_text(encoding="utf-8")):
        path = folder / name
        if not path.is_file():
            raise PatchError(f"{patch.name}: there is no {name}")
        text = path.read_text(encoding="utf-8")
        for old, new in hunks:
            if text.count(old) != 1:
                raise PatchError(f"{patch.name}: {name} has {text.count(old)} times what is to be replaced:\n{old}")
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return folder


def _files_of(diff: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    starts = [*_FILE.finditer(diff)]
    if not starts:
        raise PatchError("the patch names no file")
    for start, end in zip(starts, [*(each.start() for each in starts[1:]), len(diff)], strict=True):
        body = diff[start.end() : end]
        yield start[1], [_sides_of(hunk) for hunk in _HUNK.split(body) if hunk]


def _sides_of(hunk: str) -> tuple[str, str]:
    lines = hunk.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    return old, "".join(line[1:] for line in lines if line[0] in " +")
