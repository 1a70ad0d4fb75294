"""The local link as :mod:`hostmesh.discovery.sources.mdns` uses it: zeroconf, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import ifaddr
import trio
from zeroconf import (  # type: ignore[attr-defined]  # the DNS classes are not in zeroconf's __all__
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSText,
    Error,
    InterfaceChoice,
    IPVersion,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    Zeroconf,
)
from zeroconf.asyncio import AsyncZeroconf

from hostmesh.discovery.sources.mdns_interfaces import choose_interfaces
from hostmesh.discovery.sources.mdns_records import SERVICE, Announcement, label_of

_log = logging.getLogger("hostmesh.discovery")

TTL_S = 120
"""Life of what a host announces: one that died is forgotten after two minutes."""
ASK_INTERVALS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Between the first questions, doubling as RFC 6762, section 5.2 says."""
ASK_EVERY_S = 45.0
"""From then on: two questions fit into a TTL, so one lost packet does no harm."""
RESCAN_S = 15.0
"""Interfaces that came or went are noticed after so long, if nobody calls :meth:`MdnsLink.rescan` before."""
STOP_TIMEOUT_S = 5.0
MAX_QUEUED = 1024
"""Records on their way from the thread; the oldest give way."""
MAX_UNEXPLAINED = 64
"""Names of one packet whose TXT is asked for."""
UNAVAILABLE = (OSError, RuntimeError, Error)
"""What :attr:`MdnsLink.error` is where the link cannot be used now, and may be later."""

