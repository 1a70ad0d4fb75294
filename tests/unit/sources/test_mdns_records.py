from __future__ import annotations

import ipaddress

import ifaddr
import pytest

from hostmesh.discovery.sources.mdns_interfaces import choose_interfaces
from hostmesh.discovery.sources.mdns_records import (
    MAX_TXT_BYTES,
    HeardPeers,
    announcement_of,
    encode_txt,
    label_from,
    label_of,
    parse_txt,
)
from hostmesh.errors import InvalidAddressError
from hostmesh.net.peer_id import peer_id_from_public_key

ALICE = peer_id_from_public_key(bytes(range(32)))
BOB = peer_id_from_public_key(bytes(range(1, 33)))
OWN = peer_id_from_public_key(bytes(32))


def txt(*entries: bytes) -> bytes:
    return b"".join(bytes([len(entry)]) + entry for entry in entries)


def entry(address: str, peer_id: str = ALICE) -> bytes:
    return f"dnsaddr={address}/p2p/{peer_id}".encode()


def test_golden_bytes():
    """The specification's form with its length in front; py-libp2p gives this id to the public key 00 01 .. 1f."""
    text = b"dnsaddr=/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW9pP4Seg3kZYhySpuVjn1RPdQBsUFZKiFxGMGQN5MeL6A"
    assert len(text) == 0x58
    assert encode_txt(ALICE, ["/ip4/192.0.2.7/tcp/4001"]) == b"\x58" + text
    parsed = parse_txt(b"\x58" + text)
    assert (parsed.peer_id, parsed.addresses, parsed.malformed) == (ALICE, ("/ip4/192.0.2.7/tcp/4001",), 0)


def test_each_address_is_a_string_of_its_own():
    data = encode_txt(ALICE, ["/ip4/192.0.2.7/tcp/4001", "/ip6/2001:db8::7/tcp/4001/ws", "/ip4/192.0.2.7/tcp/4001"])
    assert data == txt(entry("/ip4/192.0.2.7/tcp/4001"), entry("/ip6/2001:db8::7/tcp/4001/ws"))


def test_sixteen_addresses_or_one_packet_s_worth():
    short = [f"/ip4/10.0.0.{number}/tcp/1" for number in range(40)]
    data = encode_txt(ALICE, short)
    assert len(data) <= MAX_TXT_BYTES
    assert parse_txt(data).addresses == tuple(short[: len(parse_txt(data).addresses)])
    # "dnsaddr=", "/p2p/", 52 of the id and 19 to 21 of the address, with the length 85 to 87 bytes.
    assert len(parse_txt(data).addresses) == 12
    assert parse_txt(txt(*map(entry, short))).addresses == tuple(short[:16])


@pytest.mark.parametrize(
    ("data", "malformed"),
    [
        (txt(b"dnsaddr=nonsense"), 1),
        (txt(b"dnsaddr=/ip4/192.0.2.7/tcp/4001"), 1),  # nobody is named
        (txt(b"dnsaddr=/ip4/192.0.2.7/udp/4001/quic-v1/p2p/" + ALICE.encode()), 1),
        (txt(b"dnsaddr=/ip4/192.0.2.7/tcp/4001/p2p/QmNonsense"), 1),
        (txt(b"dnsaddr=\xff\xfe"), 1),
        (b"\x20dnsaddr=", 1),  # cut short
        (txt(b"dnsaddr=", b"", b"dnsaddr", b"other=1"), 1),
        (txt(b"path=/", b"x"), 0),
        (b"", 0),
        (b"\x00", 0),
    ],
)
def test_malformed_strings_are_counted_and_skipped(data, malformed):
    good = entry("/ip4/192.0.2.9/tcp/1")
    assert parse_txt(data) == parse_txt(b"") if not malformed else parse_txt(data).malformed == malformed
    assert parse_txt(data).addresses == ()
    if not data.startswith(b"\x20"):
        assert parse_txt(data + txt(good)).addresses == ("/ip4/192.0.2.9/tcp/1",)
    assert parse_txt(txt(good) + data).addresses == ("/ip4/192.0.2.9/tcp/1",)


