"""When a host tells the DHT again what it provides. Pure; ``now`` is monotonic seconds.

A key is due at once when it is wanted, every :data:`INTERVAL_S` after it was told, sooner after few peers were told,
and with backoff while nobody was.
"""

from __future__ import annotations

from collections.abc import Iterable

INTERVAL_S = 600.0
"""Records end after 1800 s, so two rounds may fail."""
THIN_INTERVAL_S = 60.0
"""Again so soon when fewer than :data:`ENOUGH_TOLD` peers took the record: the network is young, or we are new."""
ENOUGH_TOLD = 3
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0


class ProvideSchedule:
    """What is provided, and when each key is due."""

    def __init__(self) -> None:
        self._due_at: dict[bytes, float] = {}
        self._failures: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._due_at)

    @property
    def has_failures(self) -> bool:
        """Whether there is a key that nobody took the last time."""
        return bool(self._failures)

    def want(self, keys: Iterable[bytes], now: float) -> None:
        """Provide these keys and no others. New ones are due now; the others keep their time."""
        wanted = dict.fromkeys(keys)
        self._due_at = {key: self._due_at.get(key, now) for key in wanted}
        self._failures = {key: count for key, count in self._failures.items() if key in wanted}

    def due(self, now: float) -> list[bytes]:
        """Return the keys that are due."""
        return [key for key, at in self._due_at.items() if at <= now]

    def next_at(self) -> float | None:
        """Return when the next key is due; None when there is nothing to provide."""
        return min(self._due_at.values(), default=None)

    def on_told(self, key: bytes, told: int, now: float) -> None:
        """Note how many peers took a record."""
        if key not in self._due_at:
            return
        if told:
            self._failures.pop(key, None)
            self._due_at[key] = now + (INTERVAL_S if told >= ENOUGH_TOLD else THIN_INTERVAL_S)
            return
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._due_at[key] = now + min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(failures, 16))

    def on_connected(self, now: float) -> None:
        """Make every key due that nobody has taken: a DHT server is there."""
        for key in self._failures:
            self._due_at[key] = now
        self._failures.clear()
