"""hostmesh and unmodified py-libp2p, each dialling the other for every scenario."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.interop.peer_process import (
    AT_ONCE_SCENARIOS,
    HOSTMESH,
    HOSTMESH_AT_ONCE,
    STOCK,
    Server,
    check_scenario,
    serving,
)
from tests.interop.scenarios import SCENARIOS

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def stock_server() -> Iterator[Server]:
    with serving(STOCK) as server:
        yield server


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_hostmesh_dials_stock(stock_server: Server, scenario: str) -> None:
    check_scenario(HOSTMESH, stock_server, scenario)


@pytest.mark.parametrize("scenario", AT_ONCE_SCENARIOS)
def test_hostmesh_dials_stock_before_it_is_identified(stock_server: Server, scenario: str) -> None:
    check_scenario(HOSTMESH_AT_ONCE, stock_server, scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_stock_dials_hostmesh(hostmesh_server: Server, scenario: str) -> None:
    check_scenario(STOCK, hostmesh_server, scenario)