def test_a_txt_speaks_for_one_peer():
    parsed = parse_txt(txt(entry("/ip4/192.0.2.9/tcp/1"), entry("/ip4/192.0.2.9/tcp/2", BOB)))
    assert (parsed.peer_id, parsed.addresses, parsed.malformed) == (ALICE, ("/ip4/192.0.2.9/tcp/1",), 1)


def test_attribute_name_is_read_without_case():
    assert parse_txt(txt(entry("/ip4/192.0.2.9/tcp/1").replace(b"dnsaddr", b"DNSAddr"))).peer_id == ALICE


def test_labels():
    label = label_from(bytes(range(0, 256, 8)))
    assert len(label) == 32
    assert label.isalnum()
    assert label == label.lower()
    assert label_of(f"{label.upper()}._P2P._udp.local.") == label
    assert label_of("_p2p._udp.local.") is None
    assert label_of("x._http._tcp.local.") is None
    assert label_of("._p2p._udp.local.") is None


def test_announcement_carries_ip_addresses_and_a_port_for_those_who_insist():
    announced = announcement_of(
        ALICE, ["/ip4/192.0.2.7/tcp/4001", "/ip4/192.0.2.7/tcp/4002/ws", "/dns/h.example/tcp/1"]
    )
    assert (announced.ips, announced.port) == (("192.0.2.7",), 4001)
    assert b"dnsaddr=/dns/h.example/tcp/1/p2p/" in announced.txt
    with pytest.raises(InvalidAddressError):
        announcement_of(ALICE, ["nonsense"])


def heard(peers: HeardPeers, label: str, address: str, peer_id=ALICE, *, ttl_s=120.0, now=0.0, flush=True):
    return peers.on_txt(label, txt(entry(address, peer_id)), ttl_s=ttl_s, now=now, flush=flush)


def test_a_peer_lives_as_long_as_its_ttl_and_longer_when_heard_again():
    peers = HeardPeers(OWN)
    assert heard(peers, "a", "/ip4/10.0.0.1/tcp/1") == ALICE
    assert heard(peers, "b", "/ip4/10.0.0.2/tcp/1", BOB) == BOB
    assert heard(peers, "a", "/ip4/10.0.0.1/tcp/1", now=60) is None  # no news
    assert set(peers.peers(119.9)) == {ALICE, BOB}
    assert set(peers.peers(120.0)) == {ALICE}
    assert peers.peers(180.0) == {}


@pytest.mark.parametrize("ttl_s", [3_200, 4_000_000_000])
def test_a_long_ttl_is_cut_to_two_unanswered_questions(ttl_s):
    peers = HeardPeers(OWN)
    heard(peers, "a", "/ip4/10.0.0.1/tcp/1", ttl_s=ttl_s)
    assert set(peers.peers(119.9)) == {ALICE}
    assert peers.peers(120.0) == {}


def test_a_record_with_the_flush_bit_replaces_those_older_than_a_second():
    peers = HeardPeers(OWN)
    heard(peers, "a", "/ip4/10.0.0.1/tcp/1")
    assert heard(peers, "a", "/ip4/10.0.0.1/tcp/2", now=1.5) == ALICE
    assert peers.peers(2) == {ALICE: ("/ip4/10.0.0.1/tcp/2",)}
    # Those of one packet stand together.
    heard(peers, "a", "/ip4/10.0.0.1/tcp/3", now=1.5)
    assert peers.peers(2) == {ALICE: ("/ip4/10.0.0.1/tcp/3", "/ip4/10.0.0.1/tcp/2")}


