"""The whole upgrade, against a peer that speaks line by line or all at once, with keys of its own."""

from __future__ import annotations

import pytest
from tests.support.noise_peer import NoisePeer, framed, payload
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
    public_of,
)
from tests.unit.wire.test_multistream import line

from hostmesh.errors import MalformedMessageError, ProtocolNotSupportedError, RemoteProtocolError
from hostmesh.wire.handshake import Handshake, Secured
from hostmesh.wire.multistream import GREETING, proposal

ROLES = pytest.mark.parametrize("we_dial", [True, False], ids=["dialer", "listener"])
MUXERS = pytest.mark.parametrize(
    ("our_muxers", "their_muxers"),
    [((YAMUX,), (YAMUX,)), ((YAMUX,), ()), ((), (YAMUX,)), ((), ()), ((YAMUX,), ("/mplex/6.7.0",))],
    ids=["both", "we", "they", "none", "another"],
)


def ours(*, we_dial: bool, muxers: tuple[str, ...] = (YAMUX,), expected: bytes | None = None) -> Handshake:
    return Handshake(
        is_initiator=we_dial,
        identity=identity_of(OUR_SEED, OUR_STATIC, muxers),
        ephemeral_private=OUR_EPHEMERAL,
        expected_public_key=expected,
    )


def noise_words(said: bytes) -> list[bytes]:
    """Return the Noise messages in what was said after multistream."""
    words = []
    while said:
        size = int.from_bytes(said[:2], "big")
        words.append(said[2 : 2 + size])
        said = said[2 + size :]
    return words


