"""What a find touches in networks too large for whole nodes: the shipped pure parts, over records alone.

Every host is a DHT server, as ``hostmesh-host`` is, and each knows what Kademlia's table holds of a network in which
everybody answers: twenty peers of each distance. Lookups, provider tables, harvest, host tables and pages are the
shipped ones.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean

from hostmesh.discovery.pages import RecordQuery, page_of
from hostmesh.discovery.sources.model_keys import SHARDS, model_key
from hostmesh.discovery.sources.provide_schedule import INTERVAL_S
from hostmesh.discovery.sweep import SweepConfig
from hostmesh.discovery.table import HostTable
from hostmesh.net.dht_lookup import Harvest, Lookup
from hostmesh.net.dht_message import DhtMessage, MessageKind, PeerAddresses, encode_message
from hostmesh.net.dht_server import MAX_PROVIDERS_PER_ANSWER
from hostmesh.net.dht_table import BUCKET_SIZE, ProviderTable, position
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.testing.machine import NETWORK_NAME
from hostmesh.testing.records import EPOCH_UNIX_S, make_description, make_host_info

RECORD_SIZES = (10, 100, 1_000, 10_000, 100_000)
MODEL = "everybodys-8b"
KEYS_OF_A_HOST = 2
"""Under its model, and under any."""
_FINDS = 5
_ADDRESS = "/ip4/11.22.33.44/tcp/4001"
_ID_BITS = 256
_MAX_MERGED = 4_400
"""Records that are put into one table: more than it holds, 4,096."""


@dataclass(slots=True)
class Asked:
    """What lookups cost: the DHT's own messages, without what carries them."""

    servers: int = 0
    hosts_named: int = 0
    messages: int = 0
    bytes: int = 0


