"""How long a warm find takes: records and connections known, every probe sent anew.

Run it from the root of the checkout: ``python -m tests.benchmarks.find [--json]``.

Eight processes on loopback: a bootstrap node, six hosts, each with an engine that answers from memory and a price for
one model, and the client, which is this process. The client finds the hosts once, untimed. Then it calls ``find_host``
again and again, and each host is probed each time: a status snapshot and a signed quote at once, and three pings.

A round is so many finds, 60 ms from one to the next, which the limit of a host for one peer allows. The hosts count the
calls that they serve, by method; CPU is user and system time. A find that asked the sources, because the minute for
which the table answers was over, is no warm one: it is not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from tests.benchmarks.transport import machine
from tests.benchmarks.transport.peers.client import read_commands, tell
from tests.benchmarks.transport.process import PeerProcess, open_peer

from hostmesh import (
    SDK,
    EngineEvent,
    Finished,
    FinishReason,
    HostCriteria,
    HostDescription,
    ModelInfo,
    ModelKind,
    ModelOffer,
    Price,
    TextPiece,
    Wallet,
    Work,
    load_settings,
    open_sdk,
)
from hostmesh.rpc.interceptors import IncomingCall

HOSTS, ROUNDS, FINDS = 6, 9, 60
PAUSE_S = 0.06
"""From the beginning of one find to that of the next: a host takes 100 status calls of one peer a second, 4 a find."""
TARGET_MS = 25.0
_ANSWER_S = 60.0
_GATHER_S = 60.0
MODEL = ModelInfo(model_id="echo", kind=ModelKind.CHAT, context_tokens=4096, engine="echo 1")
CRITERIA = HostCriteria(required_models=[MODEL.model_id])


# --- the hosts and the bootstrap node ---


class Echo:
    """An engine that gives one token. Nobody runs a job on it; what it says of itself is what hosts publish."""

    def models(self) -> tuple[ModelInfo, ...]:
        return (MODEL,)

    async def ready(self) -> Mapping[str, bool]:
        return {MODEL.model_id: True}

    async def count_prompt_tokens(self, work: Work) -> int:
        return 1

    @asynccontextmanager
    async def generate(self, work: Work) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        async def events() -> AsyncIterator[EngineEvent]:
            yield TextPiece(text="echo", completion_tokens=1)
            yield Finished(prompt_tokens=1, completion_tokens=1, finish_reason=FinishReason.STOP)

        yield events()


class CallCounter:
    """Counts the calls that a node serves."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    @asynccontextmanager
    async def intercept(self, call: IncomingCall) -> AsyncIterator[None]:
        self.calls[call.method.name] += 1
        yield


@asynccontextmanager
async def running_node(
    folder: Path, *, counter: CallCounter | None = None, serve_dht: bool = False, **overrides: Any
) -> AsyncIterator[SDK]:
    """Run a node with a new key, in its own folder, without mDNS: whoever else is on the link is not in the figures."""
    settings = load_settings({"enable_mdns": False, **overrides}, env={"HOSTMESH_HOME": str(folder)})
    interceptors = [] if counter is None else [counter]
    async with open_sdk(settings, ephemeral_key=True, serve_dht=serve_dht, server_interceptors=interceptors) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        await sdk.get_discovery_manager().create_node()
        yield sdk


async def serve(folder: Path, bootstrap: str | None) -> None:
    """Be a host, or the bootstrap node: tell the address, then what was served whenever asked, until input ends."""
    counter = CallCounter()
    overrides = {"listen_addresses": ["/ip4/127.0.0.1/tcp/0"], "bootstrap_nodes": [bootstrap] if bootstrap else []}
    async with AsyncExitStack() as stack:
        sdk = await stack.enter_async_context(running_node(folder, counter=counter, serve_dht=True, **overrides))
        if bootstrap is not None:
            offer = ModelOffer(model_id=MODEL.model_id, price=Price(micros_per_mtok=1_000, currency="USD"))
            description = HostDescription(models=[offer], location="US")
            await stack.enter_async_context(sdk.get_host_manager().serve(description, Echo()))
        tell({"address": sdk.get_discovery_manager().listen_addresses()[0]})
        async for _ in read_commands():
            tell({"cpu_s": time.process_time(), "calls": counter.calls})


# --- the measuring ---


