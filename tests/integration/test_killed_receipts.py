"""kill -9 at every write: no receipt and no countersignature that was acknowledged is lost, and none is half there."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.support.killed_receipts import RECEIPTS

from hostmesh.receipts.paper_store import KeptFilter
from hostmesh.receipts.store import ReceiptStore

ROOT = Path(__file__).resolve().parents[2]
S, J = RECEIPTS[0].session_id, RECEIPTS[0].job_id


def on_disk(path: Path) -> list[str]:
    """What a program sees that opens the file after the death, in the words of the journal."""
    store = ReceiptStore(path)
    with closing(store):
        seen = []
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            seen += ["session"] * len(db.execute("SELECT 1 FROM sessions").fetchall())
            seen += ["quote"] * len(db.execute("SELECT 1 FROM quotes").fetchall())
            client = db.execute("SELECT sequence FROM receipts WHERE side = 'client'").fetchall()
        for receipt in RECEIPTS:
            kept = store.issued(S, J, receipt.sequence)
            if kept is not None:
                assert kept.receipt == receipt
                seen.append(f"issued {receipt.sequence}")
                if kept.countersignature:
                    seen.append(f"paid {receipt.sequence}")
            if (receipt.sequence,) in client:
                seen.append(f"countersigned {receipt.sequence}")
        seen += ["refused"] * len(store.refused())
        paid = max((receipt.cost_micros for receipt in RECEIPTS if f"paid {receipt.sequence}" in seen), default=0)
        issued = max((receipt.cost_micros for receipt in RECEIPTS if f"issued {receipt.sequence}" in seen), default=0)
        assert [(job.issued_micros, job.acknowledged_micros) for job in store.unpaid(S)] == (
            [(issued, paid)] if paid < issued else []
        )
        assert len(list(store.papers.sessions(KeptFilter()))) == (2 if client else bool(issued))
    return seen


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    paths = os.pathsep.join((str(ROOT), *sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_receipts", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    whole: list[str] = []
    deaths = {folder: (folder / "journal").read_text().splitlines() for folder in tmp_path.iterdir() if folder.is_dir()}
    for folder, acknowledged in deaths.items():
        seen = on_disk(folder / "receipts.sqlite3")
        # One write more than was acknowledged at most: the death came before it could be said.
        assert seen[: len(acknowledged)] == acknowledged, folder.name
        assert len(seen) <= len(acknowledged) + 1, folder.name
        whole = max(whole, seen, key=len)
    assert len(whole) == 2 + 3 * len(RECEIPTS) + 1
    # Deaths of both kinds came early, late and in between.
    for kind in ("statement", "size"):
        assert len({len(lines) for folder, lines in deaths.items() if folder.name.startswith(kind)}) > 6
