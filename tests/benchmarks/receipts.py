"""What a receipt costs each side: signing, verifying, the hash chain, the disk.

Run it from the root of the checkout: ``python -m tests.benchmarks.receipts [--json]``.

Every figure is the median of many, in milliseconds of wall time, of one process that does nothing else. The keys are
test keys; the disk is that of the current folder.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import count
from pathlib import Path

from tests.benchmarks.medians import median_ms, print_medians
from tests.support.receipts import HOST, NETWORK, NOW, WALLET, chain_of, job_terms, seal, signed, write_receipts

from hostmesh.identity.structs import Receipt
from hostmesh.receipts.receipt import countersign, open_receipt, seal_receipt, verify_countersignature
from hostmesh.receipts.store import ReceiptStore

ROUNDS = 2_000
TARGET_MS = 0.5
"""For signing, and for verifying."""
SIGNATURES = ("host signs", "client verifies", "client countersigns", "host verifies")
TERMS = job_terms()
FIRST, SECOND, *_ = write_receipts(TERMS)


def figures(rounds: int = ROUNDS) -> dict[str, float]:
    """Return milliseconds by what is done."""
    envelope, checked = seal(SECOND), signed(SECOND)
    signature = countersign(WALLET, checked)
    chain = chain_of(TERMS)
    tokens = count(1)

    def fresh() -> Receipt:
        # Hashes of one struct are not remembered anywhere; a new one makes sure.
        return Receipt(**{attribute: getattr(SECOND, attribute) for _, _, attribute in Receipt.FIELDS})

    measured = {
        "host signs": median_ms(lambda: seal_receipt(HOST, fresh(), network=NETWORK), rounds),
        "client verifies": median_ms(lambda: open_receipt(envelope, TERMS, previous=FIRST, now=NOW + 9), rounds),
        "client countersigns": median_ms(lambda: countersign(WALLET, checked), rounds),
        "host verifies": median_ms(
            lambda: verify_countersignature(fresh(), signature, network=NETWORK, signer=WALLET.address_bytes), rounds
        ),
        "a piece in the hash chain": median_ms(lambda: chain.add_text(" word", next(tokens)), rounds),
    }
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = ReceiptStore(Path(folder) / "receipts.sqlite3")
        jobs = count()

        def issue() -> None:
            job_id = next(jobs).to_bytes(16, "big")
            receipt = Receipt(
                **{
                    attribute: getattr(SECOND, attribute) for _, _, attribute in Receipt.FIELDS if attribute != "job_id"
                },
                job_id=job_id,
            )
            store.put_issued(receipt, envelope, network=NETWORK, signer=WALLET.address_bytes)
            store.put_countersignature(receipt.session_id, job_id, receipt.sequence, signature)

        measured["host writes receipt and countersignature"] = median_ms(issue, rounds)
        store.close()
    return measured


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    measured = figures()
    print_medians(measured, as_json=as_json, rounds=ROUNDS)
    if as_json:
        return
    is_met = max(measured[what] for what in SIGNATURES) <= TARGET_MS
    print(f"target: each signature <= {TARGET_MS:g} ms: {'met' if is_met else 'NOT met'}")


if __name__ == "__main__":
    main()
