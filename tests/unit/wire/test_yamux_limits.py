"""Yamux: what a peer may not do, and what it cannot make us hold."""

from __future__ import annotations

import pytest
from tests.support.yamux_wire import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    PING,
    RST,
    SYN,
    WINDOW,
    WINDOW_UPDATE,
    Frame,
    FrameReader,
    data,
    go_away,
    ping,
    update,
)

from hostmesh.errors import MalformedMessageError
from hostmesh.wire.yamux import (
    MAX_CONTROL_BYTES,
    DataReceived,
    StreamLimitError,
    StreamOpened,
    StreamReset,
    Yamux,
    YamuxLimits,
    YamuxStream,
)


def session_with(*, dialled: bool = False, **limits: int) -> Yamux:
    return Yamux(is_initiator=dialled, limits=YamuxLimits(**limits))


def frames(session: Yamux) -> list[Frame]:
    return list(FrameReader().feed(session.data_to_send()))


def opened(session: Yamux, stream_id: int, body: bytes = b"") -> YamuxStream:
    event = session.receive(data(stream_id, body, SYN))[0]
    assert isinstance(event, StreamOpened)
    return event.stream


def feed(session: Yamux, stream: bytes, step: int) -> None:
    for start in range(0, len(stream), step):
        session.receive(stream[start : start + step])


