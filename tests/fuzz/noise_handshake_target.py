"""The Noise handshake, both roles: raw bytes, or a peer with real keys that says what the bytes choose."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from tests.fuzz.target import Choices, Target, cut, promise
from tests.support.noise_peer import SMALL_ORDER_POINTS, NoisePeer, field, framed, payload

from hostmesh.errors import RemoteProtocolError
from hostmesh.wire.noise import MAX_PAYLOAD_BYTES, NoiseHandshake, NoiseIdentity, NoiseResult
from hostmesh.wire.noise_channel import MAX_MESSAGE_BYTES

OUR_SEED, OUR_STATIC, OUR_EPHEMERAL = (bytes((number,)) * 32 for number in (1, 2, 3))
THEIR_SEED, THEIR_STATIC, THEIR_EPHEMERAL = (bytes((number,)) * 32 for number in (4, 5, 6))
MUXERS = ((), ("/yamux/1.0.0",), ("/mplex/6.7.0", "/yamux/1.0.0"))
NEVER_MORE_BYTES = 2 + MAX_PAYLOAD_BYTES + 96


@lru_cache
def their_peer() -> tuple[bytes, bytes]:
    """Return the peer's static public key and its identity key."""
    honest = payload(THEIR_SEED, static_public := _static_public())
    return static_public, honest[6:38]


