"""The benchmark of receipts, small: it measures what it says. How long that takes is no matter of a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.benchmarks.receipts import figures


def test_every_figure_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measured = figures(rounds=2)
    assert len(measured) == 6
    assert all(ms > 0 for ms in measured.values())
    assert list(tmp_path.iterdir()) == []