class RecordNetwork:
    """So many DHT servers, every one a host of one model.

    Args:
        hosts: how many.
        dice: make up their ids and tables.
    """

    def __init__(self, hosts: int, dice: Random) -> None:
        self._dice = dice
        ids = [peer_id_from_public_key(dice.randbytes(32)) for _ in range(hosts)]
        placed = sorted((position(peer_id_to_bytes(peer_id)), peer_id) for peer_id in ids)
        self._places = [place for place, _ in placed]
        self.peer_ids = [peer_id for _, peer_id in placed]
        self._place_of = {peer_id: place for place, peer_id in placed}
        self.keys = [model_key(NETWORK_NAME, MODEL, shard, epoch=0) for shard in range(SHARDS)]
        self._providers: dict[PeerId, ProviderTable] = {}
        for key in self.keys:
            # All servers near a key are told the same; they share what they would each keep.
            table = ProviderTable()
            for peer_id in self.nearest(position(key)):
                self._providers[peer_id] = table
        for peer_id in ids:
            key = self.keys[dice.randrange(SHARDS)]
            self._providers[self.nearest(position(key), 1)[0]].add(key, peer_id, (), 0.0)

    def nearest(self, target: int, count: int = BUCKET_SIZE) -> list[PeerId]:
        """Return the servers nearest to a place, nearest first."""
        bits, low, high = 0, 0, len(self._places)
        # The smallest part of the ids around the target that has enough of them.
        while bits < _ID_BITS:
            start = target >> (_ID_BITS - bits - 1) << (_ID_BITS - bits - 1)
            left = bisect_left(self._places, start)
            right = bisect_left(self._places, start + (1 << (_ID_BITS - bits - 1)))
            if right - left < count:
                break
            bits, low, high = bits + 1, left, right
        near = sorted(range(low, high), key=lambda index: self._places[index] ^ target)
        return [self.peer_ids[index] for index in near[:count]]

    def known_to(self, peer_id: PeerId, target: int) -> list[PeerId]:
        """Return the closest peers that a server names to who looks for a place."""
        own = self._place_of[peer_id]
        distance_bits = (own ^ target).bit_length()
        named: list[PeerId] = []
        # Its bucket around the target, then those nearer to itself, which are as far from the target.
        for bits in range(distance_bits, 0, -1):
            around = target if bits == distance_bits else own ^ (1 << (bits - 1))
            start = around >> (bits - 1) << (bits - 1)
            left, right = bisect_left(self._places, start), bisect_left(self._places, start + (1 << (bits - 1)))
            bucket = range(left, right)
            if len(bucket) > BUCKET_SIZE:
                bucket_dice = Random(f"{own} {bits}")  # noqa: S311 - a table that stays as it is
                bucket = bucket_dice.sample(bucket, BUCKET_SIZE)  # type: ignore[assignment]
            named += [self.peer_ids[index] for index in bucket]
            if len(named) >= BUCKET_SIZE:
                break
        return sorted(named, key=lambda each: self._place_of[each] ^ target)[:BUCKET_SIZE]

    def find(self) -> Asked:
        """Look the model's keys up as a new client does."""
        limit = SweepConfig().max_candidates
        share = max(1, limit // (SHARDS * BUCKET_SIZE))
        asked, named = Asked(), set[PeerId]()
        own = peer_id_from_public_key(self._dice.randbytes(32))
        for key in self.keys:
            harvest = Harvest(own, limit=limit, share=share, found=None)
            self._look_up(key, own, MessageKind.GET_PROVIDERS, asked, harvest)
            harvest.deal_rest()
            named.update(harvest.kept)
        asked.hosts_named = min(len(named), limit)
        return asked

    def provide(self) -> Asked:
        """Do what a host does in the DHT for one key and one round: a lookup, and a record to each of the nearest."""
        own = self._dice.choice(self.peer_ids)
        asked = Asked()
        key = self._dice.choice(self.keys)
        nearest = self._look_up(key, own, MessageKind.FIND_NODE, asked)
        record = DhtMessage(kind=MessageKind.ADD_PROVIDER, key=key, providers=(_row(own),))
        asked.messages += len(nearest)
        asked.bytes += len(nearest) * len(encode_message(record))
        return asked

    def _look_up(
        self, key: bytes, own: PeerId, kind: MessageKind, asked: Asked, harvest: Harvest | None = None
    ) -> list[PeerId]:
        seeds = self.known_to(self._dice.choice(self.peer_ids), position(peer_id_to_bytes(own)))
        lookup = Lookup(key, own=own, seeds=seeds)
        request_bytes = len(encode_message(DhtMessage(kind=kind, key=key)))
        for peer_id in _queries(lookup):
            closer = self.known_to(peer_id, position(key))
            lookup.on_answer(peer_id, closer)
            providers: list[tuple[PeerId, tuple[str, ...]]] = []
            table = self._providers.get(peer_id) if harvest is not None else None
            if table is not None and harvest is not None:
                start = self._dice.randrange(2**16)
                providers = table.get(key, 0.0, limit=MAX_PROVIDERS_PER_ANSWER, start=start)
                harvest.take(providers, named_by=peer_id)
            answer = DhtMessage(
                kind=kind,
                key=key,
                closer=tuple(map(_row, closer)),
                providers=tuple(_row(provider) for provider, _ in providers),
            )
            asked.servers += 1
            asked.messages += 2
            asked.bytes += request_bytes + len(encode_message(answer))
        return lookup.closest()


def records_cost(hosts: int, dice: Random) -> dict[str, object]:
    """Return what a find touches among so many hosts of one model, the mean of some finds."""
    network = RecordNetwork(hosts, dice)
    finds = [network.find() for _ in range(_FINDS)]
    rounds = [network.provide() for _ in range(_FINDS)]
    table, page = _table_and_page(network.peer_ids[:_MAX_MERGED])
    return {
        "hosts": hosts,
        "servers_asked": round(fmean(find.servers for find in finds), 1),
        "hosts_named": round(fmean(find.hosts_named for find in finds), 1),
        "find_dht": _mean(finds, 1),
        "host_hour_dht": _mean(rounds, KEYS_OF_A_HOST * 3600 / INTERVAL_S),
        "table_rows": table,
        "page_records": page,
    }


def _mean(costs: Sequence[Asked], times: float) -> dict[str, int]:
    return {
        "messages": round(times * fmean(cost.messages for cost in costs)),
        "bytes": round(times * fmean(cost.bytes for cost in costs)),
    }


def _row(peer_id: PeerId) -> PeerAddresses:
    return PeerAddresses(peer_id=peer_id, addresses=(_ADDRESS,))


def _table_and_page(peer_ids: list[PeerId]) -> tuple[int, int]:
    """Return how many of these hosts one node's table keeps, and how many it tells who asks for a page."""
    template = make_host_info("template", make_description(MODEL))
    table = HostTable()
    for index, peer_id in enumerate(peer_ids):
        addresses = (f"/ip4/{11 + index // 65536}.{index // 256 % 256}.{index % 256}.1/tcp/4001",)
        digest = hashlib.sha256(peer_id.encode()).digest()
        table.merge(replace(template, peer_id=peer_id, addresses=addresses, digest=digest), now=EPOCH_UNIX_S)
    known = table.live(EPOCH_UNIX_S)
    query = RecordQuery(model_ids=(MODEL,), country_code="", limit=0, cursor=b"")
    return len(known), len(page_of(known, query, asker=peer_ids[0], secret=b"scale").hosts)


def _queries(lookup: Lookup) -> Iterator[PeerId]:
    while (peer_id := lookup.next_query()) is not None:
        yield peer_id
