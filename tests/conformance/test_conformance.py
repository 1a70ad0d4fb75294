"""Client programs against hostmesh's server, over every case of docs/protocols/conformance.json.

A failure names the client and the case, and says what differs from the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conformance.pairs import run_in_parallel
from tests.conformance.schema import read_table
from tests.interop.js_peer import prepare_js_rpc_client

CASES = read_table()
PAIRS = 4
"""Most of a case's time is waiting."""
CLIENTS: dict[str, Callable[[pytest.FixtureRequest], list[str]]] = {
    "hostmesh": lambda request: [sys.executable, "-m", "tests.conformance.client"],
    "js": lambda request: prepare_js_rpc_client(_cache(request) / "js-rpc"),
}
"""How each program under test is started, but for the address; what it needs is installed first."""


def _cache(request: pytest.FixtureRequest) -> Path:
    cache: Path = request.getfixturevalue("toolchain_cache")
    return cache


@pytest.fixture(
    scope="module",
    params=["hostmesh", pytest.param("js", marks=[pytest.mark.interop, pytest.mark.timeout(600)])],
)
def outcomes(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """What differs from the table in each case that was selected, for one client."""
    chosen = {
        item.callspec.params.get("name")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    command = CLIENTS[request.param](request)
    return run_in_parallel(command, [case for case in CASES if case["name"] in chosen], PAIRS)


@pytest.mark.parametrize("name", [case["name"] for case in CASES])
def test_case(outcomes: dict[str, list[str]], name: str) -> None:
    assert name in outcomes, "it was not run: the client or its server had ended"
    assert not outcomes[name], "\n".join(outcomes[name])


def test_client_and_server_go_when_they_are_told(outcomes: dict[str, list[str]]) -> None:
    assert not outcomes[""], "\n".join(outcomes[""])
