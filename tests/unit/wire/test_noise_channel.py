"""Sealed messages: each once, in their order, whole, and by nobody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.noise_peer import framed
from tests.support.noise_sides import channel_pair

from hostmesh.errors import MalformedMessageError, RemoteProtocolError
from hostmesh.wire.noise_channel import MAX_MESSAGE_BYTES, MAX_PLAINTEXT_BYTES

ROLES = pytest.mark.parametrize("we_dial", [True, False], ids=["initiator", "responder"])


@ROLES
@pytest.mark.parametrize("size", [0, 1, MAX_PLAINTEXT_BYTES, MAX_PLAINTEXT_BYTES + 1, 200_000])
def test_what_is_sealed_is_opened(we_dial: bool, size: int) -> None:
    channel, sealing, opening = channel_pair(we_dial=we_dial)
    text = bytes(index % 251 for index in range(size))
    sealed = channel.seal(text)
    assert b"".join(opening.open(sealed)) == text
    sizes = []
    while sealed:
        sizes.append(int.from_bytes(sealed[:2], "big"))
        sealed = sealed[2 + sizes[-1] :]
    assert sizes[:-1] == [MAX_MESSAGE_BYTES] * (len(sizes) - 1)
    data = b"".join(sealing.seal(text[start : start + 60_000]) for start in range(0, size, 60_000))
    assert b"".join(channel.open(data)) == text


def test_nothing_and_a_byte_at_a_time() -> None:
    channel, sealing, _ = channel_pair()
    sealed = sealing.seal(b"x")
    for byte in sealed[:-1]:
        assert channel.open(bytes((byte,))) == channel.open(b"") == []
    assert channel.open(sealed[-1:]) == [b"x"]


def test_a_dead_channel_holds_nothing() -> None:
    channel, sealing, _ = channel_pair()
    with pytest.raises(MalformedMessageError):
        channel.open(sealing.seal(b"x")[:-1] + b"!" + bytes(9000))
    assert not channel._partial


def test_memory_views_can_be_sealed() -> None:
    channel, _, opening = channel_pair()
    text = bytes(range(200)) * 1000
    assert b"".join(opening.open(channel.seal(memoryview(text)))) == text  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [1, 2, 7, 40])
def test_any_split_opens_the_same(step: int) -> None:
    channel, sealing, _ = channel_pair()
    texts = [b"one", b"", b"three" * 9, bytes(300)]
    data = b"".join(map(sealing.seal, texts))
    found = []
    for start in range(0, len(data), step):
        found += channel.open(data[start : start + step])
    assert found == texts


def test_each_message_has_its_own_nonce() -> None:
    channel, _, _ = channel_pair()
    assert len({channel.seal(b"the same") for _ in range(10)}) == 10


def test_each_direction_has_its_own_key() -> None:
    channel, sealing, opening = channel_pair()
    assert sealing.key != opening.key
    with pytest.raises(MalformedMessageError):
        channel.open(channel.seal(b"back to the sender"))


HARMS: dict[str, Callable[[list[bytes]], bytes]] = {
    "replayed": lambda sealed: sealed[0] + sealed[0],
    "reordered": lambda sealed: sealed[0] + sealed[2] + sealed[1],
    "left out": lambda sealed: sealed[0] + sealed[2],
    "cut short": lambda sealed: sealed[0] + framed(sealed[1][2:-1]),
    "too short for a tag": lambda sealed: sealed[0] + framed(bytes(15)),
    "empty": lambda sealed: sealed[0] + bytes(2),
    "made longer": lambda sealed: sealed[0] + framed(sealed[1][2:] + b"x"),
    "joined": lambda sealed: sealed[0] + framed(sealed[1][2:] + sealed[2][2:]),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_harm_ends_the_channel(harm: Callable[[list[bytes]], bytes]) -> None:
    channel, sealing, _ = channel_pair()
    sealed = [sealing.seal(text) for text in (b"one", b"two", b"three")]
    data = harm(sealed)
    assert channel.open(data[: len(sealed[0])]) == [b"one"]
    with pytest.raises(MalformedMessageError) as caught:
        channel.open(data[len(sealed[0]) :])
    for later in (b"", sealed[1]):
        with pytest.raises(MalformedMessageError) as again:
            channel.open(later)
        assert again.value is caught.value


def test_every_flipped_bit_of_a_sealed_message_fails() -> None:
    _, sealing, _ = channel_pair()
    sealed = sealing.seal(b"x")
    for bit in range(16, 8 * len(sealed)):
        channel, _, _ = channel_pair()
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedMessageError):
            channel.open(bytes(damaged))


def test_the_last_nonce_is_used_and_no_other_after_it() -> None:
    last = 2**64 - 2
    channel, sealing, opening = channel_pair()
    channel._sending.nonce = channel._receiving.nonce = sealing.count = opening.count = last
    assert opening.open(channel.seal(b"last")) == [b"last"]
    with pytest.raises(RemoteProtocolError, match="used up") as caught:
        channel.seal(b"one more")
    assert caught.value.remedy
    assert channel.open(sealing.seal(b"last")) == [b"last"]
    # A peer that goes on anyway, with the reserved number and after it from the start.
    for count in (2**64 - 1, 0):
        sealing.count = count
        with pytest.raises(RemoteProtocolError, match="used up"):
            channel.open(sealing.seal(b"one more"))


def test_a_large_plaintext_does_not_wrap_the_nonce() -> None:
    channel, _, _ = channel_pair()
    channel._sending.nonce = 2**64 - 3
    with pytest.raises(RemoteProtocolError, match="used up"):
        channel.seal(bytes(3 * MAX_PLAINTEXT_BYTES))


def test_what_came_before_a_forged_message_is_not_lost() -> None:
    ours, theirs, _ = channel_pair()
    sealed = theirs.seal(b"one") + theirs.seal(b"two") + b"\x00\x11" + bytes(17) + theirs.seal(b"three")
    with pytest.raises(MalformedMessageError) as caught:
        ours.open(sealed)
    assert ours.undelivered == [b"one", b"two"]
    with pytest.raises(MalformedMessageError) as again:
        ours.open(b"")
    assert again.value is caught.value
