"""Sealed messages: a peer with the keys seals what the bytes choose, and harms it as they choose."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from tests.fuzz.noise_handshake_target import THEIR_EPHEMERAL, THEIR_SEED, THEIR_STATIC, our_handshake, their_peer
from tests.fuzz.target import Choices, Target, cut, promise
from tests.support.noise_peer import NoisePeer, SealingKey, framed, payload

from hostmesh.errors import MalformedMessageError, RemoteProtocolError
from hostmesh.wire.noise_channel import MAX_MESSAGE_BYTES, NoiseChannel

FILLER = bytes(range(256)) * 800


@lru_cache
def keys() -> tuple[bytes, bytes]:
    """Return the keys with which the peer seals and opens."""
    ours = our_handshake(1)
    peer = NoisePeer(is_initiator=False, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    peer.read_first(ours.data_to_send()[2:])
    ours.receive(framed(peer.write_second(payload(THEIR_SEED, their_peer()[0]))))
    peer.read_third(ours.data_to_send()[2:])
    sealing, opening = peer.split()
    return sealing.key, opening.key


LAST_NONCE = 2**64 - 2


def our_channel(first_nonce: int) -> NoiseChannel:
    """Return our side, fresh, as it is after so many messages."""
    ours = our_handshake(1)
    ours.data_to_send()
    finished = ours.receive(_answer())
    assert finished is not None
    channel = finished[0].channel
    channel._sending.nonce = channel._receiving.nonce = first_nonce
    return channel


@lru_cache
def _answer() -> bytes:
    peer = NoisePeer(is_initiator=False, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    peer.read_first(our_handshake(1).data_to_send()[2:])
    return framed(peer.write_second(payload(THEIR_SEED, their_peer()[0])))


def run(data: bytes) -> None:
    choices = Choices(data)
    start = choices.byte()
    first_nonce = LAST_NONCE - (start & 7) if start & 8 else 0
    stream, expected = conversation(choices, first_nonce)
    whole = receive([stream], first_nonce)
    cuts = [receive(cut(stream), first_nonce), receive(cut(stream, salt=1), first_nonce)]
    for found, error in cuts:
        promise(error == whole[1], "any cut ends the same")
        promise(found == whole[0], "any cut opens the same")
        promise(expected.startswith(found), "only what was sealed is opened, in its order")
        promise(error is not None or found == expected, "all that was sealed is opened")
    send(choices, first_nonce)


def conversation(choices: Choices, first_nonce: int) -> tuple[bytes, bytes]:
    """Return what the peer sends, and the plaintext that must come out before the first harm."""
    sealing = SealingKey(keys()[0])
    sealing.count = first_nonce
    sent: list[bytes] = []
    expected = b""
    is_harmed = False
    for _ in range(choices.byte() % 12):
        harm = choices.byte()
        plaintext = FILLER[: choices.number(2)] if harm & 128 else choices.take(choices.byte())
        if len(plaintext) > MAX_MESSAGE_BYTES - 16:
            plaintext = plaintext[: MAX_MESSAGE_BYTES - 16]
        if sealing.count > LAST_NONCE:
            # What a careless peer would send, and nobody may open: the first nonce again.
            sealing.count = 0
            is_harmed = True
        message = bytearray(sealing.seal(plaintext))
        whole = bytes(message)
        match harm & 15:
            case 1:
                message[choices.number(2) % len(message)] ^= choices.byte()
            case 2 if sent:
                message[:] = sent[choices.byte() % len(sent)]
            case 3:
                message[:] = framed(choices.take(choices.byte() & 31))
            case 4:
                message.clear()
            case 5:
                message[0:2] = (choices.number(2)).to_bytes(2, "big")
        is_harmed = is_harmed or bytes(message) != whole
        if not is_harmed:
            expected += plaintext
        sent.append(bytes(message))
    tail = choices.take(choices.byte() & 3)
    if tail and len(tail) > 1 and tail[:2] == b"\0\0":
        is_harmed = True
    stream = b"".join(sent) + (b"" if is_harmed else b"\xff\xff"[: len(tail)])
    return stream, expected


def receive(pieces: list[bytes], first_nonce: int) -> tuple[bytes, tuple[type, str] | None]:
    """Open with our side."""
    channel = our_channel(first_nonce)
    found = b""
    for piece in pieces:
        try:
            found += b"".join(channel.open(piece))
        except RemoteProtocolError as error:
            found += b"".join(channel.undelivered)
            used_up = channel._receiving.nonce > LAST_NONCE
            promise(used_up or type(error) is MalformedMessageError, "harm is malformed")
            promise(not channel._partial, "a dead channel holds nothing")
            try:
                channel.open(b"")
            except RemoteProtocolError as again:
                promise(again is error, "a dead channel raises its first error")
            else:
                promise(False, "a dead channel raises")
            return found, (type(error), str(error))
        promise(len(channel._partial) < 2 + MAX_MESSAGE_BYTES, "less than a message is held")
    return found, None


def send(choices: Choices, first_nonce: int) -> None:
    """Seal with our side and open with the peer."""
    channel = our_channel(first_nonce)
    plaintext = FILLER[: choices.number(3) % len(FILLER)]
    messages = max(1, -(-len(plaintext) // (MAX_MESSAGE_BYTES - 16))) + 1
    try:
        sealed = channel.seal(plaintext) + channel.seal(b"")
    except RemoteProtocolError:
        promise(first_nonce + messages - 1 > LAST_NONCE, "nonces are used up only at the end")
        return
    promise(first_nonce + messages - 1 <= LAST_NONCE, "no nonce is used twice")
    opening = SealingKey(keys()[1])
    opening.count = first_nonce
    promise(b"".join(opening.open(sealed)) == plaintext, "what is sealed can be opened")


def seeds() -> Iterable[bytes]:
    for start in (0, 8, 9, 10, 15):
        first = bytes((start,))
        for harm in range(6):
            few = bytes((4, 0, 5)) + b"hello" + bytes((0, 0)) + bytes((harm, 3)) + b"abc"
            yield first + few + bytes((0, 7, 0, 4)) + b"last"
            yield first + bytes((3, 128, 200, 1, 128, 255, 255, harm | 128, 255, 239, 0, 9, 0, 0, 1, 2, 0, 1))
        yield first + bytes((0, 1, 255, 3, 3, 0))
        yield first + bytes((1, 5, 0, 0, 0))
        yield first + bytes((1, 3, 15)) + bytes(15)
        yield first + bytes((2, 3, 16)) + bytes(16)


TARGET = Target(
    run=run,
    seeds=seeds,
    code=("hostmesh.wire.noise_channel:NoiseChannel", "hostmesh.wire.noise_channel:Cipher"),
    max_bytes=4096,
)
