"""A client of discovery with its network, for the tests of searches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from discovery_world import (
    FakeBook,
    FakeFactory,
    FakeNetwork,
    FakeNode,
    FakePeer,
    FakeSource,
    make_description,
    make_records,
    trio_system,
)

from hostmesh.discovery.manager import DiscoveryConfig, DiscoveryManager
from hostmesh.discovery.measurement import QuotedPrice, QuoteRefusal
from hostmesh.discovery.terms import Place, Price
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.standing_book import StandingBook


class FakeQuotes:
    """Quotes of hosts, each after 10 ms.

    Args:
        answers: the price in micro-USD that a host quotes, or the reason for which it gives none.
    """

    def __init__(self, answers: Callable[[PeerId], int | str]) -> None:
        self._answers = answers

    async def request_quote(self, peer_id: PeerId, model_id: str, *, timeout_s: float) -> QuotedPrice | QuoteRefusal:
        await trio.sleep(0.01)
        answer = self._answers(peer_id)
        if isinstance(answer, str):
            return QuoteRefusal(reason=answer)
        price = Price(micros_per_mtok=answer, currency="USD")
        return QuotedPrice(model_id=model_id, price=price, jobs_ahead=0, at_unix_s=1.0)


class World:
    """A client with its network."""

    def __init__(self, config: DiscoveryConfig | None = None) -> None:
        self.network = FakeNetwork()
        self.source = FakeSource("dht")
        self.sources = [self.source]
        self.reputation = FakeBook()
        self.standings = StandingBook(system=trio_system())
        self.config = config
        self.records = make_records()
        self.place: Place | None = None
        """Where the client says that it is."""
        self.quotes: FakeQuotes | None = None
        """What hosts answer who are asked for a quote; None = nobody is asked."""
        self.manager: DiscoveryManager
        self.node: FakeNode

    def host(self, name: str, *model_ids: str, **options: Any) -> FakePeer:
        """Add a host that the source names."""
        described = {
            key: options.pop(key) for key in ("price", "currency", "location", "capabilities") if key in options
        }
        after_s = options.pop("after_s", 0.0)
        peer = self.network.add_host(name, make_description(*model_ids, **described), **options)
        self.source.names(peer, after_s=after_s)
        return peer

    @asynccontextmanager
    async def client(self) -> AsyncIterator[DiscoveryManager]:
        async with trio.open_nursery() as nursery:
            factory = FakeFactory(self.network, self.sources, self.records)
            factory.place, factory.quotes = self.place, self.quotes
            self.node = factory.node
            self.factory = factory
            self.manager = DiscoveryManager(
                nursery=nursery,
                open_node=factory,
                records=self.records,
                reputation=self.reputation,
                standings=self.standings,
                system=trio_system(),
                config=self.config,
            )
            await self.manager.create_node()
            yield self.manager
            await self.manager.stop()
