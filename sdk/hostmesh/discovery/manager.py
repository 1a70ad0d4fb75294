"""The discovery manager: the one door through which an application finds hosts and talks to peers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager

import trio

from hostmesh.discovery.choice import Explanation, HostChoice
from hostmesh.discovery.collaborators import (
    ListingLike,
    NodeFactory,
    ReputationSource,
    RunningNode,
    Standings,
)
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostDescription
from hostmesh.discovery.diagnosis import diagnose
from hostmesh.discovery.diagnostics import Finding
from hostmesh.discovery.events import DiscoveryEvent
from hostmesh.discovery.finder import DiscoveryConfig as DiscoveryConfig
from hostmesh.discovery.finder import Finder
from hostmesh.discovery.life import NodeLife
from hostmesh.discovery.lists import HostLists
from hostmesh.discovery.metrics import ConnectionMetrics
from hostmesh.discovery.node_door import NodeDoor
from hostmesh.discovery.pusher import Pusher
from hostmesh.discovery.ranking import AUTO, Strategy
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.selection import Diversity
from hostmesh.discovery.stats import DiscoveryStats
from hostmesh.discovery.supervise import plain_errors
from hostmesh.discovery.topology import NetworkTopology, network_topology
from hostmesh.discovery.view import ReputationLike
from hostmesh.discovery.watch import HostWatch
from hostmesh.errors import ConfigError
from hostmesh.net.event_feed import MAX_WAITING_EVENTS, EventWatch
from hostmesh.net.peer_id import PeerId, parse_peer_id
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb


class DiscoveryManager(NodeDoor):
    """Finds hosts, publishes this node as one, and speaks with peers.

    Made by ``open_sdk()``, one for each SDK. Its node starts with :meth:`create_node` and runs in the SDK's nursery.

    Args:
        nursery: owns the node's tasks. When it is cancelled, the record is withdrawn first, in at most 3 s.
        open_node: makes a node with its services; see :class:`NodeFactory`.
        records: verified records; the node's discovery service uses the same.
        reputation: hosts' reputation with this client.
        standings: who is blacklisted, preferred or paused.
        system: clocks and randomness.
        config: times and bounds.

    Source: seed 002, "DiscoveryManager".
    """

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        open_node: NodeFactory,
        records: RecordBook,
        reputation: ReputationSource,
        standings: Standings,
        system: System | None = None,
        config: DiscoveryConfig | None = None,
    ) -> None:
        self._records = records
        self._system = system or System()
        super().__init__(
            NodeLife(nursery, open_node, purge=records.purge, on_start=self._on_start, on_end=self._on_end)
        )
        self._finder = Finder(
            nursery,
            self._life.require,
            records=records,
            reputation=reputation,
            standings=standings,
            system=self._system,
            config=config or DiscoveryConfig(),
        )
        self._lists = HostLists(standings, reputation, records.events, forget=self._finder.forget)

    # --- finding ---

    async def find_host(
        self,
        criteria: HostCriteria | None = None,
        *,
        strategy: Strategy = AUTO,
        choose_among: int = 1,
        timeout_s: float = 10.0,
    ) -> HostChoice:
        """Return the best host that meets every criterion.

        All sources are asked at once; each candidate is asked for its signed record; those that meet the criteria are
        measured from here; the strategy says which is best. See docs/discovery.md.

        Args:
            criteria: all of them must hold; None = any host.
            strategy: AUTO, CHEAPEST, FASTEST, RELIABLE, SPECIFIC (the host that ``include`` names), or one of yours.
            choose_among: draw one of so many of the best at random, a better one more often; 1 = the best.
            timeout_s: seconds for everything, > 0. When they are over, the best host found so far is returned.

        Raises:
            NoHostFoundError: nobody meets them. ``rejected`` says how many hosts each criterion turned away,
                ``relaxation`` what to change. Safe to try again.
            HostsThrottledError: nobody does now, but some refused to be measured, as this client asks them too often.
            HostUnfitError: with SPECIFIC: the host named was not found or fails a criterion, which ``criterion`` names.
            NodeNotRunningError: there is no node, or it was stopped meanwhile.
            TooManyLookupsError: more than 1,000 searches were begun at once, or 100 a second; see ``retry_after_ms``.
            ConfigError: ``timeout_s`` or ``choose_among`` is not positive, or SPECIFIC is not told one host.

        Cancellation: safe; what was learnt is kept. Equal searches at one time are one search, which ends with the last
        who waits for it.

        Cost: a short call to each new candidate (at most 256), probes of at most 32 hosts that fit and 128 in all.
        For a minute after a search, the same criteria cost the probes only, which are sent anew for each search.

        Source: seed 002, ``findHost``.
        """
        return await self._finder.find_host(
            criteria or HostCriteria(), strategy=strategy, choose_among=choose_among, timeout_s=timeout_s
        )

    async def find_all_hosts(
        self,
        criteria: HostCriteria | None = None,
        limit: int = 20,
        *,
        strategy: Strategy = AUTO,
        diversity: Diversity | None = None,
        timeout_s: float = 10.0,
    ) -> list[HostChoice]:
        """Return hosts that meet every criterion and answered, best first; an empty list when there are none.

        Args:
            criteria: all of them must hold; None = any host.
            limit: most hosts returned, >= 1. Each has answered a probe; at most 128 are asked.
            strategy: which is better; see :meth:`find_host`.
            diversity: how many of those returned may be alike; None = any number.
            timeout_s: seconds for everything, > 0; also the time it takes, unless the sources end sooner.

        Raises:
            NodeNotRunningError, TooManyLookupsError: as :meth:`find_host`.
            ConfigError: ``limit`` or ``timeout_s`` is not positive, or SPECIFIC is not told one host.

        Cancellation, Cost: as :meth:`find_host`; with a ``limit`` above 32, probes of as many hosts as answer.
        """
        _check_limit(limit)
        return await self._finder.find_all_hosts(
            criteria or HostCriteria(),
            limit,
            strategy=strategy,
            diversity=diversity or Diversity(),
            timeout_s=timeout_s,
        )

    async def explain(
        self,
        criteria: HostCriteria | None = None,
        limit: int | None = None,
        *,
        strategy: Strategy = AUTO,
        diversity: Diversity | None = None,
        timeout_s: float = 10.0,
    ) -> Explanation:
        """Return the funnel and the scores, and why each host was turned away; never :class:`NoHostFoundError`.

        The sources are asked for every host, also those without the wanted models.

        Args:
            criteria: all of them must hold; None = any host.
            limit: most choices returned, >= 1; None = all that were measured, 32 of those that fit.
            strategy: which is better; see :meth:`find_host`.
            diversity: leaves choices out, not from the funnel; see :meth:`find_all_hosts`.
            timeout_s: seconds for everything, > 0.

        Raises:
            NodeNotRunningError, ConfigError: as :meth:`find_all_hosts`.

        Cancellation: safe. Cost: as :meth:`find_all_hosts`.
        """
        _check_limit(limit)
        return await self._finder.explain(
            criteria or HostCriteria(),
            limit,
            strategy=strategy,
            diversity=diversity or Diversity(),
            timeout_s=timeout_s,
        )

    def watch_hosts(
        self,
        criteria: HostCriteria | None = None,
        *,
        strategy: Strategy = AUTO,
        interval_s: float = 30.0,
        timeout_s: float = 10.0,
    ) -> AbstractAsyncContextManager[HostWatch]:
        """Follow who meets the criteria, in a block that yields an async iterator of joins, changes and leaves.

        ``async with discovery.watch_hosts(criteria) as hosts: async for event in hosts: ...``. A slow reader gets the
        latest of each host. A host joins once it has answered a probe. One that drains or withdraws leaves as soon as
        its record says so, one that dies at the next search that misses it, 180 s after its last record at the latest.

        Args:
            criteria: all of them must hold; None = any host.
            strategy: gives the scores, and says who is probed first.
            interval_s: from one search to the next, >= 2; sooner when somebody new would do.
            timeout_s: seconds for one search, > 0.

        Raises:
            NodeNotRunningError: there is no node; from iterating: it was stopped.
            ConfigError: an argument is wrong, or 64 watches run already.

        Cancellation: safe. Cost: a search as :meth:`find_all_hosts` makes it, each interval.
        """
        return self._finder.watch(
            criteria or HostCriteria(), strategy=strategy, interval_s=interval_s, timeout_s=timeout_s
        )

    # --- being a host ---

    async def announce(self, description: HostDescription) -> HostInfo:
        """Publish this node as a host, or replace what was published; renewed until :meth:`withdraw` or :meth:`stop`.

        Raises:
            NodeNotRunningError: there is no node.
            HostmeshError: see :meth:`hostmesh.discovery.publisher.HostPublisher.announce`; nothing was published.
        """
        with plain_errors():
            return await self._life.require().publisher.announce(description)

    async def drain(self) -> HostInfo:
        """Publish that this host takes no new jobs. Raises UsageError when nothing is announced."""
        with plain_errors():
            return await self._life.require().publisher.drain()

    async def withdraw(self) -> None:
        """Take the record back with a signed tombstone. Idempotent.

        Raises:
            NodeNotRunningError: there is no node; then nothing is published either.
        """
        with plain_errors():
            await self._life.require().publisher.withdraw()

    async def spread_revocation(self, revocation: pb.BindingRevocation) -> int:
        """Take in a wallet's word that bindings of a key are void, and hand it to the peers that are connected.

        They hand it on if they knew the host; everybody else hears of it with records.

        Args:
            revocation: from :func:`hostmesh.sign_revocation` or :func:`hostmesh.load_revocation`.

        Returns:
            How many peers took it.

        Raises:
            NodeNotRunningError: there is no node.
            RemoteProtocolError: it does not hold here; nobody was told.

        Cancellation: safe. Cost: a call to each of at most 64 peers, 2 s.
        """
        running = self._life.require()
        self._records.accept_revocation(revocation)
        with plain_errors():
            return await Pusher(running.node, running.caller).push(pb.AnnounceRequest(revocation=revocation))

    # --- knowledge ---

    def reputation(self, peer_id: str, operator_address: str) -> ReputationLike:
        """Return a host's reputation with this client; 100 points with n=0 for one never used.

        The wallet is the one that answers for it, as in a choice: a key under another wallet is another host.
        """
        return self._lists.reputation(peer_id, operator_address)

    def record_outcome(self, peer_id: str, operator_address: str, *, good: bool) -> ReputationLike:
        """Count an outcome that a host caused, as jobs do by themselves. A bad one pauses the host for a while.

        Example: ``discovery.record_outcome(choice.peer_id, choice.operator_address, good=False)``. Raises
        InvalidAddressError and UsageError for what is no peer id or wallet, StoreError.
        """
        return self._lists.record_outcome(peer_id, operator_address, good=good)

    def note_outcome(self, peer_id: PeerId, *, good: bool) -> None:
        """Act on an outcome that is in the books already: what :meth:`record_outcome` does besides counting."""
        self._lists.note_outcome(peer_id, good=good)

    def blacklist(self, peer_or_wallet: str, reason: str = "", ttl_s: float | None = None) -> None:
        """Never choose a host, or any host of a wallet (``0x...``). Kept across restarts; beats :meth:`prefer`.

        Args:
            peer_or_wallet: a peer id or a wallet's address.
            reason: for people, at most 200 bytes; stands in the funnel.
            ttl_s: seconds until it ends by itself; None = :meth:`unblacklist` ends it.

        Raises:
            ConfigError, InvalidAddressError: an argument is wrong.
            UsageError: 1,024 are listed already.
            StoreError: it could not be written; nothing changed.
        """
        self._lists.blacklist(peer_or_wallet, reason, ttl_s)

    def unblacklist(self, peer_or_wallet: str) -> bool:
        """Take a host or wallet from the blacklist, and end its pause; tell whether it did. Raises StoreError."""
        return self._lists.unblacklist(peer_or_wallet)

    def prefer(self, peer_or_wallet: str, priority: int = 1, ttl_s: float | None = None) -> None:
        """Rank a host, or all of a wallet, before others that meet the criteria: priority 1 to 1000, highest first.

        Arguments, Raises: as :meth:`blacklist`.
        """
        self._lists.prefer(peer_or_wallet, priority, ttl_s)

    def unprefer(self, peer_or_wallet: str) -> bool:
        """Prefer a host or wallet no longer; tell whether it was preferred. Raises StoreError."""
        return self._lists.unprefer(peer_or_wallet)

    def listings(self) -> tuple[ListingLike, ...]:
        """Return what holds now: the blacklist, then the preferences. Raises StoreError."""
        return self._lists.listings()

    def connection_metrics(self, peer_id: str) -> ConnectionMetrics:
        """Return what was measured of a peer: median, spread, samples, path and age. Measures nothing itself.

        Raises:
            InvalidAddressError: not a peer id.
            NodeNotRunningError: there is no node.
        """
        return self._finder.metrics(parse_peer_id(peer_id))

    def events(self, max_waiting: int = MAX_WAITING_EVENTS) -> AbstractContextManager[EventWatch[DiscoveryEvent]]:
        """Return a block that yields what happens, as an async iterator, over stops and starts of the node.

        Connections, dials, retries and the machine's network (:mod:`hostmesh.net.events`), records, probes, searches,
        outcomes and lists (:mod:`hostmesh.discovery.events`).

        Args:
            max_waiting: events that wait for the reader, >= 1; the oldest give way, counted in ``dropped``.
        """
        return self._records.events.watch(max_waiting)

    def forget_measurements(self, peer_id: str) -> None:
        """Measure a host anew at the next search, for example after a job on it failed."""
        self._finder.forget(parse_peer_id(peer_id))

    async def diagnostics(
        self, *, timeout_s: float = 60.0, found: Callable[[Finding], None] | None = None
    ) -> list[Finding]:
        """Look the node over: listeners, reachability, bootstrap, clock, mDNS, DHT, binding; see docs/doctor.md.

        Args:
            timeout_s: for what others are asked, > 0; what they did not say by then is not known.
            found: told of each finding as it comes; must not raise.

        Raises:
            NodeNotRunningError: there is no node.
            ConfigError: ``timeout_s`` is not positive.

        Cancellation: safe. Cost: up to 4 peers dial this node back, 5 tell the time, one packet for each interface.
        """
        with plain_errors():
            return await diagnose(self._life.require(), system=self._system, timeout_s=timeout_s, found=found)

    def network_topology(self) -> NetworkTopology:
        """Return the network as this node sees it now: peers, known hosts, and who told of whom. Asks nobody.

        Raises:
            NodeNotRunningError: there is no node.
        """
        return network_topology(self._life.require(), self._records, at_unix_s=self._system.unix_s())

    def stats(self) -> DiscoveryStats:
        """Return what sources, fetches, records and probes came to since the manager was made."""
        return self._finder.stats()

    # --- inside ---

    def _on_start(self, running: RunningNode) -> None:
        self._finder.start(running)
        self._attach(running)
        running.node.on_event(self._records.events.tell)

    def _on_end(self) -> None:
        self._finder.end()
        self._detach()


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ConfigError("limit is less than 1", name="limit", source="argument")
