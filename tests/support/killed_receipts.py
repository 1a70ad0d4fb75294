"""Writes receipts in processes that die: by SIGKILL at each statement, or cut off in the middle of a write.

``python -m tests.support.killed_receipts FOLDER`` makes a folder for each death: the database as the death left it, and
``journal``, a line for each write that had returned before.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.receipts import NETWORK, WALLET, job_terms, papers, quote, seal, signed, write_receipts

from hostmesh.receipts.client_ledger import Refuse
from hostmesh.receipts.reasons import ReceiptFault
from hostmesh.receipts.receipt import countersign
from hostmesh.receipts.store import ReceiptStore

RECEIPTS = write_receipts(job_terms())[:3]
# Signed once, before any process is forked.
_ENVELOPES = [seal(receipt) for receipt in RECEIPTS]
_SIGNED = [signed(receipt) for receipt in RECEIPTS]
_SIGNATURES = [countersign(WALLET, each) for each in _SIGNED]
_SESSION, _PAPERS = papers()
_QUOTE = quote()
STATEMENTS = 200
"""Above what one run executes: the runs of the higher numbers come to their end."""
FILE_SIZES = range(4_000, 130_000, 7_001)
"""Bytes at which the write-ahead log is cut off: in headers, in pages, between them."""


def write_all(store: ReceiptStore, acknowledge: Callable[[str], None]) -> None:
    """A host issues and is paid, a client countersigns and refuses; each is acknowledged once it is on disk."""
    store.papers.put_session(_SESSION, _PAPERS, is_host=True)
    acknowledge("session")
    store.papers.put_quote(_SESSION, b"j" * 16, _QUOTE, is_host=True)
    acknowledge("quote")
    for receipt, envelope, taken, signature in zip(RECEIPTS, _ENVELOPES, _SIGNED, _SIGNATURES, strict=True):
        store.put_issued(receipt, envelope, network=NETWORK, signer=WALLET.address_bytes)
        acknowledge(f"issued {receipt.sequence}")
        store.put_countersignature(receipt.session_id, receipt.job_id, receipt.sequence, signature)
        acknowledge(f"paid {receipt.sequence}")
        store.put_countersigned(taken, signature, signer=WALLET.address_bytes)
        acknowledge(f"countersigned {receipt.sequence}")
    store.put_refused(b"lie", Refuse(reason=ReceiptFault.WRONG_COST, message=""), network=NETWORK)
    acknowledge("refused")


def _live(folder: Path, arm: Callable[[ReceiptStore], None]) -> None:
    folder.mkdir()
    # Made once: what this is about begins with the first receipt.
    shutil.copy(folder.parent / "empty.sqlite3", folder / "receipts.sqlite3")
    store = ReceiptStore(folder / "receipts.sqlite3")
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    arm(store)
    write_all(store, lambda line: os.write(journal, line.encode() + b"\n"))
    # No clean end either: what a close would write is not needed.
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_at(statement: int) -> Callable[[ReceiptStore], None]:
    def arm(store: ReceiptStore) -> None:
        left = statement

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        store._store._db.set_trace_callback(count)

    return arm


def _cut_off_at(size_bytes: int) -> Callable[[ReceiptStore], None]:
    def arm(_: ReceiptStore) -> None:
        # The kernel writes up to the limit and kills at the next byte; Python ignores that signal otherwise.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    return arm


def _die(folder: Path, arm: Callable[[ReceiptStore], None]) -> None:
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
    ReceiptStore(root / "empty.sqlite3").close()
    for statement in range(1, STATEMENTS):
        _die(root / f"statement-{statement}", _kill_at(statement))
        if "refused" in (root / f"statement-{statement}" / "journal").read_text():
            break
    else:
        sys.exit("more statements than were counted on")
    for size_bytes in FILE_SIZES:
        _die(root / f"size-{size_bytes}", _cut_off_at(size_bytes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
