"""A message that comes in two reads is held once while it is opened: copies that come and go tear holes into memory."""

from __future__ import annotations

import tracemalloc

import pytest
from tests.support.noise_sides import channel_pair

SIZE = 65_000


@pytest.mark.parametrize("first_bytes", [10, SIZE // 2, SIZE])
def test_a_message_in_two_pieces_is_opened_without_copies_of_it(first_bytes: int) -> None:
    channel, sealing, _ = channel_pair()
    channel.open(sealing.seal(b"the first allocates what stays"))
    sealed = sealing.seal(bytes(SIZE))
    channel.open(sealed[:first_bytes])
    rest = sealed[first_bytes:]
    tracemalloc.start()
    try:
        (opened,) = channel.open(rest)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert opened == bytes(SIZE)
    assert peak_bytes < 2.5 * SIZE, "the message, put together, and its plaintext"
