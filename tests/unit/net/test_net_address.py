"""Addresses: grammar, bytes, scopes and the dial policy. Truth: the multiaddr library, and tables written by hand."""

from __future__ import annotations

import multiaddr
import pytest

from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import (
    AddressOrigin,
    AddressScope,
    join_peer_address,
    keep_usable,
    may_dial,
    parse_address,
    scope_of,
    split_peer_address,
)
from hostmesh.net.address_bytes import address_from_bytes, address_to_bytes

PEER = "12D3KooWGRUfQVJMaVd4ZHJVFHkQ6GZbYQBLmGrLPSyNu7bKYQqS"
NOWHERE: frozenset[AddressScope] = frozenset()

GOOD = [
    ("/ip4/192.0.2.1/tcp/4001", "/ip4/192.0.2.1/tcp/4001"),
    ("/ip4/192.0.2.1/tcp/4001/ws", "/ip4/192.0.2.1/tcp/4001/ws"),
    ("/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/tcp/0"),
    ("/ip4/192.0.2.1/tcp/65535", "/ip4/192.0.2.1/tcp/65535"),
    ("/ip6/2001:0DB8:0:0::1/tcp/1", "/ip6/2001:db8::1/tcp/1"),
    ("/ip6/::1/tcp/4001/ws", "/ip6/::1/tcp/4001/ws"),
    ("/ip6zone/eth0/ip6/fe80::1/tcp/4001", "/ip6zone/eth0/ip6/fe80::1/tcp/4001"),
    ("/dns4/Example.COM/tcp/443/ws", "/dns4/example.com/tcp/443/ws"),
    ("/dns6/a-b.example/tcp/443", "/dns6/a-b.example/tcp/443"),
    ("/dns/localhost./tcp/443", "/dns/localhost/tcp/443"),
]

BAD = [
    "",
    "/",
    "192.0.2.1:4001",
    "ip4/192.0.2.1/tcp/4001",
    "/ip4/192.0.2.1",
    "/ip4/192.0.2.1/tcp",
    "/ip4/192.0.2.1/tcp/",
    "/ip4/192.0.2.1/tcp/65536",
    "/ip4/192.0.2.1/tcp/-1",
    "/ip4/192.0.2.1/tcp/04001",
    "/ip4/192.0.2.1/tcp/+1",
    "/ip4/192.0.2.1/tcp/\uff14\uff10\uff10\uff11",
    "/ip4/192.0.2.1/tcp/4001/",
    "/ip4/192.0.2.1/tcp/4001/wss",
    "/ip4/192.0.2.1/tcp/4001/ws/ws",
    "/ip4/192.0.2.1/tcp/4001/tls/ws",
    "/ip4/192.0.2.1/udp/4001/quic-v1",
    "/ip4/192.0.2.256/tcp/4001",
    "/ip4/192.0.2/tcp/4001",
    "/ip4/0300.0.2.1/tcp/4001",
    "/ip4/::1/tcp/4001",
    "/ip6/192.0.2.1/tcp/4001",
    "/ip6/fe80::1%eth0/tcp/4001",
    "/ip6zone/eth0/ip4/192.0.2.1/tcp/4001",
    "/ip6zone//ip6/fe80::1/tcp/4001",
    "/dns4//tcp/443",
    "/dns4/exa mple/tcp/443",
    "/dns4/-x.example/tcp/443",
    "/dns4/" + "a" * 64 + ".example/tcp/443",
    "/dns4/" + "a." * 127 + "aa/tcp/443",
    "/dns4/x\x00y/tcp/443",
    "/dns4/münchen.example/tcp/443",
    "/dnsaddr/bootstrap.example/tcp/443",
    "/ip4/192.0.2.1/tcp/4001" + "/ws" * 300,
    "/unix/tmp/socket",
]


@pytest.mark.parametrize(("text", "canonical"), GOOD)
def test_parse_gives_canonical_text(text, canonical):
    assert str(parse_address(text)) == canonical


