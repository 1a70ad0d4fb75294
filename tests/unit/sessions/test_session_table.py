"""The table of sessions: whose they are, what is owed in each, and that it stays bounded."""

import dataclasses
from typing import Any

import pytest

from hostmesh.errors import ConfigError, UsageError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.sessions.record import SessionRecord, SessionState
from hostmesh.sessions.table import SessionLimits, SessionTable

ALICE, BOB = PeerId("alice"), PeerId("bob")
MODEL = "m-30"


def terms_of(number: int, *, limit: int = 1000, expires: int = 1000) -> SessionAuthorization:
    return SessionAuthorization(
        client=bytes(20),
        operator=bytes(20),
        client_peer_id=b"client",
        host_peer_id=b"host",
        nonce=number.to_bytes(32, "big"),
        model_id=MODEL,
        max_price_micros_per_mtok=5,
        currency="USD",
        spending_limit_micros=limit,
        slice_micros=1_000,
        issued_at_unix_s=0,
        expires_at_unix_s=expires,
    )


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def open_one(
    table: SessionTable, number: int, peer: PeerId = ALICE, *, now: float = 0.0, key: str | None = None, **terms: Any
) -> SessionRecord:
    return table.open(
        terms_of(number, **terms),
        b"signature",
        session_id=id_of(number),
        peer_id=peer,
        grant=b"grant %d" % number,
        now=now,
        network_key=key,
    )


def word_of(call: Any, *args: Any, **kwargs: Any) -> Reason:
    with pytest.raises(RefusedError) as caught:
        call(*args, **kwargs)
    return caught.value.word


def test_a_session_is_its_peers() -> None:
    table = SessionTable()
    record = open_one(table, 1)
    assert table.use(id_of(1), ALICE, MODEL, 1.0) is record
    assert word_of(table.use, id_of(1), BOB, MODEL, 1.0) is Reason.SESSION_OF_ANOTHER_PEER
    assert word_of(table.close, id_of(1), BOB, 1.0) is Reason.SESSION_OF_ANOTHER_PEER
    assert record.state is SessionState.ACTIVE


@pytest.mark.parametrize(
    ("session_id", "model", "now", "word"),
    [
        (b"", MODEL, 1.0, Reason.NO_SESSION),
        (id_of(2), MODEL, 1.0, Reason.UNKNOWN_SESSION),
        (id_of(1)[:-1], MODEL, 1.0, Reason.UNKNOWN_SESSION),
        (id_of(1), "m-3", 1.0, Reason.WRONG_MODEL),
        (id_of(1), MODEL, 1000.0, Reason.UNKNOWN_SESSION),
    ],
    ids=["none", "unknown", "short", "model", "expired"],
)
def test_another_use_is_refused(session_id: bytes, model: str, now: float, word: Reason) -> None:
    table = SessionTable()
    open_one(table, 1)
    assert word_of(table.use, session_id, ALICE, model, now) is word


def test_the_identical_authorisation_finds_its_session() -> None:
    table = SessionTable()
    record = open_one(table, 1)
    assert table.repeated(terms_of(1), b"signature", ALICE, 5.0) is record
    assert table.repeated(terms_of(2), b"signature", ALICE, 5.0) is None


@pytest.mark.parametrize(
    ("terms", "signature", "peer"),
    [
        (terms_of(1), b"signature", BOB),
        (terms_of(1), b"signaturf", ALICE),
        (terms_of(1, limit=1001), b"signature", ALICE),
        (dataclasses.replace(terms_of(1), model_id="m-3"), b"signature", ALICE),
    ],
    ids=["peer", "signature", "limit", "model"],
)
def test_any_other_use_of_its_nonce_is_a_replay(terms: SessionAuthorization, signature: bytes, peer: PeerId) -> None:
    table = SessionTable()
    open_one(table, 1)
    assert word_of(table.repeated, terms, signature, peer, 5.0) is Reason.REPLAYED


def test_a_closed_session_is_not_opened_again() -> None:
    table = SessionTable()
    open_one(table, 1)
    assert table.close(id_of(1), ALICE, 1.0) is SessionState.CLOSED
    assert table.close(id_of(1), ALICE, 2.0) is SessionState.CLOSED
    assert word_of(table.use, id_of(1), ALICE, MODEL, 2.0) is Reason.SESSION_CLOSED
    assert word_of(table.repeated, terms_of(1), b"signature", ALICE, 2.0) is Reason.REPLAYED
    with pytest.raises(RefusedError):
        table.open(terms_of(1), b"signature", session_id=id_of(9), peer_id=ALICE, grant=b"", now=2.0)


