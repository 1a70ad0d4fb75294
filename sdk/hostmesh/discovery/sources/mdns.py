"""Hosts found on the local link by libp2p's mDNS. No server, no configuration.

Hosts announce; nodes that are no hosts only listen and ask. What is heard is a hint: the candidate is asked for its
signed record before anything is believed. js and go answer with PTR and TXT alone, so these two are read as they come,
and nothing waits for SRV or addresses. What hostmesh announces has them, for those who insist.

zeroconf runs in one thread of its own with an asyncio loop; the trio loop never waits for a socket of it. Leaving
:meth:`MdnsSource.run` says goodbye on the link, ends the thread and closes every socket.

Source: libp2p specs, discovery/mdns; RFC 6762, RFC 6763. docs/protocols/mdns.md tells the whole.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from hostmesh.discovery.diagnostics import LinkProbe
from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.discovery.sources.mdns_link import UNAVAILABLE, MdnsLink
from hostmesh.discovery.sources.mdns_probe import probe_links
from hostmesh.discovery.sources.mdns_records import (
    Announcement,
    HeardPeers,
    MdnsStatistics,
    announcement_of,
    label_from,
)
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

SETTLE_S = 2.0
"""After the start a find waits so long for answers: a responder may take its 500 ms twice (RFC 6762, section 6)."""
ANSWER_S = 1.5
"""A find that knows nobody asks once more and waits so long."""
MIN_ASK_INTERVAL_S = 1.0
"""Finds that come sooner after another's question wait for its answers (RFC 6762, section 5.2)."""
RETRY_S = (1.0, 60.0)
"""First and longest wait before a failed link is opened again."""


class MdnsSource:
    """See the module.

    Args:
        peer_id: ours; what we announce ourselves is not reported.
        interfaces: names or addresses of the interfaces to use; empty: all.
        system: clock and random bytes.
    """

    def __init__(self, peer_id: PeerId, *, interfaces: Sequence[str] = (), system: System) -> None:
        self._peer_id = peer_id
        self._interfaces = tuple(interfaces)
        self._system = system
        self._label = label_from(system.random_bytes(32))
        self._peers = HeardPeers(peer_id)
        self._link: MdnsLink | None = None
        self._ready_at: float | None = None
        self._asked_at = -math.inf
        self._news = trio.Event()
        self._wanted: Announcement | None = None
        self._pause = trio.CancelScope()

    @property
    def name(self) -> str:
        """``mdns``."""
        return "mdns"

    @property
    def statistics(self) -> MdnsStatistics:
        """What the source knows now."""
        self._peers.expire(self._system.monotonic_s())
        is_listening = self._link is not None and self._link.ready.is_set()
        return MdnsStatistics(is_listening=is_listening, peers=len(self._peers), malformed=self._peers.malformed)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, ask and announce until cancelled; then say goodbye. A link that fails is opened again, later."""
        task_status.started()
        retry_s = RETRY_S[0]
        while True:
            link = MdnsLink(interfaces=self._interfaces, label=self._label, on_heard=self._take)
            self._link = link
            link.announce(self._wanted)
            link.thread.start()
            try:
                await self._until_ready(link)
                await link.ended.wait()
            finally:
                self._link = self._ready_at = None
                await link.stop()
            if link.ready.is_set():
                retry_s = RETRY_S[0]
            match link.error:
                case error if isinstance(error, UNAVAILABLE):
                    _log.warning("mDNS is not available: %s; trying again in %g s", error, retry_s)
                case error:
                    raise RuntimeError("the mDNS thread ended") from error
            with trio.CancelScope() as self._pause:
                await trio.sleep(retry_s)
            retry_s = RETRY_S[0] if self._pause.cancelled_caught else min(RETRY_S[1], 2 * retry_s)

    async def probe_links(self) -> Sequence[LinkProbe]:
        """Ask on each interface by itself; see :func:`hostmesh.discovery.sources.mdns_probe.probe_links`."""
        return await probe_links(self._interfaces)

    def rescan(self) -> None:
        """Use the interfaces that the machine has now, and ask who is there: it slept, or its addresses changed.

        A link that could not be opened is opened again without a pause. Never waits.
        """
        self._pause.cancel()
        if self._link is not None:
            self._link.rescan()

    async def _until_ready(self, link: MdnsLink) -> None:
        async def ended(scope: trio.CancelScope) -> None:
            await link.ended.wait()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ended, nursery.cancel_scope)
            await link.ready.wait()
            self._ready_at = self._system.monotonic_s()
            self._tell_finds()
            nursery.cancel_scope.cancel()

    async def advertise(self, advert: Advert | None) -> None:
        """Announce a host on the link, or say goodbye (None). At most 16 addresses, those that fit into one packet."""
        self._wanted = None
        if advert is not None:
            self._wanted = announcement_of(self._peer_id, advert.addresses)
        if self._link is not None:
            self._link.announce(self._wanted)

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Report the peers on the link, those known at once and others as they are heard.

        mDNS does not say what a peer offers, so the query's models and country are not looked at. Returns when
        ``query.limit`` peers were reported; else once the link has been listened to for :data:`SETTLE_S`, which is at
        once on a link that was opened a while ago; where nobody is known then, after one more question and
        :data:`ANSWER_S`. A peer whose addresses change meanwhile is reported again.

        Cancellation: safe; what was found was reported.
        """
        reported: dict[PeerId, tuple[str, ...]] = {}
        deadline = self._system.monotonic_s() + SETTLE_S
        asked = False
        while True:
            now = self._system.monotonic_s()
            for peer_id, addresses in self._peers.peers(now).items():
                if reported.get(peer_id) != addresses and (peer_id in reported or len(reported) < query.limit):
                    reported[peer_id] = addresses
                    found(Candidate(peer_id=peer_id, addresses=addresses, source=self.name, origin=AddressOrigin.MDNS))
            if self._ready_at is not None and not asked:
                deadline = self._ready_at + SETTLE_S
            if len(reported) >= query.limit or (now >= deadline and (reported or asked or self._link is None)):
                return
            if now >= deadline and self._link is not None:
                asked, deadline = True, now + ANSWER_S
                if now - self._asked_at >= MIN_ASK_INTERVAL_S:
                    self._asked_at = now
                    self._link.ask()
            with trio.move_on_after(deadline - now):
                await self._news.wait()

    def _take(self) -> None:
        """Take in what the thread heard (called in trio's thread)."""
        link = self._link
        if link is None:
            return
        now = self._system.monotonic_s()
        is_news = False
        while link.heard:
            heard = link.heard.popleft()
            if heard.ended:
                self._peers.on_goodbye(heard.label, heard.txt)
            elif heard.txt is not None:
                news = self._peers.on_txt(heard.label, heard.txt, ttl_s=heard.ttl_s, now=now, flush=heard.flush)
                is_news |= news is not None
        if is_news:
            self._tell_finds()

    def _tell_finds(self) -> None:
        self._news.set()
        self._news = trio.Event()
