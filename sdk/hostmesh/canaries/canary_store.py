"""What canaries must know after a restart, on disk: shapes of real jobs, prompts that were sent, open windows.

Of the user's words there is none but what he set as ``stop``, which is a setting: lengths, limits, times, and 16 bytes
of the SHA-256 of system prompts and of sent canaries. Who has the file can tell whether a guess at a system prompt is
right.

Bounds: :data:`~hostmesh.canaries.traffic.MAX_JOBS` jobs of each of :data:`~hostmesh.canaries.plan.MAX_HOSTS` hosts, as
many open windows, :data:`~hostmesh.canaries.plan.MAX_SENT` prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from hostmesh.canaries.comparison import Agreement
from hostmesh.canaries.evidence import WINDOW, Observation, Warmth
from hostmesh.canaries.plan import MAX_HOSTS, MAX_SENT
from hostmesh.canaries.rhythm import MAX_JOBS
from hostmesh.canaries.traffic import JobShape, PastJob, Setting
from hostmesh.store import FeatureStore

_MIGRATIONS = (
    (
        "CREATE TABLE sent (digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
        """
        CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            peer_id TEXT NOT NULL,
            conversation BLOB NOT NULL,
            shape TEXT NOT NULL,
            system_prompt BLOB,
            started_unix_s REAL NOT NULL,
            ended_unix_s REAL
        ) STRICT
        """,
        "CREATE INDEX jobs_of_host ON jobs (peer_id, number)",
        """
        CREATE TABLE observations (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            peer_id TEXT NOT NULL,
            model_id TEXT NOT NULL,
            operator TEXT NOT NULL,
            warmth TEXT NOT NULL,
            agreements TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX observations_of_window ON observations (peer_id, model_id, operator, number)",
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)
_OPEN_WINDOW = """
    SELECT number, warmth, agreements FROM observations WHERE peer_id = ? AND model_id = ? AND operator = ?
    ORDER BY number LIMIT ?
"""