def test_work_that_was_begun_ends_in_a_closed_session() -> None:
    table = SessionTable()
    record = open_one(table, 1)
    first, second = table.reserve(record, 600), table.reserve(record, 400)
    assert table.close(id_of(1), ALICE, 1.0) is SessionState.CLOSING
    assert word_of(table.reserve, record, 0) is Reason.SESSION_CLOSED
    assert table.settle(record, first, 250) == 250
    table.release(record, second)
    assert record.state is SessionState.CLOSED
    assert record.spent_micros == 250


def test_work_that_was_begun_ends_in_an_expired_session() -> None:
    table = SessionTable()
    record = open_one(table, 1)
    reservation = table.reserve(record, 600)
    table.expire(1000.0)
    assert record.state is SessionState.EXPIRED
    assert word_of(table.use, id_of(1), ALICE, MODEL, 1000.0) is Reason.SESSION_EXPIRED
    assert len(table) == 1
    assert table.settle(record, reservation, 500) == 500
    assert len(table) == 0
    assert not table.knows(ALICE)


def test_parallel_work_cannot_owe_more_than_the_limit() -> None:
    table = SessionTable()
    record = open_one(table, 1, limit=1000)
    first, second = table.reserve(record, 600), table.reserve(record, 400)
    assert word_of(table.reserve, record, 1) is Reason.SPENDING_LIMIT
    table.reserve(record, 0)
    assert table.settle(record, first, 100) == 100
    assert record.remaining_micros == 500
    assert table.settle(record, second, 10**9) == 900
    assert record.spent_micros == 1000
    assert word_of(table.reserve, record, 1) is Reason.SPENDING_LIMIT


def test_a_reservation_is_settled_once() -> None:
    table = SessionTable()
    record = open_one(table, 1)
    reservation = table.reserve(record, 100)
    assert table.settle(record, reservation, 60) == 60
    assert table.settle(record, reservation, 60) == 0
    table.release(record, reservation)
    assert record.spent_micros == 60


@pytest.mark.parametrize("call", ["reserve", "settle"])
def test_money_is_not_negative(call: str) -> None:
    table = SessionTable()
    record = open_one(table, 1)
    with pytest.raises(UsageError):
        table.reserve(record, -1) if call == "reserve" else table.settle(record, table.reserve(record, 5), -1)


def test_a_free_session_has_a_limit_of_nothing() -> None:
    table = SessionTable()
    record = open_one(table, 1, limit=0)
    assert table.settle(record, table.reserve(record, 0), 0) == 0
    assert word_of(table.reserve, record, 1) is Reason.SPENDING_LIMIT


def test_so_much_work_is_begun_at_once() -> None:
    table = SessionTable(SessionLimits(reservations=2))
    record = open_one(table, 1)
    reservation = table.reserve(record, 1)
    table.reserve(record, 1)
    assert word_of(table.reserve, record, 1) is Reason.SPENDING_LIMIT
    table.release(record, reservation)
    table.reserve(record, 1)


def test_a_peer_and_a_network_have_so_many() -> None:
    table = SessionTable(SessionLimits(per_peer=2, per_network=3))
    for number in (1, 2):
        open_one(table, number, ALICE, key="net")
    assert word_of(open_one, table, 3, ALICE, key="other") is Reason.TOO_MANY_SESSIONS
    open_one(table, 4, BOB, key="net")
    assert word_of(open_one, table, 5, BOB, key="net") is Reason.TOO_MANY_SESSIONS
    open_one(table, 6, BOB, key=None)
    table.close(id_of(1), ALICE, 0.0)
    open_one(table, 7, ALICE, key="net")


def test_a_full_table_drops_what_has_ended_first() -> None:
    table = SessionTable(SessionLimits(total=3))
    for number in (1, 2, 3):
        open_one(table, number, PeerId(f"peer {number}"))
    table.close(id_of(2), PeerId("peer 2"), 0.0)
    open_one(table, 4)
    assert word_of(table.use, id_of(2), PeerId("peer 2"), MODEL, 0.0) is Reason.UNKNOWN_SESSION
    for number in (1, 3):
        table.use(id_of(number), PeerId(f"peer {number}"), MODEL, 0.0)


