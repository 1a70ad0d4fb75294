"""Noise: byte for byte what another implementation does, and nothing taken that was not sealed or proven."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from noise.connection import Keypair, NoiseConnection
from tests.support.noise_peer import SMALL_ORDER_POINTS, NoisePeer, field, framed, payload
from tests.support.noise_sides import (
    OUR_EPHEMERAL,
    OUR_SEED,
    OUR_STATIC,
    PROOF,
    THEIR_EPHEMERAL,
    THEIR_KEY,
    THEIR_SEED,
    THEIR_STATIC,
    YAMUX,
    finish,
    ours,
    public_of,
    their_words,
    unframed,
)

from hostmesh.errors import BadSignatureError, FrameTooLargeError, MalformedMessageError, RemoteProtocolError
from hostmesh.wire.noise import MAX_PAYLOAD_BYTES
from hostmesh.wire.noise_channel import MAX_MESSAGE_BYTES, MAX_PLAINTEXT_BYTES

ROLES = pytest.mark.parametrize("we_dial", [True, False], ids=["initiator", "responder"])


class StockPeer:
    """The noiseprotocol package with set keys."""

    def __init__(self, *, is_initiator: bool, static: bytes = THEIR_STATIC, ephemeral: bytes = THEIR_EPHEMERAL) -> None:
        self.noise = NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_SHA256")
        self.noise.set_keypair_from_private_bytes(Keypair.STATIC, static)
        self.noise.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
        (self.noise.set_as_initiator if is_initiator else self.noise.set_as_responder)()
        with pytest.warns(UserWarning, match="ephemeral keypairs is already set"):
            self.noise.start_handshake()

    def write(self, data: bytes = b"") -> bytes:
        return framed(bytes(self.noise.write_message(data)))

    def read(self, data: bytes) -> bytes:
        return bytes(self.noise.read_message(unframed(data)))


@ROLES
def test_agrees_with_another_implementation(we_dial: bool) -> None:
    handshake = ours(we_dial=we_dial, muxers=(YAMUX,))
    stock = StockPeer(is_initiator=not we_dial)
    if we_dial:
        assert stock.read(handshake.data_to_send()) == b""
        result = finish(handshake, stock.write(PROOF))
        told = stock.read(handshake.data_to_send())
    else:
        assert handshake.receive(stock.write()) is None
        told = stock.read(handshake.data_to_send())
        result = finish(handshake, stock.write(PROOF))
    assert told == payload(OUR_SEED, public_of(OUR_STATIC), muxers=(YAMUX,))
    assert result.remote_public_key == THEIR_KEY
    assert result.handshake_hash == stock.noise.get_handshake_hash()
    channel = result.channel
    for text in (b"one", b"", bytes(MAX_PLAINTEXT_BYTES), b"four"):
        assert bytes(stock.noise.decrypt(unframed(channel.seal(text)))) == text
        assert channel.open(framed(bytes(stock.noise.encrypt(text)))) == [text]


@ROLES
def test_what_the_handshake_writes_is_what_another_implementation_writes(we_dial: bool) -> None:
    """With the keys of our side, noiseprotocol says the very same bytes."""
    handshake = ours(we_dial=we_dial)
    twin = StockPeer(is_initiator=we_dial, static=OUR_STATIC, ephemeral=OUR_EPHEMERAL).noise
    proof = payload(OUR_SEED, public_of(OUR_STATIC))
    peer = NoisePeer(is_initiator=not we_dial, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    if we_dial:
        first = handshake.data_to_send()
        assert first == framed(bytes(twin.write_message()))
        peer.read_first(unframed(first))
        second = peer.write_second(PROOF)
        channel = finish(handshake, framed(second)).channel
        twin.read_message(second)
        assert handshake.data_to_send() == framed(bytes(twin.write_message(proof)))
    else:
        first = peer.write_first()
        assert handshake.receive(framed(first)) is None
        twin.read_message(first)
        second = handshake.data_to_send()
        assert second == framed(bytes(twin.write_message(proof)))
        peer.read_second(unframed(second))
        third = peer.write_third(PROOF)
        channel = finish(handshake, framed(third)).channel
        twin.read_message(third)
    for text in (b"one", b"two", bytes(40_000)):
        assert channel.seal(text) == framed(bytes(twin.encrypt(text)))


@ROLES
@pytest.mark.parametrize("step", [1, 3, 50])
def test_any_split_finishes_and_keeps_what_came_after(we_dial: bool, step: int) -> None:
    handshake = ours(we_dial=we_dial)
    words, peer = their_words(handshake, we_dial=we_dial)
    if we_dial:
        handshake = ours(we_dial=True)
        handshake.data_to_send()
    else:
        handshake = ours(we_dial=False)
    stream = b"".join(words) + b"behind"
    for start in range(0, len(stream), step):
        finished = handshake.receive(stream[start : start + step])
        if finished is not None:
            break
    assert finished is not None
    result, rest = finished
    assert result.remote_public_key == THEIR_KEY
    assert rest + stream[start + step :] == b"behind"
    assert result.handshake_hash == peer.hash or we_dial


@ROLES
def test_every_flipped_bit_of_the_last_message_fails_with_a_type(we_dial: bool) -> None:
    words, _ = their_words(ours(we_dial=we_dial), we_dial=we_dial)
    last = words[-1]
    for bit in range(8 * len(last)):
        handshake = ours(we_dial=we_dial)
        handshake.data_to_send()
        for each in words[:-1]:
            handshake.receive(each)
        damaged = bytearray(last)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            finished = handshake.receive(bytes(damaged))
        except MalformedMessageError:
            continue
        # A length that grew: the handshake waits for the rest, and the rest does not help.
        assert finished is None, f"bit {bit} passed"
        assert bit < 16
        with pytest.raises(MalformedMessageError):
            handshake.receive(bytes(MAX_MESSAGE_BYTES))


def test_every_flipped_bit_of_the_first_message_ends_the_handshake() -> None:
    """The first message is in the clear: whoever changes it makes two sides that cannot agree."""
    for bit in range(8 * 34):
        handshake = ours(we_dial=False)
        peer = NoisePeer(is_initiator=True, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
        first = bytearray(framed(peer.write_first()))
        first[bit // 8] ^= 1 << bit % 8
        try:
            assert handshake.receive(bytes(first)) is None
            second = handshake.data_to_send()
            if not second:
                assert bit < 16
                continue
            with pytest.raises(InvalidTag):
                peer.read_second(unframed(second))
            with pytest.raises(MalformedMessageError):
                handshake.receive(framed(peer.write_third(PROOF)))
        except MalformedMessageError:
            assert bit < 16


@pytest.mark.parametrize("point", SMALL_ORDER_POINTS, ids=bytes.hex)
class TestSmallOrder:
    """RFC 7748, section 6.1: a shared secret of zeros is refused."""

    @ROLES
    def test_as_an_ephemeral_key(self, point: bytes, we_dial: bool) -> None:
        handshake = ours(we_dial=we_dial)
        peer = NoisePeer(is_initiator=not we_dial, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
        if we_dial:
            peer.read_first(unframed(handshake.data_to_send()))
            word = framed(peer.write_second(PROOF, ephemeral=point))
        else:
            word = framed(peer.write_first(ephemeral=point))
        with pytest.raises(MalformedMessageError, match="small-order"):
            handshake.receive(word)
        assert handshake.data_to_send() == b""

    @ROLES
    def test_as_a_static_key(self, point: bytes, we_dial: bool) -> None:
        handshake = ours(we_dial=we_dial)
        proof = payload(THEIR_SEED, point)
        words, _ = their_words(handshake, we_dial=we_dial, static=point, proof=proof)
        with pytest.raises(MalformedMessageError, match="small-order"):
            handshake.receive(words[-1])
        assert handshake.data_to_send() == b""


LIES: list[tuple[str, bytes, type[RemoteProtocolError], str]] = [
    ("another static key", payload(THEIR_SEED, public_of(OUR_STATIC)), BadSignatureError, "vouch"),
    ("nobody's signature", payload(THEIR_SEED, b"", signature=bytes(64)), BadSignatureError, "vouch"),
    ("a short signature", payload(THEIR_SEED, b"", signature=bytes(63)), BadSignatureError, "vouch"),
    (
        "somebody else's key",
        payload(THEIR_SEED, public_of(THEIR_STATIC), key=bytes.fromhex("08011220") + bytes(range(32))),
        BadSignatureError,
        "vouch",
    ),
    (
        "a signature without its prefix",
        payload(
            THEIR_SEED, b"", signature=Ed25519PrivateKey.from_private_bytes(THEIR_SEED).sign(public_of(THEIR_STATIC))
        ),
        BadSignatureError,
        "vouch",
    ),
    (
        "an RSA key",
        payload(THEIR_SEED, b"", key=bytes.fromhex("0800122402") + bytes(31)),
        RemoteProtocolError,
        "Ed25519",
    ),
    (
        "a secp256k1 key",
        payload(THEIR_SEED, b"", key=bytes.fromhex("08021221") + bytes(33)),
        RemoteProtocolError,
        "Ed25519",
    ),
    (
        "an Ed25519 key of 33 bytes",
        payload(THEIR_SEED, b"", key=bytes.fromhex("08011221") + bytes(33)),
        RemoteProtocolError,
        "Ed25519",
    ),
    ("a key with 32 bytes and no type", payload(THEIR_SEED, b"", key=bytes(36)), RemoteProtocolError, "Ed25519"),
    ("no key", field(2, bytes(64)), MalformedMessageError, "identity_key"),
    ("no signature", field(1, bytes.fromhex("08011220") + THEIR_KEY), MalformedMessageError, "identity_sig"),
    ("nothing", b"", MalformedMessageError, "identity_key"),
    ("no protobuf", b"\xff\xff", MalformedMessageError, "not a NoiseHandshakePayload"),
    ("too much", PROOF + field(15, bytes(MAX_PAYLOAD_BYTES)), MalformedMessageError, "too long"),
    ("17 multiplexers", PROOF + field(4, field(2, b"/a") * 17), MalformedMessageError, "stream_muxers"),
]


@ROLES
@pytest.mark.parametrize(("proof", "error", "text"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_a_lie_is_refused_by_its_name(we_dial: bool, proof: bytes, error: type[RemoteProtocolError], text: str) -> None:
    handshake = ours(we_dial=we_dial)
    words, _ = their_words(handshake, we_dial=we_dial, proof=proof)
    with pytest.raises(error, match=text) as caught:
        handshake.receive(words[-1])
    assert type(caught.value) is error
    assert handshake.data_to_send() == b"", "an initiator tells a liar nothing about itself"
    with pytest.raises(error) as again:
        handshake.receive(b"")
    assert again.value is caught.value


def test_a_payload_of_a_byte_too_much_is_refused_by_the_length_of_its_message() -> None:
    handshake = ours(we_dial=True)
    proof = PROOF + field(15, bytes(MAX_PAYLOAD_BYTES - len(PROOF) - 2))
    words, _ = their_words(handshake, we_dial=True, proof=proof)
    with pytest.raises(MalformedMessageError, match="too long"):
        handshake.receive(words[-1][:2])
    # The initiator's last message has no key in the clear: there the payload itself is measured.
    handshake = ours(we_dial=False)
    words, _ = their_words(handshake, we_dial=False, proof=proof)
    with pytest.raises(FrameTooLargeError, match="over the limit of 4096"):
        handshake.receive(words[-1])


@ROLES
def test_the_largest_payload_is_taken(we_dial: bool) -> None:
    proof = PROOF + field(15, bytes(MAX_PAYLOAD_BYTES - len(PROOF) - 3))
    assert len(proof) == MAX_PAYLOAD_BYTES
    handshake = ours(we_dial=we_dial)
    words, _ = their_words(handshake, we_dial=we_dial, proof=proof)
    assert finish(handshake, words[-1]).remote_public_key == THEIR_KEY


@ROLES
def test_another_peer_than_the_expected_is_refused_and_told_nothing(we_dial: bool) -> None:
    handshake = ours(we_dial=we_dial, expected=bytes(32))
    words, _ = their_words(handshake, we_dial=we_dial)
    with pytest.raises(RemoteProtocolError, match="another one"):
        handshake.receive(words[-1])
    assert handshake.data_to_send() == b""
    handshake = ours(we_dial=we_dial, expected=THEIR_KEY)
    words, _ = their_words(handshake, we_dial=we_dial)
    assert finish(handshake, words[-1]).remote_public_key == THEIR_KEY


@ROLES
@pytest.mark.parametrize("muxers", [(), (YAMUX,), ("/mplex/6.7.0", YAMUX)])
def test_multiplexers_are_told_and_heard(we_dial: bool, muxers: tuple[str, ...]) -> None:
    handshake = ours(we_dial=we_dial, muxers=(YAMUX, "/other"))
    peer = NoisePeer(is_initiator=not we_dial, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    proof = payload(THEIR_SEED, public_of(THEIR_STATIC), muxers=muxers)
    if we_dial:
        peer.read_first(unframed(handshake.data_to_send()))
        result = finish(handshake, framed(peer.write_second(proof)))
        told = peer.read_third(unframed(handshake.data_to_send()))
    else:
        assert handshake.receive(framed(peer.write_first())) is None
        told = peer.read_second(unframed(handshake.data_to_send()))
        result = finish(handshake, framed(peer.write_third(proof)))
    assert result.remote_muxers == muxers
    assert told == payload(OUR_SEED, public_of(OUR_STATIC), muxers=(YAMUX, "/other"))


def test_an_early_payload_is_read_over() -> None:
    handshake = ours(we_dial=False)
    words, _ = their_words(handshake, we_dial=False, early=b"hello, I am somebody else")
    assert finish(handshake, words[-1]).remote_public_key == THEIR_KEY


@pytest.mark.parametrize("size", [0, 1, 31])
def test_a_first_message_without_a_key_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessageError, match="too short"):
        ours(we_dial=False).receive(framed(bytes(size)))


@ROLES
@pytest.mark.parametrize("size", [0, 40, 47])
def test_a_last_message_without_a_static_key_is_refused(we_dial: bool, size: int) -> None:
    handshake = ours(we_dial=we_dial)
    words, _ = their_words(handshake, we_dial=we_dial)
    cut = (32 if we_dial else 0) + size
    with pytest.raises(MalformedMessageError, match="too short"):
        handshake.receive(framed(unframed(words[-1])[:cut]))


@ROLES
def test_a_last_message_without_a_payload_is_not_too_short_but_not_sealed(we_dial: bool) -> None:
    handshake = ours(we_dial=we_dial)
    words, _ = their_words(handshake, we_dial=we_dial)
    with pytest.raises(MalformedMessageError, match="not sealed"):
        handshake.receive(framed(unframed(words[-1])[: 80 if we_dial else 48]))


def test_a_dead_handshake_holds_nothing() -> None:
    handshake = ours(we_dial=False)
    with pytest.raises(MalformedMessageError):
        handshake.receive(framed(bytes(31)) + bytes(4000))
    assert not handshake._buffer


def test_a_handshake_message_is_refused_by_its_length_alone() -> None:
    limit = MAX_PAYLOAD_BYTES + 96
    for we_dial in (True, False):
        with pytest.raises(MalformedMessageError, match="too long"):
            ours(we_dial=we_dial).receive((limit + 1).to_bytes(2, "big"))
        assert ours(we_dial=we_dial).receive(limit.to_bytes(2, "big")) is None
