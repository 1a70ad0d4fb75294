"""Networks of honest hosts and liars, as plain values: who is where, what is true of each and what it says. Pure.

A liar knows the ranking code: of several claims, each drawn as an honest host's is, it takes the one that ranks first
among those that fit what is asked for. So nobody can tell it from an honest host by what it says. Each needs its lie:
without it, it would not meet the criteria, or there would be nothing to find of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import Gpu, Hardware, HostDescription, ModelOffer
from hostmesh.discovery.ranking import AUTO, CHEAPEST, FASTEST, RELIABLE, WeightedStrategy
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.terms import Place, Price
from hostmesh.discovery.view import HostView
from hostmesh.model_kind import ModelKind
from hostmesh.reputation.score import Reputation
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.records import make_host_info

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MODEL = "wanted-8b"
OTHER_MODEL = "other-1b"
OWN_COUNTRY = "DE"
"""Where the client is."""
LEAST_RTT_S = {"DE": 0.0, "FR": 0.0, "PL": 0.0, "US": 0.036, "JP": 0.054, "AU": 0.080, "BR": 0.046}
"""There and back at the speed of light from the client to the nearest coast of each country, off a globe."""
NEAR = tuple(code for code, rtt_s in LEAST_RTT_S.items() if not rtt_s)
FAR = tuple(code for code, rtt_s in LEAST_RTT_S.items() if rtt_s)
NEXT_DOOR_S = 0.015
"""Sooner, nobody answers from another continent: the longest round trip of who only says that it is there."""
MAX_HOSTS = 40
"""Of one topology, liars included."""
CLAIMS_TRIED = 8
"""Honest claims among which a liar chooses."""
MAX_JUNK = 48
"""Made-up peers that a ring names."""
STRATEGIES = {"AUTO": AUTO, "CHEAPEST": CHEAPEST, "FASTEST": FASTEST, "RELIABLE": RELIABLE}
_PLACE_SHARE = 0.5
_MARGIN = 0.15
"""Nobody's round trip is so near to the limit that the jitter of a network would decide."""


class Lie(Enum):
    """What a host lies about."""

    LATENCY = "latency"
    """It answers pings before it has read them, or says in its record how near it is."""
    SLOTS = "slots"
    """It says that slots are free; a job would wait, or is refused."""
    READINESS = "readiness"
    """It offers a model that is not loaded."""
    ADDRESSES = "addresses"
    """Its record names addresses where others live."""
    EXPIRY = "expiry"
    """Its record is good for too long, comes from the future, or is long over."""
    SEQUENCE = "sequence"
    """It signs two records of one sequence."""
    REGION = "region"
    """It says that it is where the client wants a host to be; it answers too soon for that."""
    PRICE = "price"
    """It quotes more than its record says."""
    JOBS = "jobs"
    """It answers probes well and jobs badly: nobody can tell before the first job."""


