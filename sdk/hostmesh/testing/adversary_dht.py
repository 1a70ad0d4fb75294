"""DHT servers that drop, talk nonsense or flood, and the keys and ids that such peers make up."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from hostmesh.errors import HostmeshError, UsageError
from hostmesh.net.dht_message import (
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    DhtMessage,
    MessageKind,
    PeerAddresses,
    decode_message,
    encode_message,
)
from hostmesh.net.dht_server import read_frame
from hostmesh.net.dht_table import position
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream
from hostmesh.testing.adversary_node import AdversaryNode, open_adversary_node
from hostmesh.testing.clock import seeded
from hostmesh.testing.machine import SimMachine
from hostmesh.testing.wallets import make_peer_key
from hostmesh.wire.framing import FrameDecoder, encode_frame

MAX_NEAR_BITS = 12
"""Of :func:`near_key`: about 4,096 tries, half a second."""
_TRIES_PER_KEY = 16
FLOODED_PROVIDERS = 256
"""Most providers that a node reads of one answer."""
FLOODED_CLOSER = 64
_MADE_UP_IDS = 2048
"""The nearest of so many to a key are nearer than any honest peer of a small network."""
_NOWHERE = "/ip4/11.255.{}.{}/tcp/4001"
"""Public addresses that no machine has: a dial hears nothing."""
_POSITION_BITS = 256


class DhtManner(Enum):
    """How a DHT responder treats a request."""

    SILENT = "silent"
    """It reads it and never answers."""
    RESETS = "resets"
    """It resets the stream."""
    GARBAGE = "garbage"
    """It answers with bytes that are no message."""
    FLOODS = "floods"
    """It names as many providers and closer peers as an answer may hold, all made up, nearest to the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtLies:
    """What a DHT responder does.

    Raises:
        ValueError: a negative number.
    """

    manner: DhtManner = DhtManner.SILENT
    honest_requests: int = 1
    """Requests that it answers well first, knowing nobody: who never answered is in nobody's table."""
    victim: str | None = None
    """For FLOODS: the address that all made-up peers have, without ``/p2p``; None = addresses that nobody has."""

    def __post_init__(self) -> None:
        if self.honest_requests < 0:
            raise ValueError("a responder answers no negative number of requests")


class DhtResponder:
    """A DHT server that does what it is told to. :func:`run_dht_responder` makes it.

    Args:
        adversary: the node that it answers on.
        lies: what it does.
    """

    def __init__(self, adversary: AdversaryNode, lies: DhtLies) -> None:
        self.adversary = adversary
        self.lies = lies
        """May be replaced at any time."""
        self.requests: Counter[str] = Counter()
        """Requests that came, by kind."""
        self.answered_well = 0
        """Requests that it did not drop or flood."""
        self._floods: dict[tuple[MessageKind, bytes], bytes] = {}
        adversary.node.set_stream_handler(adversary.dht_protocol_id, self._serve)

    async def _serve(self, stream: Stream) -> None:
        decoder = FrameDecoder(MAX_REQUEST_BYTES)
        while (frame := await read_frame(stream, decoder)) is not None:
            request = decode_message(frame, max_bytes=MAX_REQUEST_BYTES)
            self.requests[request.kind.name.lower()] += 1
            if self.answered_well < self.lies.honest_requests:
                self.answered_well += 1
                await stream.send(encode_frame(encode_message(DhtMessage(kind=request.kind, key=request.key))))
                continue
            match self.lies.manner:
                case DhtManner.SILENT:
                    await stream.wait_reset()
                    return
                case DhtManner.RESETS:
                    await stream.reset()
                    return
                case DhtManner.GARBAGE:
                    await stream.send(encode_frame(b"\xff" * 512))
                case DhtManner.FLOODS:
                    await stream.send(encode_frame(self._flood(request)))
        await stream.close()

    def _flood(self, request: DhtMessage) -> bytes:
        """Return the answer to a request, the same each time: who asks again hears nothing new."""
        asked = request.kind, request.key
        if asked not in self._floods:
            dice = seeded(0, "flood", self.adversary.peer_id, request.key.hex())
            is_find = request.kind is MessageKind.GET_PROVIDERS
            self._floods[asked] = encode_message(
                DhtMessage(
                    kind=request.kind,
                    key=request.key,
                    providers=self._with_addresses(dice.sample(_made_up_ids(), FLOODED_PROVIDERS)) if is_find else (),
                    closer=self._with_addresses(_nearest_made_up(request.key)),
                )
            )
        return self._floods[asked]

    def _with_addresses(self, ids: Sequence[PeerId]) -> tuple[PeerAddresses, ...]:
        victim = self.lies.victim
        return tuple(
            PeerAddresses(
                peer_id=peer_id, addresses=(_NOWHERE.format(index >> 8, index & 255) if victim is None else victim,)
            )
            for index, peer_id in enumerate(ids)
        )


