"""kill -9 at every write of sessions, on both sides: what was acknowledged is there, and both go on from it."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.killed_sessions import (
    BUDGET,
    CLIENT_FILE,
    DELEGATION,
    HOST_FILE,
    KEY,
    LIMIT,
    UNUSED,
    WORDS,
)
from tests.unit.sessions.conftest import MODEL, NETWORK, Call, Clock, World

from hostmesh.errors import RpcError, SessionError
from hostmesh.identity.delegation import digest_of_delegation
from hostmesh.sessions.authorization import message_from_terms, terms_from_message
from hostmesh.v1 import session_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
DIGESTS = [digest_of_delegation(each, NETWORK) for each in (DELEGATION, UNUSED)]
STATES = {"pending": 1, "active": 2, "closing": 3, "closed": 4}


def rows(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute(statement).fetchall()


def on_disk(folder: Path) -> list[str]:
    """What the files say after the death, in the words of the journal."""
    host, client = folder / HOST_FILE, folder / CLIENT_FILE
    hosted = rows(host, "SELECT spent_micros, end_reason, grant_envelope FROM sessions ORDER BY id")
    mine = rows(client, "SELECT state, spent_micros, grant_envelope FROM sessions ORDER BY id")
    accounts = rows(host, "SELECT spent_micros, is_revoked FROM delegations")
    unseen = rows(host, "SELECT 1 FROM unseen_revocations")
    pending = [digest for (digest,) in rows(client, "SELECT digest FROM revocations")]
    budgets = rows(client, "SELECT limit_micros, spent_micros FROM budgets")
    # What is written together is there together.
    assert sum(int(spent) for _, spent, _ in mine) == sum(int(spent) for _, spent in budgets)
    assert [int(spent) for spent, _ in accounts] == [int(spent) for spent, _, _ in hosted[1:]]
    assert all(revoked == (hosted[1][1] is not None) for _, revoked in accounts)
    assert all(grant in (b"", granted[2]) for (_, _, grant), granted in zip(mine, hosted, strict=False))

    state = [STATES[state] for state, _, _ in mine] + [0, 0]
    owed = [int(spent) for spent, _, _ in hosted] + [0, 0]
    charged = int(mine[0][1]) if mine else 0
    is_revoked = [any(revoked for _, revoked in accounts), bool(unseen)]
    facts = {
        "budget": budgets[:1] and budgets[0][0] == str(BUDGET),
        "owed 300": owed[0] >= 300,
        "owed 500": owed[0] >= 500,
        "owed 200": owed[1] >= 200,
        "charged 300": charged >= 300,
        "charged 500": charged >= 500,
        "closing": state[0] >= 3,
        "closed": bool(hosted) and hosted[0][1] == "SESSION_CLOSED",
        "over": state[0] == 4,
    }
    for number, digest in enumerate(DIGESTS):
        facts[f"signed {number}"] = state[number] >= 1
        facts[f"granted {number}"] = len(hosted) > number
        facts[f"opened {number}"] = state[number] >= 2
        facts[f"revoking {number}"] = is_revoked[number] or digest in pending
        facts[f"revoked {number}"] = is_revoked[number]
        facts[f"delivered {number}"] = is_revoked[number] and digest not in pending
    return [word for word in WORDS if facts[word]]


async def both_go_on(folder: Path, seen: list[str]) -> None:
    """Run both again with their files; each keeps to what it said before."""
    world = World(path=folder / HOST_FILE, clock=later_clock())
    owner = world.manager(path=folder / CLIENT_FILE)
    peer = world.client.peer_id
    key = world.manager(path=folder / CLIENT_FILE, wallet=KEY, delegation=DELEGATION)
    for number, manager, session in (
        *((0, owner, session) for session in owner.resumable()),
        *((1, key, session) for session in key.resumable()),
    ):
        assert (session.delegation != b"") == (number == 1)
        granted = [grant for (grant,) in rows(folder / HOST_FILE, "SELECT grant_envelope FROM sessions ORDER BY id")]
        is_over = (number == 1 and "revoked 0" in seen) or f"granted {number}" not in seen
        if is_over:
            with pytest.raises(SessionError):
                await manager.resume(session.authorization_digest)
        else:
            again = await manager.resume(session.authorization_digest)
            assert again.grant == granted[number]
            assert number == 1 or again.spent_micros >= (500 if "charged 500" in seen else 0)
    if "granted 0" in seen:
        await the_nonce_is_burnt(world, folder)
    if "owed 500" in seen and "closed" not in seen:
        (session_id,) = rows(folder / HOST_FILE, "SELECT session_id FROM sessions WHERE id = 1")[0]
        active = world.server.require_session(Call(peer, session_id), MODEL)
        with pytest.raises(RpcError) as above:
            active.reserve(LIMIT - 500 + 1)
        assert above.value.reason == "SPENDING_LIMIT"
        active.reserve(LIMIT - 500).release()
    # What was not delivered is told now.
    outcomes = await owner.revocations.retry()
    assert all(outcome.is_delivered for outcome in outcomes)
    assert owner.revocations.pending() == []
    for number, delegation in enumerate((DELEGATION, UNUSED)):
        if f"revoking {number}" in seen:
            agent = world.manager(path=folder / CLIENT_FILE, wallet=KEY, delegation=delegation)
            with pytest.raises(SessionError) as refused:
                await agent.start_session(world.choice, spending_limit_micros=1)
            assert refused.value.reason == "DELEGATION_REVOKED"
    if "budget" in seen:
        budget = owner.budget("USD")
        assert budget.limit_micros == BUDGET
        assert budget.spent_micros + budget.open_micros <= 2 * LIMIT


async def the_nonce_is_burnt(world: World, folder: Path) -> None:
    (stored,) = rows(folder / HOST_FILE, "SELECT authorization FROM sessions WHERE id = 1")[0]
    terms = dataclasses.replace(terms_from_message(pb.SessionAuthorization.FromString(stored)), slice_micros=1)
    message = message_from_terms(terms, world.wallet.sign(terms, NETWORK))
    with pytest.raises(RpcError) as refused:
        await world.server.authorize(pb.AuthorizeRequest(authorization=message), Call(world.client.peer_id))
    assert refused.value.reason == "REPLAYED"


def later_clock() -> Clock:
    """The clock of the life before; what is random goes on where that ended."""
    clock = Clock()
    for _ in range(100):
        clock.system().random_bytes(1)
    return clock


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[str]]:
    """The journal of each death, by its folder."""
    root = tmp_path_factory.mktemp("deaths")
    paths = os.pathsep.join((str(ROOT), *sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_sessions", str(root)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return {folder: (folder / "journal").read_text().splitlines() for folder in root.iterdir() if folder.is_dir()}


async def test_nothing_acknowledged_is_lost_and_both_go_on(deaths: dict[Path, list[str]]) -> None:
    whole: list[str] = []
    for folder, acknowledged in deaths.items():
        seen = on_disk(folder)
        # One write more than was acknowledged at most: the death came before it could be said.
        assert seen[: len(acknowledged)] == acknowledged, folder.name
        assert len(seen) <= len(acknowledged) + 1, folder.name
        assert seen == list(WORDS[: len(seen)]), folder.name
        whole = max(whole, seen, key=len)
        await both_go_on(folder, seen)
    assert whole == list(WORDS)


def test_deaths_came_everywhere(deaths: dict[Path, list[str]]) -> None:
    for kind, least in (("statement", len(WORDS)), ("size", 6)):
        assert len({len(lines) for folder, lines in deaths.items() if folder.name.startswith(kind)}) >= least
