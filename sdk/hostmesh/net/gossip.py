"""Gossip: what a topic takes and hands on, and how much of it anybody may cost. Pure.

:mod:`hostmesh.net.libp2p_gossip` runs GossipSub on a node; what uses it (a source of discovery, later messaging) sees
what is here, so that it can be imported, and tested, without py-libp2p.

A message that comes is checked by its size, by whether it was seen before, by what its forwarder and its author may
cost, by its author's signature, and last by the topic's own check. Who forwards junk pays for it, not who is named
as its author: anybody can name an author, and no relay hands on what does not hold.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Generic, Protocol, TypeVar

from hostmesh.net.peer_id import PeerId
from hostmesh.net.token_bucket import TokenBucket

ItemT = TypeVar("ItemT")

CHECKS_PER_S = 128.0
"""Messages of all peers together that are verified; what is more is dropped. About a tenth of one core."""
CHECK_BURST = 1024
PEER_CHECKS_PER_S = 20.0
PEER_CHECK_BURST = 512
"""A newcomer is handed what was said lately, all at once."""
WANTS_PER_S = 8.0
WANT_BURST = 64
"""Messages that one peer gets by asking for them."""
CONTROLS_PER_S = 16.0
CONTROL_BURST = 64
"""Offers of messages, and wishes to enter or leave a mesh, of one peer that are heeded."""
SUBSCRIPTIONS_PER_S = 1.0
SUBSCRIPTION_BURST = 128
"""Topics that one peer joins or leaves."""
MAX_REJECTIONS = 16
"""So many messages that do not hold, and a peer is muted: nothing of it is read, and it gets nothing."""
REJECTIONS_FORGOTTEN_PER_S = 1 / 30
MUTE_S = 600.0
MAX_REMEMBERED = 4096
"""Peers, and authors of a topic, whose accounts are kept; the one unused for longest goes first."""


class Verdict(Enum):
    """What a topic's check says of a message."""

    ACCEPT = "accept"
    """It holds and is news: hand it on."""
    IGNORE = "ignore"
    """No news, or too late: hand it on to nobody; no fault of who forwarded it."""
    REJECT = "reject"
    """It does not hold: whoever forwarded it did not look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipMessage:
    """A message whose author's signature holds."""

    topic: str
    data: bytes
    author: PeerId
    """Who signed it."""
    forwarder: PeerId
    """The connected peer that it came from; often not the author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLimits:
    """What the messages of one topic may cost."""

    max_bytes: int = 12_288
    """Of a message's data; larger ones are rejected."""
    author_per_s: float = 10.0
    author_burst: int = 100
    """More of one author is dropped, whoever forwards it."""
    remembered: int = 256
    """Authors of whom the last message is kept for newcomers; 0 = newcomers hear what comes."""
    remember_s: float = 90.0
    """How long, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipStatistics:
    """What a node's gossip did so far."""

    published: int = 0
    accepted: int = 0
    """Messages of others that held and were handed on."""
    ignored: int = 0
    duplicates: int = 0
    """Copies, which are recognised before anything is verified."""
    rejected: int = 0
    """Messages that did not hold."""
    dropped: int = 0
    """Messages that were not looked at: more than their forwarder or author may cost, or the forwarder is muted."""
    muted: int = 0
    """Peers that were muted; one counts each time."""


Check = Callable[[GossipMessage], Verdict]
"""Takes a message and says what becomes of it. It runs for each message of another peer once, must not wait, and must
cost little: whatever it does, the node does not do meanwhile."""


class Gossip(Protocol):
    """GossipSub on a node."""

    async def join(self, topic: str, check: Check, limits: TopicLimits) -> None:
        """Take part in a topic: hear it, check it, hand it on."""
        ...

    async def leave(self, topic: str) -> None:
        """Take part in a topic no longer."""
        ...

    async def publish(self, topic: str, data: bytes) -> None:
        """Tell a topic's members; returns once it is on its way to the first of them."""
        ...

    def members(self, topic: str) -> tuple[PeerId, ...]:
        """Return the connected peers that take part in a topic."""
        ...

    @property
    def statistics(self) -> GossipStatistics:
        """What happened so far."""
        ...


OpenGossip = Callable[[], AbstractAsyncContextManager[Gossip]]
"""Opens gossip on a node for the life of a block."""