def _static_public() -> bytes:
    peer = NoisePeer(is_initiator=True, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    return peer.static.public_key().public_bytes_raw()


@lru_cache
def our_identity(muxers: tuple[str, ...]) -> NoiseIdentity:
    """Return what our side brings."""
    peer = NoisePeer(is_initiator=True, static=OUR_STATIC, ephemeral=OUR_EPHEMERAL)
    proof = payload(OUR_SEED, peer.static.public_key().public_bytes_raw())
    return NoiseIdentity(OUR_STATIC, proof[6:38], proof[40:104], muxers=muxers)


def our_handshake(choice: int) -> NoiseHandshake:
    """Return our side."""
    expected = (None, None, their_peer()[1], bytes(32))[choice >> 1 & 3]
    return NoiseHandshake(
        is_initiator=bool(choice & 1),
        identity=our_identity(MUXERS[choice >> 3 & 1]),
        ephemeral_private=OUR_EPHEMERAL,
        expected_public_key=expected,
    )


def run(data: bytes) -> None:
    choices = Choices(data)
    choice = choices.byte()
    if choice & 64:
        stream = choices.rest()
        is_honest = False
    else:
        stream, is_honest = conversation(choices, choice)
    first = play([stream], choice)
    promise(first == play(cut(stream), choice) == play(cut(stream, salt=1), choice), "any cut gives the same")
    if is_honest:
        promise(first[0] == "done" or choice >> 1 & 3 == 3, "an honest peer is taken")


def conversation(choices: Choices, choice: int) -> tuple[bytes, bool]:
    """Return all that a peer with keys says to our side, which answers deterministically, and whether it is honest."""
    lie = choices.byte()
    proof = _proof(choices, lie)
    point = SMALL_ORDER_POINTS[choices.byte() % len(SMALL_ORDER_POINTS)]
    ephemeral = point if lie & 15 == 1 else None
    static = point if lie & 15 == 2 else None
    early = choices.take(choices.byte()) if lie & 16 else b""
    ours = our_handshake(choice & ~6)
    we_dial = bool(choice & 1)
    peer = NoisePeer(is_initiator=not we_dial, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    if we_dial:
        peer.read_first(ours.data_to_send()[2:])
        stream = framed(peer.write_second(proof, ephemeral=ephemeral, static=static))
    else:
        stream = framed(peer.write_first(early, ephemeral=ephemeral))
        try:
            ours.receive(stream)
            peer.read_second(ours.data_to_send()[2:])
            stream += framed(peer.write_third(proof, static=static))
        except (RemoteProtocolError, InvalidTag):
            stream += framed(choices.take(80))
    damaged = bytearray(stream)
    if lie & 15 == 3:
        place = choices.number(2) % len(damaged)
        damaged[place] ^= choices.byte()
    elif lie & 15 == 4:
        del damaged[choices.number(2) % len(damaged) :]
    elif lie & 15 == 5:
        place = choices.number(2) % len(damaged)
        damaged[place:place] = choices.take(choices.byte())
    return bytes(damaged) + choices.rest(), lie & 15 in (0, 13, 14, 15)


def _proof(choices: Choices, lie: int) -> bytes:
    static_public, identity = their_peer()
    muxers = MUXERS[lie >> 6 & 1]
    key = b"\x08\x01\x12\x20" + identity
    match lie & 15:
        case 6:
            return payload(THEIR_SEED, OUR_STATIC, muxers=muxers)
        case 7:
            return payload(THEIR_SEED, static_public, key=choices.take(choices.byte() % 48))
        case 8:
            return payload(THEIR_SEED, static_public, signature=choices.take(choices.byte() % 80))
        case 9:
            return choices.take(choices.number(2) % 5000)
        case 10:
            return payload(THEIR_SEED, static_public) + field(choices.byte() & 15, choices.take(choices.byte()))
        case 11:
            return payload(THEIR_SEED, static_public) + bytes(choices.number(2) % MAX_MESSAGE_BYTES % 6000)
        case 12:
            return payload(OUR_SEED, static_public, key=key, muxers=muxers)
    return payload(THEIR_SEED, static_public, muxers=muxers)


def play(pieces: list[bytes], choice: int) -> tuple[object, ...]:
    """Feed our side and say how it ended."""
    ours = our_handshake(choice)
    output = ours.data_to_send()
    finished: tuple[NoiseResult, bytes] | None = None
    for index, piece in enumerate(pieces):
        try:
            finished = ours.receive(piece)
        except RemoteProtocolError as error:
            promise(not ours._buffer, "a dead handshake holds nothing")
            _check_dead(ours, error)
            return ("error", type(error), str(error), output + ours.data_to_send())
        output += ours.data_to_send()
        if finished is not None:
            result, rest = finished
            promise(result.remote_public_key in (their_peer()[1], _our_key()), "only a proven key is told")
            expected = (None, None, their_peer()[1], bytes(32))[choice >> 1 & 3]
            promise(expected in (None, result.remote_public_key), "only the expected peer is taken")
            rest += b"".join(pieces[index + 1 :])
            return ("done", result.remote_public_key, result.remote_muxers, result.handshake_hash, rest, output)
        promise(len(ours._buffer) < NEVER_MORE_BYTES, "less than a message is held")
    return ("waits", output)


def _check_dead(ours: NoiseHandshake, error: RemoteProtocolError) -> None:
    try:
        ours.receive(b"x")
    except RemoteProtocolError as again:
        promise(again is error, "a dead handshake raises its first error")
    else:
        promise(False, "a dead handshake raises")


def _our_key() -> bytes:
    return payload(OUR_SEED, bytes(32))[6:38]


def seeds() -> Iterable[bytes]:
    for role in (0, 1):
        for expected in (0, 4, 6):
            for lie in range(16):
                yield bytes((role | expected | 8, lie)) + bytes((1, 20, 1, 3)) + bytes(range(60))
            yield bytes((role | expected, 64))
            yield bytes((role | expected, 16, 0, 9)) + bytes(9)
        for point in range(len(SMALL_ORDER_POINTS)):
            for lie in (1, 2):
                yield bytes((role, lie, point))
        for place in range(0, 200, 9):
            for lie in (3, 4):
                yield bytes((role, lie, 0, 0, place, 1))
        yield bytes((role, 9, 0, 40)) + payload(THEIR_SEED, their_peer()[0])
        yield bytes((role, 9, 16, 1)) + bytes(4097)
        yield bytes((role, 11, 16, 0, 0)) + bytes(20)
        yield bytes((role, 10, 4, 20)) + field(2, b"/yamux/1.0.0")
        yield bytes((role, 10, 4, 250)) + field(2, b"x" * 200)
        yield bytes((role | 64,)) + framed(bytes(32))
        yield bytes((role | 64,)) + framed(bytes(range(1, 33)) + bytes(70)) + framed(bytes(70))
        yield bytes((role | 64,)) + framed(bytes(range(1, 33))) + framed(bytes(40))
        yield bytes((role | 64,)) + framed(bytes(range(1, 33)) + bytes(40))
        yield bytes((role | 64,)) + b"\xff\xff"
        yield bytes((role | 64,)) + b"\x10"


TARGET = Target(
    run=run,
    seeds=seeds,
    code=(
        "hostmesh.wire.noise:NoiseHandshake",
        "hostmesh.wire.noise:_Symmetric",
        "hostmesh.wire.noise_channel:Cipher",
        "hostmesh.wire.noise:_derive",
    ),
    max_bytes=8192,
)
