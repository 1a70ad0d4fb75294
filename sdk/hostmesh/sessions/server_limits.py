"""The bounds of a host's sessions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostmesh.errors import ConfigError
from hostmesh.sessions.admission.challenge_table import ChallengeLimits
from hostmesh.sessions.admission.rate import Rate
from hostmesh.sessions.authorization import MAX_LIFETIME_S, ModelPrice
from hostmesh.sessions.contract_limits import ContractLimits
from hostmesh.sessions.delegation_table import DelegationLimits
from hostmesh.sessions.table import SessionLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionServerLimits:
    """Bounds of a host's sessions. Chosen here: a signature check costs 0.1 ms."""

    challenges: ChallengeLimits = field(default_factory=ChallengeLimits)
    sessions: SessionLimits = field(default_factory=SessionLimits)
    checks_per_peer: Rate = field(default_factory=lambda: Rate(per_second=50.0, burst=100))
    """Signature checks of one peer."""
    checks_of_strangers: Rate = field(default_factory=lambda: Rate(per_second=200.0, burst=400))
    """Signature checks of all peers without a session together."""
    tracked_peers: int = 4096
    max_lifetime_s: int = MAX_LIFETIME_S
    min_slice_tokens: int = 1024
    """Least that a slice is worth, unless the whole limit is less, in tokens at its own price: about what a place in
    the engine makes in the time for which a session may hold it without paying."""
    max_slice_tokens: int = 65_536
    """Most that this host works for in a session without a countersignature, in tokens at its own price: what a client
    can make it lose."""
    max_free_slice_micros: int = 1_000_000
    """The same of a model that is free, in case that it has a price later."""
    delegations: DelegationLimits = field(default_factory=DelegationLimits)
    contracts: ContractLimits = field(default_factory=ContractLimits)

    def __post_init__(self) -> None:
        if min(self.tracked_peers, self.max_lifetime_s, self.min_slice_tokens) < 1:
            raise ConfigError("session server limits are 1 or more", name="session_limits")
        if self.max_slice_tokens < self.min_slice_tokens:
            raise ConfigError(
                f"max_slice_tokens is {self.max_slice_tokens}, min_slice_tokens {self.min_slice_tokens}",
                name="max_slice_tokens",
                remedy="raise max_slice_tokens or lower min_slice_tokens",
            )

    def slice_micros(self, price: ModelPrice) -> tuple[int, int]:
        """Return the smallest and the largest slice that this host takes for a model.

        >>> SessionServerLimits().slice_micros(ModelPrice(micros_per_mtok=150_000, currency="USD"))
        (154, 9831)
        """
        if price.micros_per_mtok == 0:
            return 0, self.max_free_slice_micros
        least, most = (
            -(-tokens * price.micros_per_mtok // 1_000_000) for tokens in (self.min_slice_tokens, self.max_slice_tokens)
        )
        return least, most


def limits_of_slices(least: int | None, most: int | None, *, longest_context_tokens: int) -> SessionServerLimits:
    """Return limits with these bounds of a slice in tokens, and what fits for one that is not said.

    Args:
        least: None = the usual, or ``most`` where that is less.
        most: None = the usual, or the longest context where that is more: a prompt must fit into a slice.
        longest_context_tokens: of the host's models.

    Raises:
        ConfigError: bounds that contradict each other.

    >>> limits = limits_of_slices(None, 512, longest_context_tokens=4096)
    >>> limits.min_slice_tokens, limits.max_slice_tokens
    (512, 512)
    """
    usual = SessionServerLimits()
    if most is None:
        most = max(usual.max_slice_tokens, longest_context_tokens)
    if least is None:
        least = min(usual.min_slice_tokens, most)
    return SessionServerLimits(min_slice_tokens=least, max_slice_tokens=most)
