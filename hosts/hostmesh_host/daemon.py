"""The host: engines, a node, an offer, until it is told to end.

States: starting -> serving -> draining -> gone. The first signal while starting ends at once; while serving it drains:
no new jobs, a record that says so, those that run may end within a limit, then a tombstone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import hostmesh
from hostmesh.errors import UsageError
from hostmesh_host.admission import AllowListWatch, admission_policy, stamp
from hostmesh_host.control import open_control_socket, serve_control
from hostmesh_host.engines.child import ChildEngine
from hostmesh_host.engines.describe import open_engine
from hostmesh_host.engines.embedded import minilm_spec, smollm2_spec
from hostmesh_host.engines.group import EngineGroup
from hostmesh_host.hardware import read_hardware
from hostmesh_host.offer import OfferChange, apply_change, describe_host, merge_stored, models_at_url
from hostmesh_host.offer_store import OFFER_FILE_NAME, OfferStore
from hostmesh_host.settings import EMBEDDED, HostSettings, is_url

if TYPE_CHECKING:
    from hostmesh import SDK, DepositVerifier, Engine, HostDescription, JobLimits, Serving, Wallet
    from hostmesh.settings import LoadedSettings

logger = logging.getLogger("hostmesh_host.daemon")

MODELS_DIR_NAME = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """Everything that a host is started with."""

    loaded: LoadedSettings
    """The node's settings; ``key_file`` is set."""
    host: HostSettings
    prices: Mapping[str, int]
    """The models to offer."""
    host_dir: Path
    """Key, binding, offer and control socket."""
    location: str | None
    wallet: Wallet | None
    """None: the binding alone."""
    binding_file: Path
    engine_key: str | None = field(default=None, repr=False)
    deposits: DepositVerifier | None = None


