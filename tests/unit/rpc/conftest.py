"""Lets the tests of this folder import tests/support, and gives them a client and a server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio
from tests.unit.rpc.call_kit import Pair

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))


@pytest.fixture
def pair(nursery: trio.Nursery) -> Pair:
    return Pair(nursery)
