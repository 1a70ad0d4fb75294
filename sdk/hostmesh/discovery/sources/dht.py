"""Hosts found through the DHT: provider records under sharded and salted keys of what hosts offer.

A popular model's hosts would all be told to the same 20 peers, and who sat there could hide them; so a host provides
under one shard of :data:`SHARDS`, which it draws once, a find asks all, and the keys are others in each epoch. A host
is found under:

- each model: ``hostmesh/{network}/model/{model id}/{epoch}/{shard}``;
- each model in its country: ``hostmesh/{network}/model-country/{country}/{model id}/{epoch}/{shard}``;
- any model: the model id ``*``.

The key is the SHA2-256 multihash of that text, as a CID carries it; see :mod:`~hostmesh.discovery.sources.model_keys`.
What the DHT says is a hint: the candidate is asked for its signed record before anything is believed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.discovery.sources.model_keys import (
    ANY_MODEL,
    MAX_LEAD_S,
    MIN_LEAD_S,
    SHARDS,
    asked_epochs,
    model_key,
    next_turn_s,
    provided_epochs,
)
from hostmesh.discovery.sources.provide_schedule import ProvideSchedule
from hostmesh.errors import HostmeshError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht_table import BUCKET_SIZE
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

FIND_TIMEOUT_S = 15.0
"""Longest lookup of one shard; the caller's cancellation is the usual end."""
FIRST_SERVER_S = 3.0
"""A find right after the start waits so long for a first DHT server; where none comes there is nobody to ask."""
MAX_PARALLEL_PROVIDES = 4
MAX_PEERS_SOUGHT = 4
"""Of the hosts that criteria name, so many are looked for by their ids in one find."""


class Providers(Protocol):
    """What this source needs of the node's DHT (:class:`hostmesh.net.dht.Dht` has it)."""

    async def provide(self, key: bytes) -> int:
        """Tell the closest peers that we provide the key; return how many were told."""
        ...

    async def find_providers(
        self,
        key: bytes,
        *,
        limit: int,
        timeout_s: float,
        share: int | None = None,
        found: Callable[[PeerId, tuple[str, ...], PeerId], None] | None = None,
    ) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Ask the network who provides the key."""
        ...

    async def find_peer(
        self, peer_id: PeerId, *, timeout_s: float, found: Callable[[tuple[str, ...], PeerId], None]
    ) -> None:
        """Ask the network where a peer is."""
        ...

    def servers(self) -> tuple[PeerId, ...]:
        """DHT servers known."""
        ...

    async def wait_server(self) -> None:
        """Return once a DHT server is known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtFind:
    """How much of the DHT the last find looked at."""

    shards_sampled: int
    """Shards that were asked to their end or gave a candidate."""
    shards: int
    candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtSourceStatistics:
    """What this source did so far."""

    last_find: DhtFind | None
    provided_keys: int
    """Keys that this host provides."""
    told: int
    """Peers told in all; a peer counts once for each key and round."""
    failed_provides: int
    """Rounds of a key in which nobody was told."""


