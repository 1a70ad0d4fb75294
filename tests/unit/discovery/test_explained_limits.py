"""As many hosts as are wanted are measured, for ``explain`` and for ``hostmesh find --limit``, too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import typer
from find_world import World
from trio.testing import MockClock
from typer.testing import CliRunner

from hostmesh.cli.find import find
from hostmesh.cli.options import Invocation
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.finder import DiscoveryConfig
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.selection import Diversity
from hostmesh.errors import ConfigError

M = HostCriteria(required_models=["m"])
SMALL = DiscoveryConfig(probe=ProbeConfig(max_probes=4, max_attempts=12))


def world_of(hosts: int, config: DiscoveryConfig | None = None) -> World:
    world = World(config)
    for number in range(hosts):
        world.host(f"host {number}", "m", price=10 + number)
    return world


async def test_more_than_a_search_measures_are_explained(autojump_clock: MockClock) -> None:
    world = world_of(60)
    async with world.client() as discovery:
        explained = await discovery.explain(M, limit=50)
        prices = [choice.price.micros_per_mtok for choice in explained.choices if choice.price is not None]
        assert len(prices) == 50
        assert all(choice.latency is not None for choice in explained.choices)
        assert len((await discovery.explain(M)).choices) == ProbeConfig().max_probes


@pytest.mark.parametrize(("limit", "shown", "measured"), [(2, 2, 4), (4, 4, 4), (7, 7, 7), (50, 12, 12)])
async def test_the_limit_is_what_is_returned_within_the_bounds(
    autojump_clock: MockClock, limit: int, shown: int, measured: int
) -> None:
    world = world_of(20, SMALL)
    async with world.client() as discovery:
        explained = await discovery.explain(M, limit=limit)
        assert (len(explained.choices), explained.funnel.matched) == (shown, measured)
        assert explained.funnel.rejected == {"asked": 20 - measured}
        best = [choice.price.micros_per_mtok for choice in explained.choices if choice.price is not None]
        assert best == [10 + number for number in range(shown)]


async def test_with_limits_per_wallet_as_many_are_left(autojump_clock: MockClock) -> None:
    world = World(SMALL)
    for number in range(24):
        world.host(f"host {number}", "m", operator=f"owner {number // 3}")
    async with world.client() as discovery:
        explained = await discovery.explain(M, limit=6, diversity=Diversity(max_per_operator=1))
        assert len(explained.choices) == 6


async def test_a_limit_of_none_is_refused(autojump_clock: MockClock) -> None:
    async with world_of(1).client() as discovery:
        with pytest.raises(ConfigError) as caught:
            await discovery.explain(limit=0)
        assert caught.value.name == "limit"


class VirtualTime:
    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        trio.run(main, clock=MockClock(autojump_threshold=0))


class Offline(Invocation):
    """Reads no settings: the client of these tests has none."""

    def load(self, **_: Any) -> Any:
        return None


@pytest.mark.parametrize(("options", "shown"), [([], 20), (["--limit", "3"], 3), (["--limit", "50"], 50)])
def test_the_command_shows_as_many_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, options: list[str], shown: int
) -> None:
    @asynccontextmanager
    async def client_sdk(*_: object) -> AsyncIterator[SimpleNamespace]:
        async with world_of(60).client() as discovery:
            yield SimpleNamespace(get_discovery_manager=lambda: discovery)

    monkeypatch.setattr("hostmesh.cli.client.client_sdk", client_sdk)
    app = typer.Typer()
    app.command()(find)
    state = Offline(interrupts=VirtualTime())  # type: ignore[arg-type]
    ended = CliRunner().invoke(app, ["--model", "m", "--json", *options], obj=state)
    assert ended.exit_code == 0, ended.output
    assert len(json.loads(ended.stdout)["hosts"]) == shown
