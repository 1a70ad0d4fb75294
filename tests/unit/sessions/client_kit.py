"""What tests of a client's sessions share."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostmesh.sessions.client import SessionManager

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


NETWORK = "hostmesh-test"


def on_disk(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement).fetchall()


def start(manager: SessionManager, world: World, limit: int = 10_000, **options: Any) -> Any:
    return manager.start_session(world.choice, spending_limit_micros=limit, **options)