def test_a_full_table_drops_an_idle_session_and_never_a_working_one() -> None:
    table = SessionTable(SessionLimits(total=3, idle_s=600.0))
    working = open_one(table, 1, now=0.0, expires=10_000)
    table.reserve(working, 1)
    open_one(table, 2, now=10.0, expires=10_000)
    open_one(table, 3, now=20.0, expires=10_000)
    assert word_of(open_one, table, 4, now=609.0, expires=10_000) is Reason.TOO_MANY_SESSIONS
    table.use(id_of(2), ALICE, MODEL, 609.0)
    assert word_of(open_one, table, 4, now=615.0, expires=10_000) is Reason.TOO_MANY_SESSIONS
    open_one(table, 4, now=620.0, expires=10_000)
    assert word_of(table.use, id_of(3), ALICE, MODEL, 620.0) is Reason.UNKNOWN_SESSION
    assert len(table) == 3
    assert table.active_count() == 3


def test_a_flood_is_bounded() -> None:
    table = SessionTable(SessionLimits(total=50))
    refusals = 0
    for number in range(1, 1000):
        try:
            open_one(table, number, PeerId(f"peer {number}"), key=f"net {number}")
        except RefusedError:
            refusals += 1
    assert (len(table), refusals) == (50, 949)
    table.expire(1000.0)
    assert (len(table), len(table._by_nonce), len(table._of_peer), len(table._of_network)) == (0, 0, 0, 0)


@pytest.mark.parametrize("bad", [b"", bytes(15), bytes(17), id_of(1)])
def test_an_id_is_16_fresh_bytes(bad: bytes) -> None:
    table = SessionTable()
    open_one(table, 1)
    with pytest.raises(UsageError):
        table.open(terms_of(2), b"", session_id=bad, peer_id=ALICE, grant=b"", now=0.0)


@pytest.mark.parametrize("name", ["per_peer", "per_network", "total", "reservations", "idle_s"])
def test_limits_are_above_nothing(name: str) -> None:
    with pytest.raises(ConfigError):
        SessionLimits(**{name: 0})  # type: ignore[arg-type]


def test_limits_of_one_are_limits() -> None:
    table = SessionTable(SessionLimits(per_peer=1, per_network=1, total=1, reservations=1, idle_s=0.5))
    record = open_one(table, 1, key="n")
    table.reserve(record, 1)
    assert word_of(table.reserve, record, 1) is Reason.SPENDING_LIMIT
    assert word_of(open_one, table, 2, BOB, key="m", now=100.0) is Reason.TOO_MANY_SESSIONS


@pytest.mark.parametrize("end", ["settle", "release"])
def test_an_expired_session_is_gone_with_its_last_work(end: str) -> None:
    table = SessionTable()
    record = open_one(table, 1)
    first, last = table.reserve(record, 10), table.reserve(record, 10)
    table.expire(1000.0)
    table.release(record, first)
    assert len(table) == 1
    if end == "settle":
        assert table.settle(record, last, 10) == 10
    else:
        table.release(record, last)
    assert len(table) == 0


def test_a_repetition_after_the_end_finds_nothing() -> None:
    """Its session is forgotten; that the authorisation is over is for its times to say."""
    table = SessionTable()
    open_one(table, 1)
    assert table.repeated(terms_of(1), b"signature", ALICE, 1000.0) is None
    assert len(table) == 0


def test_checking_for_room_makes_none() -> None:
    table = SessionTable(SessionLimits(total=1, idle_s=10.0))
    open_one(table, 1)
    table.check_room(BOB, 10.0)
    assert table.use(id_of(1), ALICE, MODEL, 10.0)
    assert word_of(table.check_room, BOB, 19.0) is Reason.TOO_MANY_SESSIONS
    table.check_room(BOB, 20.0)
    open_one(table, 2, BOB, now=20.0)
    assert word_of(table.use, id_of(1), ALICE, MODEL, 20.0) is Reason.UNKNOWN_SESSION


def test_a_session_that_had_to_go_is_over_for_whoever_holds_it() -> None:
    """Its delegation's account does, and ends it once more when the delegation is revoked."""
    table = SessionTable(SessionLimits(total=2, per_peer=2, idle_s=600.0))
    gone = open_one(table, 1, now=0.0, expires=10_000)
    open_one(table, 2, now=10.0, expires=10_000)
    open_one(table, 3, BOB, now=700.0, expires=10_000)
    assert word_of(table.use, id_of(1), ALICE, MODEL, 700.0) is Reason.UNKNOWN_SESSION
    assert gone.state is SessionState.CLOSED
    assert gone.open_micros == 0
    assert word_of(table.reserve, gone, 1) is Reason.SESSION_CLOSED
    table.end(gone, Reason.DELEGATION_REVOKED)
    table.close(id_of(2), ALICE, 700.0)
    assert not table.knows(ALICE)
    assert table.active_count() == 1
