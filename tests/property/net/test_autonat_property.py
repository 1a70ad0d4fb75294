"""AutoNAT v2 under any input: bytes that make no message fail as such; no choice leads where nobody may be sent."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import RemoteProtocolError
from hostmesh.net.address import AddressScope, parse_address, scope_of
from hostmesh.net.autonat_message import (
    MAX_ADDRESSES,
    DialRequest,
    decode_dial_back,
    decode_message,
    encode_request,
)
from hostmesh.net.autonat_policy import WINDOW_S, DialBackLimiter, choose_address
from hostmesh.net.peer_id import PeerId
from hostmesh.testing.strategies_basic import multiaddrs, peer_ids

ips = (st.ip_addresses() | st.sampled_from(("127.0.0.1", "10.0.0.7", "8.8.8.8", "::1", "fd00::1"))).map(str)
addresses = multiaddrs() | st.builds(
    lambda ip, port: f"/ip{ipaddress.ip_address(ip).version}/{ip}/tcp/{port}", ips, st.integers(0, 65535)
)


@given(st.binary(max_size=256))
def test_any_bytes_are_a_message_or_an_error_of_the_peer(data: bytes) -> None:
    for decode in (decode_message, decode_dial_back):
        try:
            decode(data)
        except RemoteProtocolError:
            continue


@given(st.lists(multiaddrs(), max_size=8), st.integers(0, 2**64 - 1))
def test_a_request_comes_as_it_was_sent(sent: list[str], nonce: int) -> None:
    frame = encode_request(sent, nonce)
    length_bytes = next(index for index, byte in enumerate(frame) if byte < 128) + 1
    message = decode_message(frame[length_bytes:])
    assert isinstance(message, DialRequest)
    assert message.nonce == nonce
    assert message.addresses == tuple(str(parse_address(each)) for each in sent)[:MAX_ADDRESSES]


@given(st.lists(st.none() | addresses, max_size=8), st.none() | ips, st.lists(ips, max_size=4))
def test_only_the_asker_itself_is_dialled_in_private(
    listed: list[str | None], asker_ip: str | None, own_ips: list[str]
) -> None:
    chosen = choose_address(listed, asker_ip=asker_ip, own_ips=own_ips)
    if chosen is None:
        return
    assert listed[chosen.index] == chosen.address
    scope = scope_of(chosen.address)
    assert scope not in (AddressScope.UNUSABLE, AddressScope.METADATA)
    if scope not in (AddressScope.PUBLIC, AddressScope.NAME):
        assert not chosen.is_paid
    if not chosen.is_paid:
        seen_at, ip = ipaddress.ip_address(str(asker_ip)), parse_address(chosen.address).ip
        assert ip is not None
        assert (getattr(ip, "ipv4_mapped", None) or ip) == (getattr(seen_at, "ipv4_mapped", None) or seen_at)


@given(st.lists(st.tuples(peer_ids(), st.none() | ips, st.floats(0, 30), st.booleans()), max_size=80))
def test_no_minute_has_more_than_the_limiter_says(asked: list[tuple[PeerId, str | None, float, bool]]) -> None:
    limiter, now = DialBackLimiter(), 0.0
    admitted: list[tuple[float, PeerId]] = []
    running: set[PeerId] = set()
    for peer_id, ip, pause_s, ends in asked:
        now += pause_s
        if limiter.begin(peer_id, ip, now):
            assert peer_id not in running
            running.add(peer_id)
            admitted.append((now, peer_id))
        if ends:
            limiter.end(peer_id)
            running.discard(peer_id)
        lately = [each for at, each in admitted if now - at < WINDOW_S]
        assert len(lately) <= 60
        assert all(lately.count(each) <= 12 for each in set(lately))
        assert len(running) <= 16
