"""Publishes this node as a host: signs its record, renews it, and takes it back.

States: silent -> published (available or draining) -> withdrawn (a tombstone, served until it expires) -> silent. From
each, ``announce`` leads to published. What the host finds out about itself goes into the next record that is signed. A
renewal that fails (an expired binding, a wrong clock, a full disk) is logged and tried again every few seconds;
meanwhile the record signed last is served until it expires, and nothing after.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.clock_watch import ClockNode, ClockWatch
from hostmesh.discovery.description import HostDescription, HostState
from hostmesh.discovery.news import News, announcement_of
from hostmesh.discovery.probe import StatusProbe
from hostmesh.discovery.pusher import MAX_PUSHED, PUSH_TIMEOUT_S, Pusher
from hostmesh.discovery.reach_watch import ReachNode, ReachWatch
from hostmesh.discovery.record import HostInfo, VerifyBinding, build_record, verify_record
from hostmesh.discovery.source import Advert, Broadcaster, Source
from hostmesh.discovery.store import SequenceStore
from hostmesh.errors import BindingRevokedError, HostmeshError, RecordExpiredError, UsageError
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

LeastEpoch = Callable[[bytes, PeerId], int]
Measure = Callable[[HostDescription], HostDescription]
"""Returns a description with what the host has measured of itself by now. Neither waits nor raises."""


class PublisherNode(ClockNode, Protocol):
    """What the publisher needs of the node."""

    def announced_addresses(self) -> tuple[str, ...]:
        """Return the addresses that a record may carry."""
        ...


class NewsFeed(Protocol):
    """Has news to hand on; :class:`hostmesh.discovery.records.RecordBook` is one."""

    async def next_news(self) -> News:
        """Wait for a proof or a revocation that peers should have."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherConfig:
    """Times of the publisher. Source of life and renewal: docs/architecture.md, decision 4."""

    life_s: int = 120
    renew_every_s: float = 60.0
    retry_every_s: float = 5.0
    least_between_s: float = 5.0
    """Between two renewals that something brought forward: an interface that comes and goes does not set the pace."""
    push_timeout_s: float = PUSH_TIMEOUT_S
    """For pushing one record to all peers."""
    max_pushed: int = MAX_PUSHED
    """Most peers that a change is pushed to; the others ask, or see it expire."""
    max_clocks: int = 5
    clock_timeout_s: float = 2.0
    news_pause_s: float = 5.0
    """Between two proofs or revocations that are handed on."""