_PTR, _TXT, _IN, _QUERY = 12, 16, 1, 0x0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A record as it came. ``txt`` None: a PTR."""

    label: str
    ttl_s: float
    txt: bytes | None
    flush: bool
    ended: bool


class MdnsLink(RecordUpdateListener):
    """zeroconf in its thread. Methods with a leading underscore run there, the others in trio's."""

    def __init__(self, *, interfaces: Sequence[str], label: str, on_heard: Callable[[], None]) -> None:
        self.heard: deque[Heard] = deque(maxlen=MAX_QUEUED)
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.error: BaseException | None = None
        self._interfaces = tuple(interfaces)
        self._name, self._host = f"{label}.{SERVICE}", f"{label}.local."
        self._on_heard = on_heard
        self._token = trio.lowlevel.current_trio_token()
        self.thread = threading.Thread(target=self._run, name="hostmesh-mdns", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = False
        self._wanted: Announcement | None = None
        self._stop, self._changed, self._ask_now = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._rescan_now = asyncio.Event()
        self._zeroconf: Zeroconf | None = None
        self._unexplained: dict[str, None] = {}
        self._goodbye: Awaitable[object] | None = None

    def announce(self, wanted: Announcement | None) -> None:
        """Announce this and nothing else, or say goodbye (None)."""
        self._wanted = wanted
        self._call(self._changed.set)

    def ask(self) -> None:
        """Ask the link who is there."""
        self._call(self._ask_now.set)

    def rescan(self) -> None:
        """Look at the machine's interfaces now, and ask who is there."""
        self._call(self._rescan_now.set)

    async def stop(self) -> None:
        """Say goodbye, close all sockets and end the thread. Shielded; takes 0.3 s where something was announced."""
        self._is_stopping = True
        self._call(self._stop.set)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_TIMEOUT_S):
            await self.ended.wait()
            # The thread told of its end in its last line; this waits microseconds.
            self.thread.join()
            return
        _log.error("mDNS did not end within %g s", STOP_TIMEOUT_S)

    def _call(self, function: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the thread is ending
                loop.call_soon_threadsafe(function)

    def _tell(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, idempotent=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - carried over to trio, where MdnsSource.run raises it
            self.error = error
        finally:
            self._tell(self.ended.set)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._is_stopping:
            return
        zeroconf = self._open()
        try:
            await zeroconf.zeroconf.async_wait_for_start()
            self._zeroconf = zeroconf.zeroconf
            zeroconf.zeroconf.async_add_listener(self, None)
            self._tell(self.ready.set)
            self._changed.set()
            work = (self._asking(zeroconf), self._announcing(zeroconf), self._rescanning(zeroconf), self._stop.wait())
            tasks = [asyncio.create_task(each) for each in work]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for task in done:
                task.result()
        finally:
            # A goodbye that was begun is said to its end; close says one for what is still announced.
            if self._goodbye is not None:
                await self._goodbye
            _forget_answers(zeroconf.zeroconf)
            await zeroconf.async_close()

    def _open(self) -> AsyncZeroconf:
        if self._interfaces:
            return AsyncZeroconf(interfaces=choose_interfaces(self._interfaces, ifaddr.get_adapters()))
        try:
            return AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.All)
        except OSError:
            # No IPv6 in this kernel.
            return AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)

    async def _rescanning(self, zeroconf: AsyncZeroconf) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESCAN_S):
                    await self._rescan_now.wait()
            is_asked_for = self._rescan_now.is_set()
            self._rescan_now.clear()
            wanted = self._interfaces
            await zeroconf.async_update_interfaces(
                choose_interfaces(wanted, ifaddr.get_adapters()) if wanted else InterfaceChoice.All
            )
            if is_asked_for:
                self._ask_now.set()

    async def _asking(self, zeroconf: AsyncZeroconf) -> None:
        """Ask for the service without naming what is known, so that everybody's TTL starts anew."""
        question = DNSQuestion(SERVICE, _PTR, _IN)
        intervals = list(ASK_INTERVALS_S)
        while True:
            self._ask_now.clear()
            _send_question(zeroconf.zeroconf, question)
            with contextlib.suppress(TimeoutError):
                # Not wait_for, which in Python 3.11 loses a cancellation that comes together with the event.
                async with asyncio.timeout(intervals.pop(0) if intervals else ASK_EVERY_S):
                    await self._ask_now.wait()

    async def _announcing(self, zeroconf: AsyncZeroconf) -> None:
        current: ServiceInfo | None = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._wanted
            if wanted is None:
                if current is not None:
                    _forget_answers(zeroconf.zeroconf)
                    self._goodbye = await zeroconf.async_unregister_service(current)
                    await asyncio.shield(self._goodbye)
                current = None
                continue
            info = self._service(wanted)
            if current is None:
                # The name is 165 random bits: looking for another who has it would only take half a second.
                await (await zeroconf.async_register_service(info, cooperating_responders=True, strict=False))
            else:
                await (await zeroconf.async_update_service(info))
            current = info

    def _service(self, wanted: Announcement) -> ServiceInfo:
        return ServiceInfo(
            SERVICE,
            self._name,
            wanted.port,
            0,
            0,
            wanted.txt,
            self._host,
            TTL_S,
            TTL_S,
            parsed_addresses=list(wanted.ips),
        )

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Take the records of one packet, or those whose time has ended (zeroconf calls this)."""
        for update in records:
            record = update.new
            if isinstance(record, DNSPointer) and record.name.lower() == SERVICE:
                label, txt = label_of(record.alias), None
                if label is not None and not record.is_expired(now) and len(self._unexplained) < MAX_UNEXPLAINED:
                    self._unexplained[record.alias] = None
            elif isinstance(record, DNSText):
                label, txt = label_of(record.name), record.text
            else:
                continue
            if label is not None:
                heard = Heard(label=label, ttl_s=record.ttl, txt=txt, flush=record.unique, ended=record.is_expired(now))
                self.heard.append(heard)
        if self.heard:
            self._tell(self._on_heard)

    def async_update_records_complete(self) -> None:
        """Ask for the TXT of names that came without one (zeroconf calls this once a packet's records are stored)."""
        names, self._unexplained = list(self._unexplained), {}
        if self._zeroconf is not None:
            for name in names:
                if not self._zeroconf.cache.async_all_by_details(name, _TXT, _IN):
                    _send_question(self._zeroconf, DNSQuestion(name, _TXT, _IN))


def _forget_answers(zeroconf: Zeroconf) -> None:
    """Drop the answers that wait for their random delay: after a goodbye they would call the name back to life."""
    for queue in (zeroconf.out_queue, zeroconf.out_delay_queue):
        queue.queue.clear()


def _send_question(zeroconf: Zeroconf, question: DNSQuestion) -> None:
    out = DNSOutgoing(_QUERY)
    out.add_question(question)
    zeroconf.async_send(out)
