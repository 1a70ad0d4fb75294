"""Yamux: any cut of lawful or hostile frames means the same as to the model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.yamux_pair import Pair
from tests.support.yamux_wire import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW, WINDOW_UPDATE, Frame

from hostmesh.wire.yamux import YamuxLimits

LIMITS = YamuxLimits(max_inbound_streams=3, max_outbound_streams=2, max_unread_bytes=2000)

flags = st.sampled_from([0, 0, 0, SYN, SYN, FIN, RST, ACK, SYN | FIN, SYN | ACK, FIN | RST, SYN | RST, 0xFFF0])
stream_ids = st.integers(0, 8)
data_frames = st.builds(
    lambda stream_id, flag, body: Frame(DATA, flag, stream_id, len(body), body),
    stream_ids,
    flags,
    st.binary(max_size=600),
)
updates = st.builds(
    lambda stream_id, flag, credit: Frame(WINDOW_UPDATE, flag, stream_id, credit),
    stream_ids,
    flags,
    st.sampled_from([0, 0, 1, WINDOW, 2**31, 2**32 - 1]),
)
others = st.builds(
    lambda kind, flag, value: Frame(kind, flag, 0, value),
    st.sampled_from([PING, GO_AWAY]),
    flags,
    st.integers(0, 2**32 - 1),
)
wrong = st.builds(
    lambda kind, flag, stream_id, length: Frame(kind, flag, stream_id, length),
    st.integers(0, 6),
    flags,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
lawful = st.lists(data_frames | updates | others, max_size=25)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    out = []
    for size in sizes:
        out.append(data[:size])
        data = data[size:]
    return [*out, data]


@given(
    frames=lawful,
    last=st.none() | wrong,
    tail=st.binary(max_size=11),
    sizes=st.lists(st.integers(0, 200), max_size=30),
    dialled=st.booleans(),
    own=st.integers(0, 2),
)
def test_any_cut_means_what_the_model_says(
    frames: list[Frame], last: Frame | None, tail: bytes, sizes: list[int], dialled: bool, own: int
) -> None:
    data = b"".join(frame.pack() for frame in frames) + (b"" if last is None else last.pack()) + tail
    pair = Pair(is_initiator=dialled, limits=LIMITS)
    for _ in range(own):
        pair.open()
    for piece in pieces(data, sizes):
        if pair.receive(piece) is None:
            break
        pair.check()
    pair.take_output()


@given(data=st.binary(max_size=400), sizes=st.lists(st.integers(0, 30), max_size=20), dialled=st.booleans())
def test_garbage_means_what_the_model_says(data: bytes, sizes: list[int], dialled: bool) -> None:
    pair = Pair(is_initiator=dialled, limits=LIMITS)
    for piece in pieces(data, sizes):
        if pair.receive(piece) is None:
            break
        pair.check()
    pair.take_output()
