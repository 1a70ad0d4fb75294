"""Session keys and budgets from the command line, against hosts in other processes."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_world import Command, Outcome, Process, World

from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.testing import make_peer_key
from hostmesh.v1 import session_pb2 as pb

GHOST = make_peer_key("a host that is nowhere").peer_id


@pytest.fixture
def owner(command: Command, home: Path) -> bytes:
    """The address of the wallet that pays, which is configured."""
    made = command("wallet", "new", "--no-password", "--json")
    return bytes.fromhex(str(made.json["address"])[2:])


def delegate(command: Command, folder: Path, *caps: str, model: str = "m1") -> str:
    path = str(folder / "agent.json")
    options = [part for cap in caps for part in ("--cap", cap)]
    assert command("wallet", "delegate", "--model", model, *options, "--out", path).code == 0
    return path


def rows(home: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(home / "sessions.sqlite3")) as db:
        return db.execute(statement).fetchall()


def authorized(home: Path) -> list[pb.SessionAuthorization]:
    """What went to hosts, as it is on disk."""
    return [
        pb.SessionAuthorization.FromString(row)
        for (row,) in rows(home, "SELECT authorization FROM sessions ORDER BY id")
    ]


def unheard_closes(home: Path) -> int:
    """Sessions whose end the host did not confirm within the 2 s that a command gives it, as on a busy machine."""
    ((count,),) = rows(home, "SELECT COUNT(*) FROM sessions WHERE state != 'closed'")
    return int(count)


def error_of(outcome: Outcome) -> dict[str, Any]:
    error = outcome.json["error"]
    assert isinstance(error, dict)
    return error


def test_a_session_key_spends_for_its_owner_until_that_takes_it_back(
    command: Command, world: World, home: Path, tmp_path: Path, owner: bytes
) -> None:
    dear = world.hosts["dear"]
    path = delegate(command, tmp_path, f"{dear}=20000", f"{GHOST}=5")
    # The cheap host serves the model as well; the delegation does not name it.
    ran = command(*world.join("run", "hello there", "--delegation", path, "--json"))
    assert ran.code == 0, ran.err
    choice = ran.json["choice"]
    assert isinstance(choice, dict)
    assert choice["peer_id"] == dear
    (terms,) = authorized(home)
    assert (terms.client, terms.host_peer_id) == (owner, peer_id_to_bytes(dear))
    assert any(terms.delegation_digest)

    other = command(*world.join("run", "hello", "--delegation", path, "--include", world.hosts["cheap"], "--json"))
    assert (other.code, error_of(other)["code"]) == (2, "USAGE")
    above = command(*world.join("run", "hello", "--delegation", path, "--limit-micros", "20001", "--json"))
    assert (above.code, error_of(above)["code"]) == (2, "USAGE")

    revoked = command(*world.join("wallet", "revoke", path, "--json"))
    assert revoked.code == 5, "one of them is nowhere"
    told, ghost = revoked.json["hosts"]  # type: ignore[misc]
    assert told.pop("ended_sessions") <= unheard_closes(home)
    assert told == {"peer_id": dear, "is_delivered": True, "is_pending": False, "detail": ""}
    assert (ghost["peer_id"], ghost["is_delivered"], ghost["is_pending"]) == (GHOST, False, True)
    assert rows(home, "SELECT host_peer_id FROM revocations") == [(peer_id_to_bytes(GHOST),)]

    refused = command(*world.join("run", "hello", "--delegation", path, "--json"))
    assert (refused.code, error_of(refused)["reason"]) == (7, "DELEGATION_REVOKED"), "so says the host"
    # The owner's own wallet is not concerned.
    assert command(*world.join("run", "hello", "--include", dear, "--model", "m1")).code == 0


def test_what_runs_when_the_key_is_taken_back(
    command: Command, world: World, home: Path, tmp_path: Path, owner: bytes
) -> None:
    host = world.processes["endless"]
    path = delegate(command, tmp_path, f"{world.hosts['endless']}=0", model="endless")
    argv = world.join("run", "hello", "--delegation", path, "--limit-micros", "0")
    running = Process("-m", "hostmesh.cli.main", *argv, home=home)
    try:
        host.event("started")
        revoked = command(*world.join("wallet", "revoke", path))
        assert (revoked.code, revoked.out) == (0, f"{world.hosts['endless']}  revoked, 1 open sessions ended\n")
        (again,) = command(*world.join("wallet", "revoke", path, "--json")).json["hosts"]  # type: ignore[misc]
        assert (again["is_delivered"], again["ended_sessions"]) == (True, 0), "twice is once"
        assert running.process.poll() is None, "work that runs may end"
    finally:
        code, _ = running.stop(signal.SIGINT)
    assert code == 130
    host.event("stopped")


def test_the_budget_holds_before_anything_is_sent(command: Command, world: World, home: Path, owner: bytes) -> None:
    assert command("wallet", "budget", "--set", "50").code == 0
    argv = world.join("run", "hello there", "--model", "m1", "--json")
    refused = command(*argv, "--limit-micros", "51")
    error = error_of(refused)
    assert (refused.code, error["code"], error["needed_micros"], error["limit_micros"]) == (
        7,
        "BUDGET_EXCEEDED",
        51,
        50,
    )
    assert authorized(home) == []
    ran = command(*argv, "--limit-micros", "50", "--max-tokens", "16")
    assert ran.code == 0, ran.err
    usage = ran.json["usage"]
    assert isinstance(usage, dict)
    told = command("wallet", "budget", "--json").json
    rest = 50 - usage["cost_micros"]
    held = rest if unheard_closes(home) else 0
    assert (told["spent_micros"], told["open_micros"]) == (usage["cost_micros"], held)
    assert told["left_micros"] == rest - held


def test_the_slice_is_what_was_asked_for(command: Command, world: World, home: Path, owner: bytes) -> None:
    argv = world.join("run", "hello", "--model", "m1", "--limit-micros", "1000", "--max-tokens", "16")
    assert command(*argv, "--slice-micros", "200").code == 0
    assert [(terms.slice_micros, terms.spending_limit_micros) for terms in authorized(home)] == [(200, 1000)]
    for wrong in ("0", "1001"):
        assert command(*argv, "--slice-micros", wrong).code == 2
    assert len(authorized(home)) == 1
