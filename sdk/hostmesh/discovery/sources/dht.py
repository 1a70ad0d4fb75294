"""Hosts found through the DHT: provider records under sharded keys of what hosts offer.

A popular model's hosts would all be told to the same 20 peers; so a host provides under one shard of :data:`SHARDS`,
which it draws once, and a find asks several. A host is found under:

- each model: ``hostmesh/{network}/model/{model id}/{shard}``;
- each model in its country: ``hostmesh/{network}/model-country/{country}/{model id}/{shard}``;
- any model: the model id ``*``.

The key is the SHA2-256 multihash of that text, as a CID carries it. What the DHT says is a hint: the candidate is asked
for its signed record before anything is believed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.discovery.sources.provide_schedule import ProvideSchedule
from hostmesh.errors import HostmeshError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht_message import content_key
from hostmesh.net.dht_table import BUCKET_SIZE
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

SHARDS = 4
"""Shards of a key. 4 keys of up to 256 records each name about 1,000 hosts a model. All hosts and clients of a network
use the same number."""
ANY_MODEL = "*"
FIND_TIMEOUT_S = 15.0
"""Longest lookup of one shard; the caller's cancellation is the usual end."""
FIRST_SERVER_S = 3.0
"""A find right after the start waits so long for a first DHT server; where none comes there is nobody to ask."""
MAX_PARALLEL_PROVIDES = 4


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


def model_key(network: str, model_id: str, shard: int, country_code: str | None = None) -> bytes:
    """Return the DHT key of a model's shard, anywhere or in one country.

    >>> model_key("hostmesh", "*", 0).hex()[:4]
    '1220'
    """
    place = f"model-country/{country_code}" if country_code else "model"
    return content_key(f"hostmesh/{network}/{place}/{model_id}/{shard}")


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
        self._shard = system.random_bytes(1)[0] % SHARDS
        self._schedule = ProvideSchedule()
        self._changed = trio.Event()
        self._last_find: DhtFind | None = None
        self._told = 0
        self._failed = 0

    @property
    def name(self) -> str:
        """``dht``."""
        return "dht"

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
            due = self._schedule.due(self._system.monotonic_s())
            if due:
                await self._provide(due)
                continue
            next_at = self._schedule.next_at()
            wait_s = math.inf if next_at is None else max(0.0, next_at - self._system.monotonic_s())
            await self._wait(wait_s)

    async def advertise(self, advert: Advert | None) -> None:
        """Provide the advert's models, or nothing (None): what was told then ends by itself after 30 minutes."""
        self._schedule.want(() if advert is None else self._keys(advert), self._system.monotonic_s())
        self._changed.set()

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Ask all shards of one model at once, and stop when ``query.limit`` candidates were found.

        A host that serves all models wanted is under each of them, so one model is asked for. Where no DHT server is
        known, waits :data:`FIRST_SERVER_S` for one.

        Cancellation: safe; what was found was reported.
        """
        model_id = query.model_ids[0] if query.model_ids else ANY_MODEL
        reported: dict[PeerId, frozenset[str]] = {}
        sampled: set[int] = set()
        # So that each server of each shard may name somebody, however many the others name.
        share = max(1, query.limit // (SHARDS * BUCKET_SIZE))

        async def sample(shard: int, scope: trio.CancelScope) -> None:
            def report(peer_id: PeerId, addresses: tuple[str, ...], named_by: PeerId) -> None:
                known = reported.get(peer_id)
                if known is None and len(reported) >= query.limit:
                    return
                sampled.add(shard)
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

            key = model_key(self._network, model_id, shard, query.country_code)
            await self._dht.find_providers(key, limit=query.limit, timeout_s=FIND_TIMEOUT_S, share=share, found=report)
            sampled.add(shard)

        try:
            with trio.move_on_after(FIRST_SERVER_S):
                await self._dht.wait_server()
            if not self._dht.servers():
                return
            async with trio.open_nursery() as nursery:
                for shard in range(SHARDS):
                    nursery.start_soon(sample, shard, nursery.cancel_scope)
        finally:
            self._last_find = DhtFind(shards_sampled=len(sampled), shards=SHARDS, candidates=len(reported))

    def _keys(self, advert: Advert) -> list[bytes]:
        keys = []
        for model_id in (*advert.model_ids, ANY_MODEL):
            keys.append(model_key(self._network, model_id, self._shard))
            if advert.country_code:
                keys.append(model_key(self._network, model_id, self._shard, advert.country_code))
        return keys

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
