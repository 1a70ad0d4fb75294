"""A statement: who owes whom how much, by what was countersigned."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from tests.support.receipts import NETWORK, NOW, OPERATOR, WALLET, bundle

from hostmesh.errors import ReceiptError
from hostmesh.receipts.bundle import ReceiptPapers
from hostmesh.receipts.settlement import Settled, Settlement, Statement, statement_csv

J, K = b"j" * 16, b"k" * 16


def test_it_adds_up_by_who_owes_whom() -> None:
    settlement: Settlement = Statement()
    first = bundle((J, K))
    second = bundle((J,), session_id=b"t" * 16, nonce=b"o" * 32)
    # The last receipt was not countersigned: the one before counts.
    *before, last = second.jobs[0].receipts
    cut = replace(second.jobs[0], receipts=(*before[:2], ReceiptPapers(envelope=last.envelope)))
    (line,) = settlement.settle([first, replace(second, jobs=(cut,))])
    assert line == Settled(
        network=NETWORK,
        operator=OPERATOR.address,
        client=WALLET.address,
        currency="USD",
        # ceil((31 + 6) / 4) twice, and ceil((31 + 2) / 4)
        amount_micros=29,
        sessions=2,
        jobs=3,
        prompt_tokens=93,
        completion_tokens=14,
        first_unix_s=NOW + 1,
        last_unix_s=NOW + 4,
    )


def test_nothing_to_settle() -> None:
    assert Statement().settle([]) == []
    good = bundle()
    bare = replace(good.jobs[0], receipts=(ReceiptPapers(envelope=good.jobs[0].receipts[0].envelope),))
    (line,) = Statement().settle([replace(good, jobs=(bare,))])
    assert (line.amount_micros, line.sessions, line.jobs, line.first_unix_s) == (0, 1, 0, 0)


def test_a_session_counts_once_and_only_if_it_verifies() -> None:
    good = bundle()
    with pytest.raises(ReceiptError) as raised:
        Statement().settle([good, good])
    assert raised.value.reason == "REPLAYED"
    with pytest.raises(ReceiptError):
        Statement().settle([replace(good, session=replace(good.session, grant=b""))])


def test_csv() -> None:
    (line,) = Statement().settle([bundle()])
    heading, row = csv.reader(io.StringIO(statement_csv([replace(line, currency="=1+1")])))
    assert heading[:5] == ["network", "operator", "client", "currency", "amount_micros"]
    assert row[:5] == [NETWORK, OPERATOR.address, WALLET.address, "'=1+1", "10"]
