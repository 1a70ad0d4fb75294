"""Whom to turn to first."""

from __future__ import annotations

from discovery_world import make_key, view_of
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.acquaintance import acquaintances, one_of_each_network, peers_of
from hostmesh.net.peer_id import PeerId

PEERS = [make_key(f"peer {number}").peer_id for number in range(12)]
ADDRESSES = st.sampled_from(
    [
        "/ip4/198.51.100.7/tcp/1",
        "/ip4/198.51.100.8/tcp/1",
        "/ip4/203.0.113.1/tcp/1",
        "/ip6/2001:db8:1::1/tcp/1",
        "/ip6/2001:db8:1:5::1/tcp/1",
        "/ip4/127.0.0.1/tcp/1",
        "/dns4/a.example.org/tcp/1",
        "no address",
    ]
)


def test_configured_then_dialled_then_inbound_each_as_they_were_given() -> None:
    views = [view_of(peer_id, is_outbound=index % 2 == 1) for index, peer_id in enumerate(PEERS[:6])]
    views.append(view_of(PEERS[0]))  # both sides dialled
    known = acquaintances(PEERS[:7], views, {PEERS[4], PEERS[11]})
    assert [PEERS.index(each.peer_id) for each in known] == [4, 0, 1, 3, 5, 2, 6]
    assert [each.peer_id for each in known if each.is_configured] == [PEERS[4]]


def test_who_shares_a_network() -> None:
    def alike(one: str, other: str) -> bool:
        views = [view_of(PEERS[0], one), view_of(PEERS[1], other)]
        first, passed = one_of_each_network(acquaintances(PEERS[:2], views, ()), 5)
        assert len(first) + len(passed) == 2
        return len(passed) == 1

    assert alike("/ip4/198.51.100.7/tcp/1", "/ip4/198.51.100.99/tcp/443/ws")
    assert not alike("/ip4/198.51.100.7/tcp/1", "/ip4/198.51.101.7/tcp/1")
    assert alike("/ip6/2001:db8:1:2::1/tcp/1", "/ip6/2001:db8:1:3::1/tcp/1")
    assert not alike("/ip6/2001:db8:1::1/tcp/1", "/ip6/2001:db8:2::1/tcp/1")
    assert not alike("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1")
    assert not alike("/ip6/::1/tcp/1", "/ip6/::1/tcp/2")
    assert alike("no address", "/ip4/x")


def test_the_network_of_configured_peers_is_taken_by_all_of_them() -> None:
    views = [view_of(peer_id, f"/ip4/198.51.100.{number}/tcp/1") for number, peer_id in enumerate(PEERS[:4])]
    first, passed = one_of_each_network(acquaintances(PEERS[:4], views, set(PEERS[2:4])), 4)
    assert [each.peer_id for each in first] == PEERS[2:4]
    assert [each.peer_id for each in passed] == PEERS[:2]


def test_those_of_whom_no_address_is_known_count_as_one_network() -> None:
    first, passed = one_of_each_network(acquaintances(PEERS[:3], [], ()), 5)
    assert [each.peer_id for each in first + passed] == PEERS[:3]
    assert len(passed) == 2


@given(
    st.lists(st.tuples(ADDRESSES, st.booleans()), min_size=1, max_size=12),
    st.sets(st.sampled_from(PEERS), max_size=4),
    st.integers(0, 8),
)
def test_networks_are_taken_once_and_nobody_is_named_twice(
    connections: list[tuple[str, bool]], configured: set[PeerId], limit: int
) -> None:
    peers = PEERS[: len(connections)]
    views = [
        view_of(peer_id, address, is_outbound=is_outbound)
        for peer_id, (address, is_outbound) in zip(peers, connections, strict=True)
    ]
    known = acquaintances(peers, views, configured)
    assert sorted(each.peer_id for each in known) == sorted(peers)
    first, passed = one_of_each_network(known, limit)
    assert len(first) <= limit
    assert not {each.peer_id for each in first} & {each.peer_id for each in passed}
    networks = [each.network for each in first if not each.is_configured]
    assert len(networks) == len(set(networks))
    assert not set(networks) & {each.network for each in first if each.is_configured}
    assert not any(each.is_configured for each in passed)
    # Nobody was left out who would have fitted.
    if len(first) < limit:
        assert len(first) + len(passed) == len(known)
        assert all(each.network in {other.network for other in first} for each in passed)


def test_the_peers_of_a_configuration() -> None:
    assert peers_of([f"/ip4/192.0.2.1/tcp/1/p2p/{PEERS[0]}", "/ip4/192.0.2.1/tcp/1", "what"]) == {PEERS[0]}
