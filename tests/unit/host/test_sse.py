"""Server-sent events, whole, byte by byte and in any chunks; and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh import EngineError
from hostmesh_host.engines.sse import MAX_EVENT_BYTES, SseDecoder

CASES = [
    (b'data: {"a":1}\n\n', ['{"a":1}']),
    (b"data: one\n\ndata: two\n\n", ["one", "two"]),
    (b"data: one\r\n\r\ndata:two\r\n\r\n", ["one", "two"]),
    (b"data: a\ndata: b\n\n", ["a\nb"]),
    (b": ping\n\ndata: x\n\n: ping\n\n", ["x"]),
    (b"event: message\nid: 7\nretry: 10\ndata: x\n\n", ["x"]),
    (b"data: [DONE]\n\n", ["[DONE]"]),
    (b"data:  two spaces\n\n", [" two spaces"]),
    ("data: Grüße 東京\n\n".encode(), ["Grüße 東京"]),
    (b"\n\n\n", []),
    (b"data: unfinished\n", []),
    (b"data\n\n", [""]),
]


@pytest.mark.parametrize(("stream", "expected"), CASES)
def test_a_stream_gives_its_events(stream: bytes, expected: list[str]) -> None:
    assert [event.data for event in SseDecoder().feed(stream)] == expected


@pytest.mark.parametrize(("stream", "expected"), CASES)
def test_byte_by_byte_gives_the_same(stream: bytes, expected: list[str]) -> None:
    decoder = SseDecoder()
    events = [event for byte in stream for event in decoder.feed(bytes([byte]))]
    assert [event.data for event in events] == expected


@given(st.lists(st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]))), st.data())
def test_any_chunks_give_what_went_in(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(f"data: {text}\n\n".encode() for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = SseDecoder()
    events = [
        event
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for event in decoder.feed(stream[start:end])
    ]
    assert [event.data for event in events] == texts


@given(st.binary())
def test_garbage_raises_our_error_and_nothing_else(garbage: bytes) -> None:
    with contextlib.suppress(EngineError):
        SseDecoder(max_event_bytes=64).feed(garbage)


def test_an_error_field_is_marked() -> None:
    (event,) = SseDecoder().feed(b'error: {"code": 500}\n\n')
    assert event.is_error
    assert event.data == '{"code": 500}'


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * MAX_EVENT_BYTES,
        b"x" * (MAX_EVENT_BYTES + 1),
        b"data: 123456789\n" * (MAX_EVENT_BYTES // 16 + 1),
    ],
    ids=["a line", "no field", "many lines"],
)
def test_an_event_over_the_bound_is_refused_before_it_ends(stream: bytes) -> None:
    decoder = SseDecoder()

    def feed_all() -> None:
        for start in range(0, len(stream), 4096):
            decoder.feed(stream[start : start + 4096])

    with pytest.raises(EngineError, match="more than 262144 bytes"):
        feed_all()


def test_comments_for_ever_hold_no_memory() -> None:
    decoder = SseDecoder(max_event_bytes=64)
    for _ in range(1000):
        assert decoder.feed(b": still here\n\n") == []


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(EngineError, match="UTF-8"):
        SseDecoder().feed(b"data: \xff\n\n")


def test_a_prompt_is_not_in_the_repr() -> None:
    (event,) = SseDecoder().feed(b"data: secret\n\n")
    assert "secret" not in repr(event)
