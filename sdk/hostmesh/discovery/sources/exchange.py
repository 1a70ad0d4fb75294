"""Hosts that connected peers know: each is asked for signed records that match, page by page.

Whom no neighbourhood of the DHT names is still known to those who have spoken with it. A few peers are asked at once,
chosen by lot and first one of each network (IPv4 /16, IPv6 /32), so that one who runs many peers in few networks
answers few of the questions. A peer adds at most its share of the candidates, whatever it hands over.

A record that is handed over is verified and kept as hearsay, under the quotas of who handed it over; then its host is
asked itself, as any candidate is.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.discovery.sources.bootstrap import FIRST_CONNECTION_S, BootstrapNode
from hostmesh.discovery.table import Merge
from hostmesh.errors import HostmeshError, ProtocolNotSupportedError, ReadyTimeoutError, RemoteProtocolError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

MAX_PEERS = 4
"""Asked in one find."""
MAX_PAGES = 4
"""Of one peer in one find; a page has at most 16 records."""
SHARE = 0.5
"""Part of the candidates wanted that all peers together may bring: the rest is for other sources."""
QUERY_TIMEOUT_S = 5.0
"""For one page."""
_SEED_BYTES = 16
_IPV4_NETWORK_BITS = 16
_IPV6_NETWORK_BITS = 32
_TAKEN = frozenset({Merge.ADDED, Merge.REPLACED, Merge.KNOWN, Merge.REFUSED})
"""Of REFUSED: the record holds, there was no room for it; its host may be asked all the same."""


class ExchangeNode(BootstrapNode, Protocol):
    """What this source needs of the node."""

    def remote_ip(self, peer_id: PeerId) -> str | None:
        """Return the address at the other end of the connection to a peer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeStatistics:
    """What this source did so far."""

    peers_asked: int
    pages: int
    """Pages that came."""
    records: int
    """Records that hold and are no older than what is known."""
    refused: int
    """Records that do not; who handed one over is asked for no further page."""
    failures: int
    """Peers that did not answer, or not to the end."""


class ExchangeSource:
    """See the module.

    Args:
        node: knows the connections.
        caller: makes the calls.
        records: verifies and keeps what is handed over.
        system: random bytes, by which peers are drawn.
    """

    def __init__(self, node: ExchangeNode, caller: RpcCaller, records: RecordBook, *, system: System) -> None:
        self._node = node
        self._caller = caller
        self._records = records
        self._system = system
        self._peers_asked = 0
        self._pages = 0
        self._taken = 0
        self._refused = 0
        self._failures = 0

    @property
    def name(self) -> str:
        """``exchange``."""
        return "exchange"

    @property
    def statistics(self) -> ExchangeStatistics:
        """What this source did so far."""
        return ExchangeStatistics(
            peers_asked=self._peers_asked,
            pages=self._pages,
            records=self._taken,
            refused=self._refused,
            failures=self._failures,
        )

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do nothing until cancelled: the discovery service answers the questions of others."""
        task_status.started()
        await trio.sleep_forever()

    async def advertise(self, advert: Advert | None) -> None:
        """Do nothing: the publisher hands a record to all who are connected."""

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Ask at most :data:`MAX_PEERS` connected peers; right after the start, wait for the first of them.

        Cancellation: safe; what was found was reported.

        Cost: at most :data:`MAX_PAGES` calls to each, and a verification for each record that is not known yet.
        """
        if not self._node.connected_peers() and self._node.bootstrap_outcomes():
            try:
                await self._node.wait_connected(1, FIRST_CONNECTION_S)
            except ReadyTimeoutError:
                return
        seed = self._system.random_bytes(_SEED_BYTES)
        drawn = draw_peers(self._node.connected_peers(), self._node.remote_ip, MAX_PEERS, seed=seed)
        share = max(1, int(query.limit * SHARE) // MAX_PEERS)
        async with trio.open_nursery() as nursery:
            for peer_id in drawn:
                self._peers_asked += 1
                nursery.start_soon(self._ask, peer_id, query, share, found)

    async def _ask(self, peer_id: PeerId, query: SourceQuery, share: int, found: Callable[[Candidate], None]) -> None:
        client = DiscoveryServiceClient(self._caller, peer_id)
        reported: set[PeerId] = set()
        request = pb.QueryRequest(model_ids=query.model_ids, country_code=query.country_code or "")
        for _ in range(MAX_PAGES):
            try:
                page = await client.query(request, timeout_s=QUERY_TIMEOUT_S)
            except ProtocolNotSupportedError:
                return  # it speaks an older version, or is no node of ours
            except HostmeshError as error:
                self._failures += 1
                _log.debug("no records from a peer: %s", error.code, extra={"peer_id": peer_id})
                return
            self._pages += 1
            # First: a host that another peer still hands on may be among those that were taken back.
            self._records.learn_revocations(page.revocations, introducer=peer_id)
            for signed in page.records:
                if len(reported) >= share:
                    return
                try:
                    info, merge = self._records.accept(signed, introducer=peer_id)
                except RemoteProtocolError:
                    self._refused += 1
                    return
                if merge in _TAKEN and info.peer_id not in reported and _fits(info, query):
                    reported.add(info.peer_id)
                    self._taken += 1
                    found(
                        Candidate(
                            peer_id=info.peer_id,
                            addresses=info.addresses,
                            source=self.name,
                            origin=AddressOrigin.REMOTE,
                            named_by=peer_id,
                        )
                    )
                # Between two records: a page of them is some milliseconds of work.
                await trio.lowlevel.checkpoint()
            if not page.cursor or page.cursor == request.cursor:
                return
            request.cursor = page.cursor


def draw_peers(
    peers: Iterable[PeerId], remote_ip: Callable[[PeerId], str | None], most: int, *, seed: bytes
) -> list[PeerId]:
    """Return some peers by lot, one of each network in turn. Pure.

    >>> where = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "198.51.100.1"}
    >>> sorted(draw_peers(where, where.get, 2, seed=b"")) in (["a", "c"], ["b", "c"])
    True
    """
    dice = Random(seed)  # noqa: S311 - the seed is of the system's random bytes
    shuffled = sorted(peers)
    dice.shuffle(shuffled)
    networks: dict[Hashable, list[PeerId]] = {}
    for peer_id in shuffled:
        networks.setdefault(_network_of(remote_ip(peer_id)), []).append(peer_id)
    waiting = deque(networks.values())
    drawn: list[PeerId] = []
    while waiting and len(drawn) < most:
        of_network = waiting.popleft()
        drawn.append(of_network.pop())
        if of_network:
            waiting.append(of_network)
    return drawn


def _network_of(ip: str | None) -> Hashable:
    if ip is None:
        return None
    address = ipaddress.ip_address(ip.partition("%")[0])
    bits = _IPV4_NETWORK_BITS if address.version == 4 else _IPV6_NETWORK_BITS
    return ipaddress.ip_network((address, bits), strict=False)


def _fits(info: HostInfo, query: SourceQuery) -> bool:
    """Whether a record is an answer to the question: any other is a peer's own idea."""
    if query.country_code and (info.place is None or info.place.country_code != query.country_code):
        return False
    return all(info.offer(model_id) is not None for model_id in query.model_ids)
