"""A bootstrap node, a host or a client on the public SDK, told what to be by JSON on its command line.

It writes one JSON object a line and ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from hostmesh import (
    ChatWork,
    EngineEvent,
    Finished,
    FinishReason,
    HostCriteria,
    HostDescription,
    ModelInfo,
    ModelKind,
    ModelOffer,
    NoHostFoundError,
    Price,
    TextPiece,
    Wallet,
    Work,
    open_sdk,
)

MODEL = ModelInfo(model_id="shouter", kind=ModelKind.CHAT, context_tokens=4096, engine="shouter 1")


class Shouter:
    """An engine that repeats the last message in capitals, a word a token."""

    def models(self) -> tuple[ModelInfo, ...]:
        return (MODEL,)

    async def ready(self) -> Mapping[str, bool]:
        return {MODEL.model_id: True}

    async def count_prompt_tokens(self, work: Work) -> int:
        assert isinstance(work, ChatWork)
        return sum(len(message.content.split()) for message in work.messages)

    @asynccontextmanager
    async def generate(self, work: Work) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        assert isinstance(work, ChatWork)
        words = work.messages[-1].content.upper().split()[: work.max_output_tokens]
        prompt_tokens = await self.count_prompt_tokens(work)

        async def events() -> AsyncIterator[EngineEvent]:
            for number, word in enumerate(words, start=1):
                await trio.lowlevel.checkpoint()
                yield TextPiece(text=f"{word} ", completion_tokens=number)
            yield Finished(prompt_tokens=prompt_tokens, completion_tokens=len(words), finish_reason=FinishReason.STOP)

        yield events()


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def until_end_of_input() -> None:
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while await stdin.receive_some():
            pass


async def find_and_run(sdk, discovery) -> None:
    """Look until a host is found, as an application would, and run a job on it."""
    while True:
        try:
            choice = await discovery.find_host(HostCriteria(required_models=[MODEL.model_id]))
        except NoHostFoundError as error:
            tell("missed", seen=error.seen, rejected=error.rejected)
            await trio.sleep(0.1)  # who has nobody to ask misses at once, and too many finds a second are refused
            continue
        break
    tell("found", peer_id=choice.peer_id, sources=choice.sources, addresses=choice.record.addresses)
    async with (
        sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session,
        sdk.get_job_manager().run(session, prompt="all is well") as job,
    ):
        tell("answered", text="".join([delta.text async for delta in job]))


async def main(wanted: dict) -> None:
    async with open_sdk(ephemeral_key=True, serve_dht=wanted["role"] != "client", **wanted["settings"]) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        discovery = sdk.get_discovery_manager()
        peer_id = await discovery.create_node()
        if wanted["role"] == "host":
            offer = ModelOffer(model_id=MODEL.model_id, price=Price(micros_per_mtok=1_000, currency="USD"))
            async with sdk.get_host_manager().serve(HostDescription(models=[offer], location="US"), Shouter()):
                tell("ready", peer_id=peer_id, addresses=discovery.listen_addresses())
                await until_end_of_input()
        else:
            tell("ready", peer_id=peer_id, addresses=discovery.listen_addresses())
            async with trio.open_nursery() as nursery:
                if wanted["role"] == "client":
                    nursery.start_soon(find_and_run, sdk, discovery)
                await until_end_of_input()
                nursery.cancel_scope.cancel()
    tell("stopped")


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
