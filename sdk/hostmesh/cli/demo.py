"""``hostmesh demo``: a whole network on this machine, from nothing to a streamed answer.

A bootstrap node and three hosts run as processes of their own, each with its own home, key and wallet: two serve
SmolLM2 at different prices and places, one serves an embedding model only. The client is told the bootstrap node's
address and nothing else; it finds the hosts through the DHT that they form, and by what the bootstrap node tells.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import Invocation, invocation
from hostmesh.cli.terminal import field
from hostmesh.settings import Paths

if TYPE_CHECKING:
    from hostmesh.cli.answer import AnswerReport
    from hostmesh.cli.processes import Children
    from hostmesh.discovery.choice import Explanation
    from hostmesh.discovery.criteria import HostCriteria
    from hostmesh.discovery.manager import DiscoveryManager
    from hostmesh.settings import LoadedSettings

MODEL = "smollm2-135m-instruct"
PROMPT = "Explain in two sentences what a peer-to-peer network is."
CURRENCY = "USD"
CHEAP, DEAR = 50_000, 150_000
MAX_PRICE = 100_000
HOSTS = {
    "host-us": ("--engine", "smollm2", "--price", str(CHEAP), "--location", "US/california", "--new-wallet"),
    "host-de": ("--engine", "smollm2", "--price", str(DEAR), "--location", "DE/hesse", "--new-wallet"),
    "host-embed": ("--engine", "minilm", "--price", str(CHEAP), "--location", "US/oregon", "--new-wallet"),
}
SPENDING_LIMIT_MICROS = 1000
FIND_FOR_S = 20.0
"""How long to look until the hosts have told of themselves."""
_NOT_INHERITED = ("HOSTMESH_", "P2P_")


class Steps:
    """Tells on standard error what happens, with the time since the start, and keeps the times."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._began = time.monotonic()
        self._is_quiet = is_quiet
        self.timings_ms: dict[str, float] = {}

    def took(self, step: str, text: str = "") -> None:
        """Note that a step is done."""
        elapsed_s = time.monotonic() - self._began
        self.timings_ms[step] = round(elapsed_s * 1000, 1)
        if text and not self._is_quiet:
            print(f"{elapsed_s:6.1f} s  {text}", file=sys.stderr, flush=True)


def demo(
    context: typer.Context,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What to ask.")] = PROMPT,
    model: Annotated[str, typer.Option("--model", metavar="ID", help="The model to look for.")] = MODEL,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, metavar="N", help="Of the answer.")] = 96,
    dht: options.EnableDht = None,
    protocol_prefix: options.Prefix = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """See it all work: start a bootstrap node and three hosts, find one of them, stream its answer.

    Everything runs on this machine and ends with the command.
    """
    state = invocation(context)

    async def play() -> None:
        # Inside the run, where a signal cancels: outside it would end the removal of the folder half-way.
        with tempfile.TemporaryDirectory(prefix="hostmesh-demo-") as folder:
            await _play(
                state,
                Path(folder),
                prompt=prompt,
                model=model,
                max_tokens=max_tokens,
                overrides={"enable_dht": dht, "protocol_prefix": protocol_prefix},
                as_json=as_json,
                verbose=verbose,
            )

    state.interrupts.run(play)


