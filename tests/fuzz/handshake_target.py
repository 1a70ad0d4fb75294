"""The whole upgrade, both roles: the harness is the peer, holds its keys, and seals what the bytes choose."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from tests.fuzz.multistream_target import line
from tests.fuzz.noise_handshake_target import (
    MUXERS,
    OUR_EPHEMERAL,
    THEIR_EPHEMERAL,
    THEIR_SEED,
    THEIR_STATIC,
    our_identity,
    their_peer,
)
from tests.fuzz.target import Choices, Target, cut, promise
from tests.support.noise_peer import NoisePeer, SealingKey, framed, payload

from hostmesh.errors import ProtocolNotSupportedError, RemoteProtocolError
from hostmesh.wire.handshake import Handshake, Secured
from hostmesh.wire.multistream import GREETING, proposal

NOISE, YAMUX = "/noise", "/yamux/1.0.0"
SENTENCES = (
    proposal(NOISE),
    proposal(YAMUX),
    GREETING,
    line(b"na"),
    line(b"/noise"),
    line(b"/yamux/1.0.0"),
    line(b"/mplex/6.7.0"),
    line(b"/tls/1.0.0"),
)


def our_handshake(choice: int) -> Handshake:
    """Return our side."""
    return Handshake(
        is_initiator=bool(choice & 1),
        identity=our_identity(MUXERS[choice >> 1 & 1]),
        ephemeral_private=OUR_EPHEMERAL,
        expected_public_key=(None, None, their_peer()[1], bytes(32))[choice >> 3 & 3],
    )


def run(data: bytes) -> None:
    choices = Choices(data)
    choice = choices.byte()
    stream, plaintexts = conversation(choices, choice)
    whole = play([stream], choice)
    for pieces in (cut(stream), cut(stream, salt=1)):
        promise(play(pieces, choice) == whole, "any cut gives the same")
    if plaintexts is not None and choice >> 3 & 3 != 3:
        promise(whole[0] == "secured" and whole[1] == plaintexts, "an honest peer is taken with all that it says")


def sentences(choices: Choices) -> bytes:
    """Return a few lines of multistream, or bytes."""
    said = b""
    for _ in range(choices.byte() & 7):
        which = choices.byte()
        said += SENTENCES[which] if which < len(SENTENCES) else choices.take(which & 63)
    return said


def conversation(choices: Choices, choice: int) -> tuple[bytes, bytes | None]:
    """Return all that the peer says, and its first bytes for Yamux if it was honest."""
    script = choices.byte()
    we_dial = bool(choice & 1)
    ours = our_handshake(choice & 7)
    peer = NoisePeer(is_initiator=not we_dial, static=THEIR_STATIC, ephemeral=THEIR_EPHEMERAL)
    muxers = MUXERS[choice >> 2 & 1]
    proof = payload(THEIR_SEED, their_peer()[0], muxers=muxers)
    is_honest = not script & 1
    security = proposal(NOISE) if is_honest else sentences(choices)
    if script & 2 and not we_dial:
        security = GREETING + line(b"/tls/1.0.0") + line(b"/noise")
    try:
        if we_dial:
            peer.read_first(ours.data_to_send()[len(proposal(NOISE)) + 2 :])
            stream = security + framed(peer.write_second(proof))
            ours.receive(stream)
            peer.read_third(_third(ours))
        else:
            stream = security + framed(peer.write_first())
            ours.receive(stream)
            peer.read_second(_second(ours))
            stream += framed(peer.write_third(proof))
    except (RemoteProtocolError, ProtocolNotSupportedError, InvalidTag, ValueError):
        # Our side, or the peer, could not go on after what was said.
        return stream + choices.rest(), None
    sealing, _ = peer.split()
    is_inlined = bool(choice >> 1 & 1 and choice >> 2 & 1)
    if script & 4:
        is_honest = False
        stream += choices.take(choices.byte())
        said = sentences(choices)
    else:
        said = b"" if is_inlined else proposal(YAMUX)
        if script & 8 and not is_inlined and not we_dial:
            said = GREETING + line(b"/mplex/6.7.0") + line(b"/yamux/1.0.0")
    first_bytes = choices.take(choices.byte())
    stream += seal_in_pieces(sealing, said + first_bytes, choices)
    if script & 16:
        # A flood, or what follows the handshake.
        stream += bytes(choices.number(3) % 150_000)
        is_honest = False
    return stream, first_bytes if is_honest else None


def _second(ours: Handshake) -> bytes:
    """Return the responder's Noise message out of what our side said."""
    said = ours.data_to_send()
    start = said.index(line(b"/noise")) + len(line(b"/noise"))
    return said[start + 2 : start + 2 + int.from_bytes(said[start : start + 2], "big")]


def _third(ours: Handshake) -> bytes:
    """Return the initiator's last Noise message out of what our side said."""
    said = ours.data_to_send()
    return said[2 : 2 + int.from_bytes(said[:2], "big")]


def seal_in_pieces(sealing: SealingKey, plaintext: bytes, choices: Choices) -> bytes:
    """Return the plaintext in sealed messages of chosen sizes."""
    out = b""
    while plaintext:
        size = (choices.byte() or 255) + 1
        out += sealing.seal(plaintext[:size])
        plaintext = plaintext[size:]
    return out


def play(pieces: list[bytes], choice: int) -> tuple[object, ...]:
    """Feed our side and say how it ended."""
    ours = our_handshake(choice)
    output = ours.data_to_send()
    secured: Secured | None = None
    found = b""
    for piece in pieces:
        try:
            if secured is None:
                secured = ours.receive(piece)
                output += ours.data_to_send()
                found += b"" if secured is None else b"".join(secured.plaintexts)
            else:
                found += b"".join(secured.channel.open(piece))
        except (RemoteProtocolError, ProtocolNotSupportedError) as error:
            return ("error", type(error), str(error))
        promise(len(output) < 2048, "answers are bounded")
        if secured is not None:
            promise(ours.is_proven and secured.remote_public_key == their_peer()[1], "the peer has proven its key")
            promise(all(secured.plaintexts), "no empty plaintext is handed on")
    return ("waits", ours.is_proven, output) if secured is None else ("secured", found, output)


def seeds() -> Iterable[bytes]:
    for choice in range(8):
        for script in (0, 2, 8, 10):
            yield bytes((choice, script, 9)) + b"open sesa" + bytes((40,))
            yield bytes((choice, script, 200)) + bytes(range(200)) + bytes((5, 1, 0))
        for expected in (16, 24):
            yield bytes((choice | expected, 0, 3)) + b"abc"
        for said in ((2, 3), (2, 4), (2, 5), (2, 6, 5), (1,), (0,), (2, 7, 4), (0, 0), (2, 2), (2, 6, 6), (3,)):
            yield bytes((choice, 1, len(said), *said)) + bytes((3, 65, 66, 67, 0))
            yield bytes((choice, 4, 0, len(said), *said)) + bytes((3, 65, 66, 67, 0))
        yield bytes((choice, 4, 20)) + bytes(20)
        yield bytes((choice, 16, 0, 255)) + bytes((2, 2, 2))
        yield bytes((choice, 1, 2, 2, 5))
        yield bytes((choice, 1, 1, 40)) + bytes(50)


TARGET = Target(run=run, seeds=seeds, code=("hostmesh.wire.handshake",), max_bytes=4096)
