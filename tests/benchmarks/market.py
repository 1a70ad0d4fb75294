"""A market of two hosts and a thousand sybil reviewers: whom does a client rank first after five jobs of its own?

Run it from the root of the checkout: ``python -m tests.benchmarks.market [--json] [--seeds N]``.

One host is honest and brings 98 of 100 jobs to a good end. The other is bad and brings ``bad_good_per_mille`` of 1000.
A thousand reviewers, each with a wallet and a /24 of its own, know the formula. Each has receipts of 50 honest hosts,
of 50 operators, that say what is true, which earns trust, and praises the bad host with the most jobs that a review can
have. Of the honest one it says the worst (*loud*), the truth, to earn trust by it (*sly*), or nothing (*mute*). No
reviewer is honest.

The client has used neither of the two. It is *fresh*, without any history; *met*: its first five jobs went to one of
the 50 hosts, so that each reviewer is trusted a little; or *experienced*: it has used each of them five times, so that
the reviewers have earned all the trust that they can. It then makes five jobs:

- *ranked*: each job goes to the host that ranks first and is not paused or blacklisted, and to the next one when it
  fails, as ``find_host`` leads a client; a minute between jobs;
- *turns*: the jobs go to the two hosts in turn, whatever comes of them, the first one drawn.

Then the honest host must have more points than the bad one; as many are a defeat. Scores, decay, trust, pauses and
blacklistings are the shipped code; drawn are the outcomes of jobs, ties and the first turn.

Beside the three strategies stand *bound*, which gives the reviewers at every moment all that the caps allow, for the
bad host and against the honest one, whatever they would have to say for it; *alone*, without
any reviewer: what chance does; and *full weight*, a broken formula as a control: each foreign job counts as ours do.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.reputation.decay import DAY_S, UNIT_MICROS, decayed
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.foreign import MAX_JOBS, Review, Reviews, foreign_cap_micros
from hostmesh.reputation.names import HostName
from hostmesh.reputation.reputations import Reputations
from hostmesh.reputation.score import Weights, points
from hostmesh.reputation.standing import StandingList
from hostmesh.reputation.tally import HostEvidence

SEEDS, OWN_JOBS, SYBILS, FARMED = 300, 5, 1000, 50
CLIENTS = {"fresh": 0, "met": 1, "experienced": FARMED}
"""Farmed hosts that each has used."""
HONEST_GOOD_PER_MILLE = 980
NOW = 1_800_000_000.0
TODAY = int(NOW // DAY_S)
FINISHED, FAILED = (Evidence(kind=kind) for kind in (EvidenceKind.JOB_FINISHED, EvidenceKind.JOB_FAILED))


def peer(number: int) -> PeerId:
    """Return the peer id of a host, by number."""
    return peer_id_from_public_key(number.to_bytes(32, "big"))


def wallet(number: int) -> str:
    """Return an address, by number."""
    return f"0x{number:040x}"


HONEST, BAD = peer(1), peer(2)
FARM = tuple(peer(100 + number) for number in range(FARMED))
_OPERATORS = {HONEST: wallet(1), BAD: wallet(2)} | {host: wallet(100 + index) for index, host in enumerate(FARM)}


def named(host: PeerId) -> HostName:
    """Return the name of a host; each has an operator of its own."""
    return HostName(host, _OPERATORS[host])


def review(number: int, host: PeerId, operator: int, *, good: int, bad: int) -> Review:
    """Return what the reviewer of a number says of a host; each is met in a /24 of its own."""
    network = f"10.{number // 256}.{number % 256}.0/24"
    return Review(
        reviewer=wallet(10_000 + number),
        host=host,
        operator=wallet(operator),
        network=network,
        good=good,
        bad=bad,
        at_unix_s=NOW,
    )


class Strategy(Enum):
    """What sybils say of the honest host."""

    LOUD = "the worst"
    SLY = "the truth"
    MUTE = "nothing"


def sybil_reviews(strategy: Strategy, count: int = SYBILS) -> list[Review]:
    """Return what the sybils say: the truth of the farmed hosts, praise of the bad one, and of the honest one."""
    said = []
    for number in range(count):
        said += [review(number, host, 100 + index, good=49, bad=1) for index, host in enumerate(FARM)]
        said.append(review(number, BAD, 2, good=MAX_JOBS, bad=0))
        if strategy is not Strategy.MUTE:
            good, bad = (0, MAX_JOBS) if strategy is Strategy.LOUD else (MAX_JOBS * 98 // 100, MAX_JOBS * 2 // 100)
            said.append(review(number, HONEST, 1, good=good, bad=bad))
    return said


class Formula(Enum):
    """How the word of others is counted."""

    SHIPPED = "shipped"
    BOUND = "bound"
    FULL_WEIGHT = "full weight"


State = tuple[int, int, int, int]
"""Good and bad jobs with the honest host, then with the bad one."""


@dataclass(frozen=True, kw_only=True)
class Market:
    """One setting.

    Args:
        reviews: what others say.
        farmed_used: of how many farmed hosts the client has used each five times.
        bad_good_per_mille: how many of 1000 jobs the bad host brings to a good end.
        is_ranked: jobs go where the ranking leads, else in turn.
        formula: the shipped one, the most that it allows, or the broken one.
    """

    reviews: Sequence[Review]
    farmed_used: int
    bad_good_per_mille: int
    is_ranked: bool
    formula: Formula = Formula.SHIPPED

    @cached_property
    def _index(self) -> Reviews:
        return Reviews(self.reviews)

    @cached_property
    def _known(self) -> dict[State, tuple[int, int]]:
        return {}

    def points(self, state: State) -> tuple[int, int]:
        """Return the points of both hosts after so many own jobs; each state is computed once."""
        if state not in self._known:
            evidence = {HONEST: of_jobs(*state[:2]), BAD: of_jobs(*state[2:])}
            evidence |= {host: of_jobs(5, 0) for host in FARM[: self.farmed_used]}
            if self.formula is Formula.SHIPPED:
                known = {named(host): each for host, each in evidence.items() if each.entries}
                reputations = Reputations(known, self._index, TODAY)
                honest, bad = (reputations.of(*named(host)).points for host in (HONEST, BAD))
            else:
                honest, bad = (self._points_with_foreign(host, evidence[host]) for host in (HONEST, BAD))
            self._known[state] = honest, bad
        return self._known[state]

    def honest_is_first(self, seed: int) -> bool:
        """Play the market once; tell whether the honest host has more points in the end."""
        dice = random.Random(seed)
        state = self._ranked(dice) if self.is_ranked else self._in_turn(dice)
        honest, bad = self.points(state)
        return honest > bad

    def share_of_wins(self, seeds: int = SEEDS) -> float:
        """Return in which part of the seeds the honest host is first."""
        return sum(self.honest_is_first(seed) for seed in range(seeds)) / seeds

    def exact_share_of_wins(self) -> float:
        """Return how likely the honest host is first when jobs go where the ranking leads: by all outcomes of them.

        Nobody is paused: a minute is longer than the pauses that five jobs bring about but the last.
        """
        chances: dict[State, float] = {(0, 0, 0, 0): 1.0}
        for _ in range(OWN_JOBS):
            later: dict[State, float] = defaultdict(float)
            for state, chance in chances.items():
                honest, bad = self.points(state)
                orders = [(HONEST, BAD)] * (honest >= bad) + [(BAD, HONEST)] * (bad >= honest)
                for order in orders:
                    self._note_outcomes(state, order, chance / len(orders), later)
            chances = later
        return sum(chance for state, chance in chances.items() if self.points(state)[0] > self.points(state)[1])

    def _note_outcomes(self, state: State, order: Sequence[PeerId], chance: float, later: dict[State, float]) -> None:
        """Add the chances of a job that goes to the next host when one fails."""
        for host in order:
            good = (HONEST_GOOD_PER_MILLE if host == HONEST else self.bad_good_per_mille) / 1000
            later[after(state, host, good=True)] += chance * good
            state, chance = after(state, host, good=False), chance * (1 - good)
        later[state] += chance

    def _in_turn(self, dice: random.Random) -> State:
        state: State = (0, 0, 0, 0)
        first = dice.randrange(2)
        for job in range(OWN_JOBS):
            host = (HONEST, BAD)[(first + job) % 2]
            state = after(state, host, good=self._job(dice, host))
        return state

    def _ranked(self, dice: random.Random) -> State:
        state: State = (0, 0, 0, 0)
        standings, now = StandingList(), NOW
        for _ in range(OWN_JOBS):
            now += 60
            points_of = dict(zip((HONEST, BAD), self.points(state), strict=True))
            for host in sorted(points_of, key=lambda host: (points_of[host], dice.random()), reverse=True):
                if standings.of(host, "", now).barred:
                    continue
                good = self._job(dice, host)
                state = after(state, host, good=good)
                note(standings, host, now, good=good)
                if good:
                    break
        return state

    def _job(self, dice: random.Random, host: PeerId) -> bool:
        return dice.randrange(1000) < (HONEST_GOOD_PER_MILLE if host == HONEST else self.bad_good_per_mille)

    def _points_with_foreign(self, host: PeerId, evidence: HostEvidence) -> int:
        own = evidence.weights_on(TODAY)
        if self.formula is Formula.BOUND:
            most = foreign_cap_micros(own)
            foreign = Weights(bad_micros=most) if host == HONEST else Weights(good_micros=most)
        else:
            said = self._index.of(named(host))
            foreign = Weights(
                good_micros=sum(each.good for each in said) * UNIT_MICROS,
                bad_micros=sum(each.bad for each in said) * UNIT_MICROS,
            )
        weights = own + foreign
        return points(weights.good_micros, weights.bad_micros, unit=UNIT_MICROS)


def of_jobs(good: int, bad: int) -> HostEvidence:
    """Return the evidence of so many jobs of today."""
    evidence = HostEvidence()
    for each in (FINISHED,) * good + (FAILED,) * bad:
        evidence = evidence.after(each, TODAY)
    return evidence


def after(state: State, host: PeerId, *, good: bool) -> State:
    """Return a state after one more job."""
    changed = list(state)
    changed[(0 if host == HONEST else 2) + (0 if good else 1)] += 1
    return changed[0], changed[1], changed[2], changed[3]


def note(standings: StandingList, host: PeerId, now: float, *, good: bool) -> None:
    """Pause a host after a failure, as a client's book of standings does, or end the row of its failures."""
    if good:
        suspension = standings.suspension(host)
        standings.clear_cooldown(host)
        standings.put_suspension(host, None if suspension is None else suspension.after_success(now))
        return
    cooldown = standings.after_failure(host, now)
    suspension = standings.suspended_by(cooldown, now, weight_micros=FAILED.weight_micros, reason="")
    standings.put_cooldown(cooldown)
    if suspension is not None:
        standings.put_suspension(host, suspension)


