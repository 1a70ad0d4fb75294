"""What each party of a network learns of a client that finds a host and runs a prompt, as docs/threat-model.md says.

Looked at from outside: the bytes on the lines, and whatever each machine's Noise channels decrypt.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from tests.simulated.world import join
from tests.support.simulated import simulated

from hostmesh import SDK, HostCriteria, PeerId
from hostmesh.discovery.sources.model_keys import SHARDS, epoch_of, model_key
from hostmesh.net.upgrade import SecuredLink, Upgrader
from hostmesh.testing import FakeEngine, SimNetwork, chat_model, make_description, make_wallet
from hostmesh.testing.stream import SimStream
from hostmesh.wire.noise_channel import NoiseChannel

MODEL = "a-model-that-one-may-not-want-to-name"
PROMPT = "a prompt that is nobody's business"
ANSWER = "neither-is-this"
HOSTS = 3


@dataclass
class Ears:
    """Everything that was sent, and who could read what from whom."""

    lines: list[bytes] = field(default_factory=list)
    heard: defaultdict[NoiseChannel, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """What each end of a connection decrypted."""
    ends: dict[NoiseChannel, tuple[PeerId, PeerId]] = field(default_factory=dict)
    """Listener and speaker."""

    def listeners(self, words: str | bytes, speaker: PeerId | None = None) -> set[PeerId]:
        """Return who heard these words, from one speaker or from anybody."""
        sought = words if isinstance(words, bytes) else words.encode()
        found = [self.ends[channel] for channel, said in self.heard.items() if sought in b"".join(said)]
        return {listener for listener, who in found if speaker in (None, who)}


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Ears:
    caplog.set_level(logging.DEBUG, logger="hostmesh")
    ears = Ears()
    shake_hands, open_sealed = Upgrader._shake_hands, NoiseChannel.open
    send_nowait, send_all = SimStream.send_nowait, SimStream.send_all

    async def noted_handshake(self: Upgrader, *args: Any, **options: Any) -> SecuredLink:
        secured = await shake_hands(self, *args, **options)
        ears.ends[secured.secured.channel] = (self._own_peer_id, secured.peer_id)
        return secured

    def noted_open(self: NoiseChannel, data: bytes) -> list[bytes]:
        opened = open_sealed(self, data)
        ears.heard[self] += opened
        return opened

    def noted_send_nowait(self: SimStream, *parts: bytes | memoryview) -> int:
        ears.lines += map(bytes, parts)
        return send_nowait(self, *parts)

    async def noted_send_all(self: SimStream, data: bytes | bytearray | memoryview) -> None:
        ears.lines.append(bytes(data))
        await send_all(self, data)

    monkeypatch.setattr(Upgrader, "_shake_hands", noted_handshake)
    monkeypatch.setattr(NoiseChannel, "open", noted_open)
    monkeypatch.setattr(SimStream, "send_nowait", noted_send_nowait)
    monkeypatch.setattr(SimStream, "send_all", noted_send_all)
    return ears


@dataclass
class Town:
    """A bootstrap node, hosts of one model, and a client that knows the bootstrap node alone."""

    bootstrap: PeerId
    hosts: set[PeerId]
    client: SDK
    client_id: PeerId
    keys: list[bytes]
    """Under which the DHT has the model now."""


@asynccontextmanager
async def town_of(net: SimNetwork) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        machine = net.machine("bootstrap")
        bootstrap = await stack.enter_async_context(machine.open_bootstrap_node())
        bootstrap_id = bootstrap.get_discovery_manager().network_topology().peer_id
        address = f"/ip4/{machine.address}/tcp/4001/p2p/{bootstrap_id}"
        hosts = set()
        for number in range(HOSTS):
            machine = net.machine(f"host{number}")
            host = await stack.enter_async_context(machine.open_sdk(serve_dht=True))
            hosts.add(peer_of(await join(host, machine, address)))
            engine = FakeEngine([chat_model(MODEL)], answer=lambda work: ANSWER)
            offered = make_description(MODEL, price_micros_per_mtok=1000)
            await stack.enter_async_context(host.get_host_manager().serve(offered, engine))
        # Long enough for the DHT to have them.
        await trio.sleep(60)
        machine = net.machine("client")
        client = await stack.enter_async_context(machine.open_sdk())
        client_id = peer_of(await join(client, machine, address))
        epoch = epoch_of(MODEL, machine.system.unix_s())
        keys = [model_key("simnet", MODEL, shard, epoch=epoch) for shard in range(SHARDS)]
        yield Town(bootstrap_id, hosts, client, client_id, keys)


def peer_of(address: str) -> PeerId:
    return PeerId(address.rpartition("/")[2])


@simulated(town_of)
async def test_one_host_reads_the_prompt_and_several_peers_learn_the_model(
    town: Town, ears: Ears, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = town.client.get_discovery_manager()
    choices = await discovery.find_all_hosts(HostCriteria(required_models=[MODEL]))
    assert {choice.peer_id for choice in choices} == town.hosts
    chosen = choices[0].peer_id
    async with (
        town.client.get_session_manager().open_session(choices[0], spending_limit_micros=1000) as session,
        town.client.get_job_manager().run(session, prompt=PROMPT) as job,
    ):
        assert await job.read_text() == ANSWER

    # Who runs it reads it, and learns who pays.
    assert ears.listeners(PROMPT) == {chosen}
    assert ears.listeners(make_wallet("client").address_bytes, town.client_id) == {chosen}
    # The receipt is for the client alone.
    assert ears.listeners(make_wallet("client").address_bytes, chosen) == {town.client_id}
    assert ears.listeners(make_wallet("client").address_bytes) == {chosen, town.client_id}
    assert ears.listeners(ANSWER) == {town.client_id}
    # Who is asked for hosts of a model, or for a price, learns which model it is, and by whose peer id.
    assert ears.listeners(MODEL, town.client_id) == {town.bootstrap, *town.hosts}
    for key in town.keys:
        assert ears.listeners(key, town.client_id)
    # Who listens on the lines learns neither.
    on_the_lines = b"".join(ears.lines)
    assert len(on_the_lines) > 10_000
    for words in (PROMPT, ANSWER, MODEL):
        assert words.encode() not in on_the_lines
    # Nor do the logs of any of them have what was said.
    assert any(record.levelno == logging.DEBUG for record in caplog.records)
    for words in (PROMPT, ANSWER):
        assert words not in caplog.text