VIOLATIONS: dict[str, tuple[bytes, str]] = {
    "another version": (b"\1" + ping(1)[1:], "version"),
    "an unknown kind": (Frame(4, 0, 0, 0).pack(), "type"),
    "the last kind": (Frame(255, 0, 0, 0).pack(), "type"),
    "a ping of a stream": (Frame(PING, SYN, 3, 0).pack(), "stream_id"),
    "a goodbye of a stream": (Frame(GO_AWAY, 0, 3, 0).pack(), "stream_id"),
    "data of no stream": (Frame(DATA, SYN, 0, 0).pack(), "stream_id"),
    "credit of no stream": (Frame(WINDOW_UPDATE, 0, 0, 5).pack(), "stream_id"),
    "data of a stream that was never opened": (data(3, b"x"), "stream_id"),
    "an end of a stream that was never opened": (update(3, 0, FIN), "stream_id"),
    "a reset of a stream that was never opened": (update(3, 0, RST), "stream_id"),
    "data of a stream of ours that we never opened": (data(4, b"x"), "stream_id"),
    "a stream of our parity": (update(4, 0, SYN), "stream_id"),
    "a stream of ours, opened by the peer": (update(2, 0, SYN), "stream_id"),
    "a stream that is open": (update(1, 0, SYN), "stream_id"),
    "a stream that is open, with data": (data(1, b"x", SYN), "stream_id"),
    "data over the window": (Frame(DATA, 0, 1, WINDOW + 1).pack(), "length"),
    "data over the rest of the window": (data(1, bytes(WINDOW)) + data(1, b"x"), "length"),
    "a new stream over its window": (Frame(DATA, SYN, 3, WINDOW + 1).pack(), "length"),
    "a window that overflows": (update(1, 2**32 - WINDOW), "length"),
    "a window that overflows bit by bit": (update(1, 2**31) + update(1, 2**31 - WINDOW) + update(1, 1), "length"),
    "data after the end": (update(1, 0, FIN) + data(1, b"x"), "flags"),
    "data after an end with data": (data(1, b"x", FIN) + data(1, b"y"), "flags"),
}


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(("wrong", "field"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_ends_the_session(wrong: bytes, field: str, step: int) -> None:
    if step == 1 and len(wrong) > 1000:
        step = 5000
    session = session_with()
    opened(session, 1)
    session.send(session.open_stream(), b"x")
    session.data_to_send()
    with pytest.raises(MalformedMessageError) as caught:
        feed(session, wrong, step)
    assert caught.value.field == field
    assert frames(session)[-1] == Frame(GO_AWAY, 0, 0, 1)
    for later in (b"", ping(1), update(5, 0, SYN)):
        with pytest.raises(MalformedMessageError) as again:
            session.receive(later)
        assert again.value is caught.value
    assert session.data_to_send() == b"", "GoAway once"
    with pytest.raises(StreamLimitError):
        session.open_stream()


@pytest.mark.parametrize(
    "right",
    [
        data(1, bytes(WINDOW)),
        update(1, 2**32 - 1 - WINDOW),
        Frame(DATA, 0, 1, 0).pack(),
        update(1, 0, FIN) + update(1, 1) + data(1, b""),
        update(7, 0, SYN) + update(3, 0, SYN) + update(5, 0, RST) + data(5, b"late"),
        update(3, 0, SYN | RST) + data(3, b"late"),
    ],
    ids=[
        "a whole window",
        "the largest window",
        "an empty frame",
        "credit after the end",
        "ids out of turn",
        "open and reset",
    ],
)
def test_what_only_looks_like_a_violation_is_none(right: bytes) -> None:
    session = session_with()
    opened(session, 1)
    session.receive(right)


def test_what_came_with_a_violation_and_before_it_is_told() -> None:
    session = session_with()
    own = session.open_stream()
    with pytest.raises(MalformedMessageError):
        session.receive(data(1, b"hello", SYN) + update(own.id, 7, RST) + Frame(9, 0, 0, 0).pack())
    kinds = [type(event) for event in session.undelivered]
    assert kinds == [StreamOpened, DataReceived, StreamReset]
    assert not session.takes_streams


def test_the_error_code_of_a_reset_is_no_credit() -> None:
    session = session_with(dialled=True)
    stream, other = session.open_stream(), session.open_stream()
    for each in (stream, other):
        session.send(each, b"x")
    (event,) = session.receive(update(stream.id, 2**32 - 1, RST))
    assert event == StreamReset(stream, False)
    assert list(session.streams) == [other.id]


def test_streams_over_the_limit_are_refused_and_their_bytes_dropped() -> None:
    session = session_with(max_inbound_streams=2)
    first = opened(session, 1)
    opened(session, 3)
    assert session.receive(data(5, bytes(1000), SYN) + data(5, b"more") + update(5, 0, FIN)) == []
    assert frames(session) == [Frame(WINDOW_UPDATE, RST, 5, 0)]
    assert (session.refused_streams, session.inbound_streams, session.unread_bytes) == (1, 2, 0)
    session.reset(first)
    assert [type(event) for event in session.receive(update(7, 0, SYN))] == [StreamOpened]


def test_our_own_streams_are_counted_apart() -> None:
    session = session_with(dialled=True, max_inbound_streams=1, max_outbound_streams=2)
    first = session.open_stream()
    session.open_stream()
    with pytest.raises(StreamLimitError, match="2 streams are open"):
        session.open_stream()
    assert opened(session, 2).is_inbound
    assert (session.inbound_streams, session.outbound_streams) == (1, 2)
    session.reset(first)
    assert session.open_stream().id == 5


def test_stream_ids_are_used_up() -> None:
    session = session_with(dialled=True)
    session._next_id = 0xFFFFFFFF
    last = session.open_stream()
    session.send(last, b"x")
    assert session.data_to_send()[4:8] == b"\xff\xff\xff\xff"
    with pytest.raises(StreamLimitError, match="used up"):
        session.open_stream()


def test_a_peer_that_pings_and_does_not_read_is_cut_off() -> None:
    session = session_with()
    enough = MAX_CONTROL_BYTES // 12
    for _ in range(enough):
        assert session.receive(ping(1)) == []
    with pytest.raises(MalformedMessageError, match="does not read"):
        session.receive(ping(1))
    assert len(session.data_to_send()) == 12 * (enough + 2)


def test_a_peer_that_reads_may_ping_for_ever() -> None:
    session = session_with()
    flood = ping(1) * 10_000
    for _ in range(5):
        session.receive(flood)
        assert len(session.data_to_send()) == 120_000


@pytest.mark.parametrize("flood", [update(1, 0, SYN), data(1, b"", SYN)])
def test_a_peer_whose_refused_streams_pile_up_is_cut_off(flood: bytes) -> None:
    session = session_with(max_inbound_streams=0)
    for _ in range(MAX_CONTROL_BYTES // 12):
        session.receive(flood)
    with pytest.raises(MalformedMessageError, match="does not read"):
        session.receive(flood)


def test_credit_that_is_not_read_counts_too() -> None:
    session = session_with(max_window_bytes=WINDOW)
    stream = opened(session, 1)
    half = data(1, bytes(WINDOW // 2))
    for _ in range(MAX_CONTROL_BYTES // 12 + 1):
        session.receive(half)
        assert session.consume(stream, WINDOW // 2)
    with pytest.raises(MalformedMessageError, match="does not read"):
        session.receive(half)


class TestUnread:
    """``max_unread_bytes``: the stream with most of them goes."""

    def test_the_largest_is_shed(self) -> None:
        session = session_with(max_unread_bytes=1000)
        small, large = opened(session, 1, bytes(300)), opened(session, 3, bytes(600))
        events = session.receive(data(1, bytes(101)))
        assert events == [DataReceived(small, bytes(101)), StreamReset(large, is_overflow=True)]
        assert (session.unread_bytes, small.unread_bytes, large.unread_bytes) == (401, 401, 0)
        assert frames(session) == [Frame(WINDOW_UPDATE, ACK | RST, 3, 0)]
        assert 3 not in session.streams

    def test_exactly_the_limit_is_kept(self) -> None:
        session = session_with(max_unread_bytes=1000)
        opened(session, 1, bytes(1000))
        assert session.unread_bytes == 1000
        assert set(session.streams) == {1}

    def test_the_stream_of_the_frame_itself_is_shed_in_its_middle(self) -> None:
        session = session_with(max_unread_bytes=1000)
        stream = opened(session, 1, bytes(900))
        raw = data(1, bytes(500), FIN)
        assert session.receive(raw[:300])[-1] == StreamReset(stream, is_overflow=True)
        assert session.receive(raw[300:] + ping(1)) == []
        assert session.unread_bytes == 0

    def test_what_was_read_does_not_count(self) -> None:
        session = session_with(max_unread_bytes=1000)
        stream = opened(session, 1, bytes(900))
        session.consume(stream, 850)
        session.receive(data(1, bytes(900)))
        assert session.unread_bytes == 950
        session.discard(stream)
        assert session.unread_bytes == 0

    def test_a_stream_that_has_ended_can_still_be_shed(self) -> None:
        """Ended by both sides and unread: else its bytes would cost other streams their life."""
        session = session_with(max_unread_bytes=1000)
        ended = opened(session, 1, bytes(800))
        session.receive(update(1, 0, FIN))
        session.close_write(ended)
        assert session.streams == {}
        session.data_to_send()
        other = opened(session, 3)
        assert session.receive(data(3, bytes(300))) == [
            DataReceived(other, bytes(300)),
            StreamReset(ended, is_overflow=True),
        ]
        assert (session.unread_bytes, other.unread_bytes, other.is_over) == (300, 300, False)
        assert session.data_to_send() == b"", "the peer knows that it is over"

    def test_a_stream_that_has_ended_is_forgotten_when_it_was_read(self) -> None:
        session = session_with(max_unread_bytes=1000)
        for way in ("consume", "discard", "reset"):
            stream_id = {"consume": 1, "discard": 3, "reset": 5}[way]
            ended = opened(session, stream_id, bytes(800))
            session.receive(update(stream_id, 0, FIN))
            session.close_write(ended)
            assert session.unread_bytes == 800
            if way == "consume":
                assert not session.consume(ended, 300)
                assert session._lingering
                assert not session.consume(ended, 9999)
            elif way == "discard":
                session.discard(ended)
            else:
                session.reset(ended)
            assert session.unread_bytes == 0
            assert not session._lingering

    def test_a_driver_can_shed_and_nothing_unread_is_nothing_to_shed(self) -> None:
        session = session_with()
        events: list[object] = []
        session.shed(events)  # type: ignore[arg-type]
        idle, full = opened(session, 1), opened(session, 3, b"x")
        session.shed(events)  # type: ignore[arg-type]
        assert events == [StreamReset(full, is_overflow=True)]
        session.shed(events)  # type: ignore[arg-type]
        assert len(events) == 1
        assert not idle.is_over


class TestWindows:
    def test_credit_comes_at_half_a_window_and_not_before(self) -> None:
        session = session_with(max_window_bytes=WINDOW)
        stream = opened(session, 1, bytes(WINDOW))
        assert not session.consume(stream, WINDOW // 2 - 1)
        assert session.data_to_send() == b""
        assert session.consume(stream, 1)
        assert frames(session) == [Frame(WINDOW_UPDATE, ACK, 1, WINDOW // 2)]
        assert not session.consume(stream, WINDOW // 2 - 1)
        assert stream.receive_window == WINDOW // 2

    def test_windows_grow_while_there_is_a_budget(self) -> None:
        session = session_with(max_window_bytes=4 * WINDOW, window_growth_bytes=4 * WINDOW)
        one, two = opened(session, 1), opened(session, 3)
        sizes = []
        for stream in (one, one, one, two, two):
            amount = stream.receive_window
            session.receive(data(stream.id, bytes(amount)))
            assert session.consume(stream, amount)
            sizes.append(stream.window_bytes // WINDOW)
        assert sizes == [2, 4, 4, 2, 2], "the second gets what the first left"
        session.reset(one)
        amount = two.receive_window
        session.receive(data(3, bytes(amount)))
        session.consume(two, amount)
        assert two.window_bytes == 4 * WINDOW, "a stream that is over gives its growth back"

    def test_no_credit_for_a_stream_that_the_peer_has_ended(self) -> None:
        session = session_with()
        stream = opened(session, 1, bytes(WINDOW))
        session.receive(update(1, 0, FIN))
        assert not session.consume(stream, WINDOW)
        assert session.data_to_send() == b""
        assert session.unread_bytes == 0

    def test_no_more_can_be_consumed_than_was_delivered(self) -> None:
        session = session_with()
        stream = opened(session, 1, bytes(10))
        assert not session.consume(stream, WINDOW)
        assert (session.unread_bytes, stream.receive_window) == (0, WINDOW - 10)

    def test_a_session_that_said_goodbye_goes_on_with_its_streams(self) -> None:
        session = session_with()
        stream = opened(session, 1)
        session.receive(go_away(0))
        assert session.receive(data(1, b"still here")) == [DataReceived(stream, b"still here")]
        assert session.send(stream, b"me too") == 6
