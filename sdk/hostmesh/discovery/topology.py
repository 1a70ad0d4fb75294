"""The network as this node sees it: who is connected, which hosts are known, and who told of whom. Pure.

It is a part, seen from one place at one moment: connections of others are not known, and what peers named is their
word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.discovery.collaborators import RunningNode
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.table import KnownHost
from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import split_peer_address
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.peer_id import PeerId

MAX_HOSTS = 2000
MAX_RELATIONS = 8000
"""Of each, the first are told: hosts that are connected, and relations of hosts and peers, come first."""


class PeerKind(Enum):
    """What a connected peer is, by the protocols that it said it speaks."""

    HOST = "host"
    """It takes jobs."""
    DHT = "dht"
    """It serves the DHT."""
    DIAL_BACK = "dial-back"
    """It dials others back."""
    NODE = "node"
    """It speaks a protocol of this network."""


class RelationKind(Enum):
    """How one peer came to be known by another."""

    NAMED = "named"
    """A source heard of it from that peer: a claim."""
    INTRODUCED = "introduced"
    """That peer handed its signed record over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyPeer:
    """A connected peer."""

    peer_id: PeerId
    connections: tuple[ConnectionView, ...]
    """At least one."""
    kinds: tuple[PeerKind, ...]
    protocols: tuple[str, ...]
    """As it said."""
    is_bootstrap: bool
    """It stands in our configuration."""

    @property
    def rtt_ms(self) -> float | None:
        """The shortest round trip of its connections."""
        return min((each.rtt_ms for each in self.connections if each.rtt_ms is not None), default=None)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "peer_id": self.peer_id,
            "connections": [each.to_dict() for each in self.connections],
            "kinds": [each.value for each in self.kinds],
            "protocols": list(self.protocols),
            "is_bootstrap": self.is_bootstrap,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyHost:
    """A host whose record holds. What stands in the record is its claim."""

    peer_id: PeerId
    operator: str
    state: str
    models: tuple[str, ...]
    place: str
    """Empty: not said."""
    addresses: tuple[str, ...]
    sources: tuple[str, ...]
    """Which sources named it."""
    introducer: PeerId | None
    """Who handed its record over; None: the host itself."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "peer_id": self.peer_id,
            "operator": self.operator,
            "state": self.state,
            "models": list(self.models),
            "place": self.place,
            "addresses": list(self.addresses),
            "sources": list(self.sources),
            "introducer": self.introducer,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One peer told of another."""

    kind: RelationKind
    by: PeerId
    of: PeerId
    source: str
    """Which source heard it; ``announce`` for a record that was handed over."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {"kind": self.kind.value, "by": self.by, "of": self.of, "source": self.source}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTopology:
    """What one node saw at one moment. Everything in it is in a fixed order."""

    peer_id: PeerId
    """This node."""
    addresses: tuple[str, ...]
    """Those that it announces."""
    reachability: str | None
    """How strangers get to it, by the last check; None: not known."""
    peers: tuple[TopologyPeer, ...]
    hosts: tuple[TopologyHost, ...]
    relations: tuple[Relation, ...]
    left_out: int
    """Hosts and relations beyond the bounds."""
    at_unix_s: float

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "peer_id": self.peer_id,
            "addresses": list(self.addresses),
            "reachability": self.reachability,
            "peers": [each.to_dict() for each in self.peers],
            "hosts": [each.to_dict() for each in self.hosts],
            "relations": [each.to_dict() for each in self.relations],
            "left_out": self.left_out,
            "at_unix_s": self.at_unix_s,
        }


def kinds_of(protocols: Iterable[str], *, prefix: str) -> tuple[PeerKind, ...]:
    """Return what a peer is by its protocols.

    >>> kinds_of(["/hostmesh/job/1.1.0", "/hostmesh/kad/1.0.0"], prefix="/hostmesh")
    (<PeerKind.HOST: 'host'>, <PeerKind.DHT: 'dht'>, <PeerKind.NODE: 'node'>)
    """
    spoken = tuple(protocols)
    tests = {
        PeerKind.HOST: f"{prefix}/job/",
        PeerKind.DHT: f"{prefix}/kad/",
        PeerKind.DIAL_BACK: "/libp2p/autonat/2/dial-request",
        PeerKind.NODE: f"{prefix}/",
    }
    return tuple(kind for kind, start in tests.items() if any(name.startswith(start) for name in spoken))


def network_topology(running: RunningNode, records: RecordBook, *, at_unix_s: float) -> NetworkTopology:
    """Return what a running node sees.

    Args:
        running: the node.
        records: what is known of hosts.
        at_unix_s: now.

    Cost: linear in the connections, the known hosts, and what sources named (2,048 peers of each at most).
    """
    node = running.node
    peers = _peers(node.connections(), node.protocols_of, node.bootstrap_outcomes(), running.protocol_prefix)
    live = records.live()
    named = records.named()
    sources: dict[PeerId, list[str]] = {}
    for source, peer_id, _ in named:
        sources.setdefault(peer_id, []).append(source)
    connected = {each.peer_id for each in peers}
    hosts = [_host(known, tuple(sources.get(known.info.peer_id, ()))) for known in live]
    hosts.sort(key=lambda each: (each.peer_id not in connected, each.peer_id))
    relations = [
        Relation(kind=RelationKind.NAMED, by=named_by, of=peer_id, source=source)
        for source, peer_id, named_by in named
        if named_by is not None and named_by != peer_id
    ] + [
        Relation(kind=RelationKind.INTRODUCED, by=each.introducer, of=each.peer_id, source="announce")
        for each in hosts
        if each.introducer is not None
    ]
    known_ids = connected | {each.peer_id for each in hosts}
    relations.sort(key=lambda each: (each.of not in known_ids, each.kind.value, each.of, each.by, each.source))
    report = node.reachability
    return NetworkTopology(
        peer_id=node.peer_id,
        addresses=node.announced_addresses(),
        reachability=None if report is None or report.state is None else report.state.value,
        peers=peers,
        hosts=tuple(hosts[:MAX_HOSTS]),
        relations=tuple(relations[:MAX_RELATIONS]),
        left_out=max(0, len(hosts) - MAX_HOSTS) + max(0, len(relations) - MAX_RELATIONS),
        at_unix_s=at_unix_s,
    )


def _peers(
    connections: Sequence[ConnectionView],
    protocols_of: Callable[[PeerId], Sequence[str]],
    bootstrap: Iterable[str],
    prefix: str,
) -> tuple[TopologyPeer, ...]:
    configured = set(map(_peer_of, bootstrap))
    by_peer: dict[PeerId, list[ConnectionView]] = {}
    for each in connections:
        by_peer.setdefault(each.peer_id, []).append(each)
    peers = []
    for peer_id in sorted(by_peer):
        protocols = tuple(protocols_of(peer_id))
        peers.append(
            TopologyPeer(
                peer_id=peer_id,
                connections=tuple(by_peer[peer_id]),
                kinds=kinds_of(protocols, prefix=prefix),
                protocols=protocols,
                is_bootstrap=peer_id in configured,
            )
        )
    return tuple(peers)


def _peer_of(address: str) -> PeerId | None:
    try:
        return split_peer_address(address)[1]
    except InvalidAddressError:
        return None


def _host(known: KnownHost, sources: tuple[str, ...]) -> TopologyHost:
    info = known.info
    return TopologyHost(
        peer_id=info.peer_id,
        operator=info.operator_address,
        state=info.state.value,
        models=tuple(offer.model_id for offer in info.models),
        place="" if info.place is None else str(info.place),
        addresses=tuple(info.addresses),
        sources=sources,
        introducer=known.introducer,
    )
