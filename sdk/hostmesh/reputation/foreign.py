"""What others' receipts say of hosts, and how little of it counts. Pure.

A wallet costs nothing, nor does a host that signs whatever its owner's wallets want. So the word of others counts by
what this client can check itself, and never for much:

- A reviewer's *trust* begins at 0 and grows with each operator of whose hosts its receipts say what we saw; a
  contradiction costs four times what an agreement earns. Many hosts of one operator are one.
- Each network (/24, /48) has one voice, that of its most trusted reviewer, however many wallets there are in it.
- All voices together weigh what the strongest of them allows: its trust of 0.9 jobs with a host that we never used, of
  half as many with each job of our own, and nothing from the fifth. So it is less than one job of ours, however many
  they are, and next to nothing as long as nobody has earned trust: a thousand who are hardly trusted are no one who is.

Source: docs/adr/0010-reputation.md; J. Douceur, "The Sybil Attack", 2002: no count of strangers proves anything.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.decay import UNIT_MICROS, day_of, decayed
from hostmesh.reputation.names import WALLET, HostName
from hostmesh.reputation.score import NO_WEIGHT, Weights

MAX_JOBS = 1_000_000
FOREIGN_CAP_MICROS = 900_000
"""What all others together weigh with a host never used here: less than one job."""
OWN_JOBS_DECIDE = 5
"""With so many jobs' weight of our own evidence about a host, others' word on it counts no longer."""
TRUST_PRIOR_UNITS = 10
"""Operators on whom a reviewer agrees before it is trusted by half."""
CONTRADICTION_FACTOR = 4
SURE_UNITS = 3
"""With so many jobs of our own, a comparison with our experience counts in full: one may have been bad luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What one reviewer's receipts about one host come to, all together; each receipt was verified, signed by both.

    Raises:
        ValueError: a field out of its bounds.

    >>> Review(reviewer="0x" + "a1" * 20, host=PeerId("12D3KooWA"), operator="0x" + "b2" * 20,
    ...        network="192.0.2.0/24", good=3, bad=0, at_unix_s=1_700_000_000.0).is_of_own_host
    False
    """

    reviewer: str
    """The client's wallet that countersigned, ``0x`` and lower case."""
    host: PeerId
    operator: str
    """The wallet whose host it was at the time, by what the host signed."""
    network: str
    """Where the reviewer was met: an IPv4 /24 or IPv6 /48, by the connection and not by its word. 0.0.0.0/24, where
    nobody is, for those whom no connection showed: they are one voice together."""
    good: int
    """Jobs, 0 to 1,000,000."""
    bad: int
    """Jobs; one of both is 1 or more."""
    at_unix_s: float
    """Of the last receipt; of one of the future, when it came."""

    def __post_init__(self) -> None:
        if not (WALLET.fullmatch(self.reviewer) and WALLET.fullmatch(self.operator)):
            raise ValueError("a wallet's address is 0x and 40 hex digits in lower case")
        if not _is_network(self.network):
            raise ValueError("a network is an IPv4 /24 or an IPv6 /48")
        if not (0 <= self.good <= MAX_JOBS and 0 <= self.bad <= MAX_JOBS and self.good + self.bad >= 1):
            raise ValueError(f"a review is of 1 to {MAX_JOBS} jobs, good or bad")

    @property
    def name(self) -> HostName:
        """The host, under the wallet whose it was."""
        return HostName(self.host, self.operator)

    @property
    def is_of_own_host(self) -> bool:
        """Whether the operator speaks of itself: never counted."""
        return self.reviewer == self.operator

    @property
    def good_per_mille(self) -> int:
        """The share of good jobs."""
        return 1000 * self.good // (self.good + self.bad)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignPart:
    """What the word of others comes to for one host."""

    weights: Weights = NO_WEIGHT
    """What counts."""
    cap_micros: int
    """The most that could, were one of them trusted in full."""
    voice_micros: int = 0
    """How much trust speaks, before the cap."""
    reviewers: int = 0
    """Who said anything of the host."""
    networks: int = 0
    """Networks with a trusted reviewer among them."""
    good: int = 0
    """Jobs that the reviewers count for the host, trusted or not."""
    bad: int = 0
    """Jobs that they count against it."""

    def to_dict(self) -> dict[str, int]:
        """Return the fields as JSON takes them."""
        return {
            "good_micros": self.weights.good_micros,
            "bad_micros": self.weights.bad_micros,
            "cap_micros": self.cap_micros,
            "voice_micros": self.voice_micros,
            "reviewers": self.reviewers,
            "networks": self.networks,
            "good": self.good,
            "bad": self.bad,
        }


@lru_cache(maxsize=4096)
def _is_network(text: str) -> bool:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return False
    return network.prefixlen == (24 if network.version == 4 else 48) and str(network) == text