class DhtSource:
    """See the module.

    Args:
        dht: the node's.
        network: name of the network; hosts of another are under other keys.
        system: clock and random bytes.
    """

    def __init__(self, dht: Providers, *, network: str, system: System) -> None:
        self._dht = dht
        self._network = network
        self._system = system
        shard, lead = system.random_bytes(2)
        self._shard = shard % SHARDS
        self._lead_s = MIN_LEAD_S + (MAX_LEAD_S - MIN_LEAD_S) * lead / 256
        self._advert: Advert | None = None
        self._schedule = ProvideSchedule()
        self._changed = trio.Event()
        self._last_find: DhtFind | None = None
        self._told = 0
        self._failed = 0

    @property
    def name(self) -> str:
        """``dht``."""
        return "dht"

    def servers(self) -> tuple[PeerId, ...]:
        """Return the DHT servers known."""
        return self._dht.servers()

    @property
    def statistics(self) -> DhtSourceStatistics:
        """What this source did so far."""
        return DhtSourceStatistics(
            last_find=self._last_find, provided_keys=len(self._schedule), told=self._told, failed_provides=self._failed
        )

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Provide what was advertised, again every 10 minutes; see :class:`ProvideSchedule`."""
        task_status.started()
        while True:
            self._want()
            due = self._schedule.due(self._system.monotonic_s())
            if due:
                await self._provide(due)
                continue
            next_at = self._schedule.next_at()
            wait_s = math.inf if next_at is None else max(0.0, next_at - self._system.monotonic_s())
            await self._wait(min(wait_s, self._next_change_s()))

    async def advertise(self, advert: Advert | None) -> None:
        """Provide the advert's models, or nothing (None): what was told then ends by itself after 30 minutes."""
        self._advert = advert
        self._want()
        self._changed.set()

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Ask all shards of one model at once, and stop when ``query.limit`` candidates were found.

        Within a minute of the turn of the model's epoch, those of both epochs are asked.

        A host that serves all models wanted is under each of them, so one model is asked for. Where no DHT server is
        known, waits :data:`FIRST_SERVER_S` for one. Hosts that the query names are looked for by their ids as well.

        Cancellation: safe; what was found was reported.
        """
        model_id = query.model_ids[0] if query.model_ids else ANY_MODEL
        reported: dict[PeerId, frozenset[str]] = {}
        sampled: set[tuple[int, int]] = set()
        shards = [(epoch, shard) for epoch in asked_epochs(model_id, self._system.unix_s()) for shard in range(SHARDS)]
        # So that each server of each shard may name somebody, however many the others name.
        share = max(1, query.limit // (len(shards) * BUCKET_SIZE))

        async def sample(epoch: int, shard: int, scope: trio.CancelScope) -> None:
            def report(peer_id: PeerId, addresses: tuple[str, ...], named_by: PeerId) -> None:
                known = reported.get(peer_id)
                if known is None and len(reported) >= query.limit:
                    return
                sampled.add((epoch, shard))
                if known is not None and known.issuperset(addresses):
                    return  # another shard has it as well
                reported[peer_id] = (known or frozenset()).union(addresses)
                found(
                    Candidate(
                        peer_id=peer_id,
                        addresses=addresses,
                        source=self.name,
                        origin=AddressOrigin.REMOTE,
                        named_by=named_by,
                    )
                )
                if len(reported) >= query.limit:
                    scope.cancel()

            key = model_key(self._network, model_id, shard, epoch=epoch, country_code=query.country_code)
            await self._dht.find_providers(key, limit=query.limit, timeout_s=FIND_TIMEOUT_S, share=share, found=report)
            sampled.add((epoch, shard))

        async def sample_all() -> None:
            async with trio.open_nursery() as samples:
                for epoch, shard in shards:
                    samples.start_soon(sample, epoch, shard, samples.cancel_scope)

        try:
            with trio.move_on_after(FIRST_SERVER_S):
                await self._dht.wait_server()
            if not self._dht.servers():
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sample_all)
                for peer_id in query.peer_ids[:MAX_PEERS_SOUGHT]:
                    nursery.start_soon(self._seek, peer_id, found)
        finally:
            self._last_find = DhtFind(shards_sampled=len(sampled), shards=len(shards), candidates=len(reported))

    async def _seek(self, peer_id: PeerId, found: Callable[[Candidate], None]) -> None:
        def report(addresses: tuple[str, ...], named_by: PeerId) -> None:
            origin = AddressOrigin.REMOTE
            found(Candidate(peer_id=peer_id, addresses=addresses, source=self.name, origin=origin, named_by=named_by))

        await self._dht.find_peer(peer_id, timeout_s=FIND_TIMEOUT_S, found=report)

    def _want(self) -> None:
        """Provide the keys that the advert has now, and no others."""
        advert, unix_s = self._advert, self._system.unix_s()
        keys = []
        for model_id in _models_of(advert):
            for epoch in provided_epochs(model_id, unix_s, self._lead_s):
                keys.append(model_key(self._network, model_id, self._shard, epoch=epoch))
                if advert is not None and advert.country_code:
                    country_code = advert.country_code
                    key = model_key(self._network, model_id, self._shard, epoch=epoch, country_code=country_code)
                    keys.append(key)
        self._schedule.want(keys, self._system.monotonic_s())

    def _next_change_s(self) -> float:
        """Return when the keys of the advert are others by themselves, in seconds from now."""
        unix_s = self._system.unix_s()
        waits = [
            next_turn_s(model_id, at_s)
            for model_id in _models_of(self._advert)
            for at_s in (unix_s, unix_s + self._lead_s)
        ]
        return min(waits, default=math.inf)

    async def _provide(self, keys: Sequence[bytes]) -> None:
        limiter = trio.CapacityLimiter(MAX_PARALLEL_PROVIDES)

        async def one(key: bytes) -> None:
            async with limiter:
                try:
                    told = await self._dht.provide(key)
                except HostmeshError as error:
                    _log.debug("cannot provide: %s", error)
                    told = 0
            self._told += told
            self._failed += not told
            self._schedule.on_told(key, told, self._system.monotonic_s())

        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(one, key)

    async def _wait(self, wait_s: float) -> None:
        """Wait for the next key to be due, a new advert or, where nobody could be told, a first DHT server."""

        async def server(scope: trio.CancelScope) -> None:
            await self._dht.wait_server()
            self._schedule.on_connected(self._system.monotonic_s())
            scope.cancel()

        with trio.move_on_after(wait_s):
            async with trio.open_nursery() as nursery:
                if self._schedule.has_failures and not self._dht.servers():
                    nursery.start_soon(server, nursery.cancel_scope)
                await self._changed.wait()
                self._changed = trio.Event()
                nursery.cancel_scope.cancel()


def _models_of(advert: Advert | None) -> tuple[str, ...]:
    return () if advert is None else (*advert.model_ids, ANY_MODEL)