class HostDaemon:
    """One run of a host.

    Args:
        plan: what to run.
        on_ready: told once jobs are taken: what ``--json`` prints.
    """

    def __init__(self, plan: HostPlan, *, on_ready: Callable[[Mapping[str, object]], None]) -> None:
        self._plan = plan
        self._host = plan.host
        self._on_ready = on_ready
        self._store = OfferStore(plan.host_dir / OFFER_FILE_NAME)
        self._stop = trio.Event()
        self._life = trio.CancelScope(shield=True)
        self._serving: Serving | None = None
        self._description: HostDescription | None = None
        self._children: list[ChildEngine] = []
        self._peer_id = ""
        self._addresses: tuple[str, ...] = ()

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            HostmeshError: it could not start: an engine, a key, an address, a price.

        Cancellation: the way to end it. A host that serves drains first, shielded, for at most the limit.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._live)
            try:
                await self._stop.wait()
            finally:
                self._end()

    def _end(self) -> None:
        """Drain if there is something to drain, else end at once."""
        if self._serving is None:
            self._life.cancel()
        self._stop.set()

    async def _live(self) -> None:
        # Shielded, so that a signal does not cancel the node under the jobs that may still end.
        with self._life:
            async with self._engines() as engine, hostmesh.open_sdk(self._plan.loaded, serve_dht=True) as sdk:
                await self._serve(sdk, engine)
        self._stop.set()

    async def _serve(self, sdk: SDK, engine: Engine) -> None:
        plan = self._plan
        description = describe_host(
            plan.prices,
            currency=self._host.currency,
            location=plan.location,
            capabilities=self._host.capabilities,
            hardware=await read_hardware(),
        )
        await sdk.authenticate(wallet=plan.wallet, binding_file=plan.binding_file)
        discovery = sdk.get_discovery_manager()
        self._peer_id = await discovery.create_node()
        self._addresses = discovery.listen_addresses()
        # Before it is read: a change that comes meanwhile is one.
        seen = None if self._host.allow_list is None else stamp(self._host.allow_list)
        admission = admission_policy(self._host)
        async with sdk.get_host_manager().serve(
            description,
            engine,
            limits=self._limits(),
            admission=admission,
            deposits=plan.deposits,
            min_slice_tokens=self._host.min_slice_tokens,
            max_slice_tokens=self._host.max_slice_tokens,
        ) as serving:
            self._serving, self._description = serving, description
            with open_control_socket(plan.host_dir) as listener:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve_control, listener, self._command)
                    nursery.start_soon(self._watch_allow_list, serving, AllowListWatch(self._host, seen))
                    self._tell_ready(serving)
                    await self._stop.wait()
                    logger.info("draining")
                    await serving.drain(self._host.drain_timeout_s)
                    nursery.cancel_scope.cancel()
            self._serving = None

    async def _watch_allow_list(self, serving: Serving, watch: AllowListWatch) -> None:
        while True:
            serving.admission = await watch.changed()

    def _tell_ready(self, serving: Serving) -> None:
        record = serving.record
        announced = [] if record is None else [f"{address}/p2p/{self._peer_id}" for address in record.addresses]
        self._on_ready(
            {
                "event": "ready",
                "peer_id": self._peer_id,
                "addresses": announced or list(self._addresses),
                "models": [] if record is None else [offer.to_dict() for offer in record.models],
                "operator": None if record is None else record.operator_address,
                "pid": os.getpid(),
            }
        )

    def _limits(self) -> JobLimits:
        host = self._host
        at_once = host.max_concurrent_jobs
        if at_once is None:
            at_once = 4 if any(map(is_url, host.engines)) else 1
        return hostmesh.JobLimits(
            max_concurrent_jobs=at_once, max_queued_jobs=host.max_queued_jobs, max_output_tokens=host.max_output_tokens
        )

    @asynccontextmanager
    async def _engines(self) -> AsyncIterator[Engine]:
        """Start the engines; end them when the block is left."""
        host = self._host
        models_dir = self._plan.host_dir.parent / MODELS_DIR_NAME
        async with AsyncExitStack() as stack:
            engines: list[Engine] = [
                await stack.enter_async_context(self._open_url(url)) for url in filter(is_url, host.engines)
            ]
            for name in (name for name in host.engines if name in EMBEDDED):
                make = smollm2_spec if name == "smollm2" else minilm_spec
                self._children.append(ChildEngine(make(models_dir=models_dir, threads=host.threads)))
            nursery = await stack.enter_async_context(_tasks())
            async with trio.open_nursery() as starting:
                for child in self._children:
                    starting.start_soon(nursery.start, child.run)
                for child in self._children:
                    await child.wait_loading()
                _import_sdk()
            engines += self._children
            yield engines[0] if len(engines) == 1 else EngineGroup(engines)

    def _open_url(self, url: str) -> AbstractAsyncContextManager[Engine]:
        host = self._host
        return open_engine(
            url,
            model_ids=models_at_url(host),
            embedding_ids=host.embeddings,
            context_tokens=host.context_tokens,
            api_key=self._plan.engine_key,
            allow_remote=host.allow_remote_engine,
        )

    # --- commands ---

    async def _command(self, request: Mapping[str, object]) -> Mapping[str, object]:
        serving, description = self._serving, self._description
        if serving is None or description is None:
            raise UsageError("the host is ending", remedy="start it again")
        match request.get("do"):
            case "status":
                return self._status(serving)
            case "announce":
                change = request.get("change")
                asked = OfferChange.from_dict(change) if isinstance(change, dict) else OfferChange()
                wanted = apply_change(description, asked)
                await serving.announce(wanted)
                self._description = wanted
                if not asked.is_empty:
                    self._store.write(merge_stored(self._store.read(), asked))
                return self._status(serving)
            case "withdraw":
                await serving.withdraw()
                return self._status(serving)
            case other:
                raise UsageError(f"the host does not know the command {other!r}", remedy="use commands of one version")

    def _status(self, serving: Serving) -> Mapping[str, object]:
        stats = serving.stats()
        record = serving.record
        return {
            "peer_id": self._peer_id,
            "pid": os.getpid(),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "addresses": list(self._addresses),
            "record": None
            if record is None
            else {
                "state": record.state.value,
                "sequence": record.sequence,
                "expires_at_unix_s": record.expires_at_unix_s,
                "addresses": list(record.addresses),
                "operator": record.operator_address,
                "location": None if record.place is None else str(record.place),
                "capabilities": list(record.capabilities),
                "reachability": None if record.reachability is None else record.reachability.value,
                "hardware": None if record.hardware is None else record.hardware.to_dict(),
                "models": [offer.to_dict() for offer in record.models],
            },
            "engine_ready": dict(serving.engine_ready),
            "engines": [{"pid": child.pid, "starts": child.starts} for child in self._children],
            "jobs": {
                "active": stats.active_jobs,
                "queued": stats.queued_jobs,
                "max_concurrent": stats.max_concurrent_jobs,
                "max_queued": stats.max_queued_jobs,
                "accepted": stats.accepted,
                "outcomes": {outcome.value: count for outcome, count in stats.outcomes.items()},
                "refused": dict(stats.refused),
                "prompt_tokens": stats.prompt_tokens,
                "completion_tokens": stats.completion_tokens,
            },
            "sessions_refused": dict(serving.session_refusals()),
            "is_revoked": serving.is_revoked,
            "admission": {
                "only_allowed": serving.admission.only_listed,
                "allowed_wallets": len(serving.admission.allowed_wallets),
                "min_client_reputation": serving.admission.min_reputation,
                "deposit": self._plan.deposits is not None,
                "work_bits": serving.work_bits,
            },
        }


@asynccontextmanager
async def _tasks() -> AsyncIterator[trio.Nursery]:
    """Hold tasks for the life of the block."""
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        finally:
            nursery.cancel_scope.cancel()


def _import_sdk() -> None:
    """Import the SDK while the children load.

    On this thread, which has nothing else to do: two threads that import modules which need each other can meet one of
    them half made.
    """
    _ = hostmesh.open_sdk