@pytest.mark.parametrize("text", BAD)
def test_parse_refuses(text):
    with pytest.raises(InvalidAddressError) as caught:
        parse_address(text)
    assert caught.value.remedy
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(("text", "canonical"), GOOD)
def test_bytes_are_those_of_the_multiaddr_library(text, canonical):
    raw = multiaddr.Multiaddr(canonical).to_bytes()
    assert address_to_bytes(text) == raw
    assert address_from_bytes(raw) == canonical


def test_bytes_with_peer_id_are_those_of_the_multiaddr_library():
    text = f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"
    raw = multiaddr.Multiaddr(text).to_bytes()
    assert address_to_bytes(text) == raw
    assert address_from_bytes(raw) == text


@pytest.mark.parametrize(
    "text", ["/ip4/192.0.2.1/udp/4001/quic-v1", "/ip4/192.0.2.1/tcp/4001/wss", "/dnsaddr/example.com", "/ip4/192.0.2.1"]
)
def test_binary_addresses_of_other_transports_are_refused(text):
    with pytest.raises(InvalidAddressError):
        address_from_bytes(multiaddr.Multiaddr(text).to_bytes())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x04",
        b"\x04\xc0\x00\x02",
        b"\x04\xc0\x00\x02\x01\x06\x0f",
        b"\x36\xff\xff\xff\xff",
        b"\x36\xff\xff\xff",
        b"\x36\x03a/b\x06\x0f\xa1",
        b"\x36\x00\x06\x0f\xa1",
        b"\x04\xc0\x00\x02\x01\x06\x0f\xa1\x00",
        b"\x04" * 600,
    ],
)
def test_broken_binary_addresses_are_refused(raw):
    with pytest.raises(InvalidAddressError):
        address_from_bytes(raw)


def test_split_peer_address():
    assert split_peer_address(f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}") == ("/ip4/192.0.2.1/tcp/4001", PEER)
    assert split_peer_address(f"/ip4/192.0.2.1/tcp/4001/ws/ipfs/{PEER}") == ("/ip4/192.0.2.1/tcp/4001/ws", PEER)
    assert split_peer_address("/ip4/192.0.2.1/tcp/4001") == ("/ip4/192.0.2.1/tcp/4001", None)
    assert join_peer_address("/ip4/192.0.2.1/tcp/4001", PEER) == f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/192.0.2.1/tcp/4001/p2p/",
        "/ip4/192.0.2.1/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
        f"/p2p/{PEER}",
    ],
)
def test_split_refuses(text):
    with pytest.raises(InvalidAddressError):
        split_peer_address(text)