@asynccontextmanager
async def run_dht_responder(
    machine: SimMachine, lies: DhtLies, *, key: PeerKey | None = None, bootstrap: Sequence[str] = ()
) -> AsyncIterator[DhtResponder]:
    """Run a DHT server that drops or floods, for the life of the block.

    Args:
        machine: where it runs.
        lies: what it does.
        key: who it is; None = the test key of the machine's name. One of :func:`near_key` is asked first.
        bootstrap: where it joins the network: addresses with ``/p2p``.

    Raises:
        UsageError: the machine is off, or has a process already.
    """
    async with open_adversary_node(machine, key=key, bootstrap=bootstrap) as adversary:
        yield DhtResponder(adversary, lies)


async def flood_providers(adversary: AdversaryNode, target: PeerId, keys: Iterable[bytes]) -> tuple[int, int]:
    """Tell a DHT server, over one stream for each key, that this peer provides the keys.

    Args:
        adversary: who says so; connected to the target, or told where it is.
        target: the DHT server.
        keys: DHT keys.

    Returns:
        How many it took, and how many it refused.
    """
    own = PeerAddresses(peer_id=adversary.peer_id, addresses=(adversary.address,))
    taken = refused = 0
    for key in keys:
        request = encode_message(DhtMessage(kind=MessageKind.ADD_PROVIDER, key=key, providers=(own,)))
        try:
            stream = await adversary.node.open_stream(target, adversary.dht_protocol_id)
            await stream.send(encode_frame(request), end=True)
            await read_frame(stream, FrameDecoder(MAX_ANSWER_BYTES))
            await stream.close()
            taken += 1
        except HostmeshError:
            refused += 1
    return taken, refused


def near_key(key: bytes, bits: int, *, number: int = 0) -> PeerKey:
    """Return a test peer key that is near a DHT key: whoever looks the key up asks it among the first.

    Found by trying, as an adversary does, and always the same one. As public as :func:`make_peer_key`.

    Args:
        key: the DHT key.
        bits: how many leading bits of the two positions agree, 0 to 12. Each bit doubles the time.
        number: >= 0; another number gives another key.

    Raises:
        UsageError: the number of bits is out of its bounds.

    >>> key = near_key(b"any key", 4)
    >>> (position(peer_id_to_bytes(key.peer_id)) ^ position(b"any key")) >> (256 - 4)
    0
    """
    if not 0 <= bits <= MAX_NEAR_BITS:
        raise UsageError(f"a key cannot be sought {bits} bits near", remedy=f"give 0 to {MAX_NEAR_BITS} bits")
    target = position(key)
    # All but one key in e**16 is found by then.
    for attempt in range(_TRIES_PER_KEY << bits):
        found = make_peer_key(f"near {key.hex()} {number} {attempt}")
        if (position(peer_id_to_bytes(found.peer_id)) ^ target) >> (_POSITION_BITS - bits) == 0:
            return found
    raise UsageError(f"no key was found {bits} bits near", remedy="give another number, or fewer bits")


@lru_cache(maxsize=1)
def _made_up_ids() -> tuple[PeerId, ...]:
    """Return peer ids whose keys nobody has; the same in every simulation, as they are dear to make."""
    dice = seeded(0, "made-up peers")
    return tuple(peer_id_from_public_key(dice.randbytes(32)) for _ in range(_MADE_UP_IDS))


@lru_cache(maxsize=1024)
def _nearest_made_up(key: bytes) -> tuple[PeerId, ...]:
    target = position(key)
    near = sorted(_made_up_ids(), key=lambda peer_id: position(peer_id_to_bytes(peer_id)) ^ target)
    return tuple(near[:FLOODED_CLOSER])
