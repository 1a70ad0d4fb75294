"""What was spent on this host under each delegation, and which are revoked. Pure; ``now`` is unix seconds.

The cap of a delegation bounds what all its sessions here may cost together: what was spent under it, and what its open
sessions may still cost. It is kept until the delegation has expired; an account of which nothing was spent, that has
no open session and was not revoked, makes room for another. There are bounds per owner, per peer that opened the first
session under it, per network of that peer, and in all: a party at its bound gets room from its own accounts
alone, and where these matter it is refused, and nobody else.

A revocation of a delegation that is in use here is a mark on its account and needs no room. One of a delegation that
this host never saw (it may come later) is kept in a table with bounds per bringer, per network and in all; a full table
refuses the newcomer, so that junk pushes nothing out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from hostmesh.errors import ConfigError
from hostmesh.identity.structs import DelegationRevocation
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.delegation import REVOCATION_LIFETIME_S, HeldDelegation
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.sessions.record import SessionRecord

_Party = tuple[str, bytes | str]
"""An owner, a peer or a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationLimits:
    """Bounds of what a host keeps of delegations."""

    total: int = 8192
    """Delegations in use."""
    per_owner: int = 512
    per_network: int = 512
    """Under which the first session was opened from one /24 (IPv4) or /48 (IPv6)."""
    per_peer: int = 64
    revocations: int = 8192
    """Of delegations that were never seen here."""
    revocations_per_network: int = 512
    """Brought from one /24 (IPv4) or /48 (IPv6)."""
    revocations_per_peer: int = 64

    def __post_init__(self) -> None:
        if any(getattr(self, each.name) < 1 for each in fields(self)):
            raise ConfigError("delegation limits are 1 or more", name="delegation_limits", source="argument")


@dataclass(slots=True, kw_only=True, eq=False)
class DelegationAccount:
    """One delegation that opened a session here. Only :class:`DelegationTable` changes it."""

    digest: bytes
    owner: bytes
    expires_at_unix_s: int
    opened_by: PeerId
    """Who opened the first session under it; others may go on."""
    network_key: str | None
    """Of that peer's connection."""
    signature: bytes = b""
    """The owner's, which was verified since this host started; empty: none was."""
    spent_micros: int = 0
    is_revoked: bool = False
    sessions: set[SessionRecord] = field(default_factory=set)
    """Those that go on, and some that ended."""

    @property
    def parties(self) -> tuple[_Party, ...]:
        """Under whom it counts."""
        own: tuple[_Party, ...] = (("owner", self.owner), ("peer", self.opened_by))
        return own if self.network_key is None else (*own, ("network", self.network_key))

    @property
    def is_forgettable(self) -> bool:
        """Whether nothing would be wrong without it."""
        return not (self.spent_micros or self.is_revoked or any(record.is_going_on for record in self.sessions))

    @property
    def open_micros(self) -> int:
        """What its sessions may still come to cost."""
        return sum(record.open_micros for record in self.sessions)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenRevocation:
    """A revocation of a delegation that never came here."""

    owner: bytes
    digest: bytes
    expires_at_unix_s: int
    brought_by: PeerId
    network_key: str | None


