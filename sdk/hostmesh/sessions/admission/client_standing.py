"""What a host saw of each client's wallet: jobs that were paid, and that were not. Pure; ``now`` is unix seconds.

A client's reputation is of the same scale and formula as a host's: 1000 * (1 + s) / (10 + s + f), rounded down, of s
jobs that it paid for and f jobs or sessions that ended because of what it did not countersign: 100 for a wallet
that was never seen, 50 after ten defaults, 550 after ten jobs paid. Both fade by half in 30 days. Jobs that cost
nothing say nothing: nobody gets a good name by work that nobody pays for.

Who defaults can come back as a new wallet, with 100: a host that minds asks for more than 100, and then newcomers come
in by its list of wallets alone. What a default costs a host is bounded by the slice all the same.

Bounded: when the table is full, the eighth goes of which least is known, the oldest first. A wallet's bad name is thus
pushed out by wallets alone that did as much business here.

Source: the mean of a Beta(1, 9) prior.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.errors import ConfigError, UsageError
from hostmesh.identity.address import ADDRESS_BYTES

NEWCOMER = 100
MAX_REPUTATION = 1000
MAX_WALLETS = 16_384
HALF_LIFE_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStanding:
    """What was seen of one wallet, as much as it counted at a time."""

    wallet: bytes
    paid: float = 0.0
    """Jobs paid for."""
    overdue: float = 0.0
    """Jobs and sessions ended with a countersignature overdue."""
    at_unix_s: float = 0.0

    def at(self, now: float) -> ClientStanding:
        """Return it as much as it counts now. A clock that went back changes nothing.

        >>> ClientStanding(wallet=bytes(20), paid=8, at_unix_s=0).at(HALF_LIFE_S).paid
        4.0
        """
        if now <= self.at_unix_s:
            return self
        fade = 0.5 ** ((now - self.at_unix_s) / HALF_LIFE_S)
        return ClientStanding(wallet=self.wallet, paid=self.paid * fade, overdue=self.overdue * fade, at_unix_s=now)

    @property
    def reputation(self) -> int:
        """0 to 1000.

        >>> ClientStanding(wallet=bytes(20)).reputation, ClientStanding(wallet=bytes(20), overdue=10).reputation
        (100, 50)
        """
        # A hair is forgiven: sums of what fades must not fall just short of a whole point.
        return int(MAX_REPUTATION * (1 + self.paid) / (10 + self.paid + self.overdue) + 1e-9)

    @property
    def evidence(self) -> float:
        """How much is known."""
        return self.paid + self.overdue


class ClientStandings:
    """The wallets that a host did business with.

    Args:
        known: of before; what is over the bound is left out.
        max_wallets: bound.
    """

    __slots__ = ("_max_wallets", "_of")

    def __init__(self, known: Iterable[ClientStanding] = (), *, max_wallets: int = MAX_WALLETS) -> None:
        if max_wallets < 1:
            raise ConfigError("standings need room for a wallet", name="max_wallets", source="argument")
        self._max_wallets = max_wallets
        self._of: dict[bytes, ClientStanding] = {}
        for standing in known:
            if len(self._of) < max_wallets:
                self._of[standing.wallet] = standing

    def get(self, wallet: bytes, now: float) -> ClientStanding:
        """Return what is known of a wallet; nothing, of one that was never seen."""
        known = self._of.get(wallet)
        return ClientStanding(wallet=wallet, at_unix_s=now) if known is None else known.at(now)

    def paid(self, wallet: bytes, now: float, *, cost_micros: int) -> ClientStanding:
        """Note a job whose last receipt the client countersigned, over what was sent of it.

        Args:
            wallet: who pays, 20 bytes: a delegation's owner, not its session key.
            now: unix seconds.
            cost_micros: what it cost; 0 says nothing.
        """
        return self._note(wallet, now, paid=1.0 if cost_micros > 0 else 0.0)

    def overdue(self, wallet: bytes, now: float) -> ClientStanding:
        """Note a job that ended, or a session, because of what the client did not countersign in time."""
        return self._note(wallet, now, overdue=1.0)

    def make_room(self, now: float) -> list[bytes]:
        """Drop wallets when there are too many, an eighth at once.

        Returns:
            Who was dropped.

        Cost: O(1), or O(n log n) when the bound is passed.
        """
        if len(self._of) <= self._max_wallets:
            return []
        count = len(self._of) - self._max_wallets + self._max_wallets // 8
        order = sorted(self._of.values(), key=lambda standing: (standing.at(now).evidence, standing.at_unix_s))
        dropped = [standing.wallet for standing in order[:count]]
        for wallet in dropped:
            del self._of[wallet]
        return dropped

    def _note(self, wallet: bytes, now: float, *, paid: float = 0.0, overdue: float = 0.0) -> ClientStanding:
        if len(wallet) != ADDRESS_BYTES:
            raise UsageError("a wallet address has 20 bytes")
        before = self.get(wallet, now)
        if not paid and not overdue:
            return before
        after = ClientStanding(
            wallet=wallet, paid=before.paid + paid, overdue=before.overdue + overdue, at_unix_s=before.at_unix_s
        )
        self._of[wallet] = after
        return after

    def __len__(self) -> int:
        return len(self._of)
