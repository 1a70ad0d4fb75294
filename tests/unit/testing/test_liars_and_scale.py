"""The scenarios liars and scale, at sizes for every day, and the model that stands for networks too large for nodes."""

from __future__ import annotations

from random import Random

import pytest

from hostmesh.net.dht_table import RoutingTable, position
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.testing import ScenarioSize, load_scenario, play_scenario
from hostmesh.testing.scenarios.scale import MOST_PER_TENFOLD, counting, fitted, is_steepening, sizes_up_to
from hostmesh.testing.scenarios.scale_model import RecordNetwork, records_cost
from hostmesh.testing.topologies import Lie
from hostmesh.testing.trace import Trace


def test_no_liar_is_chosen_and_the_control_fails():
    figures = play_scenario(load_scenario("liars")).figures
    assert figures["topologies"] == 20
    assert figures["whole_nodes"]["topologies"] == 1
    assert set(figures["liars"]) == {lie.value for lie in Lie}
    assert min(figures["liars"].values()) > 0
    assert figures["topology_answers"] >= figures["topologies_with_a_fitting_host"] > 5
    wrong = ("liars_chosen", "liars_listed", "criteria_broken", "funnels_wrong", "claims_wrong", "honest_missed")
    assert {figures[name] for name in wrong} == {figures["whole_nodes"][name] for name in wrong} == {0}
    assert figures["control_failures"] > 0
    assert figures["is_within_bounds"]


def test_the_cost_of_finds_and_of_hosts_is_counted():
    report = play_scenario(load_scenario("scale"), size=ScenarioSize(nodes=5, minutes=5))
    figures = report.figures
    (row,) = figures["whole_nodes"]
    assert row["hosts"] == 5
    assert report.answers == 10
    find, hour = row["cold_find"], row["host_hour"]
    # Five hosts and the bootstrap node are asked for their records; a host is pinged three times and asked how it is.
    assert (find["records_asked"], find["hosts_probed"]) == (6, 5)
    assert find["calls"] >= 6 + 5 * 4
    assert find["messages"] > find["calls"]
    assert find["bytes"] > 100 * find["messages"]
    # A renewed record goes to the introducers 60 times an hour, and a connection is pinged 180 times.
    assert hour["messages"] > 60 + 180
    assert [each["hosts"] for each in figures["records_only"]] == [10, 100]
    assert figures["growth"]["cold_find_messages"] is None


def test_sizes_and_fits():
    assert sizes_up_to(100) == [10, 100]
    fit = fitted([(10, 10.0), (100, 100.0), (1000, 1000.0)])
    assert fit is not None
    assert fit["exponent"] == 1.0
    assert fitted([(10, 1.0)]) is None
    assert is_steepening([(10, 4438), (100, 19_128), (300, 29_854)])
    assert not is_steepening([(10, 392), (100, 1186), (300, 1238)])


def test_counting_sees_what_one_machine_sends_and_gets():
    trace = Trace()
    with counting(trace, "ann") as sent, counting(trace):
        pass
    with counting(trace, "ann") as sent:
        trace.add(1.0, "data", "ann", "bob", 40)
        trace.add(2.0, "data", "bob", "ann", 2)
        trace.add(3.0, "data", "bob", "cat", 500)
        trace.add(4.0, "end", "bob", "ann")
    trace.add(5.0, "data", "ann", "bob", 7)
    assert (sent["messages"], sent["bytes"]) == (2, 42)


@pytest.fixture(scope="module")
def network() -> RecordNetwork:
    return RecordNetwork(2000, Random(3))


def _distance(peer_id: str, target: int) -> int:
    return position(peer_id_to_bytes(peer_id)) ^ target


def test_the_nearest_servers_are_the_nearest_of_all(network):
    dice = Random(4)
    for _ in range(50):
        target = dice.getrandbits(256)
        by_force = sorted(network.peer_ids, key=lambda peer_id: _distance(peer_id, target))[:20]
        assert network.nearest(target) == by_force


def test_a_server_names_about_what_a_full_routing_table_holds(network):
    """The shipped table, told of every peer, names peers as near as the model's, but for the luck of one bucket."""
    dice = Random(5)
    for _ in range(5):
        own = dice.choice(network.peer_ids)
        table = RoutingTable(own)
        for peer_id in dice.sample(network.peer_ids, len(network.peer_ids)):
            if peer_id != own:
                table.add(peer_id, 0.0)
        key = dice.randbytes(34)
        target = position(key)
        theirs, ours = table.closest(key), network.known_to(own, target)
        assert len(theirs) == len(ours) == 20
        bits = [[_distance(peer_id, target).bit_length() for peer_id in peers] for peers in (theirs, ours)]
        assert abs(sum(bits[0]) - sum(bits[1])) / 20 < 1.5


def test_ten_times_the_hosts_cost_a_find_no_more_than_a_logarithm():
    hundred, thousand, more = (records_cost(hosts, Random(hosts)) for hosts in (100, 1000, 10_000))
    assert thousand["servers_asked"] - hundred["servers_asked"] <= MOST_PER_TENFOLD
    assert more["servers_asked"] - thousand["servers_asked"] <= MOST_PER_TENFOLD
    assert thousand["hosts_named"] == more["hosts_named"] == 256
    # A question and an answer each; a full answer names 256 providers of some 70 bytes, and 20 servers.
    assert thousand["find_dht"]["messages"] == pytest.approx(2 * thousand["servers_asked"], abs=1)
    assert more["find_dht"]["bytes"] < 1.2 * thousand["find_dht"]["bytes"] < 500_000
    # 12 rounds an hour, each of a lookup of 20 servers at least and a record to each.
    assert 12 * (2 * 20 + 20) <= thousand["host_hour_dht"]["messages"] <= 12 * (2 * 80 + 20)
    assert more["host_hour_dht"]["messages"] < 1.2 * thousand["host_hour_dht"]["messages"]
    assert more["table_rows"] == 4096
    assert more["page_records"] == 16
