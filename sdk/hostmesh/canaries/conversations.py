"""Which jobs of a client go on with an earlier one: those whose messages begin with all of its. Pure.

What is kept of messages is a digest under a key that lives as long as the process.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

MAX_CONVERSATIONS = 4096
_ID_BYTES = 16
_KEY_BYTES = 32
_NEW_MESSAGES = 2
"""An answer, and what is said to it."""


class Conversations:
    """Names the conversation of each job.

    Args:
        random_bytes: returns n of them; names are random.

    >>> import random
    >>> seen = Conversations(random.Random(1).randbytes)
    >>> first = [("user", "Hi")]
    >>> seen.of("host", first) == seen.of("host", [*first, ("assistant", "Hello"), ("user", "Why?")])
    True
    >>> seen.of("host", first) == seen.of("host", first)
    False
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._key = random_bytes(_KEY_BYTES)
        self._names: OrderedDict[bytes, bytes] = OrderedDict()
        """By digest of the messages so far; the oldest go first."""

    def of(self, peer_id: str, turns: Sequence[tuple[str, str]]) -> bytes:
        """Return the name of the conversation that a job with these messages belongs to, 16 bytes.

        Args:
            peer_id: the host; another one begins another conversation.
            turns: role and text of each message.

        Cost: O(bytes).
        """
        name = self._names.pop(self._digest(peer_id, turns[:-_NEW_MESSAGES]), None)
        if name is None:
            name = self._random_bytes(_ID_BYTES)
        self._names[self._digest(peer_id, turns)] = name
        if len(self._names) > MAX_CONVERSATIONS:
            self._names.popitem(last=False)
        return name

    def _digest(self, peer_id: str, turns: Sequence[tuple[str, str]]) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for text in (peer_id, *(part for turn in turns for part in turn)):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.digest()