class HostPublisher:
    """Makes this node findable as a host.

    Args:
        key: the peer key, which signs.
        network: the network's name.
        node: addresses and peers.
        sources: told what to advertise; those that broadcast get each record as it is signed.
        caller: pushes changes to peers.
        store: hands out sequence numbers.
        binding: returns the operator's current binding of the peer key; asked at every renewal, so that a new one is
            taken up without a restart.
        verify_binding: checks it as everybody else will.
        status: asks peers for their clocks; None = the clock is not compared.
        dial_backs: finds out whether strangers reach this node; None = nobody looks, and records do not say.
        news: proofs of equivocation and revocations to hand on to peers, host or not; None = none.
        least_epoch: returns the lowest epoch of a wallet's bindings of a key that holds; a record under a lower one is
            not signed.
        system: the clock.
        config: times.
    """

    def __init__(
        self,
        *,
        key: PeerKey,
        network: str,
        node: PublisherNode,
        sources: Sequence[Source],
        caller: RpcCaller,
        store: SequenceStore,
        binding: Callable[[], pb.PeerBinding],
        verify_binding: VerifyBinding,
        status: StatusProbe | None = None,
        dial_backs: ReachNode | None = None,
        news: NewsFeed | None = None,
        least_epoch: LeastEpoch = lambda operator, peer_id: 0,
        system: System | None = None,
        config: PublisherConfig | None = None,
    ) -> None:
        self._key = key
        self._network = network
        self._node = node
        self._sources = tuple(sources)
        self._broadcasters = [source for source in sources if isinstance(source, Broadcaster)]
        self._store = store
        self._binding = binding
        self._verify_binding = verify_binding
        self._news = news
        self.least_epoch = least_epoch
        self.told_first: Callable[[], Collection[PeerId]] = lambda: ()
        """Returns those who hear of a change before others, where not all can."""
        self._system = system or System()
        self._config = config or PublisherConfig()
        self._pusher = Pusher(node, caller, max_peers=self._config.max_pushed, timeout_s=self._config.push_timeout_s)
        self._reach = None if dial_backs is None else ReachWatch(dial_backs, self.renew_now, system=self._system)
        self._clock = None
        if status is not None:
            self._clock = ClockWatch(
                node,
                status,
                system=self._system,
                max_peers=self._config.max_clocks,
                timeout_s=self._config.clock_timeout_s,
            )
        self._description: HostDescription | None = None
        self._measure: Measure = _as_stated
        self._state = HostState.WITHDRAWN
        self._started_at = 0
        self._info: HostInfo | None = None
        self._record: pb.SignedHostRecord | None = None
        self._problem: HostmeshError | None = None
        self._is_stale = False
        self._renewed_s = float("-inf")
        self._changed = trio.Event()
        self._changing = trio.Lock()

    @property
    def state(self) -> HostState | None:
        """What is published: AVAILABLE, DRAINING, or WITHDRAWN for a tombstone; None = nothing."""
        return None if self.current() is None else self._state

    @property
    def info(self) -> HostInfo | None:
        """The record that was signed last, as others read it; None = none yet."""
        return self._info

    @property
    def problem(self) -> HostmeshError | None:
        """Why the last renewal failed; None = it did not."""
        return self._problem

    @property
    def clock(self) -> ClockWatch | None:
        """Compares our clock with those of peers: before each renewal, and whenever it is asked to."""
        return self._clock

    def current(self) -> pb.SignedHostRecord | None:
        """Return the record or tombstone to serve; None when there is none, or when it has expired."""
        if self._info is None or self._system.unix_s() > self._info.expires_at_unix_s:
            return None
        return self._record

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew what is published and hand news on, until cancelled.

        A record that is not renewed is gone after two minutes.
        """
        async with trio.open_nursery() as nursery:
            if self._news is not None:
                nursery.start_soon(self._hand_on, self._news)
            if self._reach is not None:
                nursery.start_soon(self._reach.run)
            task_status.started()
            await self._keep_renewed()

    async def _keep_renewed(self) -> None:
        while True:
            self._changed = trio.Event()
            with trio.move_on_after(self._hurry_s() if self._is_stale else self._pause_s()):
                await self._changed.wait()
                continue
            self._is_stale = False
            self._renewed_s = trio.current_time()
            async with self._changing:
                if self._description is not None:
                    await self._renew()

    def renew_now(self) -> None:
        """Renew what is published as soon as may be, once in :attr:`PublisherConfig.least_between_s`. Never waits."""
        self._is_stale = True
        self._changed.set()

    def moved(self) -> None:
        """Renew what is published and forget how strangers got here: this node may be elsewhere now. Never waits."""
        if self._reach is not None:
            self._reach.moved()
        self.renew_now()

    async def announce(self, description: HostDescription, *, measure: Measure | None = None) -> HostInfo:
        """Publish this node as a host, or replace what was published.

        Args:
            description: what the operator states.
            measure: applied at each renewal, too; None = what is stated stands.

        Returns:
            The signed record as others will read it. Peers that are connected get it at once, the DHT and mDNS are
            told, everybody else can ask for it.

        Raises:
            RecordExpiredError: the operator's binding has expired; sign a new one.
            BindingRevokedError: the operator's wallet took it back.
            ClockSkewError: this machine's clock is more than 30 s off by those of our bootstrap nodes; no reader would
                take the record. What other peers say about it is logged and stops nothing.
            RemoteProtocolError: the binding does not hold for this key and network.
            ConfigError: the record is over 10 KiB.
            StoreError: the sequence number cannot be kept. In each case nothing was published.

        Cancellation: safe; either nothing was published or all of it.
        """
        async with self._changing:
            await self._check_clock()
            if self._description is None:
                self._started_at = int(self._system.unix_s())
            measure = measure or _as_stated
            info = self._sign(measure(description), HostState.AVAILABLE)
            self._description, self._measure = description, measure
            if self._reach is not None:
                self._reach.begin()
            await self._advertise(description)
            await self._push_record()
        return info

    async def drain(self) -> HostInfo:
        """Publish that this host takes no new jobs.

        Raises:
            UsageError: nothing is published.
            HostmeshError: as :meth:`announce`.
        """
        async with self._changing:
            if self._description is None:
                raise UsageError("nothing is announced", remedy="call announce() first")
            info = self._sign(self._measure(self._description), HostState.DRAINING)
            await self._push_record()
        return info

    async def withdraw(self) -> None:
        """Take the record back: a tombstone with a higher sequence goes to connected peers and is served to others.

        Idempotent; returns after at most ``push_timeout_s``. A peer that does not hear of it sees the record expire.

        Raises:
            HostmeshError: the tombstone cannot be signed (see :meth:`announce`); the old record is no longer renewed
                or served.
        """
        async with self._changing:
            description, self._description = self._description, None
            if description is None:
                return
            self._changed.set()
            if self._reach is not None:
                self._reach.end()
            try:
                self._sign(description, HostState.WITHDRAWN)
            except HostmeshError:
                self._info = self._record = None
                raise
            finally:
                await self._advertise(None)
            await self._push_record()

    # --- signing ---

    def _sign(self, description: HostDescription, state: HostState) -> HostInfo:
        if self._reach is not None and self._reach.state is not None:
            description = replace(description, reachability=self._reach.state)
        now = self._system.unix_s()
        binding = self._binding()
        if binding.expires_at_unix_s <= now:
            raise RecordExpiredError(
                "the operator's binding of this host has expired",
                field="binding.expires_at_unix_s",
                remedy="sign a new one with the operator's wallet: hostmesh-host bind",
            )
        # A tombstone is signed all the same: it does no harm, and some have not heard of the revocation.
        least_epoch = self.least_epoch(binding.operator, self._key.peer_id)
        if binding.revocation_epoch < least_epoch and state is not HostState.WITHDRAWN:
            raise BindingRevokedError(
                "the operator's wallet revoked the binding of this host",
                field="binding.revocation_epoch",
                remedy=f"if this machine is still yours: hostmesh-host bind --revocation-epoch {least_epoch}",
            )
        record = build_record(
            description,
            key=self._key,
            operator=binding.operator,
            binding=binding,
            network=self._network,
            sequence=self._store.next_sequence(self._network, self._key.peer_id, now=now),
            issued_at_unix_s=int(now),
            started_at_unix_s=self._started_at,
            addresses=self._node.announced_addresses()[:MAX_ADDRESSES_PER_PEER],
            state=state,
            life_s=self._config.life_s,
        )
        # What others would refuse does not leave.
        info = verify_record(
            record,
            expected_peer_id=self._key.peer_id,
            network=self._network,
            now=now,
            verify_binding=self._verify_binding,
        )
        self._record, self._info, self._state, self._problem = record, info, state, None
        self._changed.set()
        for source in self._broadcasters:
            source.broadcast(record)
        return info

    async def _renew(self) -> None:
        assert self._description is not None
        try:
            await self._check_clock()
            before, info = self._info, self._sign(self._measure(self._description), self._state)
            if before is None or info.addresses != before.addresses:
                await self._advertise(self._description)
            if before is None or (info.addresses, info.reachability) != (before.addresses, before.reachability):
                await self._push_record()
        except HostmeshError as error:
            if self._problem is None or self._problem.code != error.code:
                _log.error("the host record is not renewed: %s", error.message)
            self._problem = error

    def _pause_s(self) -> float:
        if self._description is None or self._info is None:
            return float("inf")
        if self._problem is not None:
            return self._config.retry_every_s
        age_s = self._system.unix_s() - self._info.issued_at_unix_s
        # The wall clock may have stepped either way.
        return min(max(0.0, self._config.renew_every_s - age_s), self._config.renew_every_s)

    def _hurry_s(self) -> float:
        return max(0.0, self._renewed_s + self._config.least_between_s - trio.current_time())

    # --- peers ---

    async def _advertise(self, description: HostDescription | None) -> None:
        advert = None
        if description is not None and self._info is not None:
            place = description.place
            advert = Advert(
                model_ids=description.model_ids,
                country_code=None if place is None else place.country_code,
                addresses=self._info.addresses,
            )
        for source in self._sources:
            await source.advertise(advert)

    async def _push_record(self) -> None:
        assert self._record is not None
        await self._pusher.push(pb.AnnounceRequest(record=self._record), first=self.told_first())

    async def _check_clock(self) -> None:
        if self._clock is not None:
            await self._clock.require_right()

    # --- news ---

    async def _hand_on(self, feed: NewsFeed) -> None:
        while True:
            request, but_not = announcement_of(await feed.next_news())
            await self._pusher.push(request, but_not=but_not)
            # A key costs nothing: whoever makes many of them guilty does not set the pace.
            await trio.sleep(self._config.news_pause_s)


def _as_stated(description: HostDescription) -> HostDescription:
    return description
