"""The bytes of the benchmark, the same for every stack and language. Pure."""

from __future__ import annotations

import hashlib
import time

REQUEST_BYTES = 100
RESPONSE_BYTES = 300
MESSAGE_BYTES = 40
FRAME_BYTES = 262_144

MAX_COUNT = 10_000_000
"""Most messages that one call may ask for."""


def payload(size: int) -> bytes:
    """Return the payload of a length: byte i is ``(i * 7 + size) % 256``.

    >>> payload(3).hex()
    '030a11'
    """
    period = bytes((i * 7 + size) % 256 for i in range(256))
    return (period * (size // 256 + 1))[:size]


REQUEST = payload(REQUEST_BYTES)
RESPONSE = payload(RESPONSE_BYTES)
MESSAGE = payload(MESSAGE_BYTES)
FRAME = payload(FRAME_BYTES)

DIGESTS = {size: hashlib.sha256(payload(size)).digest() for size in (RESPONSE_BYTES, MESSAGE_BYTES, FRAME_BYTES)}


def stamped_message() -> bytes:
    """Return a message whose first 8 bytes are the wall clock's nanoseconds: the two processes share that clock."""
    return time.time_ns().to_bytes(8, "big") + MESSAGE[8:]


def age_us(message: bytes) -> float:
    """Return how long ago a stamped message was made."""
    return (time.time_ns() - int.from_bytes(message[:8], "big")) / 1000


def encode_count(count: int) -> bytes:
    """Return a count as a request carries it."""
    return count.to_bytes(8, "big")


def decode_count(data: bytes) -> int:
    """Return the count of a request.

    Raises:
        ValueError: not 8 bytes, or more than MAX_COUNT.
    """
    count = int.from_bytes(data, "big")
    if len(data) != 8 or count > MAX_COUNT:
        raise ValueError(f"a count of {len(data)} bytes, value {count}")
    return count
