"""Whatever comes over the link, the reader says what it says or skips it; it never raises."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.discovery.sources.mdns_records import MAX_ADDRESSES, MAX_PEERS, HeardPeers, encode_txt, parse_txt
from hostmesh.net.peer_id import peer_id_from_public_key

peer_ids = st.binary(min_size=32, max_size=32).map(peer_id_from_public_key)
ports = st.integers(1, 65535)
addresses = st.one_of(
    st.builds(lambda ip, port: f"/ip4/{ip}/tcp/{port}", st.ip_addresses(v=4), ports),
    st.builds(lambda ip, port: f"/ip6/{ip}/tcp/{port}/ws", st.ip_addresses(v=6), ports),
)
strings = st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: b"dnsaddr=" + tail))


@given(peer_ids, st.lists(addresses, unique=True, max_size=10))
def test_what_is_written_is_read(peer_id, texts):
    parsed = parse_txt(encode_txt(peer_id, texts))
    assert parsed.malformed == 0
    assert parsed.addresses == tuple(texts)[: len(parsed.addresses)]
    assert parsed.peer_id == (peer_id if texts else None)


@given(st.binary(max_size=2000))
@example(b"\xff" * 9000)
@example(b"\x08dnsaddr=" * 500)
def test_garbage_is_skipped(data):
    parsed = parse_txt(data)
    assert len(parsed.addresses) <= MAX_ADDRESSES
    assert (parsed.peer_id is None) == (not parsed.addresses)


@given(peer_ids, st.lists(strings, max_size=6), st.lists(strings, max_size=6), addresses)
def test_a_good_string_survives_its_neighbours(peer_id, before, after, address):
    good = f"dnsaddr={address}/p2p/{peer_id}".encode()
    data = b"".join(bytes([len(entry)]) + entry for entry in (*before, good, *after))
    assert address in parse_txt(data).addresses


@given(
    st.lists(
        st.tuples(st.integers(0, 900).map(str), peer_ids, st.floats(-5, 1e6), st.floats(0, 50)), min_size=1, max_size=60
    )
)
def test_nothing_outlives_its_ttl(packets):
    peers = HeardPeers(peer_id_from_public_key(bytes(32)))
    now, ends = 0.0, {}
    for label, peer_id, ttl_s, step in packets:
        now += step
        peers.on_txt(label, encode_txt(peer_id, ["/ip4/10.0.0.1/tcp/1"]), ttl_s=ttl_s, now=now, flush=True)
        if ttl_s > 0:
            ends[label, peer_id] = now + ttl_s
    assert len(peers) <= MAX_PEERS
    alive = peers.peers(now)
    assert set(alive) <= {peer_id for (_, peer_id), end in ends.items() if end > now}