class Peer:
    """The other side; ``streams`` are its first bytes for the multiplexer."""

    def __init__(self, *, dials: bool, muxers: tuple[str, ...], streams: bytes = b"") -> None:
        self.noise = NoisePeer(is_initiator=dials, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
        self.proof = payload(THEIR_SEED, public_of(THEIR_STATIC), muxers=muxers)
        self.streams = streams

    def answer_dialer(self, first: bytes, *, inlined: bool) -> bytes:
        """Return all that a listener says after the dialer's first bytes."""
        assert first.startswith(proposal("/noise"))
        (word,) = noise_words(first[len(proposal("/noise")) :])
        self.noise.read_first(word)
        return proposal("/noise") + framed(self.noise.write_second(self.proof))

    def first_words(self) -> bytes:
        """Return what a dialer says at once."""
        return proposal("/noise") + framed(self.noise.write_first())


def play_against_listener(
    our_muxers: tuple[str, ...], their_muxers: tuple[str, ...], streams: bytes, step: int
) -> tuple[Secured, bytes]:
    """We dial; return the connection and all that we said after the first flight."""
    inlined = YAMUX in our_muxers and YAMUX in their_muxers
    handshake = ours(we_dial=True, muxers=our_muxers)
    peer = Peer(dials=False, muxers=their_muxers)
    first = handshake.data_to_send()
    said = peer.answer_dialer(first, inlined=inlined)
    secured = feed(handshake, said, step)
    output = handshake.data_to_send()
    third, *sealed = noise_words(output)
    assert peer.noise.read_third(third) == payload(OUR_SEED, public_of(OUR_STATIC), muxers=our_muxers)
    sealing, opening = peer.noise.split()
    heard = b"".join(b"".join(opening.open(framed(each))) for each in sealed)
    if inlined:
        assert secured is not None
        assert heard == b""
        assert secured.plaintexts == ()
        assert b"".join(secured.channel.open(sealing.seal(streams))) == streams
    else:
        assert secured is None
        assert heard == proposal(YAMUX)
        secured = feed(handshake, sealing.seal(proposal(YAMUX) + streams[:5]) + sealing.seal(streams[5:]), step)
        assert secured is not None
    assert opening.open(secured.channel.seal(b"to the peer")) == [b"to the peer"]
    return secured, output


def feed(handshake: Handshake, said: bytes, step: int) -> Secured | None:
    """Feed in pieces; what is left when the connection is there is opened and put behind its plaintexts."""
    for start in range(0, len(said), step):
        secured = handshake.receive(said[start : start + step])
        if secured is not None:
            rest = said[start + step :]
            assert all(secured.plaintexts)
            more = tuple(filter(None, secured.channel.open(rest)))
            return Secured(
                remote_public_key=secured.remote_public_key,
                channel=secured.channel,
                plaintexts=secured.plaintexts + more,
            )
    return None


@MUXERS
@pytest.mark.parametrize("step", [1, 5, 64, 100_000])
def test_we_dial(our_muxers: tuple[str, ...], their_muxers: tuple[str, ...], step: int) -> None:
    secured, _ = play_against_listener(our_muxers, their_muxers, b"first frames", step)
    assert secured.remote_public_key == THEIR_KEY
    if not (YAMUX in our_muxers and YAMUX in their_muxers):
        assert b"".join(secured.plaintexts) == b"first frames"


@MUXERS
@pytest.mark.parametrize("step", [1, 5, 64, 100_000])
def test_we_listen_and_the_dialer_sends_its_first_streams_at_once(
    our_muxers: tuple[str, ...], their_muxers: tuple[str, ...], step: int
) -> None:
    handshake = ours(we_dial=False, muxers=our_muxers)
    peer = Peer(dials=True, muxers=their_muxers)
    assert feed(handshake, peer.first_words(), step) is None
    said = handshake.data_to_send()
    assert said.startswith(proposal("/noise"))
    (second,) = noise_words(said[len(proposal("/noise")) :])
    assert peer.noise.read_second(second) == payload(OUR_SEED, public_of(OUR_STATIC), muxers=our_muxers)
    third = framed(peer.noise.write_third(peer.proof))
    sealing, opening = peer.noise.split()
    inlined = YAMUX in our_muxers and YAMUX in their_muxers
    lines = b"" if inlined else proposal(YAMUX)
    streams = bytes(range(200))
    data = third + b"".join(sealing.seal((lines + streams)[start : start + 33]) for start in range(0, 300, 33))
    secured = feed(handshake, data, step)
    assert secured is not None
    assert secured.remote_public_key == THEIR_KEY
    assert b"".join(secured.plaintexts) == streams
    assert b"".join(opening.open(handshake.data_to_send())) == (b"" if inlined else proposal(YAMUX))
    assert opening.open(secured.channel.seal(b"to the peer")) == [b"to the peer"]


@ROLES
def test_a_peer_that_goes_line_by_line(we_dial: bool) -> None:
    """As stock implementations do: every line waits for the one before it."""
    handshake = ours(we_dial=we_dial, muxers=())
    noise = NoisePeer(is_initiator=not we_dial, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    proof = payload(THEIR_SEED, public_of(THEIR_STATIC))
    if we_dial:
        noise.read_first(noise_words(handshake.data_to_send()[len(proposal("/noise")) :])[0])
        for said in (GREETING, line("/noise")):
            assert handshake.receive(said) is None
            assert handshake.data_to_send() == b""
        assert handshake.receive(framed(noise.write_second(proof))) is None
        assert handshake.is_proven
        third, sealed = noise_words(handshake.data_to_send())
        noise.read_third(third)
        sealing, opening = noise.split()
        assert opening.open(framed(sealed)) == [proposal(YAMUX)]
        assert handshake.receive(sealing.seal(GREETING)) is None
        secured = handshake.receive(sealing.seal(line(YAMUX)))
    else:
        for said, answer in ((GREETING, GREETING), (line("/tls/1.0.0"), line("na")), (line("/noise"), line("/noise"))):
            assert handshake.receive(said) is None
            assert handshake.data_to_send() == answer
        assert handshake.receive(framed(noise.write_first())) is None
        noise.read_second(noise_words(handshake.data_to_send())[0])
        assert not handshake.is_proven
        assert handshake.receive(framed(noise.write_third(proof))) is None
        assert handshake.is_proven
        sealing, opening = noise.split()
        for said, answer in ((GREETING, GREETING), (line("/mplex/6.7.0"), line("na"))):
            assert handshake.receive(sealing.seal(said)) is None
            assert opening.open(handshake.data_to_send()) == [answer]
        secured = handshake.receive(sealing.seal(line(YAMUX)))
        assert opening.open(handshake.data_to_send()) == [line(YAMUX)]
    assert secured is not None
    assert secured.remote_public_key == THEIR_KEY
    assert secured.plaintexts == ()
    assert secured.channel.open(sealing.seal(b"stream")) == [b"stream"]


@MUXERS
def test_two_of_ours(our_muxers: tuple[str, ...], their_muxers: tuple[str, ...]) -> None:
    dialer = ours(we_dial=True, muxers=our_muxers)
    listener = Handshake(
        is_initiator=False,
        identity=identity_of(THEIR_SEED, THEIR_STATIC, their_muxers),
        ephemeral_private=THEIR_EPHEMERAL,
    )
    done: dict[str, Secured] = {}
    flights = 0
    while len(done) < 2:
        for name, side, other in (("dialer", dialer, listener), ("listener", listener, dialer)):
            data = side.data_to_send()
            if data and (secured := other.receive(data)):
                done["listener" if name == "dialer" else "dialer"] = secured
        flights += 1
        assert flights < 5
    left, right = done["dialer"].channel, done["listener"].channel
    assert right.open(left.seal(b"over")) == [b"over"]
    assert left.open(right.seal(b"back")) == [b"back"]
    assert done["dialer"].remote_public_key == THEIR_KEY
    assert dialer.data_to_send() == listener.data_to_send() == b""


def test_the_dialer_may_send_streams_after_one_round_trip() -> None:
    """Both name Yamux: the dialer's second flight is its last word of the handshake."""
    handshake = ours(we_dial=True)
    peer = Peer(dials=False, muxers=(YAMUX,))
    secured = handshake.receive(peer.answer_dialer(handshake.data_to_send(), inlined=True))
    assert secured is not None
    assert len(noise_words(handshake.data_to_send())) == 1


def test_a_listener_without_noise_is_refused_by_name() -> None:
    handshake = ours(we_dial=True)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        handshake.receive(GREETING + line("na"))
    assert caught.value.needed == "/noise"


def test_a_listener_without_yamux_is_refused_by_name() -> None:
    handshake = ours(we_dial=True, muxers=())
    peer = Peer(dials=False, muxers=())
    handshake.receive(peer.answer_dialer(handshake.data_to_send(), inlined=False))
    peer.noise.read_third(noise_words(handshake.data_to_send())[0])
    sealing, _ = peer.noise.split()
    with pytest.raises(ProtocolNotSupportedError) as caught:
        handshake.receive(sealing.seal(GREETING + line("na")))
    assert caught.value.needed == YAMUX


def test_nothing_but_noise_and_yamux_is_offered() -> None:
    handshake = ours(we_dial=False)
    assert handshake.receive(GREETING + line("/plaintext/2.0.0") + line("/tls/1.0.0") + line("/yamux/1.0.0")) is None
    assert handshake.data_to_send() == GREETING + line("na") * 3


@ROLES
def test_another_peer_than_the_expected_is_refused(we_dial: bool) -> None:
    handshake = ours(we_dial=we_dial, expected=bytes(32))
    peer = Peer(dials=not we_dial, muxers=(YAMUX,))
    if we_dial:
        last = peer.answer_dialer(handshake.data_to_send(), inlined=True)
    else:
        handshake.receive(peer.first_words())
        peer.noise.read_second(noise_words(handshake.data_to_send()[len(proposal("/noise")) :])[0])
        last = framed(peer.noise.write_third(peer.proof))
    with pytest.raises(RemoteProtocolError, match="another one"):
        handshake.receive(last)
    assert handshake.data_to_send() == b""
    assert not handshake.is_proven


@ROLES
def test_large_first_streams_do_not_count_as_a_long_handshake(we_dial: bool) -> None:
    """A fast peer's streams come in one piece with its last word."""
    handshake = ours(we_dial=we_dial, muxers=())
    peer = Peer(dials=not we_dial, muxers=())
    streams = bytes(300_000)
    if we_dial:
        handshake.receive(peer.answer_dialer(handshake.data_to_send(), inlined=False))
        peer.noise.read_third(noise_words(handshake.data_to_send())[0])
        said = b""
    else:
        handshake.receive(peer.first_words())
        peer.noise.read_second(noise_words(handshake.data_to_send()[len(proposal("/noise")) :])[0])
        said = framed(peer.noise.write_third(peer.proof))
    sealing, _ = peer.noise.split()
    pieces = [proposal(YAMUX), *(streams[start : start + 60_000] for start in range(0, len(streams), 60_000))]
    secured = handshake.receive(said + b"".join(map(sealing.seal, pieces)))
    assert secured is not None
    assert b"".join(secured.plaintexts) == streams


@ROLES
@pytest.mark.parametrize("fill", [b"\x00", b"\x13", b"a", b"\xff"])
def test_a_peer_that_proves_nothing_gets_no_further_than_17_kib(we_dial: bool, fill: bytes) -> None:
    """Whatever it says, and however slowly: the limits of lines and Noise messages bound what is taken."""
    starts = [b"", GREETING, proposal("/noise"), GREETING + line("/n" * 400) * 8]
    if not we_dial:
        starts.append(Peer(dials=True, muxers=()).first_words() + framed(bytes(4000))[:-1])
    for start in starts:
        handshake = ours(we_dial=we_dial)
        assert taken_bytes(handshake, start + fill * 17_500) < 17 * 1024
        assert not handshake.is_proven


def taken_bytes(handshake: Handshake, said: bytes) -> int:
    for taken, byte in enumerate(said):
        try:
            handshake.receive(bytes((byte,)))
        except (MalformedMessageError, ProtocolNotSupportedError):
            return taken
    return len(said)
