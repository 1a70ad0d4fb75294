"""Hosts that run models, true or not, and a client that uses them and may check them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio
from tests.simulated.world import join

from hostmesh import (
    Agreement,
    Calibration,
    CanaryRequest,
    ChatWork,
    HostCriteria,
    HostDescription,
    JobLimits,
    ModelOffer,
    PeerId,
    Price,
    Session,
    Warmth,
)
from hostmesh.testing import EngineJob, FakeEngine, SimMachine, SimNetwork, chat_model

MODEL = "paid-for"
PRICE = 250_000
PARAMETERS = {"temperature": 0.0}
_AGREE = [Agreement(characters=40, parted=False)] * 50 + [Agreement(characters=20, parted=True)] * 10
CALIBRATIONS = {MODEL: Calibration(model_id=MODEL, engines={"another": dict.fromkeys(Warmth, _AGREE)})}


def says(model: str) -> Callable[[ChatWork], str]:
    """Return how a model answers: by its weights, the conversation and the seed, six words."""

    def answer(work: ChatWork) -> str:
        asked = [(message.role.value, message.content) for message in work.messages]
        digest = hashlib.sha256(f"{model} {asked} {work.parameters.get('seed')}".encode()).hexdigest()
        return " ".join(digest[place : place + 7] for place in range(0, 42, 7))

    return answer


async def reference(request: CanaryRequest) -> str:
    """Answer as the right weights do."""
    asked = list(request.messages)
    digest = hashlib.sha256(f"true {asked} {request.parameters['seed']}".encode()).hexdigest()
    return " ".join(digest[place : place + 7] for place in range(0, 42, 7))


@dataclass
class Market:
    """Hosts by name, and one client that has a session with each."""

    machine: SimMachine
    """The client's."""
    engines: dict[str, FakeEngine]
    addresses: dict[str, str]
    sessions: dict[str, Session] = field(default_factory=dict)
    peer_ids: dict[str, PeerId] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    """The user's own."""

    async def open(self) -> None:
        """Open the client's SDK, and a session at each host."""
        self._stack = AsyncExitStack()
        self.client = await self._stack.enter_async_context(self.machine.open_sdk(enable_dht=False))
        await join(self.client, self.machine)
        discovery = self.client.get_discovery_manager()
        for name, address in self.addresses.items():
            self.peer_ids[name] = await discovery.connect_to_peer(address)
        for choice in await discovery.find_all_hosts(HostCriteria(required_models=[MODEL])):
            [name] = [name for name, peer_id in self.peer_ids.items() if peer_id == choice.peer_id]
            self.sessions[name] = await self._stack.enter_async_context(
                self.client.get_session_manager().open_session(choice, spending_limit_micros=1_000_000)
            )

    async def close(self) -> None:
        """End the client's process."""
        await self._stack.aclose()

    async def use(self, name: str, jobs: int, *, pause_s: Sequence[float] = (5.0, 9.0, 30.0), **more: object) -> None:
        """Run real jobs, one after the other."""
        for _ in range(jobs):
            number = len(self.prompts)
            self.prompts.append(f"Own prompt {number:04d}, which is nobody else's business.")
            async with self.client.get_job_manager().run(
                self.sessions[name],
                prompt=self.prompts[-1],
                **{"parameters": PARAMETERS, "max_output_tokens": 16, **more},  # type: ignore[arg-type]
            ) as job:
                await job.read_text()
            await trio.sleep(pause_s[number % len(pause_s)])

    def jobs(self, name: str) -> list[tuple[EngineJob, ChatWork]]:
        """Return the jobs of a host's engine, the oldest first, and what it was given."""
        return [(job, job.work) for job in self.engines[name].jobs if isinstance(job.work, ChatWork)]

    def asked(self, name: str) -> list[ChatWork]:
        """Return what a host's engine was given, the oldest first."""
        return [work for _, work in self.jobs(name)]

    def operator(self, name: str) -> str:
        """Return the address of a host's wallet."""
        return "0x" + self.sessions[name].operator.hex()

    def canaries(self, name: str) -> list[ChatWork]:
        """Return those that no user sent."""
        return [work for work in self.asked(name) if work.messages[-1].content not in self.prompts]

    def check(self, **options: object) -> object:
        """Turn checks on."""
        given = {"budget_micros": 10**9, "currency": "USD", "calibrations": CALIBRATIONS, "rate": 1.0, **options}
        return self.client.check_models(**given)  # type: ignore[arg-type]


async def _run_host(
    machine: SimMachine, engine: FakeEngine, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    offer = HostDescription(
        models=[ModelOffer(model_id=MODEL, price=Price(micros_per_mtok=PRICE, currency="USD"))],
    )
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as sdk:
        address = await join(sdk, machine)
        async with sdk.get_host_manager().serve(offer, engine, limits=JobLimits(max_concurrent_jobs=8)):
            task_status.started(address)
            await trio.sleep_forever()


@asynccontextmanager
async def market(net: SimNetwork, engines: dict[str, FakeEngine]) -> AsyncIterator[Market]:
    """Hosts that run engines, and a client that has met them."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        addresses = {
            name: await nursery.start(_run_host, net.machine(name), engine) for name, engine in engines.items()
        }
        made = Market(net.machine("client"), engines, addresses)
        await made.open()
        try:
            yield made
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group around it
            failure = error
        await made.close()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def engine(model: str = "true", **more: object) -> FakeEngine:
    """Return an engine with a model's weights."""
    return FakeEngine([chat_model(MODEL)], answer=says(model), first_token_s=1.0, **more)  # type: ignore[arg-type]
