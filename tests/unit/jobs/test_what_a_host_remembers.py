"""What of a job a host keeps: the papers that prove its receipts to others, and how the client paid."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio
import trio.testing
from tests.unit.jobs.kit import CHAT, CLIENT_WALLET, HOST_KEY, NETWORK, Script
from tests.unit.jobs.receipt_kit import (
    EVERYTHING,
    PROMPT,
    SESSION_ID,
    Slow,
    ask,
    cut,
    receipts_of,
    run_to_end,
    setting,
    sign,
)

from hostmesh.receipts.bundle import SessionPapers
from hostmesh.receipts.paper_store import HOST, KeptFilter
from hostmesh.receipts.quote import read_quote

WALLET = CLIENT_WALLET.address_bytes


@dataclass
class Standings:
    """Notes what it is told."""

    told: list[tuple[bytes, int | None]] = field(default_factory=list)

    def paid(self, wallet: bytes, *, cost_micros: int) -> None:
        self.told.append((wallet, cost_micros))

    def overdue(self, wallet: bytes) -> None:
        self.told.append((wallet, None))


async def test_papers_of_a_session_and_the_quotes_of_its_jobs(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 100)
    for _ in range(2):
        await run_to_end(manager, session, PROMPT)
    (kept,) = host.receipts.papers.sessions(KeptFilter(side=HOST))
    assert kept.bundle is not None
    purse = host.purses[SESSION_ID]
    assert kept.bundle.session == SessionPapers(
        network=NETWORK, authorization=purse.signed_authorization, grant=purse.grant, delegation=purse.delegation
    )
    assert len(kept.bundle.jobs) == 2
    for job in kept.bundle.jobs:
        signer, quote = read_quote(job.quote, network=NETWORK)
        assert (signer, quote.quote_id, quote.model_id) == (HOST_KEY.peer_id, job.job_id, CHAT)
        assert len(job.receipts) == 1


async def test_who_paid_is_remembered_once_a_job_and_by_its_last_receipt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    clients = Standings()
    host, manager, session, _ = setting(nursery, 20, clients=clients)
    host.engine.default = Script(pieces=("x",) * 20)
    await run_to_end(manager, session, PROMPT)
    assert clients.told == [(WALLET, 24)]
    stub, job_id = await cut(manager, host, after=3)
    last = await ask(stub, job_id, EVERYTHING)
    assert len(clients.told) == 1
    for _ in range(2):
        await sign(stub, last)
    assert clients.told == [(WALLET, 24), (WALLET, last.cost_micros)]
    assert receipts_of(host, job_id)[-1] == last


async def test_who_lets_a_host_wait_in_vain_is_remembered(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    clients = Standings()
    host, manager, session, _ = setting(nursery, 10, handler=Slow, clients=clients)
    host.engine.default = Script(pieces=("x",) * 20)
    with trio.move_on_after(60):
        await run_to_end(manager, session, PROMPT)
    assert clients.told == [(WALLET, None)]
