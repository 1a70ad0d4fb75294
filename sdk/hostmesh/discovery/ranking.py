"""The one ranker: which of the hosts that meet the criteria is best. Pure, integers only.

Each number gets points against a fixed anchor, never against the other candidates, so that removing a loser never
changes the winner. Points fall or rise strictly in one direction and never leave the scale:

- reputation: ``points / 1000``;
- price: ``anchor / (anchor + price)``, the anchor being ``max_price`` or a configured reference; 0 is best, unpriced
  has no points. Scaling every price and the anchor together changes nothing;
- uptime: ``uptime / (uptime + 1 day)``; unknown has no points;
- latency: ``100 ms / (100 ms + latency)``; an unmeasured host ranks after every measured one.

A price divided by a time is no score here: it favours slow hosts.

Source: docs/discovery.md; weights per mille, reputation 350, price 300, uptime 200, latency 150.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from hostmesh.discovery.criteria import MAX_REPUTATION, HostCriteria
from hostmesh.discovery.matching import HostView, price_in_question

SCALE = 1_000_000
"""Points of a perfect number; fine enough that two prices one per mille apart differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What each number counts for, per mille; they add up to 1000."""

    reputation: int
    price: int
    uptime: int
    latency: int

    def __post_init__(self) -> None:
        weights = (self.reputation, self.price, self.uptime, self.latency)
        if sum(weights) != 1000 or min(weights) < 0:
            raise ValueError("weights are 0 or more and add up to 1000")


AUTO = Weights(reputation=350, price=300, uptime=200, latency=150)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingConfig:
    """Anchors and weights of the ranker."""

    weights: Weights = AUTO
    price_anchor_micros_per_mtok: int = 1_000_000
    """Compared with when the criteria name no ``max_price``; an amount without a currency, so that hosts in different
    currencies are then compared by amount. Name a ``max_price`` to be strict."""
    uptime_anchor_s: int = 86_400
    latency_anchor_us: int = 100_000

    def __post_init__(self) -> None:
        if min(self.price_anchor_micros_per_mtok, self.uptime_anchor_s, self.latency_anchor_us) < 1:
            raise ValueError("anchors are 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A host's points, each 0 to :data:`SCALE`, and their weighted sum."""

    reputation: int
    price: int
    uptime: int
    latency: int
    total: int
    """0 to ``1000 * SCALE``."""

    def to_dict(self) -> dict[str, int]:
        """Return the fields as JSON takes them."""
        return {
            "reputation": self.reputation,
            "price": self.price,
            "uptime": self.uptime,
            "latency": self.latency,
            "total": self.total,
        }


def score(view: HostView, criteria: HostCriteria, config: RankingConfig) -> Score:
    """Return the points of one host; it depends on no other host."""
    latency = view.latency
    latency_us = None if latency is None else max(0, round(latency.value * 1000))
    return _weighed(view, criteria, config, 0 if latency_us is None else _falling(latency_us, config.latency_anchor_us))


def best_possible(view: HostView, criteria: HostCriteria, config: RankingConfig) -> int:
    """Return the most that ``total`` can become once the host's latency is known."""
    return _weighed(view, criteria, config, SCALE).total


def rank(
    views: Sequence[HostView], criteria: HostCriteria, config: RankingConfig, *, seed: bytes
) -> list[tuple[HostView, Score]]:
    """Order hosts, best first.

    Args:
        views: hosts that meet the criteria.
        criteria: gives the price anchor and the offer in question.
        config: weights and anchors.
        seed: breaks ties that free slots do not; of this client's own, so that not every client of the network
            picks the same host.

    Cost: O(n log n) and a hash a host.
    """
    scored = [(view, score(view, criteria, config)) for view in views]
    return sorted(scored, key=lambda pair: _order(pair[0], pair[1], seed))


def _order(view: HostView, points: Score, seed: bytes) -> tuple[bool, int, int, bytes]:
    readiness = None if view.probe is None else view.probe.readiness
    free_slots = -1 if readiness is None or readiness.free_slots is None else readiness.free_slots
    tie = hashlib.sha256(seed + b"\0" + view.info.peer_id.encode()).digest()
    return (view.latency is None, -points.total, -free_slots, tie)


def _weighed(view: HostView, criteria: HostCriteria, config: RankingConfig, latency: int) -> Score:
    reputation = min(max(view.reputation.points, 0), MAX_REPUTATION) * SCALE // MAX_REPUTATION
    anchor = criteria.max_price.micros_per_mtok if criteria.max_price else config.price_anchor_micros_per_mtok
    price = price_in_question(view.info, criteria)
    price_points = 0 if price is None else _falling(price.micros_per_mtok, anchor)
    uptime_s = 0 if view.uptime is None else max(0, int(view.uptime.value))
    uptime = SCALE * uptime_s // (uptime_s + config.uptime_anchor_s)
    weights = config.weights
    total = (
        weights.reputation * reputation
        + weights.price * price_points
        + weights.uptime * uptime
        + weights.latency * latency
    )
    return Score(reputation=reputation, price=price_points, uptime=uptime, latency=latency, total=total)


def _falling(value: int, anchor: int) -> int:
    """Return SCALE at 0, half of it at the anchor, and never less than 0."""
    return SCALE if value == 0 else SCALE * anchor // (anchor + value)
