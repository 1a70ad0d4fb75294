"""The note on what others learn: once to each user, and whatever the folder is like."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.cli.privacy import NOTE, tell_once
from hostmesh.settings import load_settings


def told(home: Path, capsys: pytest.CaptureFixture[str], **options: bool) -> str:
    tell_once(load_settings({}, {"HOSTMESH_HOME": str(home)}), **options)
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_it_is_told_once_in_each_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [told(tmp_path / home, capsys) for home in ("a", "a", "b", "a", "b")] == [
        f"{NOTE}\n",
        "",
        f"{NOTE}\n",
        "",
        "",
    ]
    assert [entry.stat().st_size for entry in (tmp_path / "a").iterdir()] == [0]


def test_who_is_quiet_tells_nobody_and_marks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(tmp_path, capsys, is_quiet=True) == ""
    assert told(tmp_path, capsys) == f"{NOTE}\n"


def test_where_no_mark_can_be_written_it_is_told_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        assert [told(home, capsys), told(home, capsys)] == [f"{NOTE}\n"] * 2