@dataclass(frozen=True, slots=True)
class Round:
    """So many warm finds."""

    took_ms: tuple[float, ...]
    cpu_ms: float
    """Of this process, for one find."""
    hosts_cpu_ms: float
    """Of all hosts together, for one find."""
    calls: Mapping[str, float]
    """That the hosts served for one find, by method."""
    not_warm: int
    """Finds that asked the sources; not among the others."""

    def percentile_ms(self, share: float) -> float:
        """Return the time that such a share of the finds did not exceed."""
        ordered = sorted(self.took_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class _Served:
    cpu_s: float
    calls: Counter[str]


async def measure(
    *, hosts: int, rounds: int, finds: int, report: Callable[[str], None] = lambda line: None
) -> list[Round]:
    """Measure so many rounds of so many finds among so many hosts."""
    with tempfile.TemporaryDirectory(prefix="hostmesh-bench-") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:

            async def start(name: str, *arguments: str) -> tuple[PeerProcess, str]:
                argv = [sys.executable, "-m", "tests.benchmarks.find", "--serve", str(folder / name), *arguments]
                peer = await stack.enter_async_context(open_peer(name, argv, folder))
                return peer, str((await peer.read(within_s=_ANSWER_S))["address"])

            _, bootstrap = await start("bootstrap")
            peers = [(await start(f"host {number}", bootstrap))[0] for number in range(1, hosts + 1)]
            overrides = {"listen_addresses": [], "bootstrap_nodes": [bootstrap]}
            sdk = await stack.enter_async_context(running_node(folder / "client", **overrides))
            await _gather(sdk, hosts)
            done = []
            for number in range(rounds):
                done.append(await _round(sdk, peers, finds))
                report(f"round {number + 1}: p50 {done[-1].percentile_ms(0.5):.1f} ms")
            return done


async def _gather(sdk: SDK, hosts: int) -> None:
    """Find all hosts, however long what they published takes to be everywhere; then the next finds are warm.

    Paced like the finds that are measured: the first host found would be asked too often while the last is awaited.
    """
    discovery = sdk.get_discovery_manager()
    with trio.fail_after(_GATHER_S):
        found = 0
        while found < hosts:
            found = len(await discovery.find_all_hosts(CRITERIA))
            await trio.sleep(PAUSE_S)
    await discovery.find_host(CRITERIA)


async def _round(sdk: SDK, peers: Sequence[PeerProcess], finds: int) -> Round:
    discovery = sdk.get_discovery_manager()
    took_ms, not_warm, next_s = [], 0, trio.current_time()
    before, before_cpu_s = await _served(peers), time.process_time()
    while len(took_ms) < finds:
        await trio.sleep_until(next_s)
        next_s = trio.current_time() + PAUSE_S
        swept = discovery.stats().searches.get("swept", 0)
        began_s = time.perf_counter()
        await discovery.find_host(CRITERIA)
        spent_ms = (time.perf_counter() - began_s) * 1e3
        if discovery.stats().searches.get("swept", 0) == swept:
            took_ms.append(spent_ms)
        else:
            not_warm += 1
    cpu_s, after = time.process_time() - before_cpu_s, await _served(peers)
    made = finds + not_warm
    return Round(
        took_ms=tuple(took_ms),
        cpu_ms=cpu_s / made * 1e3,
        hosts_cpu_ms=(after.cpu_s - before.cpu_s) / made * 1e3,
        calls={name: count / made for name, count in sorted((after.calls - before.calls).items())},
        not_warm=not_warm,
    )


async def _served(peers: Sequence[PeerProcess]) -> _Served:
    answers = [await peer.ask({}, within_s=_ANSWER_S) for peer in peers]
    calls: Counter[str] = Counter()
    for answer in answers:
        calls.update(answer["calls"])
    return _Served(cpu_s=sum(answer["cpu_s"] for answer in answers), calls=calls)


def figures_of(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Return what the rounds come to: of each figure the median of the rounds, the least and the greatest."""
    values = {
        "p50, ms": [each.percentile_ms(0.5) for each in rounds],
        "p95, ms": [each.percentile_ms(0.95) for each in rounds],
        "CPU of the client, ms": [each.cpu_ms for each in rounds],
        "CPU of the hosts, ms": [each.hosts_cpu_ms for each in rounds],
        "calls": [sum(each.calls.values()) for each in rounds],
    }
    return {
        name: {"median": statistics.median(each), "least": min(each), "greatest": max(each)}
        for name, each in values.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON line instead of a table")
    parser.add_argument("--hosts", type=int, default=HOSTS, help=f"{HOSTS} by default")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} by default")
    parser.add_argument("--finds", type=int, default=FINDS, help=f"of a round; {FINDS} by default")
    parser.add_argument("--serve", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("bootstrap", nargs="?", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(serve, arguments.serve, arguments.bootstrap)
        return
    meter = machine.LoadMeter()
    load = meter.before_run()

    async def run() -> list[Round]:
        return await measure(
            hosts=arguments.hosts,
            rounds=arguments.rounds,
            finds=arguments.finds,
            report=lambda line: print(line, file=sys.stderr),
        )

    rounds = trio.run(run)
    load |= meter.after_run()
    figures = figures_of(rounds)
    is_met = figures["p50, ms"]["median"] <= TARGET_MS
    if arguments.json:
        sizes = {"hosts": arguments.hosts, "rounds": len(rounds), "finds": arguments.finds}
        calls = {name: statistics.median(each.calls.get(name, 0.0) for each in rounds) for name in rounds[0].calls}
        told = {"machine": machine.describe(), "load": load, **sizes, "figures": figures, "calls": calls}
        print(json.dumps(told | {"target_ms": TARGET_MS, "is_met": is_met}))
        return
    for name, values in figures.items():
        print(f"{name:22}", *(f"{key} {value:8.1f}" for key, value in values.items()))
    print("load:", ", ".join(f"{name} {'?' if value is None else f'{value:.1f}'}" for name, value in load.items()))
    print(f"target: p50 <= {TARGET_MS:g} ms: {'met' if is_met else 'NOT met'}")


if __name__ == "__main__":
    main()
