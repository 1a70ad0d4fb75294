"""Finds out whether strangers reach a host, for its record: peers are asked to dial it back, now and then.

A check is made soon after the host is announced and after each change of the machine's network, then every hour. While
nobody could tell, or a host cannot be reached, the pauses begin at half a minute and double up to that hour.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.description import Reachability
from hostmesh.errors import HostmeshError
from hostmesh.net.autonat_report import ReachabilityReport
from hostmesh.net.backoff import retry_delay_s, unit_of
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

SETTLE_S = 5.0
"""From an announcement or a change of the network to the check: peers have to be connected by then."""
FIRST_PAUSE_S = 30.0
"""Also the least time between two checks. Source: those who dial back serve 12 requests a minute of one peer
(docs/protocols/reachability.md)."""
LAST_PAUSE_S = 3600.0
KEEP_S = 3 * LAST_PAUSE_S
"""How long a finding holds in which nobody could judge since: busy peers do not make a host unknown."""


class ReachNode(Protocol):
    """What this needs of the node."""

    async def check_reachability(self, timeout_s: float = ...) -> ReachabilityReport:
        """Ask connected peers to dial this node back. Raises NodeNotRunningError."""
        ...


class ReachWatch:
    """See the module.

    Args:
        node: asks peers.
        on_change: called when :attr:`state` has changed; must neither wait nor raise.
        system: random bytes, for the pauses.
    """

    def __init__(self, node: ReachNode, on_change: Callable[[], None], *, system: System) -> None:
        self._node = node
        self._on_change = on_change
        self._system = system
        self._is_wanted = False
        self._next_s = 0.0
        self._last_s = float("-inf")
        self._place = 0
        self._failures = 0
        self._found: tuple[Reachability, float] | None = None
        self._woken = trio.Event()

    @property
    def state(self) -> Reachability | None:
        """How strangers get to this node; None = not known."""
        return None if self._found is None else self._found[0]

    def begin(self) -> None:
        """Check from now on. Idempotent."""
        if not self._is_wanted:
            self._is_wanted = True
            self._soon()

    def end(self) -> None:
        """Check no more. Idempotent."""
        self._is_wanted = False
        self._woken.set()

    def moved(self) -> None:
        """Forget what was found, as the machine may be elsewhere, and check soon. Never waits, calls nobody."""
        self._place += 1
        self._found = None
        self._soon()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check when it is due, until cancelled."""
        task_status.started()
        while True:
            self._woken = trio.Event()
            with trio.move_on_at(self._next_s if self._is_wanted else float("inf")):
                await self._woken.wait()
                continue
            await self._check()

    def _soon(self) -> None:
        self._failures = 0
        self._next_s = max(trio.current_time() + SETTLE_S, self._last_s + FIRST_PAUSE_S)
        self._woken.set()

    async def _check(self) -> None:
        self._last_s = trio.current_time()
        before, place = self.state, self._place
        try:
            report = await self._node.check_reachability()
        except HostmeshError as error:
            _log.debug("reachability was not checked: %s", error.code)
            report = None
        if place != self._place:
            return  # a later check is due, for where the machine is now
        self._take(report)
        is_good = self.state in (Reachability.PUBLIC, Reachability.MAPPED)
        self._failures = 0 if is_good else self._failures + 1
        pause_s = retry_delay_s(
            max(1, self._failures),
            unit_of(self._system.random_bytes(2)),
            first_s=LAST_PAUSE_S if is_good else 2 * FIRST_PAUSE_S,  # half of it is random
            max_s=LAST_PAUSE_S,
        )
        self._next_s = trio.current_time() + pause_s
        if self.state is not before:
            if self.state is Reachability.UNREACHABLE:
                _log.warning("others cannot dial this host at the addresses that it announces: see hostmesh doctor")
            self._on_change()

    def _take(self, report: ReachabilityReport | None) -> None:
        now_s = trio.current_time()
        if report is not None and report.state is not None:
            self._found = Reachability(report.state.value), now_s
        elif self._found is not None and now_s - self._found[1] > KEEP_S:
            self._found = None
