"""What shared receipts cost: who tells a page of them, and who verifies one.

Run it from the root of the checkout: ``python -m tests.benchmarks.shared_receipts [--json]``.

A client that shares 20,000 sessions of a job each, all copies of one session under ids of their own (their signatures
do not hold; nobody who tells them looks), and 32 true ones of 32 jobs each before them. Figures are medians of 25, in
milliseconds of wall time; the file is in the current folder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import trio
from tests.benchmarks.medians import median_ms, print_medians
from tests.support.receipts import HOST, NETWORK
from tests.support.shared_receipts import keep, session_id_of, session_with

from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.receipts.bundle import verify_bundle, verify_session
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.receipts.service import ReceiptServer
from hostmesh.receipts.sharing import bundle_of, session_message
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.context import CallContext
from hostmesh.v1 import receipt_pb2 as pb

SESSIONS = 20_000
ROUNDS = 25
CALL = CallContext(peer_id=PeerId("asker"), method="ReceiptService.ListShared", deadline=None)
_WHOLE = 32
"""Sessions, and jobs of each."""


def filled(path: Path, sessions: int) -> ReceiptStore:
    """Return a store with what the module says."""
    store = ReceiptStore(path)
    for number in range(_WHOLE):
        keep(store, session_with(number, *[JobState.SUCCEEDED] * _WHOLE), is_shared=True)
    small = session_with(_WHOLE, JobState.SUCCEEDED)
    (job,) = small.jobs
    terms, _ = verify_session(small.session)
    signed = open_sealed(job.receipts[-1].envelope, network=NETWORK)
    host = peer_id_to_bytes(HOST.peer_id)
    for number in range(_WHOLE, sessions):
        session_id = session_id_of(number)
        copy = replace(terms, session_id=session_id)
        store.papers.put_session(copy, small.session, is_host=False)
        store.papers.put_quote(copy, job.job_id, job.quote, is_host=False)
        receipt = replace(signed, receipt=replace(signed.receipt, session_id=session_id))
        store.put_countersigned(receipt, job.receipts[-1].countersignature, signer=terms.signer)
        store.papers.set_shared(host, session_id, True, network=copy.network)
    return store


def figures(sessions: int = SESSIONS) -> dict[str, float]:
    """Return milliseconds by what is done."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = filled(Path(folder) / "receipts.sqlite3", sessions)
        server = ReceiptServer(store.shared, network=NETWORK)

        def tell(**request: object) -> Callable[[], object]:
            asked = pb.ListSharedRequest(**request)  # type: ignore[arg-type]
            return lambda: trio.run(server.list_shared, asked, CALL)

        measured = {
            "a page full of large sessions": median_ms(tell(), ROUNDS),
            "a page of 32 sessions of a job": median_ms(tell(page_token=session_id_of(sessions // 2)), ROUNDS),
            "no session with 16 hosts that were named": median_ms(tell(host_peer_ids=[b"nobody"] * 16), ROUNDS),
        }
        store.close()
    message = session_message(session_with(1, *[JobState.SUCCEEDED] * _WHOLE))
    assert message is not None
    bundle = bundle_of(message, network=NETWORK)
    measured["a job is verified, with its part of the session"] = (
        median_ms(lambda: verify_bundle(bundle), ROUNDS) / _WHOLE
    )
    return measured


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    print_medians(figures(), as_json=as_json, sessions=SESSIONS)


if __name__ == "__main__":
    main()
