"""Yamux against frames written by hand from hashicorp's spec.md."""

from __future__ import annotations

import pytest
from tests.support.yamux_wire import (
    ACK,
    DATA,
    FIN,
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

from hostmesh.wire.yamux import (
    INITIAL_WINDOW_BYTES,
    INTERNAL_ERROR,
    MAX_FRAME_BYTES,
    NORMAL,
    PROTOCOL_ERROR,
    DataReceived,
    GoneAway,
    Pong,
    StreamEnded,
    StreamLimitError,
    StreamOpened,
    StreamReset,
    WindowOpened,
    Yamux,
    YamuxLimits,
    YamuxStream,
)


def client() -> Yamux:
    return Yamux(is_initiator=True)


def server(**limits: int) -> Yamux:
    return Yamux(is_initiator=False, limits=YamuxLimits(**limits))


def frames(session: Yamux) -> list[Frame]:
    return list(FrameReader().feed(session.data_to_send()))


def opened(session: Yamux, stream_id: int, body: bytes = b"") -> YamuxStream:
    """Let the peer open a stream, with bytes."""
    event = session.receive(data(stream_id, body, SYN))[0]
    assert isinstance(event, StreamOpened)
    return event.stream


def answered(session: Yamux) -> YamuxStream:
    """Open a stream of ours of which the peer has heard."""
    stream = session.open_stream()
    session.send(stream, b"x")
    session.data_to_send()
    return stream


class TestGoldenFrames:
    """Bytes by hand: version 0, type, flags, stream id, length."""

    def test_the_first_bytes_of_a_stream(self) -> None:
        session = client()
        stream = session.open_stream()
        assert session.data_to_send() == b"", "opening says nothing until there is something to say"
        assert session.send(stream, b"hello") == 5
        assert session.data_to_send().hex() == "00000001000000010000000568656c6c6f"
        session.send(stream, b"!")
        assert session.data_to_send().hex() == "00000000000000010000000121"

    def test_a_stream_that_is_half_closed_before_its_first_byte(self) -> None:
        session = client()
        session.close_write(session.open_stream())
        assert session.data_to_send().hex() == "000100050000000100000000"

    def test_the_answer_to_a_stream_has_ack_once(self) -> None:
        session = server()
        stream = opened(session, 1, b"hi")
        session.send(stream, b"ho")
        session.close_write(stream)
        assert session.data_to_send().hex() == ("000000020000000100000002686f000100040000000100000000")

    def test_a_reset(self) -> None:
        session = server()
        session.reset(opened(session, 5))
        assert session.data_to_send().hex() == "0001000a0000000500000000"

    def test_ping_and_pong(self) -> None:
        session = client()
        session.ping(0x01020304)
        assert session.data_to_send().hex() == "000200010000000001020304"
        assert session.receive(bytes.fromhex("000200020000000001020304")) == [Pong(0x01020304)]
        assert session.receive(bytes.fromhex("0002000100000000fffefdfc")) == []
        assert session.data_to_send().hex() == "0002000200000000fffefdfc"

    @pytest.mark.parametrize(
        ("code", "text"), [(NORMAL, "00000000"), (PROTOCOL_ERROR, "00000001"), (INTERNAL_ERROR, "00000002")]
    )
    def test_go_away(self, code: int, text: str) -> None:
        session = client()
        session.go_away(code)
        assert session.data_to_send().hex() == "0003000000000000" + text
        assert session.receive(bytes.fromhex("000300000000000000000007")) == [GoneAway(7)]
        with pytest.raises(StreamLimitError, match="no new streams"):
            session.open_stream()

    def test_credit(self) -> None:
        session = server(max_window_bytes=WINDOW)
        stream = opened(session, 1, bytes(WINDOW // 2))
        assert session.consume(stream, WINDOW // 2)
        assert session.data_to_send().hex() == "000100020000000100020000"

    def test_streams_are_numbered_odd_by_the_dialer_and_even_by_the_other(self) -> None:
        assert [stream.id for side in (client(), server()) for stream in (side.open_stream(), side.open_stream())] == [
            1,
            3,
            2,
            4,
        ]


class TestSending:
    def test_small_pieces_become_one_frame_that_a_large_one_fills_up(self) -> None:
        session = client()
        stream = session.open_stream()
        for _ in range(10):
            session.send(stream, b"token")
        session.send(stream, bytes(5000))
        session.send(stream, b"tail")
        session.send(stream, bytes(2 * MAX_FRAME_BYTES))
        assert [(frame.flags, frame.length) for frame in frames(session)] == [
            (SYN, 5050),
            (0, MAX_FRAME_BYTES),
            (0, MAX_FRAME_BYTES),
            (0, 4),
        ]

    def test_no_frame_is_larger_than_a_noise_message(self) -> None:
        session = client()
        stream = session.open_stream()
        assert session.send(stream, bytes(2 * MAX_FRAME_BYTES + 5)) == 2 * MAX_FRAME_BYTES + 5
        assert [(frame.flags, frame.length) for frame in frames(session)] == [
            (SYN, MAX_FRAME_BYTES),
            (0, MAX_FRAME_BYTES),
            (0, 5),
        ]
        for _ in range(30):
            session.send(stream, bytes(4096))
        sizes = [frame.length for frame in frames(session)]
        assert sum(sizes) == 30 * 4096
        assert max(sizes) <= MAX_FRAME_BYTES

    def test_streams_that_send_in_turn_keep_their_own_bytes(self) -> None:
        session = client()
        one, two = session.open_stream(), session.open_stream()
        for number in range(6):
            session.send((one, two)[number % 2], bytes((number,)))
        found = {1: b"", 3: b""}
        for frame in frames(session):
            found[frame.stream_id] += frame.body
        assert found == {1: b"\0\2\4", 3: b"\1\3\5"}

    @pytest.mark.parametrize("end", ["close_write", "reset", "ping", "go_away", "consume"])
    def test_nothing_overtakes_the_bytes_before_it(self, end: str) -> None:
        session = client()
        stream = answered(session)
        session.receive(data(1, bytes(WINDOW // 2), ACK))
        session.send(stream, b"before")
        {
            "close_write": lambda: session.close_write(stream),
            "reset": lambda: session.reset(stream),
            "ping": lambda: session.ping(1),
            "go_away": session.go_away,
            "consume": lambda: session.consume(stream, WINDOW // 2),
        }[end]()
        first, second = frames(session)
        assert (first.kind, first.body) == (DATA, b"before")
        assert second.kind != DATA

    def test_the_window_is_kept_and_reopened(self) -> None:
        session = client()
        stream = answered(session)
        assert session.send(stream, bytes(WINDOW)) == WINDOW - 1
        assert session.send(stream, b"more") == 0
        assert sum(frame.length for frame in frames(session)) == WINDOW - 1
        assert session.receive(update(1, 3)) == [WindowOpened(stream)]
        assert session.send(stream, b"more") == 3
        assert [frame.body for frame in frames(session)] == [b"mor"]

    def test_memory_views_can_be_sent(self) -> None:
        session = client()
        stream = session.open_stream()
        for size in (3, 5000):
            session.send(stream, memoryview(bytes(size)))
        assert [frame.length for frame in frames(session)] == [5003]

    def test_a_closed_side_sends_nothing(self) -> None:
        session = client()
        closed, gone = answered(session), answered(session)
        session.close_write(closed)
        session.reset(gone)
        session.data_to_send()
        for stream in (closed, gone):
            with pytest.raises(ValueError, match="closed"):
                session.send(stream, b"x")
            session.close_write(stream)
        session.reset(gone)
        assert session.data_to_send() == b""

    def test_the_queue_is_counted(self) -> None:
        session = client()
        one, two = session.open_stream(), session.open_stream()
        session.send(one, b"a")
        session.send(one, b"b")
        session.send(two, bytes(5000))
        session.send(two, bytes(100_000))
        session.close_write(one)
        session.ping(1)
        queued = session.queued_bytes
        assert queued == len(session.data_to_send())
        assert session.queued_bytes == 0
        assert session.data_to_send() == b""

    def test_a_stream_of_which_the_peer_never_heard_is_dropped_in_silence(self) -> None:
        session = client()
        session.reset(session.open_stream())
        assert session.data_to_send() == b""
        assert not session.streams
        assert session.send(session.open_stream(), b"x") == 1
        assert frames(session) == [Frame(DATA, SYN, 3, 1, b"x")]


class TestReceiving:
    def test_one_conversation(self) -> None:
        session = server()
        events = session.receive(data(1, b"he", SYN) + data(1, b"llo") + update(1, 10) + update(1, 0, FIN))
        stream = events[0].stream  # type: ignore[union-attr]
        assert events == [
            StreamOpened(stream),
            DataReceived(stream, b"he"),
            DataReceived(stream, b"llo"),
            WindowOpened(stream),
            StreamEnded(stream),
        ]
        assert stream.is_inbound
        assert not stream.is_over
        session.close_write(stream)
        assert stream.is_over
        assert session.streams == {}

    @pytest.mark.parametrize("step", [1, 5, 12, 13, 64])
    def test_any_split_gives_the_same(self, step: int) -> None:
        stream = b"".join(
            [
                data(1, bytes(range(100)), SYN),
                update(3, 7, SYN),
                data(3, b"abc", FIN),
                ping(5),
                data(1, b"", FIN),
                go_away(0),
            ]
        )
        session = server()
        events = [
            event for start in range(0, len(stream), step) for event in session.receive(stream[start : start + step])
        ]
        assert b"".join(
            event.data for event in events if isinstance(event, DataReceived) and event.stream.id == 1
        ) == bytes(range(100))
        assert [type(event) for event in events if not isinstance(event, DataReceived)] == [
            StreamOpened,
            StreamOpened,
            WindowOpened,
            StreamEnded,
            StreamEnded,
            GoneAway,
        ]
        assert frames(session) == [Frame(2, ACK, 0, 5)]

    @pytest.mark.parametrize("piece", [1000, 65536, 1 << 20])
    def test_frames_of_a_whole_window_as_js_libp2p_sends_them(self, piece: int) -> None:
        """262,132 bytes at first, up to 1,310,708 after a grant of 1 MiB."""
        session = server()
        stream = opened(session, 1)
        text = bytes(index % 253 for index in range(262_132))
        received = b""
        for size in (262_132, 262_132):
            raw = data(1, text[:size])
            for start in range(0, len(raw), piece):
                for event in session.receive(raw[start : start + piece]):
                    assert isinstance(event, DataReceived)
                    received += event.data
                    session.consume(stream, len(event.data))
        assert received == 2 * text
        stream.receive_window = stream.window_bytes = 1_310_720
        raw = data(1, bytes(1_310_708), FIN)
        found: list[object] = []
        for start in range(0, len(raw), piece):
            found += session.receive(raw[start : start + piece])
        assert sum(len(event.data) for event in found if isinstance(event, DataReceived)) == 1_310_708
        assert found[-1] == StreamEnded(stream)

    @pytest.mark.parametrize("flags", [FIN, RST])
    @pytest.mark.parametrize("step", [1, 11, 13, 17, 50])
    def test_an_end_that_comes_with_bytes_comes_after_them(self, flags: int, step: int) -> None:
        session = server()
        stream = opened(session, 1)
        raw = data(1, b"last words", flags)
        events = [event for start in range(0, len(raw), step) for event in session.receive(raw[start : start + step])]
        assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == b"last words"
        assert events[-1] == (StreamEnded(stream) if flags == FIN else StreamReset(stream, is_overflow=False))

    def test_an_end_in_a_split_frame_survives_what_we_send_meanwhile(self) -> None:
        """Others put FIN on a data frame: its flag is theirs, not of our next frame."""
        session = server()
        stream = opened(session, 1)
        raw = data(1, b"last words", FIN)
        session.receive(raw[:15])
        session.send(stream, b"meanwhile")
        assert frames(session) == [Frame(DATA, ACK, 1, 9, b"meanwhile")]
        assert session.receive(raw[15:])[-1] == StreamEnded(stream)

    def test_a_stream_that_opens_and_ends_in_one_frame(self) -> None:
        session = server()
        events = session.receive(data(1, b"all", SYN | FIN))
        assert [type(event) for event in events] == [StreamOpened, DataReceived, StreamEnded]
        events = session.receive(update(3, 0, SYN | FIN))
        assert [type(event) for event in events] == [StreamOpened, StreamEnded]

    def test_a_second_end_says_nothing(self) -> None:
        session = server()
        opened(session, 1)
        assert len(session.receive(update(1, 0, FIN))) == 1
        assert session.receive(update(1, 0, FIN) + data(1, b"", FIN)) == []

    def test_a_reset_ends_both_directions(self) -> None:
        session = client()
        stream = answered(session)
        assert session.receive(update(1, 0, RST)) == [StreamReset(stream, is_overflow=False)]
        assert stream.is_over
        assert session.streams == {}
        session.reset(stream)
        assert session.data_to_send() == b"", "a reset is not answered"

    def test_what_comes_late_for_a_stream_that_is_over_is_dropped(self) -> None:
        session = client()
        session.reset(answered(session))
        session.data_to_send()
        assert session.receive(data(1, bytes(1000), ACK) + update(1, 99) + update(1, 0, FIN) + update(1, 0, RST)) == []
        assert session.unread_bytes == 0
        assert session.data_to_send() == b""

    def test_a_frame_in_the_middle_of_which_its_stream_is_dropped(self) -> None:
        session = server()
        raw = data(1, bytes(100), SYN | FIN)
        stream = session.receive(raw[:50])[0].stream  # type: ignore[union-attr]
        session.reset(stream)
        assert session.receive(raw[50:] + ping(1)) == []
        assert session.unread_bytes == 0
        assert frames(session) == [Frame(WINDOW_UPDATE, ACK | RST, 1, 0), Frame(2, ACK, 0, 1)]

    def test_discarded_bytes_are_not_delivered_but_the_end_is(self) -> None:
        session = server()
        stream = opened(session, 1, b"unread")
        session.discard(stream)
        assert session.unread_bytes == 0
        assert session.receive(data(1, b"more") + update(1, 0, FIN)) == [StreamEnded(stream)]

    def test_both_sides_open_at_once(self) -> None:
        left, right = client(), server()
        theirs = right.open_stream()
        for side, stream in ((left, left.open_stream()), (right, theirs)):
            side.send(stream, b"hello")
        to_right, to_left = left.data_to_send(), right.data_to_send()
        assert [type(event) for event in right.receive(to_right)] == [StreamOpened, DataReceived]
        assert [type(event) for event in left.receive(to_left)] == [StreamOpened, DataReceived]
        assert set(left.streams) == set(right.streams) == {1, 2}
        assert (left.inbound_streams, left.outbound_streams) == (1, 1)

    def test_an_unknown_pong_is_told_and_a_ping_without_a_flag_is_nothing(self) -> None:
        session = server()
        assert session.receive(ping(3, ACK) + ping(4, 0)) == [Pong(3)]
        assert session.data_to_send() == b""

    def test_the_first_window_is_the_one_of_the_specification(self) -> None:
        assert INITIAL_WINDOW_BYTES == WINDOW == 256 * 1024
