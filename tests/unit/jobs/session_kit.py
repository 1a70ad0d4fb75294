"""A host of jobs and its sessions with their files, and a client of both: calls in memory, restarts from the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import trio
from tests.unit.jobs.kit import CHAT, CLIENT_KEY, HOST_KEY, Book, Host, ScriptedEngine, Wire
from tests.unit.sessions.conftest import NETWORK, Clock, World

from hostmesh.jobs.client import JobManager
from hostmesh.jobs.server import JobServer
from hostmesh.receipts.host_ledger import HostLedger
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.client import RpcClient
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.sessions.session import Session
from hostmesh.system import System
from hostmesh.v1.job_hostmesh import JobServiceClient

PRICE = ModelPrice(micros_per_mtok=1_000_000, currency="USD")
"""A token costs one micro-unit."""
SESSIONS, RECEIPTS = "hosted.sqlite3", "host_receipts.sqlite3"


class TrioClock(Clock):
    """Trio's clock."""

    def system(self, *, ahead_s: float = 0.0) -> System:
        return replace(
            super().system(ahead_s=ahead_s),
            unix_s=lambda: self.unix + trio.current_time() + ahead_s,
            monotonic_s=trio.current_time,
        )


class Pair:
    """One host and one client, each with its files.

    Args:
        folder: of the host's files, and of the client's receipts.
        nursery: runs the host's calls.
    """

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self._nursery = nursery
        self._clock = TrioClock()
        self.engine = ScriptedEngine()
        self.book = Book()
        self._client_receipts = ReceiptStore(folder / "client_receipts.sqlite3")
        self.world = World(
            clock=self._clock, host=HOST_KEY, client=CLIENT_KEY, path=folder / SESSIONS, prices={CHAT: PRICE}
        )
        self.sessions = self.world.manager(path=folder / "client_sessions.sqlite3")
        self.start_host(folder)

    def start_host(self, folder: Path) -> None:
        """Start the host with the files of a folder; its earlier life, if there was one, is forgotten."""
        self.world.path = folder / SESSIONS
        self.world.restart()
        self.receipts = ReceiptStore(folder / RECEIPTS)
        self.server = JobServer(
            engine=self.engine,
            key=HOST_KEY,
            network=NETWORK,
            prices={CHAT: PRICE},
            require_session=self.world.server.require_session,
            receipts=self.receipts,
            system=self._clock.system(),
        )
        host = cast("Host", SimpleNamespace(server=self.server, clock=self._clock))
        self._caller = RpcClient(
            cast("Any", Wire(host, self._nursery, peer_id=CLIENT_KEY.peer_id)),
            prefix="/hostmesh",
            system=self._clock.system(),
        )
        self.jobs = JobManager(
            caller=self._caller,
            peer_id=CLIENT_KEY.peer_id,
            network=NETWORK,
            receipts=self._client_receipts,
            outcomes=self.book,
            system=self._clock.system(),
        )
        self.stub = JobServiceClient(self._caller, HOST_KEY.peer_id)

    async def open(self, *, limit_micros: int = 10_000, slice_micros: int = 100) -> Session:
        """Open a session."""
        return await self.sessions.start_session(
            replace(self.world.choice, model_id=CHAT, price=PRICE),
            spending_limit_micros=limit_micros,
            slice_micros=slice_micros,
            max_price_micros_per_mtok=10**6,
        )

    async def run(self, session: Session, prompt: str = "Hi there") -> None:
        """Run one job to its end."""
        async with self.jobs.run(session, prompt=prompt) as job:
            await job.read_text()

    def ledger(self, session: Session) -> HostLedger:
        """The host's ledger of a session in which a job ran since its start."""
        return self.server._desk._accounts[session.session_id].ledger

    def spent_micros(self, session: Session) -> int:
        """What the session spent, by the host's book."""
        context = cast("Any", SimpleNamespace(session_id=session.session_id, peer_id=CLIENT_KEY.peer_id))
        return self.world.server.require_session(context, CHAT).spent_micros
