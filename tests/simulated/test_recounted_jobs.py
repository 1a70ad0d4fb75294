"""A client with the tokenizer of the quoted digest counts again what its host claims; one without cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from tests.simulated.world import join
from tests.support.simulated import simulated

from hostmesh import SDK, HostCriteria, HostDescription, ModelOffer, Price, ReceiptError
from hostmesh.receipts.chain import JobInput
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, chat_model

CHAT = "tiny-chat"
DIGEST = b"t" * 32
WORDS = "one two three four five six seven eight nine ten eleven twelve"
OFFER = HostDescription(models=[ModelOffer(model_id=CHAT, price=Price(micros_per_mtok=250_000, currency="USD"))])


class Stingy:
    """A tokenizer that makes one token of any text: every host claims too many beside it."""

    def __init__(self, tokenizer_sha256: bytes) -> None:
        self.tokenizer_sha256 = tokenizer_sha256

    def count_text(self, text: str) -> int:
        return 1

    def count_prompt(self, job_input: JobInput) -> int | None:
        return None


async def serve(machine: SimMachine, *, task_status: trio.TaskStatus[str]) -> None:
    engine = FakeEngine([replace(chat_model(CHAT), tokenizer_sha256=DIGEST)], answer=lambda work: WORDS)
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as sdk:
        address = await join(sdk, machine)
        async with sdk.get_host_manager().serve(OFFER, engine):
            task_status.started(address)
            await trio.sleep_forever()


async def answer(client: SDK, machine: SimMachine, address: str) -> str:
    await join(client, machine)
    discovery = client.get_discovery_manager()
    await discovery.connect_to_peer(address)
    host = await discovery.find_host(HostCriteria(required_models=[CHAT]))
    async with (
        client.get_session_manager().open_session(host, spending_limit_micros=1_000) as session,
        client.get_job_manager().run(session, prompt="Count.") as job,
    ):
        return await job.read_text()


@simulated()
async def test_only_the_quoted_tokenizer_counts(net: SimNetwork) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve, net.machine("host"))
        for name, tokenizers in (("without", []), ("another", [Stingy(b"u" * 32)])):
            machine = net.machine(name)
            async with machine.open_sdk(ephemeral_key=True, enable_dht=False, tokenizers=tokenizers) as client:
                assert await answer(client, machine, address) == WORDS
        machine = net.machine("with")
        tokenizers = [Stingy(b"u" * 32), Stingy(DIGEST)]
        async with machine.open_sdk(ephemeral_key=True, enable_dht=False, tokenizers=tokenizers) as client:
            with pytest.raises(ReceiptError) as raised:
                await answer(client, machine, address)
            # Twelve tokens of one, a sixteenth and eight.
            assert raised.value.reason == "COMPLETION_OVER_COUNT"
        nursery.cancel_scope.cancel()