CHECKABLE = tuple(lie for lie in Lie if lie is not Lie.JOBS)
"""Lies that a client can find out without a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a host says of itself."""

    price_micros_per_mtok: int
    country_code: str
    free_slots: int
    hardware: Hardware | None
    output_millitokens_per_s: int | None
    capabilities: tuple[str, ...]
    uptime_s: int
    """Since the start that its record states."""

    def description(self, *model_ids: str) -> HostDescription:
        """Return what its record says."""
        price = Price(micros_per_mtok=self.price_micros_per_mtok, currency="USD")
        return HostDescription(
            models=[
                ModelOffer(
                    model_id=model_id,
                    kind=ModelKind.CHAT,
                    price=price,
                    output_millitokens_per_s=self.output_millitokens_per_s,
                )
                for model_id in model_ids
            ],
            location=self.country_code,
            capabilities=self.capabilities,
            max_concurrent_jobs=max(1, self.free_slots),
            hardware=self.hardware,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyHost:
    """One host: what it says, and what is true."""

    name: str
    claims: Claims
    rtt_s: float
    """True round trip to the client."""
    country_code: str
    """Where it truly is."""
    is_loaded: bool = True
    """Whether the wanted model is."""
    serves_model: bool = True
    """Whether its record offers the wanted model; another one, where not."""
    named_after_s: float = 0.0
    """How long the source takes to name it."""
    lie: Lie | None = None
    """None: it is honest."""
    manner: int = 0
    """Which form the lie has, 0 to 2."""
    is_in_ring: bool = False
    """Whether it is one of several liars who name each other and hand on each other's records."""

    @property
    def model_ids(self) -> tuple[str, ...]:
        """What its record offers."""
        return (MODEL,) if self.serves_model else (OTHER_MODEL,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A network to find a host in."""

    hosts: tuple[TopologyHost, ...]
    criteria: HostCriteria
    strategy_name: str
    """One of :data:`STRATEGIES`."""
    junk: int = 0
    """Peers that do not exist, which the ring names."""

    @property
    def strategy(self) -> WeightedStrategy:
        """The strategy that the client looks with."""
        return STRATEGIES[self.strategy_name]

    @property
    def liars(self) -> tuple[TopologyHost, ...]:
        """The hosts that lie."""
        return tuple(host for host in self.hosts if host.lie is not None)

    @property
    def fitting(self) -> tuple[TopologyHost, ...]:
        """The honest hosts that truly meet the criteria."""
        return tuple(host for host in self.hosts if host.lie is None and not broken_criteria(host, self.criteria))


def broken_criteria(host: TopologyHost, criteria: HostCriteria) -> list[str]:
    """Return the criteria that the truth about a host breaks, whatever it says."""
    broken = []
    if not host.serves_model or not host.is_loaded or host.lie is Lie.READINESS:
        broken.append("ready")
    limit = criteria.max_price
    price = host.claims.price_micros_per_mtok * (quoted_per_claimed(host))
    if limit is not None and price > limit.micros_per_mtok:
        broken.append("price")
    free_slots = 0 if host.lie is Lie.SLOTS else host.claims.free_slots
    if criteria.min_free_slots is not None and free_slots < criteria.min_free_slots:
        broken.append("slots")
    if criteria.max_latency_ms is not None and host.rtt_s * 1000 > criteria.max_latency_ms:
        broken.append("latency")
    if criteria.place is not None and criteria.place.country_code != host.country_code:
        broken.append("location")
    return broken


def quoted_per_claimed(host: TopologyHost) -> int:
    """Return how many times the price of its record a host quotes."""
    return 2 + host.manner if host.lie is Lie.PRICE else 1


def draw_topology(dice: Random, *, max_hosts: int = MAX_HOSTS) -> Topology:
    """Draw a topology.

    Args:
        dice: :func:`topologies` gives one of Hypothesis's, that shrinks.
        max_hosts: 3 to :data:`MAX_HOSTS`.
    """
    count = dice.randint(3, min(max_hosts, MAX_HOSTS))
    liar_count = dice.randint(1, count - 1)
    ring_size = dice.choice((0, dice.randint(2, max(2, liar_count)))) if liar_count > 1 else 0
    # A ring has one plan; who is on its own lies as it likes.
    ring_lie = dice.choice(CHECKABLE)
    lies = [ring_lie if place < ring_size else dice.choice(tuple(Lie)) for place in range(liar_count)]
    criteria = _draw_criteria(dice, lies)
    strategy_name = dice.choice(tuple(STRATEGIES))
    topology = Topology(hosts=(), criteria=criteria, strategy_name=strategy_name)
    liars = [
        _draw_liar(dice, f"liar-{place}", lie, topology, is_in_ring=place < ring_size) for place, lie in enumerate(lies)
    ]
    honest = [_draw_honest(dice, f"host-{place}", criteria) for place in range(count - liar_count)]
    return replace(
        topology, hosts=(*honest, *liars), junk=dice.randint(0, MAX_JUNK) if ring_size and dice.random() < 0.5 else 0
    )


def topologies(*, max_hosts: int = MAX_HOSTS) -> SearchStrategy[Topology]:
    """Draw topologies; needs Hypothesis, which shrinks them."""
    return st.randoms(use_true_random=False).map(lambda dice: draw_topology(dice, max_hosts=max_hosts))


def _draw_criteria(dice: Random, lies: list[Lie]) -> HostCriteria:
    """What somebody asks for, and at least what these lies are told about: of what nobody asks, nobody lies."""
    country_code = dice.choice(FAR) if Lie.REGION in lies else None
    max_latency_ms: float | None = None
    if Lie.LATENCY in lies or dice.random() < 0.5:
        max_latency_ms = 400.0 if country_code else dice.choice((60.0, 150.0, 300.0))
    return HostCriteria(
        required_models=[MODEL],
        max_price=Price(micros_per_mtok=dice.choice((300_000, 600_000)), currency="USD"),
        max_latency_ms=max_latency_ms,
        min_free_slots=1 if Lie.SLOTS in lies or dice.random() < 0.5 else None,
        location=country_code,
    )


def _draw_claims(dice: Random, country_code: str) -> Claims:
    return Claims(
        price_micros_per_mtok=dice.randint(50, 700) * 1000,
        country_code=country_code,
        free_slots=dice.choice((0, 1, 1, 2, 4)),
        hardware=dice.choice(
            (None, Hardware(gpus=[Gpu(model="A", memory_mib=24_576, count=dice.choice((1, 2, 8)))], cpu_cores=16))
        ),
        output_millitokens_per_s=dice.choice((None, dice.randint(5, 200) * 1000)),
        capabilities=dice.choice(((), ("streaming",), ("streaming", "tools"))),
        uptime_s=dice.randint(60, 30 * 86_400),
    )


def _draw_rtt_s(dice: Random, country_code: str, criteria: HostCriteria) -> float:
    """Draw an honest round trip: light in glass, detours and queues."""
    rtt_s = LEAST_RTT_S[country_code] * dice.uniform(1.5, 2.2) + dice.uniform(0.004, 0.05)
    limit_s = (criteria.max_latency_ms or 0.0) / 1000
    return limit_s * (1 - _MARGIN) if abs(rtt_s - limit_s) < limit_s * _MARGIN else rtt_s


def _draw_honest(dice: Random, name: str, criteria: HostCriteria) -> TopologyHost:
    wanted = criteria.place
    if wanted is not None and dice.random() < _PLACE_SHARE:
        country_code = wanted.country_code
    else:
        country_code = dice.choice(NEAR + FAR)
    return TopologyHost(
        name=name,
        claims=_draw_claims(dice, country_code),
        rtt_s=_draw_rtt_s(dice, country_code, criteria),
        country_code=country_code,
        is_loaded=dice.random() < 0.9,
        serves_model=dice.random() < 0.9,
        named_after_s=dice.choice((0.0, dice.uniform(0.0, 1.5))),
    )


def _draw_liar(dice: Random, name: str, lie: Lie, topology: Topology, *, is_in_ring: bool) -> TopologyHost:
    criteria, strategy = topology.criteria, topology.strategy
    wanted = criteria.place.country_code if criteria.place is not None else dice.choice(NEAR)
    drawn = [_draw_claims(dice, wanted) for _ in range(CLAIMS_TRIED)]
    limit = criteria.max_price
    assert limit is not None, "always asked for"
    fitting = [
        claims
        for claims in drawn
        if claims.price_micros_per_mtok <= limit.micros_per_mtok and claims.free_slots >= (criteria.min_free_slots or 0)
    ]
    best = max(fitting or drawn, key=lambda claims: strategy.best_possible(_view_of(claims), criteria))
    if not fitting:
        best = replace(best, price_micros_per_mtok=limit.micros_per_mtok, free_slots=1)
    country_code, rtt_s = wanted, _draw_rtt_s(dice, wanted, criteria)
    limit_ms = criteria.max_latency_ms
    if limit_ms is not None:
        rtt_s = min(rtt_s, limit_ms * (1 - _MARGIN) / 1000)
    if lie is Lie.REGION:
        country_code, rtt_s = OWN_COUNTRY, dice.uniform(0.002, NEXT_DOOR_S)
    elif lie is Lie.LATENCY and limit_ms is not None:
        rtt_s = limit_ms / 1000 * dice.uniform(1 + _MARGIN, 3)
    elif lie is Lie.PRICE:
        # What it quotes is never within the limit.
        best = replace(best, price_micros_per_mtok=max(best.price_micros_per_mtok, limit.micros_per_mtok * 2 // 3))
    return TopologyHost(
        name=name,
        claims=best,
        rtt_s=rtt_s,
        country_code=country_code,
        lie=lie,
        manner=dice.randint(0, 2),
        is_in_ring=is_in_ring,
        named_after_s=0.0,
    )


def _view_of(claims: Claims) -> HostView:
    """Return what a client would know of a host that says this, by its record alone."""
    offer = claims.description(MODEL).models
    info = replace(_template(), models=tuple(offer), place=Place(country_code=claims.country_code))
    return HostView(info=info, uptime=None, reputation=Reputation(good=0, bad=0), probe=None, sources=())


@cache
def _template() -> HostInfo:
    return make_host_info("template")