async def _play(
    state: Invocation,
    home: Path,
    *,
    prompt: str,
    model: str,
    max_tokens: int,
    overrides: Mapping[str, object],
    as_json: bool,
    verbose: int,
) -> None:
    from hostmesh.cli.processes import running_children

    steps = Steps(is_quiet=as_json)
    steps.took("started", "starting a bootstrap node and three hosts")
    loaded = state.load(verbose=verbose, home=home / "client", **overrides)
    async with running_children(home) as children:
        address = await _start_network(children, loaded, steps)
        loaded = state.load(
            verbose=verbose, home=home / "client", bootstrap_nodes=[address], enable_mdns=False, **overrides
        )
        from hostmesh.cli.answer import AnswerWriter, answer
        from hostmesh.cli.client import ExplainedNoHostError, client_sdk, fresh_wallet
        from hostmesh.cli.show import print_choices, print_funnel
        from hostmesh.discovery.criteria import HostCriteria
        from hostmesh.discovery.terms import Price

        criteria = HostCriteria(required_models=[model], max_price=Price(micros_per_mtok=MAX_PRICE, currency=CURRENCY))
        async with client_sdk(loaded, fresh_wallet()) as sdk:
            steps.took("client_ready", "client ready; it knows the bootstrap node's address and nothing else")
            found = await _find(sdk.get_discovery_manager(), criteria, hosts=len(HOSTS))
            steps.took("found", f"{found.funnel.seen} hosts found, {found.funnel.matched} of them fit")
            if not as_json:
                print_choices(found.choices, sys.stderr)
                print_funnel(found.funnel, sys.stderr)
            if not found.choices:
                raise ExplainedNoHostError(found.funnel)
            choice = found.choices[0]
            steps.took(
                "chosen", f"asking {choice.peer_id} ({field(choice.model_id)}) under a fresh wallet: {field(prompt)}"
            )
            before_ms = steps.timings_ms["chosen"]
            report = await answer(
                sdk,
                choice,
                prompt=prompt,
                system_prompt=None,
                parameters={"temperature": 0},
                max_output_tokens=max_tokens,
                spending_limit_micros=SPENDING_LIMIT_MICROS,
                timeout_s=None,
                writer=AnswerWriter(is_quiet=as_json),
            )
    timings_ms = steps.timings_ms | {step: round(before_ms + ms, 1) for step, ms in report.timings_ms.items()}
    if as_json:
        result = {"choice": choice.to_dict(), "funnel": found.funnel.to_dict(), **report.to_dict()}
        print_json(result | {"timings_ms": timings_ms})
    else:
        _print_end(report, timings_ms, steps)


async def _start_network(children: Children, loaded: LoadedSettings, steps: Steps) -> str:
    """Start the processes; return the bootstrap node's address once all are ready."""
    env = _environment(loaded)
    listen = ("--listen", "/ip4/127.0.0.1/tcp/0")
    node = children.start("bootstrap", ("-m", "hostmesh.cli.main", "bootstrap", *listen, "--json"), env)
    # The client's own imports take seconds of CPU: now, on another core.
    import hostmesh.sdk  # noqa: F401

    addresses = (await node.ready())["addresses"]
    assert isinstance(addresses, list), "our own program's line"
    address = str(addresses[0])
    steps.took("bootstrap_ready", f"bootstrap node ready: {address}")
    # The one thing of the user's that they share: weights that `hostmesh-host models install` put down.
    models = Paths.from_environment().data_dir / "models"
    weights = {"models": models} if models.is_dir() else {}
    hosts = [
        children.start(
            name,
            ("-m", "hostmesh_host.cli.main", "start", *listen, "--bootstrap", address, *arguments, "--json"),
            env,
            links=weights,
        )
        for name, arguments in HOSTS.items()
    ]
    for host in hosts:
        line = await host.ready()
        steps.took(f"{host.name}_ready", f"{host.name} ready: {line.get('peer_id')}")
    return address


async def _find(discovery: DiscoveryManager, criteria: HostCriteria, *, hosts: int) -> Explanation:
    """Look until all hosts were seen: what a host says of itself is known to others a moment after it is ready."""
    import trio

    deadline = trio.current_time() + FIND_FOR_S
    while True:
        found = await discovery.explain(criteria, timeout_s=10.0)
        if found.funnel.seen >= hosts or trio.current_time() > deadline:
            return found
        await trio.sleep(0.2)


def _environment(loaded: LoadedSettings) -> dict[str, str]:
    """Return the children's environment: the caller's own settings stay out, but for how peers must agree."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    return env | {
        "HOSTMESH_ENABLE_MDNS": "false",
        "HOSTMESH_PROTOCOL_PREFIX": loaded.settings.protocol_prefix,
        "HOSTMESH_NETWORK": loaded.settings.network,
        "HOSTMESH_LOG": loaded.settings.log,
    }


def _print_end(report: AnswerReport, timings_ms: Mapping[str, float], steps: Steps) -> None:
    from hostmesh.cli.answer import print_report

    print_report(report)
    steps.took("ended", "everything that was started has ended")
    print("\nstep                  at", file=sys.stderr)
    for step, at_ms in sorted(timings_ms.items(), key=lambda item: item[1]):
        print(f"{step:<16} {at_ms / 1000:6.2f} s", file=sys.stderr)
