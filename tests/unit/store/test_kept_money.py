"""Money in a row is believed where it is an amount, and is else a damaged file: never another error, never a sum."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.receipts import HOST, NETWORK, WALLET, job_terms, papers, quote, seal, signed, write_receipts
from tests.unit.sessions.client_kit import start
from tests.unit.sessions.conftest import World, wallet_of

from hostmesh.errors import StoreError
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.paper_store import KeptFilter
from hostmesh.receipts.receipt import countersign
from hostmesh.receipts.store import ReceiptStore
from hostmesh.store import Store

BAD = ("", "x", "-1", "+1", " 1", "1\n", "1.0", "1e3", "01", "1_000", "0x1", "१", "9" * 5_000, "\x1b[31m")
J, S = b"j" * 16, b"s" * 16
HOST_ID = peer_id_to_bytes(HOST.peer_id)


def change(path: Path, statement: str, value: object) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(statement, (value,)).rowcount > 0


@pytest.mark.parametrize("amount", [0, 1, 10, 2**63, 2**64 - 1, 1_000 * 2**64])
def test_what_was_written_is_read(amount: int) -> None:
    assert Store(None, what="it", migrations=()).money(str(amount)) == amount


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_anything_else_is_a_damaged_file(text: str) -> None:
    with pytest.raises(StoreError, match="no hostmesh wrote") as caught:
        Store(None, what="it", migrations=()).money(text)
    assert caught.value.remedy
    # What somebody put there may be no text for a terminal.
    assert "\x1b" not in caught.value.message


def totals(store: ReceiptStore) -> None:
    for kept in store.papers.sessions(KeptFilter()):
        store.papers.totals(kept)


READS: dict[str, tuple[str, Callable[[ReceiptStore], object]]] = {
    "unpaid": ("host", lambda store: store.unpaid(S)),
    "settled": ("host", lambda store: store.settled_micros(S)),
    "countersigned": ("client", lambda store: store.countersigned(HOST_ID, S)),
    "totals": ("client", totals),
}


@pytest.fixture
def receipts(tmp_path: Path) -> Iterator[ReceiptStore]:
    """A host's and a client's receipts of one job."""
    store = ReceiptStore(tmp_path / "receipts.sqlite3")
    session, session_papers = papers()
    for is_host in (True, False):
        store.papers.put_session(session, session_papers, is_host=is_host)
        store.papers.put_quote(session, J, quote(J), is_host=is_host)
    for receipt in write_receipts(job_terms(J, session))[:2]:
        store.put_issued(receipt, seal(receipt), network=NETWORK, signer=WALLET.address_bytes)
        signature = countersign(WALLET, signed(receipt))
        store.put_countersigned(signed(receipt), signature, signer=WALLET.address_bytes)
        if receipt.sequence == 1:
            store.put_countersignature(S, J, 1, signature)
    yield store
    store.close()


@pytest.mark.parametrize(("side", "read"), READS.values(), ids=READS.keys())
def test_receipts(side: str, read: Callable[[ReceiptStore], object], receipts: ReceiptStore, tmp_path: Path) -> None:
    read(receipts)
    for text in BAD:
        change(tmp_path / "receipts.sqlite3", f"UPDATE receipts SET cost_micros = ? WHERE side = '{side}'", text)
        with pytest.raises(StoreError, match="no hostmesh wrote"):
            read(receipts)


def test_a_receipt_that_no_message_can_name(receipts: ReceiptStore, tmp_path: Path) -> None:
    """Its client sends what it countersigned last once more, by its sequence."""
    change(tmp_path / "receipts.sqlite3", "UPDATE receipts SET sequence = ? WHERE sequence = 1", -1)
    with pytest.raises(StoreError, match="no hostmesh wrote"):
        receipts.countersigned(HOST_ID, S)


@pytest.mark.parametrize("table", ["sessions", "delegations"])
async def test_the_sessions_of_a_host(table: str, tmp_path: Path) -> None:
    world = World(path=tmp_path / "hosted_sessions.sqlite3")
    assert world.path is not None
    key = wallet_of("session key")
    await start(world.manager(wallet=key, delegation=world.delegation(key)), world)
    world.restart()
    for text in BAD:
        change(world.path, f"UPDATE {table} SET spent_micros = ?", text)
        with pytest.raises(StoreError, match="no hostmesh wrote"):
            world.restart()


@pytest.mark.parametrize(
    "column", ["sessions.spent_micros", "sessions.limit_micros", "budgets.spent_micros", "budgets.limit_micros"]
)
async def test_the_sessions_and_the_budget_of_a_client(column: str, tmp_path: Path) -> None:
    world, path = World(), tmp_path / "sessions.sqlite3"
    manager = world.manager(path=path)
    manager.set_budget("USD", 20_000)
    await start(manager, world)
    table, name = column.split(".")
    for text in BAD:
        change(path, f"UPDATE {table} SET {name} = ?", text)
        with pytest.raises(StoreError, match="no hostmesh wrote"):
            manager.budget("USD")
        if column == "sessions.spent_micros":
            with pytest.raises(StoreError, match="no hostmesh wrote"):
                world.manager(path=path)
