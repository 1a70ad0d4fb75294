"""A host to point commands at: run as a script, it serves one model whose answer is known, until its input ends.

Arguments: the bootstrap address, and a JSON object: ``model``, ``price``, ``location``, ``pieces`` (of the answer),
``endless`` (after the pieces it goes on until it is cancelled). It prints lines: ``ready``, then ``started`` and
``stopped`` for each job, so that a test can see a cancellation arrive.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from hostmesh import (
    ChatWork,
    EngineEvent,
    Finished,
    FinishReason,
    HostDescription,
    ModelInfo,
    ModelKind,
    ModelOffer,
    Price,
    TextPiece,
    Wallet,
    Work,
    open_sdk,
)


class ScriptedEngine:
    """Answers with the given pieces, one token each."""

    def __init__(self, model_id: str, pieces: list[str], *, endless: bool) -> None:
        self._model_id, self._pieces, self._endless = model_id, pieces, endless

    def models(self) -> tuple[ModelInfo, ...]:
        return (
            ModelInfo(
                model_id=self._model_id,
                kind=ModelKind.CHAT,
                context_tokens=2048,
                engine="scripted",
                parameters=frozenset({"temperature", "seed"}),
            ),
        )

    async def ready(self) -> Mapping[str, bool]:
        return {self._model_id: True}

    async def count_prompt_tokens(self, work: Work) -> int | None:
        assert isinstance(work, ChatWork)
        return sum(len(message.content.split()) for message in work.messages)

    @asynccontextmanager
    async def generate(self, work: Work) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        tell("started")
        try:
            yield self._events(work)
        finally:
            tell("stopped")

    async def _events(self, work: Work) -> AsyncIterator[EngineEvent]:
        for count, text in enumerate(self._pieces, start=1):
            yield TextPiece(text=text, completion_tokens=count)
        if self._endless:
            await trio.sleep_forever()
        prompt_tokens = await self.count_prompt_tokens(work)
        assert prompt_tokens is not None
        yield Finished(
            prompt_tokens=prompt_tokens, completion_tokens=len(self._pieces), finish_reason=FinishReason.STOP
        )


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def main() -> None:
    options = json.loads(sys.argv[2])
    engine = ScriptedEngine(
        options["model"], options.get("pieces", ["one ", "two"]), endless=options.get("endless", False)
    )
    async with open_sdk(
        ephemeral_key=True, serve_dht=True, enable_mdns=False, bootstrap_nodes=[sys.argv[1]], max_connections=100
    ) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        peer_id = await sdk.get_discovery_manager().create_node()
        offer = ModelOffer(
            model_id=options["model"],
            price=Price(micros_per_mtok=options["price"], currency="USD"),
        )
        description = HostDescription(
            models=[offer],
            location=options.get("location"),
            capabilities=options.get("capabilities", ()),
            software=options.get("software"),
            max_concurrent_jobs=4,
            max_queued_jobs=4,
        )
        async with sdk.get_host_manager().serve(description, engine):
            tell("ready", peer_id=peer_id)
            await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)


trio.run(main)
