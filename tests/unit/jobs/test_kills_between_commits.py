"""A host writes a receipt into one file and what was spent into another: what may come between them.

A token costs one micro-unit, the slice is worth 100, and the prompt ``Hi there`` has four tokens: the first receipt is
due at 50, with the 46th piece.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import Script
from tests.unit.jobs.session_kit import RECEIPTS, SESSIONS, Pair
from tests.unit.sessions.conftest import NETWORK

from hostmesh.errors import HostmeshError, StoreError
from hostmesh.receipts.receipt import open_sealed
from hostmesh.sessions.book import SessionBook
from hostmesh.sessions.session import Session
from hostmesh.v1 import job_pb2

PIECES = Script(pieces=("x",) * 60, delay_s=0.1)


def fail_once(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, *, after: int = 0) -> None:
    """Have a method raise once, as if the disk were full for a moment."""
    real, calls = getattr(where, name), iter(range(1000))

    def full(*args: Any, **options: Any) -> Any:
        if next(calls) == after:
            raise StoreError("disk full", path="/x")
        return real(*args, **options)

    monkeypatch.setattr(where, name, full)


def is_free(pair: Pair, session: Session) -> bool:
    return pair.ledger(session).unacknowledged_micros == 0


@pytest.mark.parametrize("after", [0, 1])
async def test_a_receipt_that_could_not_be_written_is_owed_by_nobody(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    pair = Pair(tmp_path, nursery)
    session = await pair.open()
    pair.engine.default = PIECES
    for _ in range(2):
        fail_once(monkeypatch, pair.receipts, "put_issued", after=after)
        with pytest.raises(HostmeshError):
            await pair.run(session)
        monkeypatch.undo()
    await trio.sleep(1)
    assert pair.spent_micros(session) == session.spent_micros == 100 * after
    pair.start_host(tmp_path)
    session = await pair.sessions.resume(session.session_id)
    started = trio.current_time()
    await pair.run(session)
    assert trio.current_time() - started < 7
    assert is_free(pair, session)
    assert pair.spent_micros(session) == session.spent_micros == 64 + 100 * after


@pytest.mark.parametrize("after", [0, 1])
async def test_a_sum_that_could_not_be_written_is_owed_by_nobody_either(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    pair = Pair(tmp_path, nursery)
    session = await pair.open()
    pair.engine.default = PIECES
    fail_once(monkeypatch, pair.world.server._book._store, "save_spent", after=after)
    # Where it was the sum of the last receipt, the job was done, and the client asks for that receipt.
    with pytest.raises(HostmeshError):
        await pair.run(session)
    await trio.sleep(1)
    assert pair.receipts.unpaid(session.session_id) == ()
    assert session.spent_micros == 64 * after
    for _ in range(2):
        await pair.run(session)
        assert is_free(pair, session)
        pair.start_host(tmp_path)
    await pair.run(session)
    assert is_free(pair, session)
    assert pair.jobs._receipts.refused() == ()


async def die_between(pair: Pair, session: Session, folder: Path, patch: pytest.MonkeyPatch, *, at: int) -> None:
    """Run a job whose host is killed between the commits of a receipt, and start the host with the files of then."""
    calls = iter(range(1000))
    real = SessionBook.advance

    def advance(book: SessionBook, *args: Any) -> int:
        if next(calls) != at:
            return real(book, *args)
        folder.mkdir()
        for name in (SESSIONS, RECEIPTS):
            for file in pair.folder.glob(f"{name}*"):
                shutil.copy(file, folder / file.name)
        raise StoreError("it says nothing more", path="/x")

    with patch.context() as dying:
        dying.setattr(SessionBook, "advance", advance)
        with pytest.raises(HostmeshError):
            await pair.run(session)
    pair.start_host(folder)


@pytest.mark.parametrize(("at", "spent", "issued", "paid", "left"), [(0, 0, 50, 0, 50), (1, 50, 64, 50, 0)])
async def test_what_a_kill_left_between_them_can_be_paid_and_is_in_the_sum(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    spent: int,
    issued: int,
    paid: int,
    left: int,
) -> None:
    pair = Pair(tmp_path, nursery)
    session = await pair.open()
    pair.engine.default = PIECES
    await die_between(pair, session, tmp_path / "killed", monkeypatch, at=at)
    (unpaid,) = pair.receipts.unpaid(session.session_id)
    assert (unpaid.issued_micros, unpaid.acknowledged_micros) == (issued, paid)
    assert pair.spent_micros(session) == spent
    response = await pair.stub.get_receipt(
        job_pb2.GetReceiptRequest(job_id=unpaid.job_id, delivered_pieces=60),
        timeout_s=5,
        session_id=session.session_id,
    )
    receipt = open_sealed(response.receipt, network=NETWORK).receipt
    assert receipt.cost_micros == issued
    # The next job finds what the receipt claims in the sum.
    pair.engine.default = Script(pieces=("x",))
    started = trio.current_time()
    await pair.run(session)
    assert pair.spent_micros(session) == issued + 5
    # Of the last receipt a client that heard of it sends its countersignature again by itself.
    assert pair.ledger(session).unacknowledged_micros == left
    await pair.stub.countersign(
        job_pb2.CountersignRequest(
            job_id=receipt.job_id, sequence=receipt.sequence, signature=session.countersign(receipt)
        ),
        timeout_s=5,
        session_id=session.session_id,
    )
    assert is_free(pair, session)
    await pair.run(session, "x " * 97)
    assert trio.current_time() == started


async def test_a_sum_that_is_behind_leaves_no_job_more_than_the_limit(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(tmp_path, nursery)
    session = await pair.open(limit_micros=120)
    pair.engine.default = PIECES
    await die_between(pair, session, tmp_path / "killed", monkeypatch, at=0)
    # 50 are claimed: 70 are left, and the answer may have 64.
    with pytest.raises(HostmeshError) as caught:
        await pair.run(session, "x " * 10)
    assert getattr(caught.value, "reason", "") == "SPENDING_LIMIT"
    pair.engine.default = Script(pieces=("x",))
    await pair.run(session)
    assert pair.spent_micros(session) == 50 + 5
