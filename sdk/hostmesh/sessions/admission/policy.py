"""Who may open sessions on a host, and how often. Pure; ``now`` is monotonic seconds.

Two halves, because a wallet's address proves nothing before its signature does.

Before the signature: how often this peer and this network opened sessions, and work when the host is under attack. None
of it depends on what wallet is claimed, but for one thing: a wallet of the list needs no work. Nor does the claim alone
pass: the signature of such a one is checked under a rate of its own, and when it is wrong the answer is the same as for
a wallet that is not on the list.

After it, what is the wallet's: the list, its reputation, its rate. A stranger who claims another's wallet therefore
learns nothing about it and uses up nothing of its.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hostmesh.errors import ConfigError
from hostmesh.identity.address import ADDRESS_BYTES
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.admission.attack import AttackDetector, AttackLimits
from hostmesh.sessions.admission.client_standing import MAX_REPUTATION, NEWCOMER
from hostmesh.sessions.admission.rate import Rate, RateLimiter
from hostmesh.sessions.admission.work import is_enough
from hostmesh.sessions.reasons import Reason, RefusedError

MAX_ALLOWED = 65_536
MAX_KEYS = 8192
"""Wallets, peers and networks whose rates are kept, each; beyond, the one seen longest ago starts anew."""


def per_minute(count: int) -> Rate:
    """Return the rate of so many a minute, all of which may come at once."""
    return Rate(per_second=count / 60, burst=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPolicy:
    """Whom a host takes. The default is everybody.

    Raises:
        ConfigError: a value out of its bounds.

    >>> AdmissionPolicy(only_listed=True, allowed_wallets=frozenset({bytes(20)})).min_reputation
    0
    """

    only_listed: bool = False
    """Take the wallets of the list, and nobody else."""
    allowed_wallets: frozenset[bytes] = frozenset()
    """The list, 20 bytes each, at most 65,536. These need no reputation, no deposit, and no work under attack."""
    min_reputation: int = 0
    """0 to 1000, of wallets that are not on the list; one that this host never saw has 100."""
    sessions_per_wallet: Rate = field(default_factory=lambda: per_minute(600))
    sessions_per_peer: Rate = field(default_factory=lambda: per_minute(600))
    sessions_per_network: Rate = field(default_factory=lambda: per_minute(3000))
    """Of all peers in one /24 (IPv4) or /48 (IPv6)."""
    unworked_checks: Rate = field(default_factory=lambda: Rate(per_second=20.0, burst=40))
    """Signatures checked under attack because they claim to be of the list, all together; beyond, these need work."""
    attack: AttackLimits = field(default_factory=AttackLimits)

    def __post_init__(self) -> None:
        if len(self.allowed_wallets) > MAX_ALLOWED or any(
            len(wallet) != ADDRESS_BYTES for wallet in self.allowed_wallets
        ):
            raise ConfigError(
                f"the list has at most {MAX_ALLOWED} wallets of 20 bytes", name="allowed_wallets", source="argument"
            )
        if not 0 <= self.min_reputation <= MAX_REPUTATION:
            raise ConfigError("a reputation is between 0 and 1000", name="min_reputation", source="argument")


def everybody_is_new(wallet: bytes) -> int:
    """Return the reputation that a host sees which remembers nobody."""
    return NEWCOMER


class Admission:
    """Applies a policy, and remembers what its rates need.

    Args:
        policy: whom to take.
        reputation_of: what this host saw of a wallet, 0 to 1000.
    """

    __slots__ = ("_attack", "_of_network", "_of_peer", "_of_wallet", "_policy", "_reputation_of", "_unworked")

    def __init__(
        self, policy: AdmissionPolicy | None = None, *, reputation_of: Callable[[bytes], int] = everybody_is_new
    ) -> None:
        self._policy = policy or AdmissionPolicy()
        self._reputation_of = reputation_of
        self._attack = AttackDetector(self._policy.attack)
        self._make_limiters()

    @property
    def policy(self) -> AdmissionPolicy:
        """The policy that holds."""
        return self._policy

    @property
    def attack(self) -> AttackDetector:
        """Told of every call; knows how much work to ask for."""
        return self._attack

    def replace(self, policy: AdmissionPolicy) -> None:
        """Take another policy from now on. Sessions that are open stay. Rates that changed start full."""
        before, self._policy = self._policy, policy
        self._attack.replace(policy.attack)
        rates = ("sessions_per_wallet", "sessions_per_peer", "sessions_per_network", "unworked_checks")
        if any(getattr(before, name) != getattr(policy, name) for name in rates):
            self._make_limiters()

    # --- before the signature ---

    def check_rates(self, peer_id: PeerId, network_key: str | None, now: float) -> None:
        """Check that this peer and its network may open one more session. Takes nothing.

        Args:
            peer_id: the caller, as the connection proved it.
            network_key: its /24 or /48; None where the address is not known: then no network's rate applies.
            now: monotonic seconds.

        Raises:
            RefusedError: RATE_LIMITED.
        """
        wait_s = self._of_peer.wait_s(peer_id, now)
        if network_key is not None:
            wait_s = max(wait_s, self._of_network.wait_s(network_key, now))
        if wait_s > 0.0:
            raise RefusedError(Reason.RATE_LIMITED, "too many sessions; try again later", retry_after_s=wait_s)

    def check_work(
        self, nonce: bytes, work: bytes, *, asked_bits: int, is_known: bool, claimed_wallet: bytes, now: float
    ) -> bool:
        """Check the work that a host under attack asks for; without an attack it asks for none.

        Args:
            nonce: of the challenge.
            work: what came, perhaps nothing.
            asked_bits: what the challenge asked for.
            is_known: the peer has a session that is open: it needs no work.
            claimed_wallet: whose wallet it is, if the signature holds.
            now: monotonic seconds.

        Returns:
            Whether it rests on the claimed wallet: when the signature does not hold, answer :func:`work_required`.

        Raises:
            RefusedError: WORK_REQUIRED or WORK_TOO_LITTLE.
        """
        if is_known or not self._attack.bits(now):
            return False
        if work and asked_bits:
            if not is_enough(nonce, work, asked_bits):
                raise RefusedError(Reason.WORK_TOO_LITTLE, f"the work is not that of {asked_bits} bits")
            self._attack.worked(now)
            return False
        if claimed_wallet in self._policy.allowed_wallets and self._unworked.take("", now) == 0.0:
            return True
        raise work_required()

    # --- after the signature ---

    def admit(self, wallet: bytes, peer_id: PeerId, network_key: str | None, now: float) -> bool:
        """Decide about a wallet whose signature holds, and count the session for it and its peer.

        Call when all but the deposit was checked; :meth:`opened` counts for the network, which is its neighbours', too.

        Args:
            wallet: who pays, 20 bytes: a delegation's owner, not its session key.
            peer_id: the caller.
            network_key: as for :meth:`check_rates`.
            now: monotonic seconds.

        Returns:
            Whether a deposit is waived.

        Raises:
            RefusedError: NOT_ALLOWED, REPUTATION_TOO_LOW or RATE_LIMITED; nothing was counted.
        """
        policy = self._policy
        is_listed = wallet in policy.allowed_wallets
        if not is_listed and policy.only_listed:
            raise RefusedError(Reason.NOT_ALLOWED, "this host serves the wallets on its list only")
        if not is_listed and policy.min_reputation:
            reputation = self._reputation_of(wallet)
            if reputation < policy.min_reputation:
                raise RefusedError(
                    Reason.REPUTATION_TOO_LOW,
                    f"this wallet's reputation here is {reputation}, and {policy.min_reputation} is asked",
                )
        self.check_rates(peer_id, network_key, now)
        wait_s = self._of_wallet.take(wallet, now)
        if wait_s > 0.0:
            raise RefusedError(Reason.RATE_LIMITED, "too many sessions of this wallet", retry_after_s=wait_s)
        self._of_peer.take(peer_id, now)
        return is_listed

    def opened(self, network_key: str | None, now: float) -> None:
        """Count a session that was opened for its network: who gets none uses up nothing of his neighbours'."""
        if network_key is not None:
            self._of_network.take(network_key, now)

    def _make_limiters(self) -> None:
        policy = self._policy
        self._of_wallet: RateLimiter[bytes] = RateLimiter(policy.sessions_per_wallet, max_keys=MAX_KEYS)
        self._of_peer: RateLimiter[PeerId] = RateLimiter(policy.sessions_per_peer, max_keys=MAX_KEYS)
        self._of_network: RateLimiter[str] = RateLimiter(policy.sessions_per_network, max_keys=MAX_KEYS)
        self._unworked: RateLimiter[str] = RateLimiter(policy.unworked_checks, max_keys=1)


def work_required() -> RefusedError:
    """Return the answer to who did no work."""
    return RefusedError(Reason.WORK_REQUIRED, "this host is under attack and asks strangers for work")