def jobs_until_behind(good_jobs: int, *, half_life_days: int | None, per_day: int = 5) -> int:
    """Return after how many jobs a host that turned bad is behind one with ten good jobs: each second one fails.

    Args:
        good_jobs: before it turned bad.
        half_life_days: of evidence; None = it never decays.
        per_day: jobs.
    """
    rival = points(10 * UNIT_MICROS, 0, unit=UNIT_MICROS)
    days = 0 if half_life_days is None else 32
    good = bad = 0
    for job in range(good_jobs + 1_000_000):
        if job % per_day == 0 and half_life_days is not None:
            # A day of a half-life of h is 32 / h days of the shipped one; fractions are made up for in turn.
            step = days * (job // per_day + 1) // half_life_days - days * (job // per_day) // half_life_days
            good, bad = decayed(good, step), decayed(bad, step)
        if job < good_jobs or job % 2:
            good += UNIT_MICROS
        else:
            bad += UNIT_MICROS
        if job >= good_jobs and points(good, bad, unit=UNIT_MICROS) < rival:
            return job - good_jobs + 1
    raise AssertionError("never")


def market_figures(seeds: int) -> list[dict[str, object]]:
    """Play every setting; percent of the seeds in which the honest host is first."""
    said = {strategy: sybil_reviews(strategy) for strategy in Strategy}
    rows: list[dict[str, object]] = []
    for client, farmed_used in CLIENTS.items():
        for is_ranked in (True, False):
            for bad_good_per_mille in (0, 50, 100, 200, 300, 500):
                market = Market(
                    reviews=(),
                    farmed_used=farmed_used,
                    bad_good_per_mille=bad_good_per_mille,
                    is_ranked=is_ranked,
                )
                played = {each.name.lower(): replace(market, reviews=said[each]) for each in Strategy} | {
                    "bound": replace(market, formula=Formula.BOUND),
                    "alone": market,
                    "full weight": replace(market, reviews=said[Strategy.LOUD], formula=Formula.FULL_WEIGHT),
                }
                rows.append(
                    {
                        "client": client,
                        "jobs": "ranked" if is_ranked else "turns",
                        "bad_host_good_percent": bad_good_per_mille / 10,
                        **{name: 100 * each.share_of_wins(seeds) for name, each in played.items()},
                    }
                )
    return rows


def exact_figures() -> list[dict[str, object]]:
    """Return percent by all outcomes of ranked jobs: without reviewers, and with all that the caps allow."""
    return [
        {
            "bad_host_good_percent": bad_good_per_mille / 10,
            **{
                name: 100
                * Market(
                    reviews=(), farmed_used=0, bad_good_per_mille=bad_good_per_mille, is_ranked=True, formula=formula
                ).exact_share_of_wins()
                for name, formula in (("alone", Formula.SHIPPED), ("bound", Formula.BOUND))
            },
        }
        for bad_good_per_mille in (100, 200, 300, 500)
    ]


def decay_figures() -> list[dict[str, object]]:
    """Return how soon a host that turned bad is found out, by the half-life of evidence."""
    return [
        {
            "half_life_days": "none" if half_life_days is None else half_life_days,
            **{
                f"after {good_jobs} good jobs": jobs_until_behind(good_jobs, half_life_days=half_life_days)
                for good_jobs in (50, 500, 2000)
            },
        }
        for half_life_days in (8, 16, 32, 64, None)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.market")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args(argv)
    tables = {"market": market_figures(given.seeds), "exact": exact_figures(), "decay": decay_figures()}
    if given.json:
        print(json.dumps({"seeds": given.seeds, "sybils": SYBILS, "own_jobs": OWN_JOBS, **tables}, indent=1))
        return 0
    for rows in tables.values():
        print("  ".join(f"{name:<11}" for name in rows[0]))
        for row in rows:
            cells = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values())
            print("  ".join(f"{cell:<11}" for cell in cells))
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
