"""Lets the tests of this folder import tests/support, and closes the stores that they leave open."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostmesh.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))


@pytest.fixture(autouse=True)
def closed_after_the_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests do not close their stores, as a killed process does not; Python would complain of the open files."""
    made: list[Store] = []
    make = Store.__init__

    def remember(self: Store, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(Store, "__init__", remember)
    yield
    for store in made:
        store.close()
