"""Parallel jobs on one slice, in any order: the ceiling holds, and an honest client's jobs all come to their end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.receipts.host_ledger import HostLedger

slices = st.integers(1, 40)


@given(data=st.data(), slice_micros=slices)
def test_every_job_of_a_client_that_answers_ends(data: st.DataObject, slice_micros: int) -> None:
    """The model adds up by itself what was served, issued and paid; the ledger only decides who goes on."""
    steps = st.lists(st.integers(0, slice_micros), min_size=1, max_size=6)
    todo = {bytes([n]): each for n, each in enumerate(data.draw(st.lists(steps, min_size=1, max_size=4)))}
    ledger = HostLedger(slice_micros=slice_micros)
    served = dict.fromkeys(todo, 0)
    issued, paid = dict(served), dict(served)
    asked: list[bytes] = []
    outstanding: list[tuple[bytes, int]] = []
    running = list(todo)
    for job_id in running:
        ledger.begin(job_id)

    def receipt(job_id: bytes) -> None:
        issued[job_id] = served[job_id]
        ledger.issued(job_id, issued[job_id], 0.0)
        outstanding.append((job_id, issued[job_id]))

    def go_on(woken: tuple[bytes, ...]) -> None:
        # In the order in which they asked, and nobody is left out.
        assert list(woken) == asked[: len(woken)]
        for job_id in woken:
            asked.remove(job_id)
            served[job_id] += todo[job_id].pop(0)
            if ledger.wants_receipt(job_id):
                receipt(job_id)

    while running or outstanding:
        ready = [job_id for job_id in running if job_id not in asked]
        # Somebody can always do something: no job waits for nobody.
        choices = [*ready, *("pay" for _ in outstanding[:1])]
        assert choices
        choice = data.draw(st.sampled_from(choices))
        if isinstance(choice, str):
            job_id, cost = outstanding.pop(0)
            paid[job_id] = max(paid[job_id], cost)
            go_on(ledger.acknowledged(job_id, cost, 0.0))
        elif not todo[choice]:
            receipt(choice)
            running.remove(choice)
            go_on(ledger.end(choice, 0.0))
        else:
            if ledger.may_serve(choice, served[choice] + todo[choice][0], 0.0):
                served[choice] += todo[choice].pop(0)
            else:
                asked.append(choice)
            if ledger.wants_receipt(choice):
                receipt(choice)
        owed = sum(served.values()) - sum(paid.values())
        assert owed == ledger.unacknowledged_micros <= slice_micros
    assert not any(todo.values())
    assert (ledger.jobs, ledger.unacknowledged_micros) == (0, 0)


@given(slice_micros=slices, costs=st.lists(st.integers(1, 5), max_size=60))
def test_a_client_that_never_answers_gets_a_slice_and_no_more(slice_micros: int, costs: list[int]) -> None:
    ledger = HostLedger(slice_micros=slice_micros)
    ledger.begin(b"a")
    served = 0
    for cost in costs:
        if cost > slice_micros or not ledger.may_serve(b"a", served + cost, 0.0):
            break
        served += cost
        if ledger.wants_receipt(b"a"):
            ledger.issued(b"a", served, 0.0)
    assert served == ledger.unacknowledged_micros <= slice_micros
    if served < sum(costs):
        assert max(costs) > slice_micros or (ledger.awaits_client(b"a") and ledger.patience.left_s(30.0) == 0.0)
