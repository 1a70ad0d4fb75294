"""Challenges: nonces that a host gave out and has not seen come back. Pure; ``now`` is monotonic seconds.

A challenge is for one peer, lives 60 s at most, and is gone once an authorisation with it was accepted. Nothing else
uses it up: a stranger cannot spend another peer's challenge, and a failed attempt leaves it for the next.

Asking costs a stranger one call, so what it can fill is bounded three times: per peer, per network, in total. What has
expired goes first; if that makes no room, the request is refused, and no peer's challenge is dropped for another's.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass

from hostmesh.errors import ConfigError, UsageError
from hostmesh.identity.typed_data import NONCE_BYTES
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.reasons import Reason, RefusedError

MAX_LIFETIME_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeLimits:
    """Bounds of the open challenges of a host."""

    per_peer: int = 64
    per_network: int = 1024
    """Of all peers in one /24 (IPv4) or /48 (IPv6)."""
    total: int = 8192
    lifetime_s: float = MAX_LIFETIME_S
    """Seconds, above 0, at most 60."""

    def __post_init__(self) -> None:
        if min(self.per_peer, self.per_network, self.total) < 1 or not 0 < self.lifetime_s <= MAX_LIFETIME_S:
            raise ConfigError("challenge limits are 1 or more, and a lifetime of at most 60 s", name="challenge_limits")


@dataclass(frozen=True, slots=True)
class _Open:
    peer_id: PeerId
    network_key: str | None
    expires_at: float


class ChallengeTable:
    """The open challenges of a host."""

    __slots__ = ("_limits", "_of_network", "_of_peer", "_open")

    def __init__(self, limits: ChallengeLimits | None = None) -> None:
        self._limits = limits or ChallengeLimits()
        # In the order of issue, which is the order of expiry, since all live equally long.
        self._open: dict[bytes, _Open] = {}
        self._of_peer: Counter[PeerId] = Counter()
        self._of_network: Counter[str] = Counter()

    def issue(self, peer_id: PeerId, *, nonce: bytes, now: float, network_key: str | None = None) -> float:
        """Note a new challenge.

        Args:
            peer_id: who asked, as the connection proved it.
            nonce: 32 fresh random bytes.
            now: monotonic seconds.
            network_key: see :func:`network_key_of`; None where the address is not known: then no network's bound
                applies.

        Returns:
            When it expires, monotonic seconds.

        Raises:
            RefusedError: TOO_MANY_CHALLENGES.
            UsageError: the nonce has not 32 bytes, or is open already (the source of randomness is broken).
        """
        self.expire(now)
        if len(nonce) != NONCE_BYTES or nonce in self._open:
            raise UsageError("a challenge needs 32 fresh random bytes")
        full = (
            self._of_peer[peer_id] >= self._limits.per_peer
            or (network_key is not None and self._of_network[network_key] >= self._limits.per_network)
            or len(self._open) >= self._limits.total
        )
        if full:
            oldest = next(iter(self._open.values()))
            raise RefusedError(
                Reason.TOO_MANY_CHALLENGES,
                "too many challenges are open",
                retry_after_s=max(0.0, oldest.expires_at - now),
            )
        expires_at = now + self._limits.lifetime_s
        self._open[nonce] = _Open(peer_id, network_key, expires_at)
        self._of_peer[peer_id] += 1
        if network_key is not None:
            self._of_network[network_key] += 1
        return expires_at

    def check(self, nonce: bytes, peer_id: PeerId, now: float) -> None:
        """Check that a challenge is open and this peer's. It stays open.

        Raises:
            RefusedError: UNKNOWN_CHALLENGE.
        """
        found = self._open.get(nonce)
        if found is None or found.peer_id != peer_id or found.expires_at <= now:
            raise RefusedError(Reason.UNKNOWN_CHALLENGE, "the challenge is not open for this peer; ask for a new one")

    def burn(self, nonce: bytes) -> None:
        """Use a challenge up. Call when its authorisation was accepted, and only then."""
        found = self._open.pop(nonce, None)
        if found is not None:
            self._forget(found)

    def expire(self, now: float) -> None:
        """Drop what has expired. Cost: O(dropped)."""
        while self._open:
            nonce, oldest = next(iter(self._open.items()))
            if oldest.expires_at > now:
                return
            del self._open[nonce]
            self._forget(oldest)

    def _forget(self, gone: _Open) -> None:
        # Zero counts go too: else the counters would remember every peer that ever asked.
        self._of_peer[gone.peer_id] -= 1
        if not self._of_peer[gone.peer_id]:
            del self._of_peer[gone.peer_id]
        if gone.network_key is not None:
            self._of_network[gone.network_key] -= 1
            if not self._of_network[gone.network_key]:
                del self._of_network[gone.network_key]

    def __contains__(self, nonce: bytes) -> bool:
        return nonce in self._open

    def __len__(self) -> int:
        return len(self._open)


def network_key_of(ip: str) -> str | None:
    """Return the network that an address counts under: its /24, or its /48 for IPv6.

    Returns:
        None when the text is no IP address.

    >>> network_key_of("203.0.113.77"), network_key_of("2001:db8:1:2::3"), network_key_of("::ffff:203.0.113.9")
    ('203.0.113.0/24', '2001:db8:1::/48', '203.0.113.0/24')
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    length = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((address, length), strict=False))