def test_records_without_the_flush_bit_stand_together_and_end_apart():
    peers = HeardPeers(OWN)
    assert heard(peers, "a", "/ip4/10.0.0.1/tcp/1", flush=False) == ALICE
    assert heard(peers, "a", "/ip4/10.0.0.1/tcp/2", flush=False, now=60) == ALICE
    assert set(peers.peers(100)[ALICE]) == {"/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/2"}
    assert peers.peers(130) == {ALICE: ("/ip4/10.0.0.1/tcp/2",)}
    for port in range(100, 200):
        heard(peers, "a", f"/ip4/10.0.0.1/tcp/{port}", flush=False, now=130)
    assert peers.peers(130) == {ALICE: tuple(f"/ip4/10.0.0.1/tcp/{port}" for port in range(199, 183, -1))}


def test_goodbye_of_the_name_or_of_a_record():
    peers = HeardPeers(OWN)
    heard(peers, "a", "/ip4/10.0.0.1/tcp/1")
    heard(peers, "a", "/ip4/10.0.0.1/tcp/2", now=5)
    peers.on_goodbye("a", txt(entry("/ip4/10.0.0.1/tcp/1")))  # the one that was replaced
    assert peers.peers(5) == {ALICE: ("/ip4/10.0.0.1/tcp/2",)}
    peers.on_goodbye("a", txt(entry("/ip4/10.0.0.1/tcp/2")))
    assert peers.peers(5) == {}
    assert len(peers) == 0
    heard(peers, "a", "/ip4/10.0.0.1/tcp/1")
    peers.on_goodbye("a")
    peers.on_goodbye("never heard")
    peers.on_goodbye("never heard", b"x")
    assert peers.peers(0) == {}


def test_own_announcement_is_ignored():
    peers = HeardPeers(OWN)
    assert heard(peers, "a", "/ip4/10.0.0.1/tcp/1", OWN) is None
    assert len(peers) == 0


def test_a_peer_under_two_names_is_one_peer():
    """It restarted and drew a new name; the old one has not ended yet."""
    peers = HeardPeers(OWN)
    heard(peers, "old", "/ip4/10.0.0.1/tcp/1")
    heard(peers, "new", "/ip4/10.0.0.1/tcp/2", now=1.0)
    assert peers.peers(2) == {ALICE: ("/ip4/10.0.0.1/tcp/2", "/ip4/10.0.0.1/tcp/1")}


def test_the_table_is_bounded_and_the_next_to_end_gives_way():
    peers = HeardPeers(OWN, max_peers=3)
    for number, ttl_s in enumerate((100, 50, 200, 120)):
        peer_id = peer_id_from_public_key(bytes([number + 1]) * 32)
        heard(peers, f"n{number}", "/ip4/10.0.0.1/tcp/1", peer_id, ttl_s=ttl_s)
    assert len(peers) == 3
    assert peer_id_from_public_key(bytes([2]) * 32) not in peers.peers(0)


def adapter(name: str, index: int, *ips: str) -> ifaddr.Adapter:
    made = [
        ifaddr.IP(ip, 24, name) if ipaddress.ip_address(ip).version == 4 else ifaddr.IP((ip, 0, index), 64, name)
        for ip in ips
    ]
    return ifaddr.Adapter(name, name, made, index=index)


def test_interfaces_by_name_and_by_address():
    machine = [
        adapter("lo", 1, "127.0.0.1", "::1"),
        adapter("eth0", 2, "192.0.2.7", "192.0.2.8", "fe80::1", "2001:db8::7"),
        adapter("eth1", 3, "198.51.100.1"),
    ]
    assert choose_interfaces(["eth0"], machine) == ["192.0.2.7", "192.0.2.8", 2]
    assert choose_interfaces(["198.51.100.1", "fe80::1"], machine) == [2, "198.51.100.1"]
    assert choose_interfaces(["lo"], machine) == ["127.0.0.1", 1]
    with pytest.raises(OSError, match="wlan0"):
        choose_interfaces(["wlan0"], machine)
