"""Challenges that a host under attack need not remember. Pure; ``now`` is monotonic seconds.

A table of open challenges has room for so many; an attacker with a thousand peers fills it, and honest clients would
get none. A cookie fills nothing: it says itself when it was issued and for how much work, under a code that only the
host can make. It is good for 60 s, from its peer alone, until the host ends. Of those that opened a session the nonces
are remembered for these 60 s, so that each opens one.

The nonce, 32 bytes: issued at (4, seconds), bits (1), random (11), code (16): HMAC-SHA256 over the peer and all that,
cut to 16 bytes. To a client it is a nonce like any other.

Source: the idea is that of D. J. Bernstein's SYN cookies, 1996; RFC 2104 for the code.
"""

from __future__ import annotations

import hashlib
import hmac

from hostmesh.errors import UsageError
from hostmesh.identity.typed_data import NONCE_BYTES
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.admission.challenge_table import MAX_LIFETIME_S
from hostmesh.sessions.reasons import Reason, RefusedError

SECRET_BYTES = 32
RANDOM_BYTES = 11
MAX_BURNT = 8192
"""Sessions opened on cookies in 60 s; it is what a host has room for in all."""
_STATED_BYTES = 4 + 1 + RANDOM_BYTES
_CODE_BYTES = NONCE_BYTES - _STATED_BYTES


class ChallengeCookies:
    """Issues and checks them.

    Args:
        secret: 32 random bytes, of this start of the host: after another, no cookie of before is good.
        max_burnt: nonces remembered; when there are so many no cookie is taken until the first is 60 s old.
    """

    __slots__ = ("_burnt", "_max_burnt", "_secret")

    def __init__(self, secret: bytes, *, max_burnt: int = MAX_BURNT) -> None:
        if len(secret) != SECRET_BYTES:
            raise UsageError("cookies need a secret of 32 bytes")
        self._secret = secret
        self._max_burnt = max_burnt
        # In the order in which they were burnt.
        self._burnt: dict[bytes, float] = {}

    def issue(self, peer_id: PeerId, *, bits: int, random: bytes, now: float) -> tuple[bytes, float]:
        """Return a nonce for this peer, and when it expires, monotonic seconds.

        Args:
            peer_id: who asked, as the connection proved it.
            bits: the work that it asks for, 0 to 32.
            random: 11 fresh random bytes.
            now: monotonic seconds.
        """
        if len(random) != RANDOM_BYTES:
            raise UsageError("a cookie needs 11 fresh random bytes")
        stated = (int(now) % 2**32).to_bytes(4, "big") + bytes([bits]) + random
        return stated + self._code(stated, peer_id), int(now) + MAX_LIFETIME_S

    def bits_of(self, nonce: bytes, peer_id: PeerId, now: float) -> int | None:
        """Return the work that a nonce asks for.

        Returns:
            None: it is no cookie of this host and this peer.

        Raises:
            RefusedError: UNKNOWN_CHALLENGE: it is one, and older than 60 s; REPLAYED: it opened a session; or
                TOO_MANY_CHALLENGES: as many were burnt as are remembered.

        Cost: one HMAC, 3 us.
        """
        stated = nonce[:_STATED_BYTES]
        if len(nonce) != NONCE_BYTES or not hmac.compare_digest(nonce[_STATED_BYTES:], self._code(stated, peer_id)):
            return None
        if (int(now) - int.from_bytes(stated[:4], "big")) % 2**32 >= MAX_LIFETIME_S:
            raise RefusedError(Reason.UNKNOWN_CHALLENGE, "the challenge is not open any more; ask for a new one")
        if nonce in self._burnt:
            raise RefusedError(Reason.REPLAYED, "this challenge was used already")
        self._expire(now)
        if len(self._burnt) >= self._max_burnt:
            oldest = next(iter(self._burnt.values()))
            raise RefusedError(
                Reason.TOO_MANY_CHALLENGES, "too many sessions were opened within a minute", retry_after_s=oldest - now
            )
        return stated[4]

    def burn(self, nonce: bytes, now: float) -> None:
        """Use a nonce up. Call when its authorisation was accepted, and only then."""
        self._burnt[nonce] = now + MAX_LIFETIME_S

    def _expire(self, now: float) -> None:
        while self._burnt:
            nonce, expires_at = next(iter(self._burnt.items()))
            if expires_at > now:
                return
            del self._burnt[nonce]

    def _code(self, stated: bytes, peer_id: PeerId) -> bytes:
        message = b"hostmesh challenge\0" + stated + peer_id.encode("ascii")
        return hmac.new(self._secret, message, hashlib.sha256).digest()[:_CODE_BYTES]

    def __len__(self) -> int:
        """How many nonces are remembered."""
        return len(self._burnt)

    def __repr__(self) -> str:
        return f"ChallengeCookies(burnt={len(self._burnt)})"
