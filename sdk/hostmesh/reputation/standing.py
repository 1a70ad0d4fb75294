"""Which hosts this client's user does not want or prefers, and which are paused because they failed. Pure.

A listing speaks of a peer id, or of a wallet and so of all its peers. It ends at its time, judged whenever it is read:
no clean-up is needed for it to end. A blacklisting beats a preference, and a peer's own preference beats its wallet's.

A failure that the host caused pauses that host for 15 s, each further one in a row twice as long; a success clears it.
After the pause the host is half-open: one trial at a time, until a success closes it or a failure pauses it again.
Failures while it is paused are of jobs that were begun before, as when a line is cut on which many run: they change
nothing. Five failures in a row, or one proven lie, blacklist the host by itself, for longer than any pause: see
:mod:`hostmesh.reputation.probation`.

Source: M. Nygard, "Release It!", "Circuit Breaker"; docs/discovery.md.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.errors import ConfigError, UsageError
from hostmesh.net.peer_id import PeerId, parse_peer_id
from hostmesh.reputation.decay import UNIT_MICROS
from hostmesh.reputation.probation import Suspension

FIRST_PAUSE_S = 15.0
TRIAL_S = 15.0
"""How long a trial keeps others away when nothing is heard of it."""
MAX_LISTINGS = 1024
MAX_COOLDOWNS = 4096
"""Hosts whose failures are remembered; the one that failed longest ago goes first."""
MAX_SUSPENSIONS = 4096
"""Hosts that are remembered as blacklisted by themselves; the one of longest ago goes first."""
SUSPENDING_FAILURES = 5
"""In a row, before the host is blacklisted: 3.75 minutes of pauses, which a host that restarts outlasts."""
SUSPENDING_MICROS = 5 * UNIT_MICROS
"""Evidence of this weight blacklists a host at once."""
MAX_PRIORITY = 1000
MAX_REASON_BYTES = 200

_WALLET = re.compile(r"0[xX][0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One entry of the blacklist, or one preference."""

    name: str
    """A peer id, or a wallet's address in lower case."""
    priority: int | None
    """Higher ranks first; None = blacklisted."""
    reason: str = ""
    """Of a blacklisting, for people."""
    since_unix_s: float
    until_unix_s: float | None
    """None = until it is removed."""

    def holds(self, now: float) -> bool:
        """Tell whether it has not ended at ``now``."""
        return self.until_unix_s is None or now < self.until_unix_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """The failures of a host since its last success."""

    peer_id: PeerId
    failures: int
    """In a row, >= 1."""
    failed_at_unix_s: float
    """The last one."""

    @property
    def pause_s(self) -> float:
        """How long the host is paused.

        >>> [Cooldown(peer_id=PeerId("p"), failures=n, failed_at_unix_s=0.0).pause_s for n in (1, 2, 4, 5, 10_000)]
        [15.0, 30.0, 120.0, 240.0, 240.0]
        """
        return FIRST_PAUSE_S * 2.0 ** (min(self.failures, SUSPENDING_FAILURES) - 1)

    def left_s(self, now: float) -> float:
        """Return how much of the pause is left; a clock that was set back lengthens it to twice its time at most."""
        return max(0.0, self.pause_s - abs(now - self.failed_at_unix_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStanding:
    """What is said of a host at one moment."""

    barred: str = ""
    """Why it is not to be used now; empty = it may be used."""
    priority: int = 0
    """Higher ranks first, whatever the scores; 0 = nothing was said."""


def listed_name(text: str) -> str:
    """Return a peer id or a wallet's address as listings keep it.

    Raises:
        ConfigError: it begins as a wallet's address and is none.
        InvalidAddressError: not a peer id.
    """
    if text[:2] not in ("0x", "0X"):
        return parse_peer_id(text)
    if _WALLET.fullmatch(text) is None:
        raise ConfigError(
            f"{text!r} is no wallet address", name="peer_or_wallet", source="argument", remedy="0x and 40 hex digits"
        )
    return text.lower()


def make_listing(name: str, *, priority: int | None, reason: str = "", ttl_s: float | None, now: float) -> Listing:
    """Return a listing from what a caller says.

    Raises:
        ConfigError: a value out of its range; ``name`` says which.
        InvalidAddressError: not a peer id.
    """
    is_integer = isinstance(priority, int) and not isinstance(priority, bool)
    if priority is not None and not (is_integer and 1 <= priority <= MAX_PRIORITY):
        raise ConfigError(
            f"priority is {priority!r}",
            name="priority",
            source="argument",
            remedy=f"give an integer from 1 to {MAX_PRIORITY}",
        )
    if ttl_s is not None and not (isinstance(ttl_s, (int, float)) and math.isfinite(ttl_s) and ttl_s > 0):
        raise ConfigError(
            f"ttl_s is {ttl_s!r}", name="ttl_s", source="argument", remedy="give seconds, or None for ever"
        )
    if len(reason.encode(errors="replace")) > MAX_REASON_BYTES:
        raise ConfigError(
            "the reason is too long", name="reason", source="argument", remedy=f"at most {MAX_REASON_BYTES} bytes"
        )
    return Listing(
        name=listed_name(name),
        priority=priority,
        reason=reason.encode(errors="replace").decode(),  # a store keeps no lone surrogates
        since_unix_s=now,
        until_unix_s=None if ttl_s is None else now + ttl_s,
    )


class StandingList:
    """Listings, suspensions, pauses and trials, bounded.

    Args:
        max_listings: most listings that hold, of each kind, >= 1.
        max_cooldowns: most hosts whose failures are remembered, >= 1.
        max_suspensions: most hosts that are remembered as blacklisted by themselves, >= 1.
    """

    def __init__(
        self,
        *,
        max_listings: int = MAX_LISTINGS,
        max_cooldowns: int = MAX_COOLDOWNS,
        max_suspensions: int = MAX_SUSPENSIONS,
    ) -> None:
        if max_listings < 1 or max_cooldowns < 1 or max_suspensions < 1:
            raise ValueError("at least one listing and one cooldown")
        self._max_listings = max_listings
        self._max_cooldowns = max_cooldowns
        self._max_suspensions = max_suspensions
        self._barred: dict[str, Listing] = {}
        self._preferred: dict[str, Listing] = {}
        self._cooldowns: OrderedDict[PeerId, Cooldown] = OrderedDict()
        self._trials: dict[PeerId, float] = {}
        """When each began; only of hosts with a cooldown or a suspension."""
        self._suspensions: OrderedDict[PeerId, Suspension] = OrderedDict()

    def reload(
        self,
        listings: Iterable[Listing],
        cooldowns: Iterable[Cooldown],
        suspensions: Iterable[tuple[PeerId, Suspension]] = (),
    ) -> None:
        """Take up what a store holds in place of everything but trials."""
        self._barred.clear()
        self._preferred.clear()
        for listing in listings:
            self._kind(listing.priority is None)[listing.name] = listing
        self._cooldowns = OrderedDict((cooldown.peer_id, cooldown) for cooldown in cooldowns)
        self._suspensions = OrderedDict(suspensions)
        self._trials = {peer_id: began for peer_id, began in self._trials.items() if self._needs_trial(peer_id)}

    def of(self, peer_id: PeerId, operator_address: str, now: float) -> HostStanding:
        """Return what is said of a host.

        Args:
            peer_id: the host.
            operator_address: its wallet, ``0x`` and lower case.
            now: unix seconds.
        """
        return HostStanding(
            barred=self._why_barred(peer_id, operator_address, now),
            priority=next(
                (
                    listing.priority or 0
                    for listing in (self._preferred.get(peer_id), self._preferred.get(operator_address))
                    if listing is not None and listing.holds(now)
                ),
                0,
            ),
        )

    # --- listings ---

    def listings(self, now: float) -> tuple[Listing, ...]:
        """Return the listings that hold: the user's blacklist, the hosts that are on it by what they did, preferences.

        Each in the order in which they came.
        """
        by_themselves = tuple(
            Listing(
                name=peer_id,
                priority=None,
                reason=each.reason,
                since_unix_s=each.since_unix_s,
                until_unix_s=now + each.left_s(now),
            )
            for peer_id, each in self._suspensions.items()
            if each.holds(now)
        )
        barred, preferred = (
            tuple(listing for listing in kept.values() if listing.holds(now))
            for kept in (self._barred, self._preferred)
        )
        return barred + by_themselves + preferred

    def check_room(self, listing: Listing, now: float) -> None:
        """Raise UsageError when there is no room for a listing: none that holds gives way unasked."""
        listings = self._kind(listing.priority is None)
        holding = sum(each.holds(now) for each in listings.values())
        if listing.name not in listings and holding >= self._max_listings:
            raise UsageError(f"{self._max_listings} hosts are listed already", remedy="remove some, or list wallets")

    def put(self, listing: Listing) -> None:
        """Take a listing in, in place of an earlier one of the same kind and name; those that have ended go."""
        listings = self._kind(listing.priority is None)
        for name in [name for name, each in listings.items() if not each.holds(listing.since_unix_s)]:
            del listings[name]
        listings.pop(listing.name, None)
        listings[listing.name] = listing

    def remove(self, name: str, *, is_blacklisting: bool) -> bool:
        """Take a listing out; tell whether there was one."""
        return self._kind(is_blacklisting).pop(name, None) is not None

    def _kind(self, is_blacklisting: bool) -> dict[str, Listing]:
        return self._barred if is_blacklisting else self._preferred

    # --- failures ---

    def cooldown(self, peer_id: PeerId) -> Cooldown | None:
        """Return the failures of a host since its last success, if there are any."""
        return self._cooldowns.get(peer_id)

    def after_failure(self, peer_id: PeerId, now: float) -> Cooldown:
        """Return what a failure at ``now`` makes of a host; :meth:`put_cooldown` takes it in.

        While the host is paused or blacklisted, a failure is of what was begun before, and lengthens no pause.
        """
        before = self._cooldowns.get(peer_id)
        if before is None:
            return Cooldown(peer_id=peer_id, failures=1, failed_at_unix_s=now)
        if before.left_s(now) > 0 or self._is_suspended(peer_id, now):
            return before
        return Cooldown(peer_id=peer_id, failures=before.failures + 1, failed_at_unix_s=now)

    def put_cooldown(self, cooldown: Cooldown) -> None:
        """Pause a host. Its trial is over."""
        self._cooldowns.pop(cooldown.peer_id, None)
        self._cooldowns[cooldown.peer_id] = cooldown
        self._trials.pop(cooldown.peer_id, None)
        while len(self._cooldowns) > self._max_cooldowns:
            oldest, _ = self._cooldowns.popitem(last=False)
            self._end_trial(oldest)

    def clear_cooldown(self, peer_id: PeerId) -> bool:
        """Note a success; tell whether there had been failures."""
        self._trials.pop(peer_id, None)
        return self._cooldowns.pop(peer_id, None) is not None

    def suspension(self, peer_id: PeerId) -> Suspension | None:
        """Return why a host is blacklisted by what it did, or on probation, if it is."""
        return self._suspensions.get(peer_id)

    def suspended_by(self, cooldown: Cooldown, now: float, *, weight_micros: int, reason: str) -> Suspension | None:
        """Return what a failure makes of a host's suspension; :meth:`put_suspension` takes it in. None = there is none.

        Args:
            cooldown: what :meth:`after_failure` made of the failure.
            now: when that was, in unix seconds.
            weight_micros: how much it weighs, in millionths of a failed job.
            reason: what happened, for people.
        """
        before = self._suspensions.get(cooldown.peer_id)
        if before is not None:
            return before.after_failure(now, f"on probation: {reason}")
        if weight_micros >= SUSPENDING_MICROS:
            return Suspension(times=1, since_unix_s=now, reason=reason)
        if cooldown.failures >= SUSPENDING_FAILURES:
            return Suspension(times=1, since_unix_s=now, reason=f"{cooldown.failures} failures in a row")
        return None

    def put_suspension(self, peer_id: PeerId, suspension: Suspension | None) -> None:
        """Take a host's suspension in; None = it has none any more."""
        self._suspensions.pop(peer_id, None)
        if suspension is not None:
            self._suspensions[peer_id] = suspension
        self._trials.pop(peer_id, None)
        while len(self._suspensions) > self._max_suspensions:
            oldest, _ = self._suspensions.popitem(last=False)
            self._end_trial(oldest)

    def begin_trial(self, peer_id: PeerId, now: float) -> bool:
        """Use a host; False when it is paused or blacklisted by what it did, or half-open and on trial already."""
        if not self._needs_trial(peer_id):
            return True
        cooldown = self._cooldowns.get(peer_id)
        is_paused = cooldown is not None and cooldown.left_s(now) > 0
        if is_paused or self._is_suspended(peer_id, now) or self._is_on_trial(peer_id, now):
            return False
        self._trials[peer_id] = now
        return True

    def _is_suspended(self, peer_id: PeerId, now: float) -> bool:
        suspension = self._suspensions.get(peer_id)
        return suspension is not None and suspension.holds(now)

    def _needs_trial(self, peer_id: PeerId) -> bool:
        return peer_id in self._cooldowns or peer_id in self._suspensions

    def _end_trial(self, peer_id: PeerId) -> None:
        if not self._needs_trial(peer_id):
            self._trials.pop(peer_id, None)

    def _is_on_trial(self, peer_id: PeerId, now: float) -> bool:
        began = self._trials.get(peer_id)
        return began is not None and abs(now - began) < TRIAL_S

    def _why_barred(self, peer_id: PeerId, operator_address: str, now: float) -> str:
        for name, who in ((peer_id, ""), (operator_address, "its operator is ")):
            listing = self._barred.get(name)
            if listing is not None and listing.holds(now):
                return f"{who}blacklisted" + (f": {listing.reason}" if listing.reason else "")
        suspension = self._suspensions.get(peer_id)
        if suspension is not None and suspension.holds(now):
            return f"blacklisted for {math.ceil(suspension.left_s(now))} s more: {suspension.reason}"
        cooldown = self._cooldowns.get(peer_id)
        if cooldown is None:
            return "on trial, being on probation" if self._is_on_trial(peer_id, now) else ""
        failures = f"{cooldown.failures} failures" if cooldown.failures > 1 else "a failure"
        left_s = cooldown.left_s(now)
        if left_s > 0:
            return f"paused after {failures}, for {math.ceil(left_s)} s more"
        return f"on trial after {failures}" if self._is_on_trial(peer_id, now) else ""
