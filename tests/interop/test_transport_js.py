"""hostmesh and js-libp2p, each dialling the other for every scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.js_peer import prepare_js_peer
from tests.interop.peer_process import AT_ONCE_SCENARIOS, HOSTMESH, HOSTMESH_AT_ONCE, Server, check_scenario, serving
from tests.interop.scenarios import SCENARIOS

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]  # the first installs js-libp2p


@pytest.fixture(scope="module")
def js_peer(toolchain_cache: Path) -> list[str]:
    return prepare_js_peer(toolchain_cache / "js")


@pytest.fixture(scope="module")
def js_server(js_peer: list[str]) -> Iterator[Server]:
    with serving(js_peer) as server:
        yield server


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_hostmesh_dials_js(js_server: Server, scenario: str) -> None:
    check_scenario(HOSTMESH, js_server, scenario)


@pytest.mark.parametrize("scenario", AT_ONCE_SCENARIOS)
def test_hostmesh_dials_js_before_it_is_identified(js_server: Server, scenario: str) -> None:
    check_scenario(HOSTMESH_AT_ONCE, js_server, scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_js_dials_hostmesh(js_peer: list[str], hostmesh_server: Server, scenario: str) -> None:
    check_scenario(js_peer, hostmesh_server, scenario)
