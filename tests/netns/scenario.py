"""A host is called and found, and runs a job: one program, for real sockets and for the simulated network alike.

Nothing here knows which of both it is on: ``open_sdk`` is that of :mod:`hostmesh` or of a simulated machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import trio

from hostmesh import ChatWork, HostCriteria, HostDescription, ModelOffer, NoHostFoundError, Price
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.messaging.inbox import Message
from hostmesh.sdk import SDK
from hostmesh.testing.engine import FakeEngine
from hostmesh.testing.wallets import make_wallet

OpenSdk = Callable[..., AbstractAsyncContextManager[SDK]]
"""Takes ``ephemeral_key``, ``serve_dht`` and settings by name, as :func:`hostmesh.open_sdk` does."""

BOOTSTRAP_IP, HOST_IP, CLIENT_IP, NEAR_CLIENT_IP = (f"11.0.{number}.1" for number in (1, 2, 3, 4))
"""Those of the first machines of a simulated network: public ones, in networks of their own."""
PORT = 4001
NETWORK = "simnet"
"""What nodes sign for: a network for which test wallets sign."""
TOKENS = 40
TOKENS_PER_S = 100.0
_MODEL = "fake-chat"
_WANTED = HostCriteria(required_models=[_MODEL])
_OFFER = HostDescription(
    models=[ModelOffer(model_id=_MODEL, price=Price(micros_per_mtok=250_000, currency="USD"))], max_concurrent_jobs=2
)
_WARM_CALLS = 5
_MESSAGE = bytes(65536)
_IDLE_S = 1.0
"""Before the first message: a TCP sender that is idle for longer than its timeout begins with its first window again
(RFC 5681, 4.1). Else the message takes two round trips or three, by how many small segments happened to be on the way
at once before it: Linux lets the window grow by segments, whatever they hold."""
_WARM_SEARCHES = 2

CONNECT = "connect and first call"
CALL = "unary call, warm"
MESSAGE = "message of 64 KiB, idle connection"
MESSAGE_AGAIN = "message of 64 KiB, again"
FIND_COLD = "find_host, cold"
FIND_WARM = "find_host, warm"
OPEN_SESSION = "open_session"
FIRST_TOKEN = "job to its first token"
LAST_TOKEN = f"job of {TOKENS} tokens at {TOKENS_PER_S:.0f}/s"
ENGINE_S = {LAST_TOKEN: (TOKENS - 1) / TOKENS_PER_S}
"""What the engine takes of a figure."""
FIGURES = (CONNECT, CALL, MESSAGE, MESSAGE_AGAIN, FIND_COLD, FIND_WARM, OPEN_SESSION, FIRST_TOKEN, LAST_TOKEN)


@dataclass(slots=True)
class Stopwatch:
    """Seconds, by figure."""

    taken_s: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FIGURES})
    _began_s: float = 0.0

    def start(self) -> None:
        self._began_s = trio.current_time()

    def note(self, figure: str) -> None:
        """Note what passed since the start, which stays where it was."""
        self.taken_s[figure].append(trio.current_time() - self._began_s)

    def medians_s(self) -> dict[str, float]:
        return {name: statistics.median(taken) for name, taken in self.taken_s.items()}


async def start_node(sdk: SDK, ip: str, bootstrap: list[str]) -> str:
    """Start a node, with peers once there is a bootstrap node, and return its address."""
    await sdk.authenticate(wallet=make_wallet("anybody"))
    discovery = sdk.get_discovery_manager()
    listen = f"/ip4/{ip}/tcp/{PORT}"
    peer_id = await discovery.create_node(listen=[listen], bootstrap=bootstrap)
    if bootstrap:
        await discovery.wait_ready()
    return f"{listen}/p2p/{peer_id}"


async def be_bootstrap(open_sdk: OpenSdk, *, task_status: trio.TaskStatus[str]) -> None:
    """Be a bootstrap node; its address is the status."""
    async with open_sdk(ephemeral_key=True, serve_dht=True) as sdk:
        task_status.started(await start_node(sdk, BOOTSTRAP_IP, []))
        await trio.sleep_forever()


async def be_host(open_sdk: OpenSdk, bootstrap: str, *, task_status: trio.TaskStatus[str]) -> None:
    """Be a host; its address is the status."""
    engine = FakeEngine([_MODEL], tokens_per_s=TOKENS_PER_S, answer=_answer)
    async with open_sdk(ephemeral_key=True, serve_dht=True) as sdk:
        address = await start_node(sdk, HOST_IP, [bootstrap])
        sdk.get_discovery_manager().on_message(_take)
        async with sdk.get_host_manager().serve(_OFFER, engine):
            task_status.started(address)
            await trio.sleep_forever()


async def _take(message: Message) -> None:
    """Take a message, which is all."""


def _answer(work: ChatWork) -> str:
    return " ".join(["word"] * TOKENS)


async def measure(open_sdk: OpenSdk, ip: str, *, bootstrap: str, host: str, repetitions: int) -> Stopwatch:
    """Do everything so many times, each time as a client that is new, and once before without measuring."""
    async with open_sdk(ephemeral_key=True) as sdk:
        # From here on the host is in the DHT, and everything that Python imports late is imported.
        await start_node(sdk, ip, [bootstrap])
        await _wait_until_found(sdk.get_discovery_manager())
        await _run_job(sdk, Stopwatch())
    watch = Stopwatch()
    for _ in range(repetitions):
        async with open_sdk(ephemeral_key=True) as sdk:
            await start_node(sdk, ip, [])
            await _call(sdk, host, watch)
        async with open_sdk(ephemeral_key=True) as sdk:
            await start_node(sdk, ip, [bootstrap])
            await _find(sdk.get_discovery_manager(), watch)
            await _run_job(sdk, watch)
    return watch


async def _call(sdk: SDK, host: str, watch: Stopwatch) -> None:
    """Ping a host that this client does not know yet, and again."""
    status = sdk.get_status_client()
    watch.start()
    peer_id = await sdk.get_discovery_manager().connect_to_peer(host)
    await status.ping(peer_id)
    watch.note(CONNECT)
    for _ in range(_WARM_CALLS):
        watch.start()
        await status.ping(peer_id)
        watch.note(CALL)
    await trio.sleep(_IDLE_S)
    for figure in (MESSAGE, MESSAGE_AGAIN):
        watch.start()
        await sdk.get_discovery_manager().send_message(peer_id, _MESSAGE, retries=0)
        watch.note(figure)


async def _find(discovery: DiscoveryManager, watch: Stopwatch) -> None:
    """Find the host through the DHT, and again: from the table, with a new probe."""
    watch.start()
    choice = await discovery.find_host(_WANTED)
    watch.note(FIND_COLD)
    for _ in range(_WARM_SEARCHES):
        discovery.forget_measurements(choice.peer_id)
        watch.start()
        await discovery.find_host(_WANTED)
        watch.note(FIND_WARM)


async def _run_job(sdk: SDK, watch: Stopwatch) -> None:
    choice = await sdk.get_discovery_manager().find_host(_WANTED)
    watch.start()
    async with sdk.get_session_manager().open_session(choice, spending_limit_micros=1000) as session:
        watch.note(OPEN_SESSION)
        watch.start()
        async with sdk.get_job_manager().run(session, prompt="why?") as job:
            has_begun = False
            async for _ in job:
                if not has_begun:
                    watch.note(FIRST_TOKEN)
                    has_begun = True
            watch.note(LAST_TOKEN)


async def _wait_until_found(discovery: DiscoveryManager) -> None:
    while True:
        try:
            await discovery.find_host(_WANTED)
        except NoHostFoundError:
            continue
        return
