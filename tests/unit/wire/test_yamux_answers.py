"""What a peer's own words make us say counts to what it may leave unread; what this side says by itself does not."""

from __future__ import annotations

import pytest
from tests.support.yamux_wire import FIN, RST, SYN, WINDOW, data, update

from hostmesh.errors import MalformedMessageError
from hostmesh.wire.yamux import MAX_CONTROL_BYTES, StreamOpened, StreamReset, Yamux, YamuxLimits, YamuxStream

ANSWER = b"\x03na\n"
ENOUGH = MAX_CONTROL_BYTES // 12
"""Frames without a payload that may wait."""


def opened(session: Yamux, stream_id: int) -> YamuxStream:
    """Let the peer open a stream."""
    event = session.receive(update(stream_id, 0, SYN))[0]
    assert isinstance(event, StreamOpened)
    return event.stream


def test_answers_to_streams_that_are_over_count() -> None:
    session = Yamux(is_initiator=False)
    each_bytes = 12 + len(ANSWER)
    for number in range(MAX_CONTROL_BYTES // each_bytes):
        session.answer(opened(session, 2 * number + 1), ANSWER)
        session.receive(update(2 * number + 1, 0, RST))
    session.answer(opened(session, 10**6 + 1), ANSWER)
    with pytest.raises(MalformedMessageError, match="does not read"):
        session.receive(update(10**6 + 1, 0, RST))
    assert session.queued_bytes <= MAX_CONTROL_BYTES + each_bytes + 12


def test_ends_of_the_peers_streams_count() -> None:
    session = Yamux(is_initiator=False)
    for number in range(ENOUGH):
        stream = opened(session, 2 * number + 1)
        session.close_write(stream)
        session.close_write(stream)
        session.receive(update(stream.id, 0, FIN))
    assert session.streams == {}
    stream = opened(session, 10**6 + 1)
    session.close_write(stream)
    with pytest.raises(MalformedMessageError, match="does not read"):
        session.receive(update(stream.id, 0, FIN))


def test_a_peer_that_reads_may_have_any_number_of_answers() -> None:
    session = Yamux(is_initiator=False)
    for number in range(3 * ENOUGH):
        stream = opened(session, 2 * number + 1)
        session.answer(stream, ANSWER)
        session.close_write(stream)
        session.receive(update(stream.id, 0, FIN))
        if number % 1000 == 0:
            session.data_to_send()


def test_what_this_side_says_by_itself_does_not_count() -> None:
    session = Yamux(is_initiator=True)
    for _ in range(2 * ENOUGH):
        stream = session.open_stream()
        session.send(stream, b"x")
        session.close_write(stream)
        session.ping(1)
        session.receive(update(stream.id, 0, FIN))
    served = opened(session, 2)
    assert session.send(served, bytes(WINDOW)) == WINDOW
    assert session.receive(data(2, b"more"))


def test_bytes_before_the_peers_reset_are_under_the_limit_and_can_be_shed() -> None:
    session = Yamux(is_initiator=False, limits=YamuxLimits(max_unread_bytes=1000))
    first, second = opened(session, 1), opened(session, 3)
    session.receive(data(1, bytes(700)) + update(1, 0, RST))
    assert (session.unread_bytes, first.unread_bytes, list(session.streams)) == (700, 700, [3])
    events = session.receive(data(3, bytes(400)))
    assert StreamReset(first, True) in events
    assert (session.unread_bytes, first.unread_bytes, second.unread_bytes) == (400, 0, 400)
    session.receive(update(3, 0, RST))
    assert not session.consume(second, 400), "nothing is granted on a stream that is over"
    assert session.unread_bytes == 0
