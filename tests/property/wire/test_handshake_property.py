"""The whole upgrade: two of ours in any cut, with any multiplexers, and first streams that come early."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from tests.support.noise_sides import (
    OUR_EPHEMERAL,
    OUR_SEED,
    OUR_STATIC,
    THEIR_EPHEMERAL,
    THEIR_KEY,
    THEIR_SEED,
    THEIR_STATIC,
    YAMUX,
    identity_of,
)

from hostmesh.errors import ProtocolNotSupportedError, RemoteProtocolError
from hostmesh.wire.handshake import Handshake, Secured

muxers = st.sampled_from([(), (YAMUX,), ("/mplex/6.7.0", YAMUX), ("/mplex/6.7.0",)])
cuts = st.lists(st.integers(1, 120), max_size=12)


def sides(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[Handshake, Handshake]:
    return (
        Handshake(is_initiator=True, identity=identity_of(OUR_SEED, OUR_STATIC, left), ephemeral_private=OUR_EPHEMERAL),
        Handshake(
            is_initiator=False, identity=identity_of(THEIR_SEED, THEIR_STATIC, right), ephemeral_private=THEIR_EPHEMERAL
        ),
    )


class End:
    """One side with its wire; as soon as it may, it says its first bytes."""

    def __init__(self, handshake: Handshake, first: bytes) -> None:
        self.handshake = handshake
        self.first = first
        self.secured: Secured | None = None
        self.heard = b""
        self.wire = b""

    def take(self, data: bytes) -> None:
        if self.secured is not None:
            self.heard += b"".join(self.secured.channel.open(data))
            return
        self.secured = self.handshake.receive(data)
        self.flush()
        if self.secured is not None:
            self.heard += b"".join(self.secured.plaintexts)
            self.wire += self.secured.channel.seal(self.first)

    def flush(self) -> None:
        self.wire += self.handshake.data_to_send()


def run(ends: tuple[End, End], sizes: list[int], change: Callable[[bytes], bytes] = lambda data: data) -> None:
    """Carry bytes in pieces of the given sizes until there are none."""
    left = list(sizes)
    for end in ends:
        end.flush()
    while any(end.wire for end in ends):
        for us, them in (ends, ends[::-1]):
            size = left.pop(0) if left else 10_000
            data, us.wire = us.wire[:size], us.wire[size:]
            if data:
                them.take(change(data))


@given(left=muxers, right=muxers, sizes=cuts, first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_two_of_ours_agree_in_any_cut(
    left: tuple[str, ...], right: tuple[str, ...], sizes: list[int], first: bytes, second: bytes
) -> None:
    dialer, listener = sides(left, right)
    ends = End(dialer, first), End(listener, second)
    run(ends, sizes)
    for end in ends:
        assert end.secured is not None
    assert ends[0].secured is not None
    assert ends[0].secured.remote_public_key == THEIR_KEY
    assert ends[1].heard == first
    assert ends[0].heard == second


@given(left=muxers, right=muxers, sizes=cuts, place=st.integers(0, 900), change=st.integers(1, 255))
def test_a_changed_byte_on_the_way_is_noticed_or_stops_everything(
    left: tuple[str, ...], right: tuple[str, ...], sizes: list[int], place: int, change: int
) -> None:
    ends = tuple(End(handshake, b"first") for handshake in sides(left, right))
    assert len(ends) == 2
    carried = 0

    def harm(data: bytes) -> bytes:
        nonlocal carried
        start, carried = carried, carried + len(data)
        if not start <= place < carried:
            return data
        harmed = bytearray(data)
        harmed[place - start] ^= change
        return bytes(harmed)

    try:
        run(ends, sizes, harm)
    except (RemoteProtocolError, ProtocolNotSupportedError):
        return
    # Nothing was noticed: the byte was never carried, or somebody waits for the rest of what is longer now.
    both = all(end.secured is not None and end.heard == b"first" for end in ends)
    assert both is (place >= carried)


@given(is_initiator=st.booleans(), data=st.binary(max_size=400), sizes=cuts)
def test_garbage_is_refused_by_type(is_initiator: bool, data: bytes, sizes: list[int]) -> None:
    handshake = sides((), ())[0 if is_initiator else 1]
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        try:
            assert handshake.receive(piece) is None
        except (RemoteProtocolError, ProtocolNotSupportedError):
            return
    assert not handshake.is_proven
