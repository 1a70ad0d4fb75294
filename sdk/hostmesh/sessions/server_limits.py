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
    max_slice_tokens: int = 65_536
    """Most that this host works for in a session without a countersignature, in tokens at its own price: what a client
    can make it lose."""
    max_free_slice_micros: int = 1_000_000
    """The same of a model that is free, in case that it has a price later."""
    delegations: DelegationLimits = field(default_factory=DelegationLimits)
    contracts: ContractLimits = field(default_factory=ContractLimits)

    def __post_init__(self) -> None:
        if min(self.tracked_peers, self.max_lifetime_s, self.max_slice_tokens) < 1:
            raise ConfigError("session server limits are 1 or more", name="session_limits")

    def max_slice_micros(self, price: ModelPrice) -> int:
        """Return the largest slice that this host takes for a model.

        >>> SessionServerLimits().max_slice_micros(ModelPrice(micros_per_mtok=150_000, currency="USD"))
        9831
        """
        if price.micros_per_mtok == 0:
            return self.max_free_slice_micros
        return -(-self.max_slice_tokens * price.micros_per_mtok // 1_000_000)
