"""The trace: its hash, its text, its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.testing.trace import Trace


def trace_of(*events: tuple[Any, ...], **options: int) -> Trace:
    trace = Trace(**options)
    for event in events:
        trace.add(*event)
    return trace


EVENT = (1.5, "data", "ann", "bob", 40, 1.25)


@pytest.mark.parametrize(
    "other",
    [
        (1.5000001, "data", "ann", "bob", 40, 1.25),
        (1.5, "end", "ann", "bob", 40, 1.25),
        (1.5, "data", "bob", "ann", 40, 1.25),
        (1.5, "data", "ann", "bob", 41, 1.25),
    ],
)
def test_the_hash_covers_time_kind_ends_and_size(other: tuple[Any, ...]) -> None:
    assert trace_of(EVENT).hash() == trace_of(EVENT).hash() != trace_of(other).hash()


def test_the_hash_does_not_depend_on_when_it_is_asked_for_nor_on_what_is_kept() -> None:
    asked, unasked = Trace(max_events=3), Trace()
    for number in range(2000):
        for trace in (asked, unasked):
            trace.add(number, "data", "a", "b", number)
        if number % 7 == 0:
            asked.hash()
    assert asked.hash() == unasked.hash()
    assert (len(asked), len([*asked]), len([*unasked])) == (2000, 3, 2000)
    assert "1997 later events were not kept" in asked.text()


def test_a_reader_finds_each_event_under_both_machines() -> None:
    trace = trace_of((0.5, "kill", "cid"), EVENT)
    blocks = {block.splitlines()[0]: block for block in trace.text().split("\n\n")}
    assert set(blocks) == {"== cid", "== ann", "== bob"}
    assert "-> bob" in blocks["== ann"]
    assert "<- ann" in blocks["== bob"]
    assert "** kill" in blocks["== cid"]
    assert trace.text("bob") == blocks["== bob"]


def test_counts_and_bytes_add_up() -> None:
    trace = trace_of(EVENT, EVENT, (2.0, "end", "ann", "bob"))
    assert trace.counts == {"data": 2, "end": 1}
    assert trace.total_bytes == 80


def test_the_texts_of_all_machines_are_the_text_of_each() -> None:
    trace = Trace(max_events=4)
    trace.add(1.0, "data", "ann", "bob", 40, 0.5)
    trace.add(1.5, "data", "bob", "bob", 3)
    trace.add(2.0, "kill", "cleo")
    trace.add(2.5, "end", "cleo", "ann")
    trace.add(3.0, "kill", "late")
    texts = dict(trace.texts())
    assert [*texts] == ["ann", "bob", "cleo"]
    assert texts == {name: trace.text(name) for name in texts}
    assert texts["bob"].count("data") == 2
    assert trace.last_s == 3.0