class CanaryStore(FeatureStore):
    """Keeps what canaries copied and sent.

    Args:
        path: the database file; None = in memory.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database. Every method raises it where the disk fails.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path, what="the store of canaries", migrations=_MIGRATIONS)

    # --- prompts ---

    def sent(self) -> list[bytes]:
        """Return the digests of the first prompts that were sent, to whomever."""
        with self._store.reading() as db:
            return [row[0] for row in db.execute("SELECT digest FROM sent ORDER BY digest LIMIT ?", (MAX_SENT,))]

    def add_sent(self, digest: bytes) -> bool:
        """Note a first prompt before it leaves; return whether it may: it is new, and there is room.

        Cost: one commit, and a count of what is there.
        """
        with self._store.transaction() as db:
            added = db.execute(
                "INSERT OR IGNORE INTO sent SELECT ? WHERE (SELECT count(*) FROM sent) < ?", (digest, MAX_SENT)
            )
            return added.rowcount == 1

    # --- traffic ---

    def job_started(
        self, peer_id: str, conversation: bytes, shape: JobShape, system_prompt: bytes | None, *, unix_s: float
    ) -> None:
        """Note a real job; what is too old or of too many hosts goes. Cost: one commit, about 0.2 ms."""
        with self._store.transaction() as db:
            is_new = not db.execute("SELECT 1 FROM jobs WHERE peer_id = ? LIMIT 1", (peer_id,)).fetchone()
            db.execute(
                "INSERT INTO jobs (peer_id, conversation, shape, system_prompt, started_unix_s) VALUES (?, ?, ?, ?, ?)",
                (peer_id, conversation[:32], _shape_text(shape), system_prompt, unix_s),
            )
            db.execute(
                "DELETE FROM jobs WHERE peer_id = ? AND number <= "
                "(SELECT number FROM jobs WHERE peer_id = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (peer_id, peer_id, MAX_JOBS),
            )
            if is_new:
                db.execute(
                    "DELETE FROM jobs WHERE peer_id IN "
                    "(SELECT peer_id FROM jobs GROUP BY peer_id ORDER BY max(number) DESC LIMIT -1 OFFSET ?)",
                    (MAX_HOSTS,),
                )

    def job_ended(self, peer_id: str, conversation: bytes, *, unix_s: float) -> None:
        """Note the end of a real job, the oldest of its conversation that has none."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE jobs SET ended_unix_s = ? WHERE number = (SELECT min(number) FROM jobs "
                "WHERE peer_id = ? AND conversation = ? AND ended_unix_s IS NULL)",
                (unix_s, peer_id, conversation[:32]),
            )

    def jobs(self, peer_id: str, *, unix_s: float, now_s: float) -> list[PastJob]:
        """Return what is known of a host's jobs, the oldest first, with times of the monotonic clock.

        Args:
            peer_id: the host's.
            unix_s: now, by the wall clock.
            now_s: now, by the monotonic one.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT conversation, shape, system_prompt, started_unix_s, ended_unix_s FROM jobs "
                "WHERE peer_id = ? ORDER BY number",
                (peer_id,),
            ).fetchall()
        since = now_s - unix_s
        return [
            PastJob(
                conversation=row[0],
                shape=_shape_of(row[1]),
                system_prompt=row[2],
                # A wall clock that was set back would have them yet to come.
                started_s=min(row[3] + since, now_s),
                ended_s=None if row[4] is None else min(row[4] + since, now_s),
            )
            for row in rows
        ]

    # --- windows ---

    def add_observation(
        self, peer_id: str, model_id: str, observation: Observation, *, operator: str
    ) -> list[Observation]:
        """Keep an observation in the open window of a host, its model and its wallet; windows of too many of them go.

        Args:
            peer_id: the host's.
            model_id: which one answered.
            observation: what was seen.
            operator: the wallet that answers for it. A window is of one: what was seen under another says nothing.

        Returns:
            The window that it completes, :data:`~hostmesh.canaries.evidence.WINDOW` observations, the oldest first;
            empty while it is open. It is taken out in the same transaction, so that of all the programs that write
            here one gets it, once.
        """
        key = (peer_id, model_id, operator)
        with self._store.transaction() as db:
            db.execute(
                "INSERT INTO observations (peer_id, model_id, operator, warmth, agreements) VALUES (?, ?, ?, ?, ?)",
                (*key, observation.warmth.value, _agreements_text(observation)),
            )
            db.execute(
                "DELETE FROM observations WHERE (peer_id, model_id, operator) IN "
                "(SELECT peer_id, model_id, operator FROM observations "
                "GROUP BY peer_id, model_id, operator ORDER BY max(number) DESC LIMIT -1 OFFSET ?)",
                (MAX_HOSTS,),
            )
            rows = db.execute(_OPEN_WINDOW, (*key, WINDOW)).fetchall()
            if len(rows) < WINDOW:
                return []
            db.execute(
                "DELETE FROM observations WHERE peer_id = ? AND model_id = ? AND operator = ? AND number <= ?",
                (*key, rows[-1][0]),
            )
        return _observations(rows)

    def window(self, peer_id: str, model_id: str, *, operator: str) -> list[Observation]:
        """Return the open window, the oldest observation first."""
        with self._store.reading() as db:
            return _observations(db.execute(_OPEN_WINDOW, (peer_id, model_id, operator, WINDOW)).fetchall())


def _observations(rows: Iterable[tuple[int, str, str]]) -> list[Observation]:
    return [Observation(warmth=Warmth(warmth), agreements=_agreements_of(text)) for _, warmth, text in rows]


def _agreements_text(observation: Observation) -> str:
    seen = {member: [one.characters, one.parted] for member, one in observation.agreements.items()}
    return json.dumps(seen, separators=(",", ":"))


def _agreements_of(text: str) -> dict[str, Agreement]:
    return {
        member: Agreement(characters=characters, parted=parted)
        for member, (characters, parted) in json.loads(text).items()
    }


def _shape_text(shape: JobShape) -> str:
    return json.dumps(
        [shape.length_bytes, shape.max_output_tokens, shape.model_id, shape.timeout_s, dict(shape.parameters)],
        separators=(",", ":"),
    )


def _shape_of(text: str) -> JobShape:
    length_bytes, max_output_tokens, model_id, timeout_s, parameters = json.loads(text)
    settings: tuple[Setting, ...] = tuple(
        (name, tuple(value) if isinstance(value, list) else value) for name, value in parameters.items()
    )
    return JobShape(
        length_bytes=length_bytes,
        max_output_tokens=max_output_tokens,
        model_id=model_id,
        timeout_s=timeout_s,
        parameters=settings,
    )
