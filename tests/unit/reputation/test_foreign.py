"""How little the word of others counts, and by what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchmarks.market import NOW, TODAY, of_jobs, peer, wallet

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.foreign import FOREIGN_CAP_MICROS, MAX_JOBS, Review, Reviews, foreign_cap_micros
from hostmesh.reputation.names import HostName
from hostmesh.reputation.reputations import Reputations
from hostmesh.reputation.score import Weights
from hostmesh.reputation.tally import HostEvidence

TARGET = peer(7)
KNOWN = tuple(peer(100 + number) for number in range(20))


def named(host: PeerId) -> HostName:
    return HostName(host, wallet(1000 + KNOWN.index(host) if host in KNOWN else 7777))


def said(number: int, host: Any, **fields: Any) -> Review:
    given = {"operator": named(host).operator, "good": 10, "bad": 0}
    return Review(
        **{
            "reviewer": wallet(number),
            "host": host,
            "network": f"10.0.{number % 256}.0/24",
            "at_unix_s": NOW,
            **given,
            **fields,
        }
    )


def world(
    *reviews: Review,
    known: int = 20,
    jobs: tuple[int, int] = (5, 0),
    target: HostEvidence | None = None,
    operator: str | None = None,
) -> Reputations:
    evidence = {HostName(host, operator or named(host).operator): of_jobs(*jobs) for host in KNOWN[:known]}
    if target is not None:
        evidence[named(TARGET)] = target
    return Reputations(evidence, Reviews(reviews), TODAY)


def agreeing(reviewer: int, hosts: int, **fields: Any) -> list[Review]:
    return [said(reviewer, host, **fields) for host in KNOWN[:hosts]]


def test_trust_begins_at_nothing_and_grows_with_each_operator_agreed_on() -> None:
    trusts = [world(*agreeing(1, hosts)).trust_micros(wallet(1)) for hosts in range(21)]
    assert trusts == [1_000_000 * hosts // (10 + hosts) for hosts in range(21)]


def test_who_speaks_of_hosts_that_we_never_used_is_not_trusted() -> None:
    assert world(*agreeing(1, 20), known=0).trust_micros(wallet(1)) == 0


def test_many_hosts_of_one_operator_earn_as_one() -> None:
    one = world(*agreeing(1, 1)).trust_micros(wallet(1))
    assert world(*agreeing(1, 20, operator=wallet(3)), operator=wallet(3)).trust_micros(wallet(1)) == one
    unsure = world(*agreeing(1, 2, operator=wallet(3)), jobs=(1, 0), operator=wallet(3)).trust_micros(wallet(1))
    assert unsure == 666_666 * 1_000_000 // 10_666_666, "but each makes us surer"


def test_a_contradiction_costs_four_times_what_an_agreement_earns() -> None:
    lies = [said(1, host, good=0, bad=10) for host in KNOWN[16:]]
    assert world(*agreeing(1, 16), *lies).trust_micros(wallet(1)) == 0
    assert world(*agreeing(1, 16), *lies[1:]).trust_micros(wallet(1)) == 4 * 1_000_000 // 29


def test_what_we_lived_through_counts_as_long_as_half_a_job_of_it_is_left() -> None:
    def trust_after(days: int) -> int:
        evidence = {named(host): of_jobs(1, 0) for host in KNOWN}
        return Reputations(evidence, Reviews(agreeing(1, 20)), TODAY + days).trust_micros(wallet(1))

    assert trust_after(32) > 0 == trust_after(33)


def test_agreeing_means_the_same_share_of_good_jobs_be_it_none() -> None:
    blame, praise = (
        world(*[said(1, host, good=good, bad=10 - good) for host in KNOWN[:5]], jobs=(0, 5)).trust_micros(wallet(1))
        for good in (0, 10)
    )
    assert (blame, praise) == (333_333, 0)
    half = world(*[said(1, host, good=5, bad=5) for host in KNOWN[:5]], jobs=(4, 1)).trust_micros(wallet(1))
    assert half == 0, "0.7 agreed, 0.3 contradicted"
    near = world(*[said(1, host, good=9, bad=1) for host in KNOWN[:5]], jobs=(4, 1)).trust_micros(wallet(1))
    assert near == (4_500_000 - 4 * 500_000) * 1_000_000 // 15_000_000


def test_one_job_of_ours_may_have_been_bad_luck() -> None:
    of_one, of_three, of_five = (world(*agreeing(1, 5), jobs=(jobs, 0)).trust_micros(wallet(1)) for jobs in (1, 3, 5))
    assert of_three == of_five == 333_333
    assert of_one == 1_666_665 * 1_000_000 // 11_666_665, "a third of each"


@pytest.mark.parametrize(("good", "bad"), [(10, 0), (0, 10), (5, 5)])
def test_a_trusted_word_moves_an_unused_host_by_less_than_one_job(good: int, bad: int) -> None:
    reviews = [each for number in range(1, 50) for each in agreeing(number, 20)]
    reviews += [said(number, TARGET, good=good, bad=bad) for number in range(1, 50)]
    part = world(*reviews).explain(named(TARGET)).foreign
    assert part.weights.total_micros == FOREIGN_CAP_MICROS * 666_666 // 1_000_000 < part.voice_micros
    assert (part.reviewers, part.networks) == (49, 49)
    assert part.weights.good_micros == part.weights.total_micros * good // 10
    assert {10: 150, 5: 122, 0: 94}[good] == world(*reviews).of(*named(TARGET)).points


@pytest.mark.parametrize("hosts", [1, 5, 20])
def test_a_crowd_that_is_hardly_trusted_counts_for_as_little_as_one_of_them(hosts: int) -> None:
    reviews = [each for number in range(1, 200) for each in [*agreeing(number, hosts), said(number, TARGET)]]
    trust = world(*reviews).trust_micros(wallet(1))
    part = world(*reviews).explain(named(TARGET)).foreign
    assert (part.networks, part.voice_micros) == (199, 199 * trust)
    assert part.weights.total_micros == FOREIGN_CAP_MICROS * trust // 1_000_000


def test_one_job_with_a_farmed_host_moves_nobody_by_more_than_three_points() -> None:
    """All agree with the one job that we made."""
    crowd = range(1, 200)
    reviews = [each for number in crowd for each in [said(number, KNOWN[0]), said(number, TARGET)]]
    assert world(*reviews, known=1, jobs=(1, 0)).of(*named(TARGET)).points == 102


def test_a_few_trusted_reviewers_count_for_what_they_are_trusted() -> None:
    part = world(*agreeing(1, 5), said(1, TARGET)).explain(named(TARGET)).foreign
    assert (part.weights, part.voice_micros) == (Weights(good_micros=299_999), 333_333)


def test_a_network_has_one_voice_that_of_its_most_trusted_reviewer() -> None:
    network = "192.0.2.0/24"
    crowd = [each for number in range(1, 200) for each in agreeing(number, 1, network=network)]
    crowd += [said(number, TARGET, network=network) for number in range(1, 200)]
    best = [*agreeing(500, 5, network=network), said(500, TARGET, network=network, good=0, bad=1)]
    part = world(*crowd, *best).explain(named(TARGET)).foreign
    assert (part.networks, part.reviewers, part.voice_micros) == (1, 200, 333_333)
    assert part.weights == Weights(bad_micros=299_999)


def test_an_operators_word_on_its_own_host_is_none() -> None:
    own_word = said(1, TARGET, operator=wallet(1))
    assert own_word.is_of_own_host
    assert world(*agreeing(1, 20), own_word).explain(own_word.name).foreign.reviewers == 0


def test_old_receipts_speak_lower() -> None:
    month_old = said(1, TARGET, good=1, at_unix_s=NOW - 32 * 86_400)
    fresh, old = (
        world(*agreeing(1, 5), each).explain(named(TARGET)).foreign for each in (said(1, TARGET, good=1), month_old)
    )
    assert (fresh.voice_micros, old.voice_micros) == (333_333, 166_666)


def test_our_own_jobs_halve_it_and_five_end_it() -> None:
    reviews = [each for number in range(1, 9) for each in [*agreeing(number, 20), said(number, TARGET)]]
    worlds = [world(*reviews, target=of_jobs(0, jobs)) for jobs in range(6)]
    caps = [900_000, 450_000, 225_000, 112_500, 56_250, 0]
    assert [each.explain(named(TARGET)).foreign.cap_micros for each in worlds] == caps
    trusts = [each.trust_micros(wallet(1)) for each in worlds]
    assert trusts[:2] == [666_666, (20_000_000 - 4 * 333_333) * 1_000_000 // 30_333_333], "they praise what failed us"
    weights = [each.explain(named(TARGET)).foreign.weights.total_micros for each in worlds]
    assert weights == [cap * trust // 1_000_000 for cap, trust in zip(caps, trusts, strict=True)]


def test_own_evidence_is_counted_in_jobs_rounded_to_the_nearest() -> None:
    weights = (499_999, 500_000, 1_499_999, 1_500_000, 4_499_999, 4_500_000)
    caps = [foreign_cap_micros(Weights(good_micros=weight // 2, bad_micros=weight - weight // 2)) for weight in weights]
    assert caps == [900_000, 450_000, 450_000, 225_000, 56_250, 0]


WRONG: list[dict[str, Any]] = [
    {"reviewer": "0xAB" + "ab" * 19},
    {"reviewer": "ab" * 20},
    {"operator": "0x12"},
    {"network": "10.0.0.0/16"},
    {"network": "2001:db8::/64"},
    {"network": "10.0.0.1/24"},
    {"network": "nowhere"},
    {"good": 0, "bad": 0},
    {"good": -1, "bad": 5},
    {"good": MAX_JOBS + 1},
    {"bad": MAX_JOBS + 1},
]


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_a_review_out_of_its_bounds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a wallet's address|a network is|a review is of"):
        said(1, TARGET, **fields)


def test_the_last_values_of_each_range_are_taken() -> None:
    said(1, TARGET, good=MAX_JOBS, bad=MAX_JOBS, network="2001:db8:1::/48")
    said(1, TARGET, good=0, bad=1)


reviews_strategy = st.lists(
    st.builds(
        said,
        st.integers(1, 30),
        st.sampled_from([TARGET, *KNOWN]),
        good=st.integers(0, MAX_JOBS),
        bad=st.integers(1, MAX_JOBS),
        network=st.integers(0, 9).map(lambda number: f"10.9.{number}.0/24"),
        at_unix_s=st.floats(NOW - 1e8, NOW + 1e8),
    ),
    max_size=60,
)


@given(reviews=reviews_strategy, good=st.integers(0, 7), bad=st.integers(0, 7))
def test_no_reviews_pass_the_cap_nor_change_who_has_own_evidence_enough(
    reviews: list[Review], good: int, bad: int
) -> None:
    told = world(*reviews, target=of_jobs(good, bad)).explain(named(TARGET))
    assert told.foreign.weights.good_micros >= 0
    assert told.foreign.weights.bad_micros >= 0
    assert told.foreign.weights.total_micros <= foreign_cap_micros(Weights(good_micros=(good + bad) * 1_000_000))
    if good + bad >= 5:
        assert told.reputation.points == told.own_points
    assert told.foreign.networks <= len({review.network for review in reviews})


@given(reviews=reviews_strategy, order=st.randoms())
def test_the_order_in_which_reviews_came_changes_nothing(reviews: list[Review], order: Any) -> None:
    last = list({(review.reviewer, review.name): review for review in reviews}.values())
    shuffled = list(last)
    order.shuffle(shuffled)
    assert world(*last).explain(named(TARGET)) == world(*shuffled).explain(named(TARGET))
