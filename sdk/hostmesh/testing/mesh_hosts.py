"""A host of a :class:`MeshWorld`: serves, changes its price, withdraws, leaves and comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from hostmesh.discovery.description import HostDescription
from hostmesh.hosting import Serving
from hostmesh.sdk import SDK
from hostmesh.status.snapshot import HostStatus, ServingState
from hostmesh.testing.engine import FakeEngine
from hostmesh.testing.faults import Faults
from hostmesh.testing.mesh_account import Ending, Listing, MeshAccount
from hostmesh.testing.mesh_program import MODEL, MeshProgram
from hostmesh.testing.mesh_steps import Change, EngineDies, Leave, Withdraw
from hostmesh.testing.records import make_description
from hostmesh.testing.stream import SimStream

MAX_CONCURRENT_JOBS = 2
MAX_QUEUED_JOBS = 3
ANNOUNCE_TIMEOUT_S = 8.0
"""Waiting for a renewal, asking peers for the time, and pushing take 2 s each at most."""
LEAVE_TIMEOUT_S = 10.0
"""3 s to say goodbye and 5 s to stop jobs, beside what draining may take."""
_LOOKS_ROUND_S = 1.0
"""A connection that is older than this when a host says goodbye is up."""
_CALM_S = 5.0
_MAX_SURE_SKEW_S = 12.0
"""Of either clock: then what one signs the other takes."""
_TRY_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLoad:
    """What a host is at. If two are equal, nothing has changed between them."""

    is_listed: bool
    active_jobs: int
    queued_jobs: int
    accepted: int
    ended: int

    def is_shown_by(self, status: HostStatus) -> bool:
        """Tell whether a status says so."""
        state = ServingState.AVAILABLE if self.is_listed else ServingState.WITHDRAWN
        return (status.state, status.active_jobs, status.queued_jobs) == (state, self.active_jobs, self.queued_jobs)


class MeshHost:
    """What the program of a host does.

    Args:
        engine: does the jobs.
        account: told of announcements.
        faults: what goes wrong meanwhile.
        clients: who may be told that it leaves.
        next_price: gives a price that no other announcement has.
    """

    def __init__(
        self,
        engine: FakeEngine,
        account: MeshAccount,
        faults: Faults,
        *,
        clients: Sequence[MeshProgram],
        next_price: Callable[[], int],
    ) -> None:
        self.node: MeshProgram
        """Its program; set by who makes it."""
        self.engine = engine
        self.serving: Serving | None = None
        """While it serves."""
        self._account = account
        self._faults = faults
        self._clients = tuple(clients)
        self._next_price = next_price
        self._listing: Listing | None = None
        self._hand = trio.Lock()
        """An operator does one thing after the other."""
        self._leave: Leave | None = None
        self._leave_wanted = trio.Event()
        self._has_left = trio.Event()

    @property
    def load(self) -> HostLoad | None:
        """What it is at now; None while it comes or goes, or something is being done to it."""
        if self.serving is None or self.node.sdk is None or self._hand.locked():
            return None
        stats = self.serving.stats()
        return HostLoad(
            is_listed=self.is_listed,
            active_jobs=stats.active_jobs,
            queued_jobs=stats.queued_jobs,
            accepted=stats.accepted,
            ended=sum(stats.outcomes.values()),
        )

    @property
    def is_listed(self) -> bool:
        """Whether it serves and is announced."""
        return self.serving is not None and self._listing is not None

    async def work(self, sdk: SDK) -> None:
        """Serve, and serve again after having left, until cancelled."""
        self._hand = trio.Lock()
        while True:
            self._leave, self._leave_wanted, self._has_left = None, trio.Event(), trio.Event()
            await self._serve(sdk)
            self._has_left.set()
            leave: Leave | None = self._leave
            await trio.sleep(_TRY_AGAIN_S if leave is None else leave.for_s)

    async def _serve(self, sdk: SDK) -> None:
        farewell: _Farewell | None = None
        try:
            with self._account.call("serve", self.node.name, within_s=ANNOUNCE_TIMEOUT_S) as call:
                listing = self._announcing()
                async with sdk.get_host_manager().serve(_offer(listing.price), self.engine) as self.serving:
                    self._listing, call.due_s = listing, None
                    await self._leave_wanted.wait()
                    assert self._leave is not None
                    farewell = _Farewell(self, await self._look_round())
                    if self._leave.drain_s:
                        await self.serving.drain(self._leave.drain_s)
                    call.due_s = trio.current_time() + LEAVE_TIMEOUT_S
                    self._note_sums(self.serving)
        finally:
            self.serving = None
            self._unlisted(() if farewell is None or call.ending is not Ending.DONE else farewell.heard_by())

    # --- operations; each in a task of the program ---

    async def leave(self, step: Leave) -> None:
        """Stop serving, and return when that is done."""
        async with self._hand:
            if self.serving is not None:
                self._leave = step
                self._leave_wanted.set()
                await self._has_left.wait()

    async def withdraw(self, step: Withdraw) -> None:
        """Take the record back, and announce anew after a while."""
        async with self._hand:
            serving = self.serving
            if serving is None or not self.is_listed:
                return
            farewell = _Farewell(self, await self._look_round())
            with self._account.call("withdraw", self.node.name, within_s=ANNOUNCE_TIMEOUT_S) as call:
                await serving.withdraw()
            self._unlisted(farewell.heard_by() if call.ending is Ending.DONE else ())
        await trio.sleep(step.for_s)
        async with self._hand:
            if self.serving is serving and not self.is_listed:
                await self._announce(serving)

    async def change(self, step: Change) -> None:
        """Announce another price."""
        async with self._hand:
            if self.serving is not None and self.is_listed:
                farewell = _Farewell(self, await self._look_round())
                await self._announce(self.serving, farewell)

    async def lose_engine(self, step: EngineDies) -> None:
        """Let the engine die and come back."""
        self.engine.die()
        try:
            await trio.sleep(step.for_s)
        finally:
            self.engine.revive()

    # --- the truth about announcements ---

    async def _announce(self, serving: Serving, farewell: _Farewell | None = None) -> None:
        listing = self._announcing()
        with self._account.call("announce", self.node.name, within_s=ANNOUNCE_TIMEOUT_S) as call:
            await serving.announce(_offer(listing.price))
        if call.ending is Ending.DONE:
            self._unlisted(() if farewell is None else farewell.heard_by(), but=listing)
        else:
            listing.until_s = listing.from_s  # what stood before stands

    def _announcing(self) -> Listing:
        listing = Listing(host=self.node.name, price=self._next_price(), from_s=trio.current_time())
        self._account.listings.append(listing)
        return listing

    def _unlisted(self, heard_by: Sequence[str], *, but: Listing | None = None) -> None:
        """Note that no announcement is true any more but this one; those that were cut off are not either."""
        now = trio.current_time()
        self._listing = but
        for listing in self._account.listings:
            if listing.host == self.node.name and listing.until_s is None and listing is not but:
                listing.until_s = now
                listing.heard_by = frozenset(heard_by)

    async def _look_round(self) -> dict[str, list[SimStream]]:
        """Return the connections to each client that are up."""
        streams: dict[str, list[SimStream]] = {
            client.name: [stream for stream in self.node.machine.streams if stream.peer.machine is client.machine]
            for client in self._clients
        }
        await trio.sleep(_LOOKS_ROUND_S)
        return streams

    def _note_sums(self, serving: Serving) -> None:
        stats = serving.stats()
        total = sum(stats.outcomes.values()) + stats.active_jobs + stats.queued_jobs
        self._account.sums.append((f"jobs that {self.node.name} accepted", stats.accepted, total))


class _Farewell:
    """Finds who has heard what a host said.

    Args:
        host: says it.
        streams: its connections shortly before, by client.
    """

    def __init__(self, host: MeshHost, streams: dict[str, list[SimStream]]) -> None:
        self._host = host
        self._streams = streams
        self._began_s = trio.current_time()

    def heard_by(self) -> tuple[str, ...]:
        """Return the clients whose connections were up all the time, over an undisturbed link."""
        return tuple(client.name for client in self._host._clients if self._has_heard(client))  # noqa: SLF001

    def _has_heard(self, client: MeshProgram) -> bool:
        host = self._host.node
        streams = self._streams[client.name]
        return (
            bool(streams)
            and all(stream in host.machine.streams and stream.peer in client.machine.streams for stream in streams)
            and abs(host.machine.clock.skew_s) <= _MAX_SURE_SKEW_S
            and abs(client.machine.clock.skew_s) <= _MAX_SURE_SKEW_S
            and self._host._faults.was_calm(  # noqa: SLF001
                host.name, client.name, for_s=trio.current_time() - self._began_s + _CALM_S
            )
        )


def _offer(price: int) -> HostDescription:
    return make_description(
        MODEL,
        price_micros_per_mtok=price,
        max_concurrent_jobs=MAX_CONCURRENT_JOBS,
        max_queued_jobs=MAX_QUEUED_JOBS,
    )
