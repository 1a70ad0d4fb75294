"""Liars: generated networks with hosts that lie about what a client can check. Is one ever chosen?

Each seed is a topology, drawn anew, in which the real manager looks for a host over simulated sources; every twentieth
is played on whole simulated nodes as well. The control breaks the probe, so that it believes what hosts say of their
latency: it has to fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hostmesh.testing.scenario import Scenario, ScenarioRun, ScenarioSize
from hostmesh.testing.topologies import Lie, draw_topology
from hostmesh.testing.topology_nodes import MAX_NODES, for_whole_nodes, play_whole_nodes
from hostmesh.testing.topology_play import TopologyVerdict, play_topology

WHOLE_NODES_EVERY = 20
"""Of so many topologies one is played on whole nodes, too."""


async def play(run: ScenarioRun) -> None:
    """Draw the topology of this seed and play it: over simulated sources, with a broken probe, on whole nodes."""
    topology = draw_topology(run.dice("topology"), max_hosts=run.nodes)
    system = run.network.machine("reference").system
    verdict = await play_topology(topology, system)
    control = await play_topology(topology, system, is_believing=True)
    run.figures = {
        "liars": Counter(host.lie.value for host in topology.liars if host.lie is not None),
        "in_rings": sum(host.is_in_ring for host in topology.hosts),
        "has_fitting": bool(topology.fitting),
        "verdict": vars(verdict),
        "control_is_sound": control.is_sound,
    }
    if run.seed % WHOLE_NODES_EVERY == 0:
        small = draw_topology(run.dice("whole nodes"), max_hosts=min(run.nodes, MAX_NODES))
        whole = for_whole_nodes(small)
        played = await play_whole_nodes(whole, run.network)
        run.figures |= {
            "whole_liars": Counter(host.lie.value for host in whole.liars if host.lie is not None),
            "whole_verdict": vars(played),
        }


def sum_up(rounds: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the counts over all topologies."""
    whole = [each for each in rounds if "whole_verdict" in each]
    simulated = _sum(each["verdict"] for each in rounds)
    on_nodes = _sum(each["whole_verdict"] for each in whole)
    control_failures = sum(not each["control_is_sound"] for each in rounds)
    return {
        "topologies": len(rounds),
        "topologies_with_a_fitting_host": sum(each["has_fitting"] for each in rounds),
        "liars": _by_lie(each["liars"] for each in rounds),
        "liars_in_rings": sum(each["in_rings"] for each in rounds),
        **_figures(simulated),
        "whole_nodes": {
            "topologies": len(whole),
            "liars": _by_lie(each["whole_liars"] for each in whole),
            **_figures(on_nodes),
        },
        "control_failures": control_failures,
        "bounds": {"liars_chosen": 0, "criteria_broken": 0, "funnels_wrong": 0, "claims_wrong": 0},
        "is_within_bounds": simulated.is_sound and on_nodes.is_sound and control_failures > 0,
    }


def _figures(verdict: TopologyVerdict) -> dict[str, object]:
    return {
        "topology_finds": verdict.finds,
        "topology_answers": verdict.answers,
        "liars_chosen": verdict.liars_chosen.total(),
        "liars_listed": verdict.liars_listed.total(),
        "criteria_broken": verdict.criteria_broken.total(),
        "funnels_wrong": verdict.funnels_wrong,
        "claims_wrong": verdict.claims_wrong,
        "honest_missed": verdict.honest_missed,
        "first_jobs_lost": verdict.first_jobs_lost,
    }


def _sum(verdicts: Iterable[Mapping[str, Any]]) -> TopologyVerdict:
    total = TopologyVerdict()
    for each in verdicts:
        total.add(TopologyVerdict(**each))
    return total


def _by_lie(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {lie.value: total[lie.value] for lie in Lie}


SCENARIO = Scenario(
    name="liars",
    summary="generated networks in which hosts lie about what a client can check; is one ever chosen?",
    play=play,
    size=ScenarioSize(nodes=40, minutes=5, seeds=20),
    full_size=ScenarioSize(nodes=40, minutes=5, seeds=1000),
    sum_up=sum_up,
)