def foreign_cap_micros(own: Weights) -> int:
    """Return the most that the word of others may weigh beside our own evidence.

    >>> [foreign_cap_micros(Weights(good_micros=jobs * 1_000_000)) for jobs in range(6)]
    [900000, 450000, 225000, 112500, 56250, 0]
    """
    jobs = (own.total_micros + UNIT_MICROS // 2) // UNIT_MICROS
    return 0 if jobs >= OWN_JOBS_DECIDE else FOREIGN_CAP_MICROS >> jobs


class Reviews:
    """Reviews, by host and by reviewer. Not changed once made.

    Args:
        reviews: one a reviewer and host; bounded by who keeps them.
    """

    def __init__(self, reviews: Iterable[Review] = ()) -> None:
        self._of_host: defaultdict[HostName, list[Review]] = defaultdict(list)
        self._by_reviewer: defaultdict[str, dict[HostName, Review]] = defaultdict(dict)
        for review in reviews:
            if not review.is_of_own_host:
                name = review.name
                self._of_host[name].append(review)
                self._by_reviewer[review.reviewer][name] = review

    def hosts(self) -> Iterable[HostName]:
        """Return the hosts of which anything is said."""
        return self._of_host.keys()

    def of(self, host: HostName) -> list[Review]:
        """Return what is said of a host."""
        return self._of_host.get(host, [])

    def by(self, reviewer: str, hosts: Collection[HostName]) -> Iterator[Review]:
        """Yield what a reviewer says of some hosts. Cost: linear in the fewer of both."""
        said = self._by_reviewer.get(reviewer, {})
        for host in hosts if len(hosts) < len(said) else said:
            if host in said and host in hosts:
                yield said[host]


class ForeignWord:
    """Weighs reviews against our own evidence, as it is at one moment.

    Args:
        reviews: what others say.
        cap_micros: the most that the word of others may weigh with a host.
        recent: what decay alone leaves of it: old evidence compares with nobody's word of today.
        known: the hosts about which there is any.
        today: the day.
    """

    def __init__(
        self,
        reviews: Reviews,
        cap_micros: Callable[[HostName], int],
        recent: Callable[[HostName], Weights],
        known: Collection[HostName],
        today: int,
    ) -> None:
        self._reviews = reviews
        self._cap_micros = cap_micros
        self._recent = recent
        self._known = known
        self._today = today
        self._trust_micros: dict[str, int] = {}
        self._compared: dict[HostName, tuple[int, int] | None] = {}

    def part(self, host: HostName) -> ForeignPart:
        """Return what the word of others comes to for a host. Cost: linear in its reviews and their reviewers'."""
        said = self._reviews.of(host)
        cap = self._cap_micros(host)
        good_jobs, bad_jobs = sum(review.good for review in said), sum(review.bad for review in said)
        if cap == 0 or not said:
            return ForeignPart(cap_micros=cap, reviewers=len(said), good=good_jobs, bad=bad_jobs)
        voices: dict[str, tuple[int, str, Review]] = {}
        for review in said:
            strength = min(UNIT_MICROS, self._jobs_micros(review))
            voice = self.trust_micros(review.reviewer) * strength // UNIT_MICROS
            if voice and (voice, review.reviewer) > voices.get(review.network, (0, ""))[:2]:
                voices[review.network] = (voice, review.reviewer, review)
        total = sum(voice for voice, _, _ in voices.values())
        good = sum(voice * review.good_per_mille // 1000 for voice, _, review in voices.values())
        strongest = max((voice for voice, _, _ in voices.values()), default=0)
        counts = min(total, cap * strongest // UNIT_MICROS)
        good_micros = counts * good // total if total else 0
        return ForeignPart(
            weights=Weights(good_micros=good_micros, bad_micros=counts - good_micros),
            cap_micros=cap,
            voice_micros=total,
            reviewers=len(said),
            networks=len(voices),
            good=good_jobs,
            bad=bad_jobs,
        )

    def trust_micros(self, reviewer: str) -> int:
        """Return how much a reviewer is trusted: 0 for one who never spoke of a host that we used, below 1,000,000."""
        known = self._trust_micros.get(reviewer)
        if known is None:
            known = self._trust_micros[reviewer] = self._weigh(reviewer)
        return known

    def _weigh(self, reviewer: str) -> int:
        compared: dict[str, tuple[int, int]] = {}
        for review in self._reviews.by(reviewer, self._known):
            ours = self._ours(review.name)
            if ours is not None:
                sure, per_mille = ours
                contradicting = sure * abs(per_mille - review.good_per_mille) // 1000
                before = compared.get(review.operator, (0, 0))
                compared[review.operator] = before[0] + sure - contradicting, before[1] + contradicting
        agreed = contradicted = 0
        for agreeing, contradicting in compared.values():
            of_one = max(UNIT_MICROS, agreeing + contradicting)
            agreed += agreeing * UNIT_MICROS // of_one
            contradicted += contradicting * UNIT_MICROS // of_one
        earned = max(0, agreed - CONTRADICTION_FACTOR * contradicted)
        return earned * UNIT_MICROS // (agreed + contradicted + TRUST_PRIOR_UNITS * UNIT_MICROS)

    def _ours(self, host: HostName) -> tuple[int, int] | None:
        """Return how sure we are of a host, in millionths, and its share of good jobs; None = too long ago."""
        if host not in self._compared:
            own = self._recent(host)
            total = own.total_micros
            self._compared[host] = (
                None
                if total < UNIT_MICROS // 2
                else (min(UNIT_MICROS, total // SURE_UNITS), 1000 * own.good_micros // total)
            )
        return self._compared[host]

    def _jobs_micros(self, review: Review) -> int:
        return decayed((review.good + review.bad) * UNIT_MICROS, self._today - day_of(review.at_unix_s))
