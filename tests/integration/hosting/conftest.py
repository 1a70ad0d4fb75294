"""A host and a client as two SDKs over loopback, with an engine that does as it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from hostmesh import (
    SDK,
    ChatWork,
    EngineEvent,
    Finished,
    FinishReason,
    HostDescription,
    ModelInfo,
    ModelKind,
    ModelNotReadyError,
    ModelOffer,
    PeerId,
    Price,
    TextPiece,
    Wallet,
    Work,
    open_sdk,
)

MODEL = "held-chat"
PRICE = 250_000


@dataclass
class HeldEngine:
    """Makes one piece, then waits for ``go`` before it ends."""

    go: trio.Event = field(default_factory=trio.Event)
    is_ready: bool = True
    started: int = 0
    stopped: int = 0

    def models(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo(model_id=MODEL, kind=ModelKind.CHAT, context_tokens=64, engine="held 1"),)

    async def ready(self) -> Mapping[str, bool]:
        return {MODEL: self.is_ready}

    async def count_prompt_tokens(self, work: Work) -> int | None:
        assert isinstance(work, ChatWork)
        if not self.is_ready:
            raise ModelNotReadyError("still loading")
        return 3

    @asynccontextmanager
    async def generate(self, work: Work) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        self.started += 1
        try:
            async with aclosing(self._events()) as events:
                yield events
        finally:
            self.stopped += 1

    async def _events(self) -> AsyncGenerator[EngineEvent, None]:
        yield TextPiece(text="first ", completion_tokens=1)
        await self.go.wait()
        yield TextPiece(text="last", completion_tokens=2)
        yield Finished(prompt_tokens=3, completion_tokens=2, finish_reason=FinishReason.STOP)


def description(price: int | None = PRICE, **more: object) -> HostDescription:
    offer = ModelOffer(model_id=MODEL, price=None if price is None else Price(micros_per_mtok=price, currency="USD"))
    return HostDescription(models=[offer], max_concurrent_jobs=2, max_queued_jobs=2, **more)  # type: ignore[arg-type]


@dataclass
class World:
    """Both ends, connected."""

    host: SDK
    client: SDK
    host_id: PeerId
    engine: HeldEngine


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    async with AsyncExitStack() as stack:
        host, client = [
            await stack.enter_async_context(open_sdk(ephemeral_key=True, enable_dht=False, enable_mdns=False))
            for _ in range(2)
        ]
        for sdk in (host, client):
            await sdk.authenticate(wallet=Wallet.generate())
            await sdk.get_discovery_manager().create_node()
        (address,) = host.get_discovery_manager().listen_addresses()
        host_id = await client.get_discovery_manager().connect_to_peer(address)
        yield World(host=host, client=client, host_id=host_id, engine=HeldEngine())