class DelegationTable:
    """The delegations of a host."""

    __slots__ = ("_accounts", "_limits", "_next_expiry", "_of_network", "_of_party", "_of_peer", "_unseen")

    def __init__(self, limits: DelegationLimits | None = None) -> None:
        self._limits = limits or DelegationLimits()
        self._accounts: dict[bytes, DelegationAccount] = {}
        self._of_party: dict[_Party, dict[bytes, DelegationAccount]] = {}
        self._unseen: dict[tuple[bytes, bytes], UnseenRevocation] = {}
        self._of_peer: Counter[PeerId] = Counter()
        self._of_network: Counter[str] = Counter()
        self._next_expiry = float("inf")

    def account(self, digest: bytes) -> DelegationAccount | None:
        """Return the account of a delegation; None when no session was opened under it."""
        return self._accounts.get(digest)

    def is_verified(self, held: HeldDelegation) -> bool:
        """Whether this very signature was found good since this host started, so that it need not be checked again."""
        account = self._accounts.get(held.digest)
        return account is not None and account.signature == held.signature

    def check(
        self, held: HeldDelegation, limit_micros: int, peer_id: PeerId, now: float, network_key: str | None = None
    ) -> DelegationAccount | None:
        """Check that a session of this limit fits under a delegation.

        Args:
            held: the delegation.
            limit_micros: of the session.
            peer_id: who opens it.
            now: unix seconds.
            network_key: of that peer's connection; None = not known.

        Returns:
            The account that goes should the session be opened now; None = there is room.

        Raises:
            RefusedError: DELEGATION_REVOKED, DELEGATION_CAP or TOO_MANY_DELEGATIONS.
        """
        self.expire(now)
        account = self._accounts.get(held.digest)
        if (account is not None and account.is_revoked) or (held.struct.owner, held.digest) in self._unseen:
            raise RefusedError(Reason.DELEGATION_REVOKED, "the delegation was revoked by its owner")
        left = held.cap_micros - (0 if account is None else account.spent_micros + account.open_micros)
        if limit_micros > left:
            raise RefusedError(
                Reason.DELEGATION_CAP,
                f"the delegation leaves {max(0, left)} micro-{held.struct.currency} on this host for another session",
            )
        if account is not None:
            return None
        full = self._full(new_account(held, peer_id, network_key))
        if not full:
            return None
        fewest = min(full, key=len)
        # It makes room wherever there is none.
        for digest, one in fewest.items():
            if one.is_forgettable and all(digest in accounts for accounts in full):
                return one
        raise RefusedError(
            Reason.TOO_MANY_DELEGATIONS, "this host keeps account of too many delegations", retry_after_s=600.0
        )

    def _full(self, new: DelegationAccount) -> list[dict[bytes, DelegationAccount]]:
        """Return the groups of accounts to which a new one would belong, and which are at their bound."""
        limits = self._limits
        bounds = {"owner": limits.per_owner, "peer": limits.per_peer, "network": limits.per_network}
        groups = [(self._of_party.get(party, {}), bounds[party[0]]) for party in new.parties]
        return [group for group, bound in [*groups, (self._accounts, limits.total)] if len(group) >= bound]

    def open(self, held: HeldDelegation, record: SessionRecord, now: float) -> DelegationAccount:
        """Count a session that was opened under a delegation.

        Raises:
            RefusedError: as :meth:`check` says; nothing was changed.
        """
        victim = self.check(held, record.terms.spending_limit_micros, record.peer_id, now, record.network_key)
        if victim is not None:
            self._forget(victim)
        account = self._accounts.get(held.digest)
        if account is None:
            account = new_account(held, record.peer_id, record.network_key)
            self.restore(account)
        account.signature = held.signature
        account.sessions = {one for one in account.sessions if one.is_going_on}
        account.sessions.add(record)
        return account

    def restore(self, account: DelegationAccount) -> None:
        """Take an account back that was kept before this host restarted."""
        self._accounts[account.digest] = account
        for party in account.parties:
            self._of_party.setdefault(party, {})[account.digest] = account
        self._next_expiry = min(self._next_expiry, account.expires_at_unix_s)

    def _forget(self, account: DelegationAccount) -> None:
        del self._accounts[account.digest]
        for party in account.parties:
            accounts = self._of_party[party]
            del accounts[account.digest]
            if not accounts:
                del self._of_party[party]

    def spend(self, digest: bytes, amount_micros: int) -> DelegationAccount | None:
        """Count what a session under a delegation came to cost.

        Returns:
            The account; None when the delegation has expired.
        """
        account = self._accounts.get(digest)
        if account is not None:
            account.spent_micros += amount_micros
        return account

    def check_revocation(
        self, revocation: DelegationRevocation, peer_id: PeerId, now: float, network_key: str | None = None
    ) -> bool:
        """Check that a revocation can be taken.

        Returns:
            Whether there is anything to do: False when the delegation is revoked already.

        Raises:
            RefusedError: REVOCATION_WRONG_OWNER or TOO_MANY_REVOCATIONS.
        """
        self.expire(now)
        account = self._accounts.get(revocation.delegation_digest)
        if account is not None:
            if account.owner != revocation.owner:
                raise RefusedError(Reason.REVOCATION_WRONG_OWNER, "the delegation is another owner's")
            return not account.is_revoked
        if (revocation.owner, revocation.delegation_digest) in self._unseen:
            return False
        limits = self._limits
        if (
            len(self._unseen) >= limits.revocations
            or self._of_peer[peer_id] >= limits.revocations_per_peer
            or (network_key is not None and self._of_network[network_key] >= limits.revocations_per_network)
        ):
            raise RefusedError(
                Reason.TOO_MANY_REVOCATIONS, "too many revocations of delegations unknown here", retry_after_s=600.0
            )
        return True

    def unseen_of(
        self, revocation: DelegationRevocation, peer_id: PeerId, network_key: str | None
    ) -> UnseenRevocation | None:
        """Return what is to be kept of a revocation; None where the account of its delegation is marked instead."""
        if revocation.delegation_digest in self._accounts:
            return None
        return UnseenRevocation(
            owner=revocation.owner,
            digest=revocation.delegation_digest,
            expires_at_unix_s=revocation.issued_at_unix_s + REVOCATION_LIFETIME_S,
            brought_by=peer_id,
            network_key=network_key,
        )

    def keep_unseen(self, unseen: UnseenRevocation) -> None:
        """Remember a revocation of a delegation that never came here."""
        self._unseen[unseen.owner, unseen.digest] = unseen
        self._of_peer[unseen.brought_by] += 1
        if unseen.network_key is not None:
            self._of_network[unseen.network_key] += 1
        self._next_expiry = min(self._next_expiry, unseen.expires_at_unix_s)

    def expire(self, now: float) -> None:
        """Forget what has expired by itself. Cost: O(1), or linear when something does."""
        if now < self._next_expiry:
            return
        # What runs longer than its delegation still settles with its session.
        for account in [one for one in self._accounts.values() if one.expires_at_unix_s <= now]:
            self._forget(account)
        kept = [one for one in self._unseen.values() if one.expires_at_unix_s > now]
        self._unseen = {(one.owner, one.digest): one for one in kept}
        self._of_peer = Counter(one.brought_by for one in kept)
        self._of_network = Counter(one.network_key for one in kept if one.network_key is not None)
        ends = [one.expires_at_unix_s for one in self._accounts.values()] + [one.expires_at_unix_s for one in kept]
        self._next_expiry = min(ends, default=float("inf"))

    def __len__(self) -> int:
        return len(self._accounts) + len(self._unseen)


def new_account(held: HeldDelegation, peer_id: PeerId, network_key: str | None) -> DelegationAccount:
    """Return the account that a delegation begins with, which nobody keeps yet."""
    return DelegationAccount(
        digest=held.digest,
        owner=held.struct.owner,
        expires_at_unix_s=held.struct.expires_at_unix_s,
        opened_by=peer_id,
        network_key=network_key,
    )
