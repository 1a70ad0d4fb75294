"""The fuzz targets: each runs, and each sees a bug that is planted in the parser that it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.fuzz.brief import FoundError, run_briefly
from tests.fuzz.target import TARGETS, load

from hostmesh.net import dht_message, envelope
from hostmesh.rpc import call, frames
from hostmesh.rpc.outcome import OK
from hostmesh.wire import bounds, framing, handshake, multistream, noise, noise_channel, yamux

EXECUTIONS = 300


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_finds_nothing_near_its_seeds(name: str) -> None:
    target = load(name)
    seeds = list(target.seeds())
    assert all(len(seed) <= target.max_bytes for seed in seeds)
    assert len(set(seeds)) > 30
    run_briefly(target, EXECUTIONS)


Plant = Callable[[pytest.MonkeyPatch], None]


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Plant:
    """Return a plant that puts ``make(original)`` in the place of a function."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, make(getattr(owner, name)))

    return plant


def constant(owner: Any, name: str, value: object) -> Plant:
    """Return a plant that changes a constant."""
    return lambda patch: patch.setattr(owner, name, value)


def _forgets_the_prefix(original: Any) -> Any:
    """A decoder that loses what it has read of a length when the bytes run out there."""

    def read(self: framing.FrameDecoder) -> bool:
        known = original(self)
        if not known:
            self._size = self._prefix_bytes = 0
        return bool(known)

    return read


def _gives_credit_twice(original: Any) -> Any:
    def consume(self: yamux.Yamux, stream: yamux.YamuxStream, size: int) -> bool:
        granted = original(self, stream, size)
        if granted:
            stream.receive_window += 1
        return bool(granted)

    return consume


def _loses_the_end(original: Any) -> Any:
    """The bug of the first version: the end of a split frame is lost when its body comes in pieces."""

    def take_body(self: yamux.Yamux, data: bytes, offset: int, events: list[yamux.Event]) -> int:
        taken: int = original(self, data, offset, events)
        if self._body_left:
            self._body_flags = 0
        return taken

    return take_body


def _delivers_to_nobody(original: Any) -> Any:
    def drop(self: yamux.Yamux, stream: yamux.YamuxStream) -> None:
        original(self, stream)
        stream.is_discarding = False

    return drop


def _keeps_its_nonce(original: Any) -> Any:
    def seal(self: noise_channel.Cipher, plaintext: bytes, associated: bytes | None = None) -> bytes:
        sealed: bytes = original(self, plaintext, associated)
        self.nonce -= associated is None
        return sealed

    return seal


def _opens_from_any(original: Any) -> Any:
    """A channel that passes over what it cannot open."""

    def open_(self: noise_channel.NoiseChannel, data: bytes) -> list[bytes]:
        try:
            opened: list[bytes] = original(self, data)
        except noise_channel.MalformedMessageError:
            return []
        return opened

    return open_


def _believes_everybody(original: Any) -> Any:
    def verify(self: noise.NoiseHandshake, payload: bytes, remote_static: Any) -> tuple[bytes, tuple[str, ...]]:
        message = noise.parse(noise.NoiseHandshakePayload, payload, 4096)
        return message.identity_key[4:], tuple(message.extensions.stream_muxers)

    return verify


def _drops_the_rest(original: Any) -> Any:
    def rest(self: multistream._Lines) -> bytes:
        original(self)
        return b""

    return rest


def _reads_any_status_as_ok(original: Any) -> Any:
    def read_small(data: bytes) -> frames.Frame | None:
        frame: frames.Frame | None = original(data)
        if frame is None and len(data) > 4 and data[0] == 0x12 and data[1] == len(data) - 4:
            return frames.Frame(None, data[2:-2], OK)
        return frame

    return read_small


PLANTS: dict[str, tuple[str, Plant]] = {
    "framing: a split length": ("framing", replaced(framing.FrameDecoder, "_read_length", _forgets_the_prefix)),
    "multistream: bytes after the agreement": ("multistream", replaced(multistream._Lines, "rest", _drops_the_rest)),
    "multistream: no limit of lines": ("multistream", constant(multistream, "MAX_LINE_BYTES", 5000)),
    "noise: a peer is believed": ("noise_handshake", replaced(noise.NoiseHandshake, "_verify", _believes_everybody)),
    "noise: no limit of payloads": ("noise_handshake", constant(noise, "MAX_PAYLOAD_BYTES", 1 << 20)),
    "noise: the nonce stays": ("noise_channel", replaced(noise_channel.Cipher, "seal", _keeps_its_nonce)),
    "noise: harm is passed over": ("noise_channel", replaced(noise_channel.NoiseChannel, "open", _opens_from_any)),
    "handshake: another multiplexer": ("handshake", constant(handshake, "YAMUX_ID", "/mplex/6.7.0")),
    "yamux: an end is lost": ("yamux_frames", replaced(yamux.Yamux, "_take_body", _loses_the_end)),
    "yamux: too much credit": ("yamux_operations", replaced(yamux.Yamux, "consume", _gives_credit_twice)),
    "yamux: bytes after a reset": ("yamux_operations", replaced(yamux.Yamux, "_drop", _delivers_to_nobody)),
    "yamux: no limit of answers": ("yamux_operations", constant(yamux, "MAX_CONTROL_BYTES", 1 << 30)),
    "rpc: any short status is OK": ("rpc", replaced(frames, "_read_small", _reads_any_status_as_ok)),
    "rpc: a second response": ("rpc", replaced(call.ClientCall, "_check_end", lambda _: lambda self, outcome: 1 / 0)),
    "messages: bounds are not checked": ("messages", replaced(bounds, "_check_size", lambda _: lambda *_: None)),
    "messages: a peer twice": ("messages", constant(dht_message, "MAX_ADDRESSES", 99)),
    "messages: any signature": (
        "messages",
        replaced(envelope, "_signed_bytes", lambda _: lambda domain, kind, payload: b""),
    ),
}


@pytest.mark.parametrize(("name", "plant"), PLANTS.values(), ids=PLANTS)
def test_a_target_finds_a_planted_bug(name: str, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load(name)
    plant(monkeypatch)
    with pytest.raises(FoundError):
        run_briefly(target, 8 * EXECUTIONS)
