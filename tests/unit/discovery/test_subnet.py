"""Networks that addresses count under."""

from __future__ import annotations

import doctest

import pytest

from hostmesh.discovery import subnet
from hostmesh.discovery.subnet import NOWHERE, subnets_of


def test_docstring_examples() -> None:
    failed, attempted = doctest.testmod(subnet)
    assert (failed, attempted > 0) == (0, True)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("/ip4/203.0.113.255/tcp/1", "203.0.113.0/24"),
        ("/ip6/::ffff:203.0.113.9/tcp/1", "203.0.113.0/24"),
        ("/ip6/64:ff9b::cb00:7109/tcp/1", "203.0.113.0/24"),
        ("/ip6/2002:cb00:7109::1/tcp/1", "203.0.113.0/24"),
        ("/ip6/2001:db8:aa:bb::1/tcp/1", "2001:db8:aa::/48"),
        ("/dns4/One.Host.example.org/tcp/443/ws", "example.org"),
        ("/dns6/localhost/tcp/1", "localhost"),
        ("no address", NOWHERE),
    ],
)
def test_an_address_counts_under_the_network_it_leads_to(address: str, network: str) -> None:
    assert subnets_of([address]) == {network}
