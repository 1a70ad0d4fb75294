"""Serve something of your own: any object that is an Engine can stand behind a host.

This one reverses the words of the last message. It prints the address that clients use as their bootstrap address.

Usage: python examples/own_engine.py
"""

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

MODEL = ModelInfo(model_id="reverser", kind=ModelKind.CHAT, context_tokens=4096, engine="reverser 1")


class Reverser:
    """Says the words of the last message backwards. A word is a token."""

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
        words = work.messages[-1].content.split()[::-1][: work.max_output_tokens]
        prompt_tokens = await self.count_prompt_tokens(work)

        async def events() -> AsyncIterator[EngineEvent]:
            for number, word in enumerate(words, start=1):
                await trio.lowlevel.checkpoint()  # where a cancelled job stops
                yield TextPiece(text=word if number == 1 else f" {word}", completion_tokens=number)
            yield Finished(prompt_tokens=prompt_tokens, completion_tokens=len(words), finish_reason=FinishReason.STOP)

        yield events()


async def main() -> None:
    async with open_sdk(ephemeral_key=True, serve_dht=True) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        offer = ModelOffer(model_id=MODEL.model_id, price=Price(micros_per_mtok=1_000, currency="USD"))
        async with sdk.get_host_manager().serve(HostDescription(models=[offer], location="US"), Reverser()) as serving:
            print(discovery.listen_addresses()[0], flush=True)
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await serving.drain(timeout_s=5)


if __name__ == "__main__":
    try:
        trio.run(main)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
