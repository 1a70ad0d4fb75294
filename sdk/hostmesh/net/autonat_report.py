"""Whether others reach this node, by the word of those who tried. Pure.

A dial-back that arrived is proof: a nonce of ours came over a connection that somebody made to us. That a dial failed
is a claim: it counts when a peer of our own configuration says so, or two others do and nobody got through.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.net.address import AddressScope, scope_of
from hostmesh.net.peer_id import PeerId

MIN_STRANGERS = 2
"""So many peers that we did not configure must say that an address cannot be reached. Source: two peers dial back a
host before it registers (reference of hosts, pre-flight)."""


class ReachState(Enum):
    """How strangers get to this node. The words are those of a host record's reachability."""

    PUBLIC = "public"
    """At an address that it listens on."""
    MAPPED = "mapped"
    """At an address that it announces and does not have itself: a router forwards it."""
    UNREACHABLE = "unreachable"


class DialBackOutcome(Enum):
    """What came of asking one peer about one address."""

    REACHED = "reached"
    """Its dial-back arrived."""
    FAILED = "failed"
    """It says that the address does not answer."""
    UNPROVEN = "unproven"
    """It says that it got through, and nothing arrived."""
    REFUSED = "refused"
    """It does not dial such an address."""
    BUSY = "busy"
    """It serves no more requests now."""
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class DialBackAnswer:
    """One peer about one address."""

    peer_id: PeerId
    address: str
    outcome: DialBackOutcome
    is_trusted: bool = False
    """The peer stands in our configuration."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "peer_id": self.peer_id,
            "address": self.address,
            "outcome": self.outcome.value,
            "is_trusted": self.is_trusted,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressReach:
    """What is known of one announced address."""

    address: str
    is_own: bool
    """Whether this machine has it."""
    is_reachable: bool | None
    """None: not known."""

    @property
    def scope(self) -> AddressScope:
        """From how far it may be reached."""
        return scope_of(self.address)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "address": self.address,
            "scope": self.scope.value,
            "is_own": self.is_own,
            "is_reachable": self.is_reachable,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachabilityReport:
    """What peers that dialled this node back came to."""

    state: ReachState | None
    """None: not known, as nobody could judge."""
    addresses: tuple[AddressReach, ...]
    """Those that are announced, best first."""
    answers: tuple[DialBackAnswer, ...]
    """Who said so."""
    at_unix_s: float
    """When it was asked, by our own clock."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "state": None if self.state is None else self.state.value,
            "addresses": [each.to_dict() for each in self.addresses],
            "answers": [each.to_dict() for each in self.answers],
            "at_unix_s": self.at_unix_s,
        }


def judge(
    answers: Sequence[DialBackAnswer], *, announced: Sequence[str], own: Collection[str], at_unix_s: float
) -> ReachabilityReport:
    """Return what the answers come to.

    Args:
        answers: of all peers that were asked.
        announced: addresses that others are told.
        own: addresses that this machine listens on.
        at_unix_s: when it was asked.
    """
    addresses = tuple(
        AddressReach(address=address, is_own=address in own, is_reachable=_is_reachable(address, answers))
        for address in announced
    )
    reached = [each for each in addresses if each.is_reachable]
    state: ReachState | None = None
    if any(each.is_own for each in reached):
        state = ReachState.PUBLIC
    elif reached:
        state = ReachState.MAPPED
    elif addresses and any(each.is_reachable is False for each in addresses):
        state = ReachState.UNREACHABLE
    return ReachabilityReport(state=state, addresses=addresses, answers=tuple(answers), at_unix_s=at_unix_s)


def _is_reachable(address: str, answers: Sequence[DialBackAnswer]) -> bool | None:
    about = [each for each in answers if each.address == address]
    if any(each.outcome is DialBackOutcome.REACHED for each in about):
        return True
    failed = {each.peer_id: each.is_trusted for each in about if each.outcome is DialBackOutcome.FAILED}
    return False if any(failed.values()) or len(failed) >= MIN_STRANGERS else None


def can_judge(address: str, peer_scope: AddressScope | None) -> bool:
    """Whether a peer that we see in a scope can say that strangers reach an address.

    One on the same private network reaches more than strangers do; a public one does not reach what is private.

    >>> can_judge("/ip4/8.8.8.8/tcp/1", AddressScope.PRIVATE)
    False
    """
    scope = scope_of(address)
    return peer_scope is (AddressScope.PUBLIC if scope is AddressScope.NAME else scope)
