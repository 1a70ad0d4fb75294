"""One at random among the best, and several that differ."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from discovery_world import EPOCH, FakeReputation, make_description, make_info

from hostmesh.discovery.choice import HostChoice, choice_of
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.measurement import Measurement, Origin
from hostmesh.discovery.ranking import AUTO, Score, ScorePart, rank
from hostmesh.discovery.selection import Diversity, choose, diversify
from hostmesh.discovery.view import HostView, ProbeResult
from hostmesh.errors import ConfigError

ANY = HostCriteria()


def view(
    name: str, *, operator: str | None = None, latency_ms: float | None = 10.0, used: str = "", claims: str = ""
) -> HostView:
    latency = None
    if latency_ms is not None:
        latency = Measurement(value=latency_ms, unit="ms", at_unix_s=EPOCH, samples=3, origin=Origin.MEASURED)
    return HostView(
        info=replace(
            make_info(name, make_description("m"), operator=operator),
            addresses=tuple(f"{address}/tcp/1" for address in claims.split()),
        ),
        uptime=None,
        reputation=FakeReputation(),
        probe=ProbeResult(latency=latency, readiness=None, address=used),
        sources=(),
    )


def choices(*views: HostView) -> list[HostChoice]:
    return [choice_of(each, AUTO.score(each, ANY), ANY) for each in views]


def names(found: list[HostChoice], *of: HostView) -> str:
    """Return which of the views are left, as letters in their order."""
    ids = [str(each.info.peer_id) for each in of]
    return "".join("abcdefgh"[ids.index(str(choice.peer_id))] for choice in found)


# --- diversity ---


def test_so_many_of_one_operator_and_the_better_ones_stay() -> None:
    hosts = [view(name, operator=wallet) for name, wallet in zip("abcde", "xxyxy", strict=True)]
    found = choices(*hosts)
    assert names(diversify(found, Diversity(max_per_operator=1)), *hosts) == "ac"
    assert names(diversify(found, Diversity(max_per_operator=2)), *hosts) == "abce"
    assert diversify(found, Diversity()) == found
    assert diversify([], Diversity(max_per_operator=1)) == []


def test_so_many_of_one_subnet() -> None:
    hosts = [
        view("a", claims="/ip4/192.0.2.1"),
        view("b", claims="/ip4/192.0.2.200"),
        view("c", claims="/ip4/192.0.3.1"),
        view("d", claims="/ip6/2001:db8:1:1::1"),
        view("e", claims="/ip6/2001:db8:1:2::1"),
        view("f", claims="/ip6/2001:db8:2:1::1"),
    ]
    assert names(diversify(choices(*hosts), Diversity(max_per_subnet=1)), *hosts) == "acdf"
    assert names(diversify(choices(*hosts), Diversity(max_per_subnet=2)), *hosts) == "abcdef"


def test_a_host_takes_a_place_in_every_subnet_that_it_claims() -> None:
    hosts = [
        view("a", claims="/ip4/192.0.2.1 /ip4/198.51.100.1"),
        view("b", claims="/ip4/203.0.113.1 /ip4/198.51.100.9"),
        view("c", claims="/ip4/203.0.113.5"),
    ]
    assert names(diversify(choices(*hosts), Diversity(max_per_subnet=1)), *hosts) == "ac"


def test_the_address_that_was_used_counts_before_those_that_are_claimed() -> None:
    hosts = [
        view("a", used="/ip4/192.0.2.1/tcp/1", claims="/ip4/198.51.100.1"),
        view("b", used="/ip4/192.0.2.2/tcp/1", claims="/ip4/203.0.113.1"),
        view("c", claims="/ip4/198.51.100.7"),
    ]
    assert names(diversify(choices(*hosts), Diversity(max_per_subnet=1)), *hosts) == "ac"


def test_a_host_that_is_left_out_takes_nobodys_place() -> None:
    hosts = [
        view("a", operator="x", claims="/ip4/192.0.2.1"),
        view("b", operator="x", claims="/ip4/198.51.100.1"),
        view("c", operator="y", claims="/ip4/198.51.100.2"),
    ]
    both = Diversity(max_per_operator=1, max_per_subnet=1)
    assert names(diversify(choices(*hosts), both), *hosts) == "ac"


@pytest.mark.parametrize("field", ["max_per_operator", "max_per_subnet"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_limit_is_a_positive_integer(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Diversity(**{field: value})  # type: ignore[arg-type]
    assert caught.value.name == field


# --- one of the best ---


DRAWS = 11 * 5 * 24
"""Bytes that are tried; divisible by the sums of the weights, so that the odds come out exactly."""


def scored(*totals: int) -> list[tuple[HostView, Score]]:
    parts = [ScorePart(name="points", points=total, weight=1) for total in totals]
    return [(view(str(index)), Score(parts=(part,))) for index, part in enumerate(parts)]


def drawn(ranked: list[tuple[HostView, Score]], among: int) -> Counter[int]:
    return Counter(choose(ranked, ANY, among, random.to_bytes(2)) for random in range(DRAWS))


def test_the_odds_are_those_of_the_totals() -> None:
    ranked = scored(4, 2, 1, 0)
    weights = [5, 3, 2, 1]
    counts = drawn(ranked, 4)
    assert sorted(counts) == [0, 1, 2, 3]
    for index, weight in enumerate(weights):
        assert counts[index] == DRAWS * weight // 11


def test_the_first_bytes_are_those_of_the_best() -> None:
    ranked = scored(1, 0)
    assert [choose(ranked, ANY, 2, bytes([number])) for number in range(6)] == [0, 0, 1, 0, 0, 1]


def test_only_so_many_are_drawn_from() -> None:
    ranked = scored(3, 3, 3, 3)
    assert set(drawn(ranked, 1)) == {0}
    assert set(drawn(ranked, 2)) == {0, 1}
    assert set(drawn(ranked, 9)) == {0, 1, 2, 3}


def test_negative_totals_have_the_smallest_odds() -> None:
    counts = drawn(scored(3, -100), 2)
    assert counts[1] == DRAWS // 5


def test_who_ranks_behind_for_another_reason_is_not_drawn() -> None:
    first, second, unmeasured = view("first"), view("second"), view("third", latency_ms=None)
    ranked = rank([first, second, unmeasured], ANY, seed=b"")
    assert ranked[2][0] is unmeasured
    everywhere = [bytes([number]) * 16 for number in range(256)]
    assert {choose(ranked, ANY, 3, random) for random in everywhere} == {0, 1}
    preferred = HostCriteria(preferred=[str(second.info.peer_id)])
    ranked = rank([first, second, unmeasured], preferred, seed=b"")
    assert ranked[0][0] is second
    assert {choose(ranked, preferred, 3, random) for random in everywhere} == {0}
