"""The bounds of asking contract wallets about delegations and revocations. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractLimits:
    """Bounds of asking contracts."""

    timeout_s: float = 5.0
    at_once: int = 32
    """Questions in progress, of all peers."""
    at_once_per_peer: int = 2

    def __post_init__(self) -> None:
        if min(self.at_once, self.at_once_per_peer) < 1 or not 0 < self.timeout_s <= 60:
            raise ConfigError("contract limits are 1 or more, and a time of at most 60 s", name="contract_limits")
