"""Receipts as JSON lines: there and back, and which line is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.support.receipts import bundle

from hostmesh.errors import ReceiptError
from hostmesh.receipts.export import MAX_LINE_CHARS, LineReader, bundle_lines, read_bundles

J, K = b"j" * 16, b"k" * 16
TWO = [bundle((J, K)), bundle((J,), delegated=True, session_id=b"t" * 16, nonce=b"o" * 32)]
LINES = [line for each in TWO for line in bundle_lines(each)]
# A session, two jobs of five receipts each; a session, a job, five receipts.
KINDS = ["session", "job", *["receipt"] * 5, "job", *["receipt"] * 5, "session", "job", *["receipt"] * 5]


def faults(lines: list[str]) -> list[tuple[int, str]]:
    reader = LineReader()
    found = [reader.read(line) for line in lines]
    return [(each.line, each.reason) for each in found if each is not None]


def changed(number: int, **changes: Any) -> list[str]:
    """The lines with one of them changed, counted from 1."""
    document = json.loads(LINES[number - 1]) | changes
    return [*LINES[: number - 1], json.dumps(document), *LINES[number:]]


def test_there_and_back() -> None:
    assert [json.loads(line)["type"] for line in LINES] == KINDS
    assert list(read_bundles(LINES)) == TWO
    assert list(read_bundles([*LINES[:13], "", "  \n", *LINES[13:]])) == TWO
    assert list(read_bundles([])) == []


def test_one_session_at_a_time_is_held() -> None:
    reader = LineReader()
    for line in LINES[:13]:
        assert reader.read(line) is None
        assert reader.take(is_end=False) == ()
    reader.read(LINES[13])
    assert reader.take(is_end=False) == (TWO[0],)
    for line in LINES[14:]:
        reader.read(line)
    assert reader.take() == (TWO[1],)
    assert (reader.sessions, reader.receipts) == (2, 15)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "7",
        "{}",
        '{"type": "receipts"}',
        '{"type": "session", "version": 2, "network": "testnet"}',
        '{"type": "session", "version": 1, "network": 7}',
        '{"type": "session", "version": 1, "network": "testnet", "authorization": "zz"}',
        '{"type": "job", "job_id": 7}',
        '{"type": "job", "job_id": "6A"}',
        '{"type": "job", "job_id": "6a "}',
        "[" * 100,
        json.dumps({"type": "x" * MAX_LINE_CHARS}),
    ],
)
def test_lines_that_are_none(line: str) -> None:
    assert faults([line]) == [(1, "BUNDLE_MALFORMED")]


def test_the_line_that_is_wrong_is_named() -> None:
    receipt = json.loads(LINES[4])
    for lines, expected in (
        (changed(5, countersignature="00" * 65), [(5, "BAD_COUNTERSIGNATURE")]),
        (changed(5, envelope=receipt["envelope"][:-2] + "00"), [(5, "BAD_SIGNATURE")]),
        ([*LINES[:4], LINES[5], LINES[4], *LINES[6:]], [(6, "REPLAYED")]),
        # What depends on a wrong line is wrong as well; the next session is not.
        (changed(2, quote=""), [(2, "BAD_QUOTE"), *((n, "NO_SESSION") for n in range(3, 8))]),
        (changed(8, quote=""), [(8, "BAD_QUOTE"), *((n, "NO_SESSION") for n in range(9, 14))]),
        (changed(1, network="x"), [(1, "BAD_AUTHORIZATION"), *((n, "NO_SESSION") for n in range(2, 14))]),
        (LINES[1:], [(n, "NO_SESSION") for n in range(1, 13)]),
        ([*LINES, *LINES[:2]], [(21, "REPLAYED"), (22, "NO_SESSION")]),
    ):
        assert faults(lines) == expected


def test_what_is_wrong_is_not_among_what_is_read() -> None:
    reader = LineReader()
    for line in changed(7, countersignature="00" * 65):
        reader.read(line)
    first, second = reader.take()
    assert len(first.jobs[0].receipts) == 4
    assert replace(first, jobs=()) == replace(TWO[0], jobs=())
    assert second == TWO[1]


def test_reading_stops_at_the_first_wrong_line() -> None:
    with pytest.raises(ReceiptError, match="line 5: ") as raised:
        list(read_bundles(changed(5, countersignature="00" * 65)))
    assert raised.value.reason == "BAD_COUNTERSIGNATURE"
