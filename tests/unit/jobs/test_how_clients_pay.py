"""What of a client's jobs and sessions a host counts for its wallet, and what against it.

A token costs one micro-unit. The prompt ``Hi there`` has four tokens.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    CLIENT_WALLET,
    NETWORK,
    Clock,
    Host,
    Purse,
    Script,
    make_client,
    make_host,
)
from tests.unit.jobs.receipt_kit import (
    EVERYTHING,
    PROMPT,
    SESSION_ID,
    ask,
    begin,
    cut,
    run_to_end,
    setting,
    sign,
)

from hostmesh.errors import RpcError
from hostmesh.jobs import receipt_desk
from hostmesh.jobs.client import JobManager
from hostmesh.receipts.receipt import open_sealed
from hostmesh.sessions.admission.client_standing_book import ClientStandingBook
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient

WALLET = CLIENT_WALLET.address_bytes
OTHER_SESSION = b"o" * 16
MINUTE_S = 60.0


def book_of() -> ClientStandingBook:
    # One moment for all, so that nothing fades.
    return ClientStandingBook(system=replace(Clock().system(), unix_s=lambda: 1_900_000_000.0))


def seen(book: ClientStandingBook) -> tuple[float, float]:
    """Jobs that count for the wallet, and what counts against it."""
    standing = book.get(WALLET)
    return standing.paid, standing.overdue


def open_at(host: Host, session_id: bytes, slice_micros: int) -> None:
    host.purses[session_id] = Purse(limit=10_000, slice_micros=slice_micros, price_ceiling=10**7, session_id=session_id)


async def look(host: Host, manager: JobManager) -> None:
    """Have a job in another session begin and end, which is when the host looks at those that are over."""
    if OTHER_SESSION not in host.purses:
        open_at(host, OTHER_SESSION, 100)
    host.engine.scripts.insert(0, Script(pieces=()))
    stub, request = await begin(manager)
    async with stub.run(request, timeout_s=None, session_id=OTHER_SESSION) as responses:
        await anext(responses)
    await host.until_idle()


async def look_twice(host: Host, manager: JobManager) -> None:
    for _ in range(2):
        await trio.sleep(MINUTE_S)
        await look(host, manager)


async def test_who_takes_most_of_a_slice_in_each_session_earns_no_good_name(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    book = book_of()
    host = make_host(clients=book, prices={CHAT: ModelPrice(micros_per_mtok=1_000_000, currency="USD")})
    host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
    manager, _ = make_client(host, nursery)
    for number in range(20):
        session_id = bytes([number + 1]) * 16
        open_at(host, session_id, 100)
        stub, request = await begin(manager)
        async with stub.run(request, timeout_s=None, session_id=session_id) as responses:
            async for response in responses:
                if response.WhichOneof("event") == "text" and response.text.index == 44:
                    break
        await host.until_idle()
        receipt = await ask(stub, request.quote_id, 0, session_id=session_id)
        assert receipt.cost_micros == 4, "of 49 that were taken"
        await stub.countersign(
            job_pb2.CountersignRequest(
                job_id=receipt.job_id, sequence=receipt.sequence, signature=CLIENT_WALLET.sign(receipt, NETWORK)
            ),
            timeout_s=5,
            session_id=session_id,
        )
    assert seen(book) == (0, 0)
    assert book.reputation(WALLET) == 100


@pytest.mark.parametrize(
    ("slice_micros", "sent", "said", "is_paid"),
    [
        (400, 56, 56, True),
        (400, 56, 41, True),  # a quarter of what was sent, prompt and all
        (400, 56, 40, False),
        (400, 56, 0, False),
        (20, 55, 50, True),  # a quarter of the slice
        (20, 55, 49, False),
    ],
)
async def test_a_job_that_was_cut_counts_where_a_quarter_of_it_and_of_the_slice_was_lost_at_most(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    slice_micros: int,
    sent: int,
    said: int,
    is_paid: bool,
) -> None:
    book = book_of()
    host, manager, _, _ = setting(nursery, slice_micros, clients=book)
    host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
    stub, request = await begin(manager)
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for response in responses:
            kind = response.WhichOneof("event")
            if kind == "receipt":
                receipt = open_sealed(response.receipt, network=NETWORK).receipt
                if receipt.output_pieces <= said:
                    await sign(stub, receipt)
            if kind == "text" and response.text.index == sent - 1:
                break
    await host.until_idle()
    last = await ask(stub, request.quote_id, said)
    assert last.output_pieces == said
    assert seen(book) == (0, 0), "only what ended counts"
    for _ in range(2):
        await sign(stub, last)
    assert seen(book) == (1 if is_paid else 0, 0)


async def test_of_a_cut_job_that_is_forgotten_nobody_knows_whether_it_was_paid(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_desk, "MAX_CUT_JOBS", 1)
    book = book_of()
    host, manager, _, _ = setting(nursery, 400, clients=book)
    host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
    stub, first = await cut(manager, host, after=50)
    last = await ask(stub, first, 0)
    _, second = await cut(manager, host, after=1)
    await sign(stub, last)
    assert seen(book) == (0, 0)
    await sign(stub, await ask(stub, second, EVERYTHING))
    assert seen(book) == (1, 0)


@pytest.mark.parametrize(("after", "is_much"), [(46, False), (47, True)])
async def test_a_session_that_ends_with_more_than_half_a_slice_unpaid_counts_against_its_wallet_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, after: int, is_much: bool
) -> None:
    book = book_of()
    host, manager, _, _ = setting(nursery, 100, clients=book)
    host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
    await cut(manager, host, after=after)
    await look_twice(host, manager)
    assert seen(book) == (0, 0), "an open session may still pay"
    host.purses[SESSION_ID].is_open = False
    await trio.sleep(MINUTE_S)
    await look(host, manager)
    assert seen(book) == (0, 0), "it has another minute"
    for _ in range(2):
        await look_twice(host, manager)
        assert seen(book) == (0, 1 if is_much else 0)


async def test_what_is_countersigned_within_a_minute_of_the_end_counts_for_the_client(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    book = book_of()
    host, manager, _, _ = setting(nursery, 100, clients=book)
    host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
    stub, job_id = await cut(manager, host, after=50)
    host.purses[SESSION_ID].is_open = False
    await trio.sleep(MINUTE_S)
    await look(host, manager)
    await sign(stub, await ask(stub, job_id, 50))
    await look_twice(host, manager)
    assert seen(book) == (1, 0)


async def read_all(stub: JobServiceClient, request: job_pb2.RunRequest) -> None:
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for _ in responses:
            pass


async def test_who_let_the_host_wait_is_not_told_of_again_when_the_session_ends(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    book = book_of()
    host, manager, _, _ = setting(nursery, 20, clients=book)
    host.engine.default = Script(pieces=("x",) * 60)
    stub, request = await begin(manager)
    with pytest.raises(RpcError) as caught:
        await read_all(stub, request)
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert seen(book) == (0, 1)
    host.purses[SESSION_ID].is_open = False
    await look_twice(host, manager)
    assert seen(book) == (0, 1)


async def test_an_account_that_has_to_go_counts_as_one_that_ended(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_desk, "MAX_ACCOUNTS", 1)
    book = book_of()
    host, manager, _, _ = setting(nursery, 100, clients=book)
    host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
    await cut(manager, host, after=50)
    await look(host, manager)
    assert seen(book) == (0, 1)
    # Read from disk again, it owes nothing that was not told of.
    await cut(manager, host, after=1)
    await look(host, manager)
    assert seen(book) == (0, 1)


async def test_what_was_unpaid_when_the_host_started_is_not_held_against_the_client(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    book = book_of()
    host, manager, session, _ = setting(nursery, 100, clients=book)
    host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
    await cut(manager, host, after=52)
    rate = ModelPrice(micros_per_mtok=1_000_000, currency="USD")
    again = make_host(purse=host.purses[SESSION_ID], prices={CHAT: rate}, receipts=host.receipts, clients=book)
    for _ in range(9):  # ids that were drawn before are not drawn again
        again.server._system.random_bytes(16)
    again.engine.default = Script(pieces=("x",))
    manager, _ = make_client(again, nursery)
    await run_to_end(manager, session, PROMPT)
    again.purses[SESSION_ID].is_open = False
    await look_twice(again, manager)
    await look_twice(again, manager)
    assert seen(book) == (1, 0)


async def test_what_no_receipt_can_claim_is_no_debt_and_what_was_paid_hides_none(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 100, clients=book_of())
    host.engine.default = Script(pieces=("x",))
    await run_to_end(manager, session, PROMPT)
    account = host.server._desk._accounts[SESSION_ID]
    account.ledger.begin(b"uncounted")
    assert account.ledger.may_start(b"uncounted", 0, 0.0, held_micros=60)
    account.ledger.cut(b"uncounted", 0, 0.0, held_micros=60)
    assert (account.ledger.unacknowledged_micros, account.owes_much) == (60, False)
    account.ledger.issued(b"uncounted", 0, 0.0, is_last=True)
    account.ledger.acknowledged(b"uncounted", 0, 0.0)
    account.brought_micros = 80
    await run_to_end(manager, session, PROMPT)
    assert account.brought_micros == 0, "all is paid"
    account.ledger.begin(b"served")
    assert account.ledger.may_serve(b"served", 60, 0.0)
    account.ledger.cut(b"served", 60, 0.0)
    assert account.owes_much
