"""The accounts of a session's ledger against columns of numbers that are added up anew after every step."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hostmesh.receipts.host_ledger import HostLedger

SLICE = 20
MICROS = st.sampled_from([*range(7), SLICE])


@dataclass
class Row:
    """A job, in micro-units of its whole cost."""

    served: int = 0
    issued: int = 0
    paid: int = 0
    held: int = 0
    wanted: int | None = None
    """Where a step that waits would bring it."""
    has_started: bool = False
    runs: bool = True
    last: int | None = None
    """What its last receipt claims."""

    @property
    def goes_on(self) -> bool:
        return self.runs and self.has_started and self.wanted is None

    @property
    def unissued(self) -> int:
        return self.served - self.issued


class Accounts(RuleBasedStateMachine):
    """Any order of what a host may do."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = HostLedger(slice_micros=SLICE)
        self.rows: dict[bytes, Row] = {}
        self.asked: list[bytes] = []
        self.carried = 0
        self.before = 0
        """What a restart left unpaid, which may be more than a slice."""

    def add(self, row: Row) -> bytes:
        job_id = bytes([len(self.rows)])
        self.rows[job_id] = row
        return job_id

    def pick(self, data: st.DataObject, **traits: bool) -> tuple[bytes, Row] | None:
        fitting = [
            each for each in self.rows.items() if all(getattr(each[1], name) is value for name, value in traits.items())
        ]
        return data.draw(st.sampled_from(fitting)) if fitting else None

    def go_on(self, woken: tuple[bytes, ...]) -> None:
        assert list(woken) == self.asked[: len(woken)]
        del self.asked[: len(woken)]
        for job_id in woken:
            row = self.rows[job_id]
            assert row.wanted is not None
            row.served, row.wanted = row.wanted, None

    @precondition(lambda self: len(self.rows) < 8)
    @rule(micros=MICROS, is_counted=st.booleans(), beside=MICROS)
    def begin(self, micros: int, is_counted: bool, beside: int) -> None:
        self.ledger.begin(job_id := self.add(Row()))
        self.start(job_id, micros, is_counted, beside)

    @rule(data=st.data(), micros=MICROS, is_counted=st.booleans(), beside=MICROS)
    def ask_again(self, data: st.DataObject, micros: int, is_counted: bool, beside: int) -> None:
        if found := self.pick(data, runs=True, has_started=False):
            self.start(found[0], micros, is_counted, beside)

    def start(self, job_id: bytes, micros: int, is_counted: bool, beside: int) -> None:
        served, held = (micros, 0) if is_counted else (0, micros)
        beside = min(beside, SLICE - micros)
        if self.ledger.may_start(job_id, served, 0.0, held_micros=held, beside_micros=beside):
            row = self.rows[job_id]
            row.has_started, row.served, row.held = True, served, held

    @rule(data=st.data(), micros=MICROS)
    def step(self, data: st.DataObject, micros: int) -> None:
        if found := self.pick(data, goes_on=True):
            job_id, row = found
            micros = min(micros, SLICE - row.held)
            if self.ledger.may_serve(job_id, row.served + micros, 0.0):
                row.served += micros
            else:
                row.wanted = row.served + micros
                self.asked.append(job_id)

    @rule(data=st.data())
    def count(self, data: st.DataObject) -> None:
        if found := self.pick(data, goes_on=True):
            job_id, row = found
            most = row.served + row.held
            row.served = data.draw(st.integers(row.served, most))
            row.held = data.draw(st.integers(0, most - row.served))
            self.go_on(self.ledger.hold(job_id, row.served, 0.0, held_micros=row.held))

    @rule(data=st.data(), is_last=st.booleans())
    def write_receipt(self, data: st.DataObject, is_last: bool) -> None:
        if found := self.pick(data):
            job_id, row = found
            if row.served >= row.issued and (row.served > row.paid or row.held) and row.last is None:
                row.issued = data.draw(st.integers(row.issued, row.served))
                row.last = row.issued if is_last else None
                self.ledger.issued(job_id, row.issued, 0.0, is_last=is_last)

    @rule(data=st.data())
    def pay(self, data: st.DataObject) -> None:
        if found := self.pick(data):
            job_id, row = found
            micros = data.draw(st.integers(0, row.issued))
            row.paid = max(row.paid, micros)
            if row.last is not None and micros >= row.last:
                row.held = 0
            self.go_on(self.ledger.acknowledged(job_id, micros, 0.0))

    @rule(data=st.data(), how=st.sampled_from(["end", "cut", "write_off"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        found = self.pick(data, runs=True)
        if found is None:
            return
        job_id, row = found
        if how == "end":
            row.served = row.issued
        elif how == "cut":
            most = row.served + row.held
            row.served = data.draw(st.integers(row.issued, most))
            row.held = data.draw(st.integers(0, most - row.served))
        else:
            row.served, row.issued, row.held = row.paid, row.paid, 0
        row.runs = False
        if job_id in self.asked:
            self.asked.remove(job_id)
        if how == "end":
            woken = self.ledger.end(job_id, 0.0)
        elif how == "cut":
            woken = self.ledger.cut(job_id, row.served, 0.0, held_micros=row.held)
        else:
            woken = self.ledger.write_off(job_id, 0.0)
        row.wanted = None
        self.go_on(woken)

    @precondition(lambda self: len(self.rows) < 8)
    @rule(issued=st.integers(0, 5), data=st.data())
    def restore(self, issued: int, data: st.DataObject) -> None:
        paid = data.draw(st.integers(0, issued))
        self.ledger.restore(
            self.add(Row(issued, issued, paid, runs=False)), issued_micros=issued, acknowledged_micros=paid
        )
        self.before += issued - paid

    @rule(micros=st.integers(0, 3))
    def carry(self, micros: int) -> None:
        self.ledger.carry(micros)
        self.carried += micros
        self.before += micros

    @invariant()
    def adds_up(self) -> None:
        owed = self.carried + sum(row.served + row.held - row.paid for row in self.rows.values())
        assert owed == self.ledger.unacknowledged_micros <= SLICE + self.before
        assert self.ledger.jobs == sum(row.runs or row.served + row.held > row.paid for row in self.rows.values())

    @invariant()
    def receipts_are_due_at_half_of_what_is_not_held_or_when_somebody_waits(self) -> None:
        held = sum(row.held for row in self.rows.values())
        running = {job_id: row for job_id, row in self.rows.items() if row.runs}
        is_due = 2 * sum(row.unissued for row in running.values()) >= SLICE - held or not all(
            row.goes_on for row in running.values()
        )
        for job_id, row in running.items():
            assert self.ledger.wants_receipt(job_id) is (is_due and row.unissued > 0)


Accounts.TestCase.settings = settings(max_examples=250, stateful_step_count=30)
TestAccounts = Accounts.TestCase
