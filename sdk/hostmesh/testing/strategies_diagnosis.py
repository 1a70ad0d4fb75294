"""Strategies for what a node tells of itself and of the network: findings, topology."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.discovery.description import HostState
from hostmesh.discovery.diagnostics import CODES, Finding, finding
from hostmesh.discovery.topology import (
    NetworkTopology,
    PeerKind,
    Relation,
    RelationKind,
    TopologyHost,
    TopologyPeer,
)
from hostmesh.net.autonat_report import (
    AddressReach,
    DialBackAnswer,
    DialBackOutcome,
    ReachabilityReport,
    ReachState,
    judge,
)
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.peer_id import PeerId
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import address_lists, counts, model_ids, multiaddrs, peer_ids, places, unix_times

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_PROTOCOLS = ("/ipfs/id/1.0.0", "/hostmesh/kad/1.0.0", "/hostmesh/job/1.1.0")
_SOURCES = ("bootstrap", "dht", "exchange", "mdns")


def findings() -> SearchStrategy[Finding]:
    """Draw findings of every code."""
    return st.builds(finding, st.sampled_from(sorted(CODES)), st.text(max_size=16), subject=st.text(max_size=16))


def dial_back_answers() -> SearchStrategy[DialBackAnswer]:
    """Draw what came of asking one peer about one address."""
    return _answers_about(multiaddrs())


def _answers_about(addresses: SearchStrategy[str]) -> SearchStrategy[DialBackAnswer]:
    return st.builds(
        DialBackAnswer,
        peer_id=peer_ids(),
        address=addresses,
        outcome=st.sampled_from(DialBackOutcome),
        is_trusted=st.booleans(),
    )


def address_reaches() -> SearchStrategy[AddressReach]:
    """Draw what is known of one address."""
    return st.builds(
        AddressReach, address=multiaddrs(), is_own=st.booleans(), is_reachable=st.sampled_from((None, False, True))
    )


def reachability_reports() -> SearchStrategy[ReachabilityReport]:
    """Draw what answers come to."""
    announced = st.lists(multiaddrs(), min_size=1, max_size=3, unique=True)
    return announced.flatmap(
        lambda addresses: st.builds(
            judge,
            st.lists(_answers_about(st.sampled_from(addresses)), max_size=6),
            announced=st.just(addresses),
            own=st.sets(st.sampled_from(addresses)),
            at_unix_s=unix_times(),
        )
    )


def connection_views() -> SearchStrategy[ConnectionView]:
    """Draw a connection."""
    return peer_ids().flatmap(_connection_to)


def _connection_to(peer_id: PeerId) -> SearchStrategy[ConnectionView]:
    return st.builds(
        ConnectionView,
        peer_id=st.just(peer_id),
        is_outbound=st.booleans(),
        address=st.none() | multiaddrs(),
        rtt_ms=st.none() | st.floats(0, 1e5),
        lasted_s=st.floats(0, 1e6),
    )


def topology_peers() -> SearchStrategy[TopologyPeer]:
    """Draw a connected peer, with one to three connections."""
    return peer_ids().flatmap(
        lambda peer_id: st.builds(
            TopologyPeer,
            peer_id=st.just(peer_id),
            connections=st.lists(_connection_to(peer_id), min_size=1, max_size=3).map(tuple),
            kinds=st.lists(st.sampled_from(PeerKind), unique=True).map(tuple),
            protocols=st.lists(st.sampled_from(_PROTOCOLS), unique=True).map(tuple),
            is_bootstrap=st.booleans(),
        )
    )


def topology_hosts() -> SearchStrategy[TopologyHost]:
    """Draw a host that a node knows."""
    return st.builds(
        TopologyHost,
        peer_id=peer_ids(),
        operator=st.binary(min_size=20, max_size=20).map(lambda wallet: f"0x{wallet.hex()}"),
        state=st.sampled_from(HostState).map(lambda state: state.value),
        models=st.lists(model_ids(), min_size=1, max_size=3, unique=True).map(tuple),
        place=st.just("") | places().map(str),
        addresses=address_lists(),
        sources=st.lists(st.sampled_from(_SOURCES), unique=True).map(sorted).map(tuple),
        introducer=st.none() | peer_ids(),
    )


def relations() -> SearchStrategy[Relation]:
    """Draw who told of whom."""
    return st.builds(
        Relation,
        kind=st.sampled_from(RelationKind),
        by=peer_ids(),
        of=peer_ids(),
        source=st.sampled_from(_SOURCES),
    )


def network_topologies() -> SearchStrategy[NetworkTopology]:
    """Draw what a node may see; nobody in it need have to do with anybody else."""
    peers = st.lists(topology_peers(), max_size=4, unique_by=lambda peer: peer.peer_id)
    hosts = st.lists(topology_hosts(), max_size=4, unique_by=lambda host: host.peer_id)
    return st.builds(
        NetworkTopology,
        peer_id=peer_ids(),
        addresses=address_lists(),
        reachability=st.none() | st.sampled_from(ReachState).map(lambda state: state.value),
        peers=peers.map(tuple),
        hosts=hosts.map(tuple),
        relations=st.lists(relations(), max_size=4).map(tuple),
        left_out=counts(),
        at_unix_s=unix_times(),
    )
