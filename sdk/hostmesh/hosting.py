"""What a host serves: jobs before an engine, the sessions that pay for them, and a record that says so."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from hostmesh.discovery.description import HostDescription
from hostmesh.discovery.events import HostRevoked
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.supervise import keep_running
from hostmesh.errors import AlreadyRunningError, ConfigError, HostmeshError, UsageError
from hostmesh.host_offers import check_offer, complete_offer, lower_prices, prices_of
from hostmesh.identity.operator import OperatorBinding
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.engine import Engine
from hostmesh.jobs.server import JobServer
from hostmesh.jobs.stats import JobStats
from hostmesh.net.peer_id import PeerId
from hostmesh.node_stack import NodeStack
from hostmesh.receipts.store import ReceiptStore
from hostmesh.sessions.admission.challenge_table import network_key_of
from hostmesh.sessions.admission.client_standing_book import ClientStandingBook
from hostmesh.sessions.admission.deposits import DepositVerifier
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.sessions.server import SessionServer
from hostmesh.sessions.server_limits import SessionServerLimits, limits_of_slices
from hostmesh.sessions.signatures import ContractVerifier
from hostmesh.sessions.store import SessionStore
from hostmesh.status.snapshot import HostStatus, ModelStatus, ServingState
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.hosting")

HEALTH_CHECK_S = 5.0
"""How often a host asks its engine which models are ready."""
WITHDRAW_TIMEOUT_S = 3.0
"""Most time that leaving spends on telling peers."""
STOP_TIMEOUT_S = 5.0
"""Most time that leaving waits for jobs that were told to stop; an engine has a second for it."""


class Serving:
    """A host at work. :meth:`HostManager.serve` makes it."""

    def __init__(self, stack: NodeStack, engine: Engine, jobs: JobServer, sessions: SessionServer) -> None:
        self._stack = stack
        self._engine = engine
        self._jobs = jobs
        self._sessions = sessions
        self._ready: Mapping[str, bool] = {}
        self._prices: Mapping[str, ModelPrice] = {}
        self._state = ServingState.AVAILABLE
        self._revoked = trio.Event()

    @property
    def is_revoked(self) -> bool:
        """Whether the operator's wallet took this host's binding back: it takes no new work any more."""
        return self._revoked.is_set()

    @property
    def record(self) -> HostInfo | None:
        """The record that was signed last, as others read it; None before the first."""
        return self._stack.publisher.info

    @property
    def engine_ready(self) -> Mapping[str, bool]:
        """By model id, whether it was loaded and answering at the last check."""
        return dict(self._ready)

    def stats(self) -> JobStats:
        """Return the load, and what became of the jobs since the start."""
        return self._jobs.stats()

    @property
    def admission(self) -> AdmissionPolicy:
        """Who may open sessions. Set another one, and it holds from the next call on; sessions that are open stay."""
        return self._sessions.admission

    @admission.setter
    def admission(self, policy: AdmissionPolicy) -> None:
        self._sessions.admission = policy

    @property
    def work_bits(self) -> int:
        """The work that strangers are asked for now; 0 = this host is not under attack."""
        return self._sessions.work_bits

    def session_refusals(self) -> Mapping[str, int]:
        """Return how often each reason was given to a session that was refused."""
        return self._sessions.refusals

    async def announce(self, description: HostDescription) -> HostInfo:
        """Publish this description, or replace the one that stands: models, prices, place, capacity.

        What the host measures itself takes the place of what the description says: how fast each model answers, by the
        jobs that ran, and how strangers reach this node. Both come with a later record, once they are known.

        Returns:
            The signed record.

        Raises:
            ConfigError: a model that the engine does not have, or more than it does with one.
            UsageError: the host drains; it would be listed and refuse every job.
            BindingRevokedError: the operator's wallet took this host's binding back.
            HostmeshError: see :meth:`hostmesh.DiscoveryManager.announce`; what stood before stands.
        """
        if self._jobs.stats().is_draining:
            raise UsageError("the host drains and takes no new jobs", remedy="serve again to be listed again")
        description = self._complete(description)
        prices = prices_of(description)
        # Whichever of the two records a client holds meanwhile, no quote is dearer: that would pass for a lie.
        self._jobs.set_prices(lower_prices(self._prices, prices))
        try:
            info = await self._stack.publisher.announce(description, measure=self._measured)
            self._prices = prices
        finally:
            self._jobs.set_prices(self._prices)
        self._state = ServingState.AVAILABLE
        self._stack.status_server.changed()
        return info

    async def withdraw(self) -> None:
        """Take the record back; jobs and sessions go on. :meth:`announce` publishes again."""
        self._state = ServingState.WITHDRAWN
        self._stack.status_server.changed()
        await self._stack.publisher.withdraw()

    async def drain(self, timeout_s: float) -> None:
        """Take no new jobs and sessions, say so in the record, and wait for the jobs that run.

        Jobs that still run after ``timeout_s`` are cancelled; their clients owe nothing.

        Cancellation: safe; the host stays draining.
        """
        deadline = trio.current_time() + timeout_s
        is_listed = self._state is ServingState.AVAILABLE
        self._state = ServingState.DRAINING
        self.refuse_new_work()
        if is_listed and self._stack.publisher.current() is not None:
            try:
                with trio.move_on_after(WITHDRAW_TIMEOUT_S):
                    await self._stack.publisher.drain()
            except HostmeshError as error:
                # The jobs that run matter more; the record expires by itself.
                _log.warning("no draining record was published: %s", error.message)
        await self._jobs.drain(max(0.0, deadline - trio.current_time()))

    def refuse_new_work(self) -> None:
        """Refuse new quotes, jobs and sessions with DRAINING from now on; what runs goes on. Idempotent."""
        self._jobs.begin_drain()
        self._sessions.drain()
        self._stack.status_server.changed()

    def heard_of(self, event: HostRevoked) -> None:
        """Take in that bindings are void; :meth:`end_when_revoked` acts if ours is one. Never waits."""
        record = self.record
        is_ours = record is not None and (record.peer_id, record.operator) == (event.peer_id, event.operator)
        if record is not None and is_ours and record.binding_epoch < event.least_epoch:
            self._revoked.set()

    async def end_when_revoked(self, task_status: TaskStatus[None]) -> None:
        """When the operator takes the binding back: no new work, no sessions, no record. Jobs that run may end."""
        task_status.started()
        await self._revoked.wait()
        _log.error("BINDING_REVOKED: the operator took this host's binding back; it takes no new work")
        self.refuse_new_work()
        try:
            self._sessions.end_all()
            # To those who have not heard of it the tombstone says that the host is gone.
            with trio.move_on_after(WITHDRAW_TIMEOUT_S):
                await self.withdraw()
        except HostmeshError as error:
            # It drains all the same, and signs no other record.
            _log.warning("the end of this host is not told to all: %s", error.message)
        await trio.sleep_forever()

    def _complete(self, description: HostDescription) -> HostDescription:
        """Add what the engine and the node know and the operator need not say."""
        known = {model.model_id: model for model in self._engine.models()}
        for offer in description.models:
            if offer.model_id not in known:
                raise ConfigError(
                    f"the engine has no model {offer.model_id!r}",
                    name="models",
                    source="argument",
                    remedy=f"offer {', '.join(sorted(known))}",
                )
            check_offer(offer, known[offer.model_id])
        stats = self._jobs.stats()
        return replace(
            description,
            models=tuple(complete_offer(offer, known[offer.model_id]) for offer in description.models),
            max_concurrent_jobs=stats.max_concurrent_jobs,
            max_queued_jobs=stats.max_queued_jobs,
            protocols=tuple(sorted(self._stack.server.stream_handlers())),
        )

    def _measured(self, description: HostDescription) -> HostDescription:
        """Add how fast each model was up to now, where any job of it showed that."""
        speed_of = self._jobs.throughput_of
        models = tuple(
            replace(offer, output_millitokens_per_s=speed_of(offer.model_id) or offer.output_millitokens_per_s)
            for offer in description.models
        )
        return replace(description, models=models)

    # --- the status service and its upkeep ---

    def status(self, system: System, started_s: float) -> HostStatus:
        """Return what the status service tells."""
        stats = self._jobs.stats()
        return HostStatus(
            state=self._state,
            active_jobs=stats.active_jobs,
            queued_jobs=stats.queued_jobs,
            max_concurrent_jobs=stats.max_concurrent_jobs,
            max_queued_jobs=stats.max_queued_jobs,
            models=tuple(
                ModelStatus(model_id=model_id, ready=ready) for model_id, ready in sorted(self._ready.items())
            ),
            uptime_s=system.monotonic_s() - started_s,
            time_unix_s=system.unix_s(),
        )

    async def check_engine(self) -> None:
        """Ask the engine which models are ready, and tell watchers when that changed."""
        ready = await self._engine.ready()
        if ready != self._ready:
            self._ready = dict(ready)
            self._stack.status_server.changed()

    async def watch_engine(self, task_status: TaskStatus[None]) -> None:
        """Check the engine again and again until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(HEALTH_CHECK_S)
            await self.check_engine()


