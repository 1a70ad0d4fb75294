"""Noise: any cut gives the same, any harm is found, and whatever a peer with keys says is taken or refused by type."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support.noise_peer import field, payload
from tests.support.noise_sides import PROOF, THEIR_KEY, THEIR_SEED, channel_pair, ours, public_of, their_words

from hostmesh.errors import MalformedMessageError, RemoteProtocolError
from hostmesh.wire.noise_channel import MAX_PLAINTEXT_BYTES

roles = st.booleans()
cuts = st.lists(st.integers(0, 400), max_size=12)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    out = []
    for size in sizes:
        out.append(data[:size])
        data = data[size:]
    return [*out, data]


def outcome(we_dial: bool, parts: list[bytes]) -> object:
    """Feed a fresh handshake; return how it ended."""
    handshake = ours(we_dial=we_dial)
    said = handshake.data_to_send()
    for index, part in enumerate(parts):
        try:
            finished = handshake.receive(part)
        except RemoteProtocolError as error:
            return type(error), str(error), said + handshake.data_to_send()
        said += handshake.data_to_send()
        if finished is not None:
            result, rest = finished
            assert result.remote_public_key == THEIR_KEY
            return "done", result.handshake_hash, rest + b"".join(parts[index + 1 :]), said
    return "waits", said


@given(we_dial=roles, early=st.binary(max_size=300), behind=st.binary(max_size=100), sizes=cuts)
def test_any_cut_of_an_honest_handshake_finishes(we_dial: bool, early: bytes, behind: bytes, sizes: list[int]) -> None:
    words, _ = their_words(ours(we_dial=we_dial), we_dial=we_dial, early=early)
    stream = b"".join(words) + behind
    ended = outcome(we_dial, pieces(stream, sizes))
    assert ended == outcome(we_dial, [stream])
    assert isinstance(ended, tuple)
    assert (ended[0], ended[2]) == ("done", behind)


@given(we_dial=roles, data=st.binary(max_size=600), sizes=cuts)
def test_garbage_ends_the_same_wherever_it_is_cut(we_dial: bool, data: bytes, sizes: list[int]) -> None:
    ended = outcome(we_dial, [data])
    assert ended == outcome(we_dial, pieces(data, sizes))
    assert isinstance(ended, tuple)
    assert ended[0] != "done"


@given(we_dial=roles, data=st.data(), change=st.integers(1, 255), sizes=cuts)
def test_a_changed_byte_never_passes(we_dial: bool, data: st.DataObject, change: int, sizes: list[int]) -> None:
    words, _ = their_words(ours(we_dial=we_dial), we_dial=we_dial)
    stream = bytearray(b"".join(words))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= change
    ended = outcome(we_dial, [bytes(stream)])
    assert isinstance(ended, tuple)
    # X25519 ignores the top bit of a key; the key is hashed as it came, so that even that is noticed.
    assert ended[0] != "done"
    assert ended == outcome(we_dial, pieces(bytes(stream), sizes))


@given(we_dial=roles, proof=st.binary(max_size=300) | st.binary(max_size=100).map(lambda more: PROOF + field(9, more)))
def test_what_a_peer_with_keys_says_is_proven_or_refused(we_dial: bool, proof: bytes) -> None:
    handshake = ours(we_dial=we_dial)
    words, _ = their_words(handshake, we_dial=we_dial, proof=proof)
    try:
        finished = handshake.receive(words[-1])
    except RemoteProtocolError:
        assert not proof.startswith(PROOF)
        return
    assert finished is not None
    assert finished[0].remote_public_key == THEIR_KEY


@given(we_dial=roles, static=st.binary(min_size=32, max_size=32))
def test_only_the_holder_of_the_static_key_gets_through(we_dial: bool, static: bytes) -> None:
    """A peer that signs for one static key and sends another."""
    honest = public_of(b"\x05" * 32)
    assume(static != honest)
    handshake = ours(we_dial=we_dial)
    words, _ = their_words(handshake, we_dial=we_dial, static=static, proof=payload(THEIR_SEED, static))
    try:
        finished = handshake.receive(words[-1])
    except RemoteProtocolError:
        return
    assert finished is None


@given(
    we_dial=roles,
    texts=st.lists(st.binary(max_size=300) | st.just(bytes(MAX_PLAINTEXT_BYTES)), max_size=6),
    sizes=st.lists(st.integers(0, 70_000), max_size=10),
)
def test_any_cut_opens_what_was_sealed(we_dial: bool, texts: list[bytes], sizes: list[int]) -> None:
    channel, sealing, opening = channel_pair(we_dial=we_dial)
    data = b"".join(map(sealing.seal, texts))
    assert [text for part in pieces(data, sizes) for text in channel.open(part)] == texts
    assert [b"".join(opening.open(channel.seal(text))) for text in texts] == texts


@given(
    texts=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    place=st.integers(0, 10_000),
    change=st.integers(1, 255),
    sizes=st.lists(st.integers(0, 60), max_size=8),
)
def test_harm_is_found_at_its_message_and_nothing_after_it_is_opened(
    texts: list[bytes], place: int, change: int, sizes: list[int]
) -> None:
    channel, sealing, _ = channel_pair()
    sealed = [sealing.seal(text) for text in texts]
    data = bytearray(b"".join(sealed))
    place %= len(data)
    data[place] ^= change
    found: list[bytes] = []
    ended = False
    for part in pieces(bytes(data), sizes):
        try:
            found += channel.open(part)
        except MalformedMessageError:
            ended = True
            break
    assert found == texts[: len(found)]
    harmed = next(index for index in range(len(sealed)) if place < sum(map(len, sealed[: index + 1])))
    assert len(found) <= harmed
    # A length that grew makes the channel wait for bytes that are not there.
    assert ended or place - sum(map(len, sealed[:harmed])) < 2
