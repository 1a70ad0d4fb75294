"""Looks a running node over: what it sees, and what others that it asks say about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import trio

from hostmesh.discovery import diagnostics
from hostmesh.discovery.clock_watch import ClockWatch
from hostmesh.discovery.collaborators import RunningNode
from hostmesh.discovery.diagnostics import DhtHealth, Finding, LinkProbe, finding
from hostmesh.discovery.sources.dht import DhtSource
from hostmesh.errors import ConfigError
from hostmesh.system import System

ALL_S = 60.0
"""For everything together. A dial-back takes up to 25 s for each address and peer."""


@runtime_checkable
class LinkSource(Protocol):
    """A source of the local link; :class:`hostmesh.discovery.sources.mdns.MdnsSource` is one."""

    async def probe_links(self) -> Sequence[LinkProbe]:
        """Ask on each interface who is there."""
        ...


async def diagnose(
    running: RunningNode,
    *,
    system: System,
    timeout_s: float = ALL_S,
    found: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Look a running node over; see :class:`Diagnosis`."""
    return await Diagnosis(running, system=system, found=found).run(timeout_s=timeout_s)


class Diagnosis:
    """One look at a running node.

    Args:
        running: the node.
        system: the clock.
        found: told of each finding as it comes; must not raise.
    """

    def __init__(
        self,
        running: RunningNode,
        *,
        system: System,
        found: Callable[[Finding], None] | None = None,
    ) -> None:
        self._running = running
        self._system = system
        self._found = found
        self._findings: list[Finding] = []

    async def run(self, *, timeout_s: float = ALL_S) -> list[Finding]:
        """Look at everything, slow things side by side, and return what was found.

        Args:
            timeout_s: for what others are asked; what they did not say by then is not known.

        Raises:
            ConfigError: ``timeout_s`` is not positive.

        Cancellation: safe.
        """
        if not timeout_s > 0:
            raise ConfigError(f"timeout_s is {timeout_s!r}", name="timeout_s", source="argument")
        node = self._running.node
        self._tell(diagnostics.on_listening(node.listen_addresses()))
        self._tell(diagnostics.on_bootstrap(node.bootstrap_outcomes()))
        spoken: dict[str, Sequence[str]] = {peer_id: node.protocols_of(peer_id) for peer_id in node.connected_peers()}
        self._tell(diagnostics.on_peers(spoken, prefix=self._running.protocol_prefix))
        self._tell([diagnostics.on_dht(self._dht_health())])
        record = self._running.publisher.current()
        self._look_at_binding()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_at_clock, timeout_s)
            nursery.start_soon(self._look_at_links, timeout_s)
            nursery.start_soon(self._look_at_reachability, record is not None, timeout_s)
        return self._findings

    def _tell(self, findings: Sequence[Finding]) -> None:
        for each in findings:
            self._findings.append(each)
            if self._found is not None:
                self._found(each)

    def _look_at_binding(self) -> None:
        publisher = self._running.publisher
        record, info, epoch, least_epoch = publisher.current(), publisher.info, 0, 0
        if info is not None:
            epoch, least_epoch = info.binding_epoch, publisher.least_epoch(info.operator, info.peer_id)
        # A host whose binding is void has no record after a while, and that is why.
        if record is not None or epoch < least_epoch:
            ends_at = 0 if record is None else record.binding.expires_at_unix_s
            now = self._system.unix_s()
            self._tell([diagnostics.on_binding(ends_at, now=now, epoch=epoch, least_epoch=least_epoch)])

    def _dht_health(self) -> DhtHealth | None:
        source = next((each for each in self._running.sources if isinstance(each, DhtSource)), None)
        if source is None:
            return None
        statistics = source.statistics
        last = statistics.last_find
        return DhtHealth(
            servers=len(source.servers()),
            provided_keys=statistics.provided_keys,
            told=statistics.told,
            failed_provides=statistics.failed_provides,
            shards_sampled=None if last is None else last.shards_sampled,
            shards=0 if last is None else last.shards,
            candidates=0 if last is None else last.candidates,
        )

    async def _look_at_clock(self, timeout_s: float) -> None:
        watch = ClockWatch(self._running.node, self._running.status, system=self._system, timeout_s=min(timeout_s, 5.0))
        self._tell([diagnostics.on_clock(await watch.measure())])

    async def _look_at_links(self, timeout_s: float) -> None:
        source = next((each for each in self._running.sources if isinstance(each, LinkSource)), None)
        if source is None:
            self._tell([finding("MDNS_OFF", "mDNS is off: nobody is looked for on the local network")])
            return
        probes: Sequence[LinkProbe] = ()
        with trio.move_on_after(timeout_s):
            probes = await source.probe_links()
        self._tell([diagnostics.on_link(each) for each in probes])
        if not probes:
            self._tell([finding("MDNS_NO_INTERFACE", "no interface but loopback has an IPv4 address")])

    async def _look_at_reachability(self, is_host: bool, timeout_s: float) -> None:
        if not self._running.node.announced_addresses():
            return  # it was said that the node listens nowhere
        report = await self._running.node.check_reachability(timeout_s)
        self._tell(diagnostics.on_reachability(report, is_host=is_host))
