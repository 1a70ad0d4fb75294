from __future__ import annotations

import ipaddress

import multiaddr
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import AddressOrigin, AddressScope, keep_usable, may_dial, parse_address, scope_of
from hostmesh.net.address_bytes import address_from_bytes, address_to_bytes

ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.ip_addresses(network="::ffff:0:0/96"))


@st.composite
def addresses(draw: st.DrawFn) -> str:
    ip = draw(ips)
    port = draw(st.integers(0, 65535))
    return f"/ip{ip.version}/{ip}/tcp/{port}{draw(st.sampled_from(['', '/ws']))}"


@given(addresses())
def test_binary_round_trip_agrees_with_the_library(address: str) -> None:
    raw = address_to_bytes(address)
    assert raw == multiaddr.Multiaddr(address).to_bytes()
    assert address_from_bytes(raw) == str(parse_address(address))


@given(st.text(max_size=80) | st.text(alphabet="/ip46dnstcpws0123456789.:ab", max_size=80))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        endpoint = parse_address(text)
    except InvalidAddressError:
        return
    assert parse_address(str(endpoint)) == endpoint
    multiaddr.Multiaddr(str(endpoint))


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_are_refused(raw: bytes) -> None:
    try:
        text = address_from_bytes(raw)
    except InvalidAddressError:
        return
    assert address_from_bytes(address_to_bytes(text)) == text


@given(addresses())
def test_strangers_lead_to_public_addresses_only(address: str) -> None:
    allowed = may_dial(address, AddressOrigin.REMOTE, frozenset())
    ip = ipaddress.ip_address(address.split("/")[2])
    if allowed:
        inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip
        assert inner.is_global
        assert not inner.is_multicast
        assert scope_of(address) is AddressScope.PUBLIC


@given(addresses(), st.sampled_from(AddressOrigin), st.frozensets(st.sampled_from(AddressScope)))
def test_more_trust_never_forbids(address: str, origin: AddressOrigin, own: frozenset[AddressScope]) -> None:
    if may_dial(address, AddressOrigin.REMOTE, own):
        assert may_dial(address, origin, own)
        assert may_dial(address, AddressOrigin.REMOTE, own | set(AddressScope))
    if may_dial(address, origin, own):
        assert may_dial(address, AddressOrigin.CONFIGURED, frozenset())


@given(st.lists(addresses() | st.text(max_size=20), max_size=80))
def test_kept_addresses_are_a_canonical_fixed_point(given_addresses: list[str]) -> None:
    kept = keep_usable(given_addresses)
    assert len(kept) == len(set(kept)) <= 16
    assert keep_usable(kept) == kept