SCOPES = [
    ("/ip4/1.1.1.1/tcp/1", "PUBLIC"),
    ("/ip4/100.63.255.255/tcp/1", "PUBLIC"),
    ("/ip4/172.32.0.1/tcp/1", "PUBLIC"),
    ("/ip6/2606:4700::1111/tcp/1", "PUBLIC"),
    ("/ip4/10.0.0.1/tcp/1", "PRIVATE"),
    ("/ip4/172.16.0.1/tcp/1", "PRIVATE"),
    ("/ip4/172.31.255.255/tcp/1", "PRIVATE"),
    ("/ip4/192.168.1.1/tcp/1", "PRIVATE"),
    ("/ip4/100.64.0.1/tcp/1", "PRIVATE"),
    ("/ip4/100.127.255.255/tcp/1", "PRIVATE"),
    ("/ip6/fd12::1/tcp/1", "PRIVATE"),
    ("/ip6/64:ff9b:1::1/tcp/1", "PRIVATE"),
    ("/ip4/127.0.0.1/tcp/1", "LOOPBACK"),
    ("/ip4/127.255.255.254/tcp/1", "LOOPBACK"),
    ("/ip6/::1/tcp/1", "LOOPBACK"),
    ("/ip4/169.254.1.1/tcp/1", "LINK_LOCAL"),
    ("/ip6/fe80::1/tcp/1", "LINK_LOCAL"),
    ("/ip6zone/eth0/ip6/fe80::1/tcp/1", "LINK_LOCAL"),
    ("/ip4/169.254.169.254/tcp/80", "METADATA"),
    ("/ip4/169.254.170.2/tcp/80", "METADATA"),
    ("/ip4/100.100.100.200/tcp/80", "METADATA"),
    ("/ip4/168.63.129.16/tcp/80", "METADATA"),
    ("/ip4/192.0.0.192/tcp/80", "METADATA"),
    ("/ip6/fd00:ec2::254/tcp/80", "METADATA"),
    ("/ip4/0.0.0.0/tcp/1", "UNUSABLE"),
    ("/ip6/::/tcp/1", "UNUSABLE"),
    ("/ip4/0.1.2.3/tcp/1", "UNUSABLE"),
    ("/ip4/224.0.0.251/tcp/1", "UNUSABLE"),
    ("/ip4/239.1.1.1/tcp/1", "UNUSABLE"),
    ("/ip6/ff02::fb/tcp/1", "UNUSABLE"),
    ("/ip4/255.255.255.255/tcp/1", "UNUSABLE"),
    ("/ip4/240.0.0.1/tcp/1", "PRIVATE"),
    ("/ip4/192.0.2.1/tcp/1", "PRIVATE"),
    ("/ip4/198.18.0.1/tcp/1", "PRIVATE"),
    ("/ip6/2001:db8::1/tcp/1", "PRIVATE"),
    ("/ip6/2001::1/tcp/1", "PRIVATE"),
    ("/ip6/100::1/tcp/1", "UNUSABLE"),
    ("/ip6/fec0::1/tcp/1", "UNUSABLE"),
    ("/ip6/::7f00:1/tcp/1", "UNUSABLE"),
    ("/ip4/1.1.1.1/tcp/0", "UNUSABLE"),
    # IPv4 in disguise
    ("/ip6/::ffff:127.0.0.1/tcp/1", "LOOPBACK"),
    ("/ip6/::ffff:10.1.2.3/tcp/1", "PRIVATE"),
    ("/ip6/::ffff:169.254.169.254/tcp/1", "METADATA"),
    ("/ip6/::ffff:1.1.1.1/tcp/1", "PUBLIC"),
    ("/ip6/::ffff:0.0.0.0/tcp/1", "UNUSABLE"),
    ("/ip6/2002:7f00:1::/tcp/1", "LOOPBACK"),
    ("/ip6/2002:a9fe:a9fe::/tcp/1", "METADATA"),
    ("/ip6/64:ff9b::10.0.0.1/tcp/1", "PRIVATE"),
    ("/ip6/64:ff9b::169.254.169.254/tcp/1", "METADATA"),
    ("/ip6/64:ff9b::1.1.1.1/tcp/1", "PUBLIC"),
    ("/dns4/localhost/tcp/1", "NAME"),
]


@pytest.mark.parametrize(("address", "scope"), SCOPES)
def test_scope(address, scope):
    assert scope_of(address) is AddressScope[scope]


def _expected(scope: str, origin: str, lives_there: bool) -> bool:
    if scope == "UNUSABLE":
        return False
    if scope == "METADATA":
        return origin == "CONFIGURED"
    if scope in ("PUBLIC", "NAME"):
        return True
    return lives_there or origin in ("CONFIGURED", "MDNS", "CONNECTED")


@pytest.mark.parametrize(("address", "scope"), SCOPES)
@pytest.mark.parametrize("origin", list(AddressOrigin))
@pytest.mark.parametrize("lives_there", [False, True])
def test_policy(address, scope, origin, lives_there):
    own = frozenset({AddressScope[scope]}) if lives_there else frozenset(AddressScope) - {AddressScope[scope]}
    assert may_dial(address, origin, own) is _expected(scope, origin.name, lives_there)


def test_keep_usable_is_canonical_distinct_and_bounded():
    given = ["junk", "/ip6/::0001/tcp/1", "/ip6/::1/tcp/1", f"/ip4/1.1.1.1/tcp/2/p2p/{PEER}"]
    assert keep_usable(given) == ("/ip6/::1/tcp/1", "/ip4/1.1.1.1/tcp/2")
    many = [f"/ip4/1.1.1.1/tcp/{port}" for port in range(1, 100)]
    assert keep_usable(many) == tuple(many[:16])
    assert keep_usable(["junk"] * 64 + many) == ()
