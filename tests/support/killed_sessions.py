"""Opens, spends, revokes and closes sessions in processes that die: by SIGKILL at each statement, or within a write.

``python -m tests.support.killed_sessions FOLDER`` makes a folder for each death: the stores of host and client as the
death left them, and ``journal``, a line for each thing that was acknowledged before: that had left one of the two, or
that a call had returned.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio
from tests.unit.sessions.conftest import MODEL, NETWORK, Call, World, wallet_of

from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.sessions.client import SessionManager
from hostmesh.sessions.client_store import ClientStore
from hostmesh.sessions.store import SessionStore

KEY = wallet_of("session key")
BUDGET, LIMIT = 60_000, 10_000
HOST_FILE, CLIENT_FILE = "hosted_sessions.sqlite3", "sessions.sqlite3"
DELEGATION = World().delegation(KEY)
UNUSED = World().delegation(KEY, nonce=bytes([8]) * 32)
"""It never comes to the host; its revocation does."""
STATEMENTS = 400
"""Above what one run executes."""
FILE_SIZES = range(4_000, 170_000, 9_001)
"""Bytes at which a write-ahead log is cut off: in headers, in pages, between them."""
WORDS = (
    "budget",
    *("signed 0", "granted 0", "opened 0", "owed 300", "charged 300", "owed 500", "charged 500"),
    *("signed 1", "granted 1", "opened 1", "owed 200"),
    *("revoking 0", "revoked 0", "delivered 0", "revoking 1", "revoked 1", "delivered 1"),
    *("closing", "closed", "over"),
)
"""Everything that is acknowledged, in its order. Session 1 is under the delegation, which is then revoked."""

_Acknowledge = Callable[[str], None]


async def live(world: World, owner: SessionManager, agent: SessionManager, acknowledge: _Acknowledge) -> None:
    """One life of a host and a client: an owner, and a session key in its name."""
    opened = revoked = 0

    def leaving(method: str) -> None:
        told = {"Authorize": f"signed {opened}", "RevokeDelegation": f"revoking {revoked}", "CloseSession": "closing"}
        if method in told:
            acknowledge(told[method])

    def answered(method: str) -> None:
        told = {"Authorize": f"granted {opened}", "RevokeDelegation": f"revoked {revoked}", "CloseSession": "closed"}
        if method in told:
            acknowledge(told[method])

    world.before = lambda method, request: leaving(method.name)

    def after(method: object, response: object) -> object:
        answered(method.name)  # type: ignore[attr-defined]
        return response

    world.after = after
    owner.set_budget("USD", BUDGET)
    acknowledge("budget")
    session = await owner.start_session(world.choice, spending_limit_micros=LIMIT)
    acknowledge("opened 0")
    work = world.server.require_session(Call(world.client.peer_id, session.session_id), MODEL).reserve(2_000)
    work.advance(300)
    acknowledge("owed 300")
    session.charge(300)
    acknowledge("charged 300")
    work.settle(500)
    acknowledge("owed 500")
    session.charge(200)
    acknowledge("charged 500")
    opened = 1
    delegated = await agent.start_session(world.choice, spending_limit_micros=LIMIT)
    acknowledge("opened 1")
    running = world.server.require_session(Call(world.client.peer_id, delegated.session_id), MODEL).reserve(2_000)
    running.advance(200)
    acknowledge("owed 200")
    for revoked, delegation in enumerate((DELEGATION, UNUSED)):
        await owner.revoke(delegation)
        acknowledge(f"delivered {revoked}")
    await session.close()
    acknowledge("over")


def _live(folder: Path, arm: Callable[[World, list[SessionManager]], None]) -> None:
    folder.mkdir()
    for name in (HOST_FILE, CLIENT_FILE):  # made once: what this is about begins with the first write
        shutil.copy(folder.parent / f"empty-{name}", folder / name)
    world = World(path=folder / HOST_FILE)
    owner = world.manager(path=folder / CLIENT_FILE)
    agent = world.manager(path=folder / CLIENT_FILE, wallet=KEY, delegation=DELEGATION)
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    arm(world, [owner, agent])
    trio.run(partial(live, world, owner, agent, lambda word: os.write(journal, word.encode() + b"\n") and None))
    # No clean end either: what a close would write is not needed.
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_at(statement: int) -> Callable[[World, list[SessionManager]], None]:
    def arm(world: World, managers: list[SessionManager]) -> None:
        left = statement

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        for store in (world.server._book._store, *(manager._store for manager in managers)):
            store._store._db.set_trace_callback(count)

    return arm


def _cut_off_at(size_bytes: int) -> Callable[[World, list[SessionManager]], None]:
    def arm(_: World, __: list[SessionManager]) -> None:
        # The kernel writes up to the limit and kills at the next byte; Python ignores that signal otherwise.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    return arm


def _die(folder: Path, arm: Callable[[World, list[SessionManager]], None]) -> None:
    child = os.fork()
    if child == 0:
        try:
            _live(folder, arm)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit(f"the process of {folder.name} did not die")


def main(root: Path) -> None:
    """Die in every way."""
    host = peer_id_to_bytes(World().host.peer_id)
    SessionStore(root / f"empty-{HOST_FILE}", host=host, network=NETWORK).close()
    ClientStore(root / f"empty-{CLIENT_FILE}", network=NETWORK).close()
    for statement in range(1, STATEMENTS):
        _die(root / f"statement-{statement}", _kill_at(statement))
        if "over" in (root / f"statement-{statement}" / "journal").read_text():
            break
    else:
        sys.exit("more statements than were counted on")
    for size_bytes in FILE_SIZES:
        _die(root / f"size-{size_bytes}", _cut_off_at(size_bytes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