class HostManager:
    """Makes this node a compute host. :meth:`hostmesh.SDK.get_host_manager` gives it."""

    def __init__(
        self,
        *,
        stack: Callable[[], NodeStack],
        binding: OperatorBinding,
        network: str,
        system: System,
        session_store: Callable[[PeerId], SessionStore],
        receipts: Callable[[], ReceiptStore],
        clients: Callable[[], ClientStandingBook],
    ) -> None:
        self._session_store = session_store
        self._receipts = receipts
        self._clients = clients
        self._stack = stack
        self._binding = binding
        self._network = network
        self._system = system
        self._serving: Serving | None = None

    @asynccontextmanager
    async def serve(
        self,
        description: HostDescription,
        engine: Engine,
        *,
        limits: JobLimits | None = None,
        admission: AdmissionPolicy | None = None,
        deposits: DepositVerifier | None = None,
        contracts: ContractVerifier | None = None,
        min_slice_tokens: int | None = None,
        max_slice_tokens: int | None = None,
    ) -> AsyncIterator[Serving]:
        """Serve jobs on this engine and be findable, for the life of the block.

        Args:
            description: models with prices, place, capabilities. Its capacity and protocols are set from ``limits`` and
                from what the node serves.
            engine: does the work; the caller starts and ends it.
            limits: slots, queue and times; None = as the description's ``max_concurrent_jobs`` and ``max_queued_jobs``.
            admission: who may open sessions, and how often; None = everybody.
            deposits: checks deposits, which are then demanded; None = none are.
            contracts: asks contract wallets (EIP-1271) about delegations that they signed; None = these are refused.
            min_slice_tokens: least that a session's slice is worth, unless its limit is less; None = 1,024.
            max_slice_tokens: most that is done in a session without a countersignature, in tokens at the price of its
                model, which is what a client can make this host lose; None = 65,536, or the longest context if more.

        Yields:
            The host at work. Leaving the block withdraws the record (a signed tombstone goes to connected peers), ends
            what still runs and serves no more; call :meth:`Serving.drain` first to let jobs end.

        Raises:
            NodeNotRunningError: ``create_node`` comes first.
            AlreadyRunningError: this node serves already.
            HostmeshError: the record cannot be published; see :meth:`hostmesh.DiscoveryManager.announce`.
        """
        if self._serving is not None:
            raise AlreadyRunningError("this node serves already", remedy="use announce() to change the offer")
        stack = self._stack()
        limits = limits or JobLimits(
            max_concurrent_jobs=description.max_concurrent_jobs, max_queued_jobs=description.max_queued_jobs
        )
        longest = max((model.context_tokens for model in engine.models()), default=0)
        bounds = limits_of_slices(min_slice_tokens, max_slice_tokens, longest_context_tokens=longest)
        jobs, sessions = self._servers(stack, engine, limits, admission, deposits, contracts, bounds)
        serving, started_s = Serving(stack, engine, jobs, sessions), self._system.monotonic_s()
        scopes = trio.CancelScope(), trio.CancelScope()
        stack.serve(sessions)
        stack.serve(jobs)
        stop_watching = jobs.on_change(stack.status_server.changed)
        stop_hearing = stack.records.events.listen_for(HostRevoked, serving.heard_of)
        stack.host_status = lambda: serving.status(self._system, started_s)
        stack.publisher.told_first = jobs.clients
        self._serving = serving
        try:
            await serving.check_engine()
            await stack.start_task(partial(keep_running, "the engine check", serving.watch_engine), scopes[0])
            await stack.start_task(partial(keep_running, "the binding's watch", serving.end_when_revoked), scopes[1])
            await serving.announce(description)
            yield serving
        finally:
            for scope in scopes:
                scope.cancel()
            # What came now would only be cut.
            serving.refuse_new_work()
            with trio.CancelScope(shield=True):
                await self._leave(serving)
                with trio.move_on_after(STOP_TIMEOUT_S):
                    await jobs.drain(0)
            stack.withdraw(jobs)
            stack.withdraw(sessions)
            stack.host_status = None
            stack.publisher.told_first = tuple
            stop_watching()
            stop_hearing()
            self._serving = None

    async def _leave(self, serving: Serving) -> None:
        try:
            with trio.move_on_after(WITHDRAW_TIMEOUT_S):
                await serving.withdraw()
        except HostmeshError as error:
            # The record expires by itself; leaving goes on.
            _log.warning("no tombstone was published: %s", error.message)

    def _servers(
        self,
        stack: NodeStack,
        engine: Engine,
        limits: JobLimits,
        admission: AdmissionPolicy | None,
        deposits: DepositVerifier | None,
        contracts: ContractVerifier | None,
        bounds: SessionServerLimits,
    ) -> tuple[JobServer, SessionServer]:
        def network_of(peer_id: PeerId) -> str | None:
            return None if (ip := stack.node.remote_ip(peer_id)) is None else network_key_of(ip)

        # Each needs the other: a session the price of a model, a job its session.
        sessions = SessionServer(
            key=stack.key,
            binding=lambda: self._binding.current(stack.node.peer_id),
            network=self._network,
            price_of=lambda model_id, peer_id: jobs.price_of(model_id, peer_id),
            system=self._system,
            limits=bounds,
            network_of=network_of,
            store=self._session_store(stack.key.peer_id),
            admission=admission,
            reputation_of=self._clients().reputation,
            deposits=deposits,
            contracts=contracts,
        )
        jobs = JobServer(
            engine=engine,
            key=stack.key,
            network=self._network,
            prices={},
            require_session=sessions.require_session,
            receipts=self._receipts(),
            clients=self._clients(),
            limits=limits,
            system=self._system,
        )
        return jobs, sessions
