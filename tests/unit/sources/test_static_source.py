"""The list of hosts in the settings."""

from __future__ import annotations

import pytest

from hostmesh.discovery.source import Candidate, SourceQuery
from hostmesh.discovery.sources.static import StaticSource
from hostmesh.errors import ConfigError, InvalidAddressError
from hostmesh.net.address import AddressOrigin
from hostmesh.settings import load_settings
from hostmesh.testing.wallets import make_peer_key

ONE, TWO = (make_peer_key(name).peer_id for name in ("one", "two"))
QUERY = SourceQuery(model_ids=("m",), country_code=None, limit=256)


async def found_by(source: StaticSource, query: SourceQuery = QUERY) -> list[Candidate]:
    found: list[Candidate] = []
    await source.find(query, found.append)
    return found


async def test_each_host_is_named_once_with_all_its_addresses() -> None:
    source = StaticSource(
        [
            f"/ip4/192.168.1.2/tcp/4001/p2p/{ONE}",
            f"/dns4/two.example/tcp/443/ws/p2p/{TWO}",
            f"/ip4/11.0.0.1/tcp/4001/p2p/{ONE}",
        ]
    )
    one, two = await found_by(source)
    assert (one.peer_id, one.addresses) == (ONE, ("/ip4/192.168.1.2/tcp/4001", "/ip4/11.0.0.1/tcp/4001"))
    assert (two.peer_id, two.addresses) == (TWO, ("/dns4/two.example/tcp/443/ws",))
    assert {(each.origin, each.named_by, each.source) for each in (one, two)} == {
        (AddressOrigin.CONFIGURED, None, "static")
    }
    assert len(await found_by(source, SourceQuery(model_ids=(), country_code=None, limit=1))) == 1
    statistics = source.statistics
    assert (statistics.hosts, statistics.finds, statistics.named) == (2, 2, 3)


def test_an_address_without_a_peer_is_refused() -> None:
    with pytest.raises(InvalidAddressError):
        StaticSource(["/ip4/11.0.0.1/tcp/4001"])


def test_the_setting_has_its_place_in_the_environment() -> None:
    address = f"/ip4/11.0.0.1/tcp/4001/p2p/{ONE}"
    loaded = load_settings(env={"HOSTMESH_STATIC_HOSTS": address, "HOSTMESH_HOME": "/nowhere"})
    assert loaded.settings.static_hosts == (address,)
    assert loaded.origins["static_hosts"] == "environment HOSTMESH_STATIC_HOSTS"
    with pytest.raises(ConfigError):
        load_settings(env={"HOSTMESH_STATIC_HOSTS": "/ip4/11.0.0.1/tcp/4001", "HOSTMESH_HOME": "/nowhere"})