class Pace:
    """Slows down whoever does more than ``per_s``, once that is more than ``burst``.

    >>> pace = Pace(per_s=10, burst=20)
    >>> pace.owe(0.0, 20), pace.owe(0.0, 5), pace.owe(0.5, 10)
    (0.0, 0.5, 1.0)
    """

    def __init__(self, *, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at_s: float | None = None

    def owe(self, now_s: float, amount: float) -> float:
        """Note that an amount was done; return how long to wait before more is. The clock is monotonic, in seconds."""
        if self._at_s is not None:
            self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        self._left -= amount
        return max(0.0, -self._left / self._per_s)


@dataclass(slots=True)
class _Account:
    checks: TokenBucket = field(default_factory=lambda: TokenBucket(per_s=PEER_CHECKS_PER_S, burst=PEER_CHECK_BURST))
    wants: TokenBucket = field(default_factory=lambda: TokenBucket(per_s=WANTS_PER_S, burst=WANT_BURST))
    controls: TokenBucket = field(default_factory=lambda: TokenBucket(per_s=CONTROLS_PER_S, burst=CONTROL_BURST))
    subscriptions: TokenBucket = field(
        default_factory=lambda: TokenBucket(per_s=SUBSCRIPTIONS_PER_S, burst=SUBSCRIPTION_BURST)
    )
    patience: TokenBucket = field(
        default_factory=lambda: TokenBucket(per_s=REJECTIONS_FORGOTTEN_PER_S, burst=MAX_REJECTIONS)
    )
    muted_until_s: float = 0.0


class Gatekeeper:
    """Counts what each peer and author costs. Times are monotonic, in seconds.

    Its memory is bounded by :data:`MAX_REMEMBERED`: an account that has gone is a new one, so whoever runs that many
    peers gets as much as that many peers, and no more than :data:`CHECKS_PER_S` in all.
    """

    def __init__(self) -> None:
        self._all = TokenBucket(per_s=CHECKS_PER_S, burst=CHECK_BURST)
        self._accounts: OrderedDict[PeerId, _Account] = OrderedDict()
        self._authors: OrderedDict[tuple[str, PeerId], TokenBucket] = OrderedDict()

    def may_check(self, forwarder: PeerId, topic: str, author: PeerId, limits: TopicLimits, now_s: float) -> bool:
        """Whether a message may cost a verification; if so it is charged to its forwarder."""
        account = self._account(forwarder)
        if now_s < account.muted_until_s or self._author(topic, author, limits).wait_s(now_s):
            return False
        if account.checks.wait_s(now_s) or self._all.take(now_s):
            return False
        account.checks.take(now_s)
        return True

    def charge_author(self, topic: str, author: PeerId, limits: TopicLimits, now_s: float) -> None:
        """Charge a message whose signature holds to its author: nobody else can use up what an author may say."""
        self._author(topic, author, limits).take(now_s)

    def reject(self, forwarder: PeerId, now_s: float) -> bool:
        """Note that a peer forwarded what does not hold; return whether that was once too often: it is muted now."""
        account = self._account(forwarder)
        if now_s < account.muted_until_s or not account.patience.take(now_s):
            return False
        account.muted_until_s = now_s + MUTE_S
        return True

    def is_muted(self, peer_id: PeerId, now_s: float) -> bool:
        """Whether nothing of a peer is read."""
        account = self._accounts.get(peer_id)
        return account is not None and now_s < account.muted_until_s

    def may_want(self, peer_id: PeerId, now_s: float) -> bool:
        """Whether a peer gets one more message that it asks for."""
        return not self._account(peer_id).wants.take(now_s)

    def may_control(self, peer_id: PeerId, now_s: float) -> bool:
        """Whether a peer is heeded when it offers messages, or wishes to enter or leave a mesh."""
        return not self._account(peer_id).controls.take(now_s)

    def may_subscribe(self, peer_id: PeerId, now_s: float) -> bool:
        """Whether a peer is heeded when it joins or leaves a topic."""
        return not self._account(peer_id).subscriptions.take(now_s)

    def _account(self, peer_id: PeerId) -> _Account:
        return _kept(self._accounts, peer_id, _Account)

    def _author(self, topic: str, author: PeerId, limits: TopicLimits) -> TokenBucket:
        make = partial(TokenBucket, per_s=limits.author_per_s, burst=limits.author_burst)
        return _kept(self._authors, (topic, author), make)


class Recent(Generic[ItemT]):
    """The last item of each of a few, for a while; whoever said something longest ago goes first.

    >>> recent = Recent(most=2, for_s=10)
    >>> for who, what in ("a", 1), ("b", 2), ("a", 3), ("c", 4): recent.put(who, what, now_s=0.0)
    >>> recent.items(5.0), recent.items(11.0)
    ([3, 4], [])
    """

    def __init__(self, *, most: int, for_s: float) -> None:
        self._most = most
        self._for_s = for_s
        self._items: OrderedDict[Hashable, tuple[float, ItemT]] = OrderedDict()

    def put(self, who: Hashable, item: ItemT, now_s: float) -> None:
        """Take an item in place of the one before."""
        self._items[who] = now_s + self._for_s, item
        self._items.move_to_end(who)
        if len(self._items) > self._most:
            self._items.popitem(last=False)

    def items(self, now_s: float) -> list[ItemT]:
        """Return the items that are recent enough, the oldest first."""
        while self._items:
            who, (until_s, _) = next(iter(self._items.items()))
            if until_s > now_s:
                break
            del self._items[who]
        return [item for _, item in self._items.values()]


class SeenIds:
    """The ids of messages that were seen lately, at most so many.

    >>> seen = SeenIds(most=2, for_s=10)
    >>> seen.add(b"1", 0.0), seen.add(b"1", 1.0), seen.has(b"1", 9.0), seen.has(b"1", 10.0)
    (True, False, True, False)
    """

    def __init__(self, *, most: int, for_s: float) -> None:
        self._most = most
        self._for_s = for_s
        self._until_s: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until_s)

    def add(self, message_id: bytes, now_s: float) -> bool:
        """Remember an id from now on; return whether it is new."""
        if self.has(message_id, now_s):
            return False
        self._until_s[message_id] = now_s + self._for_s
        self._until_s.move_to_end(message_id)
        if len(self._until_s) > self._most:
            self._until_s.popitem(last=False)
        return True

    def has(self, message_id: bytes, now_s: float) -> bool:
        """Whether an id was seen lately."""
        return self._until_s.get(message_id, now_s) > now_s


KeyT = TypeVar("KeyT", bound=Hashable)


def _kept(table: OrderedDict[KeyT, ItemT], key: KeyT, make: Callable[[], ItemT]) -> ItemT:
    """Return what a bounded table has under a key, made if need be; it is the last to go now."""
    item = table.get(key)
    if item is None:
        item = table[key] = make()
        if len(table) > MAX_REMEMBERED:
            table.popitem(last=False)
    else:
        table.move_to_end(key)
    return item
