"""Finds that are held against the truth: was there a host to be found, and did the one that was found serve?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import trio

from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.testing.scenario import ScenarioRun
from hostmesh.testing.scenarios.mesh import Mesh, MeshNode

SETTLED_S = 60.0
"""A host that has served a model for longer, and was reachable for as long, is one that a find must not miss."""

Reaches = Callable[[MeshNode, MeshNode], bool]
"""Whether a client reaches a host, and has for :data:`SETTLED_S`."""


class Asking:
    """Counts the finds of a scenario, those apart that had a settled host to find.

    Args:
        run: counts answers and misses.
        mesh: knows what truly runs.
        reaches: None: every client reaches every host.
    """

    def __init__(self, run: ScenarioRun, mesh: Mesh, reaches: Reaches | None = None) -> None:
        self._run = run
        self._mesh = mesh
        self._reaches: Reaches = reaches or (lambda client, host: True)
        self._begun_finds = 0
        self._served_finds = 0
        self._served_answers = 0
        self._unserved_finds = 0
        self._false_answers = 0

    async def find(self, client: MeshNode, model_id: str) -> None:
        """Let a client find a host of a model. A find that its client's or the scenario's end cuts short is no find."""
        assert client.manager is not None
        before = self._settled(client, model_id)
        began_s = trio.current_time()
        self._begun_finds += 1
        choice = await self._run.find(client.manager, HostCriteria(required_models=[model_id]))
        is_answer = choice is not None and self._was_true(choice, model_id, began_s)
        self._false_answers += choice is not None and not is_answer
        if not before:
            self._unserved_finds += 1
        elif before & self._settled(client, model_id):
            self._served_finds += 1
            self._served_answers += is_answer

    def figures(self) -> dict[str, object]:
        """Return the counts, as a report has them."""
        served = self._served_finds
        return {
            "served_finds": served,
            "served_answers": self._served_answers,
            "served_share": round(self._served_answers / served, 4) if served else None,
            "unserved_finds": self._unserved_finds,
            "cut_short_finds": self._begun_finds - self._run.finds,
            "false_answers": self._false_answers,
            "find_p50_s": percentile(self._run.find_s, 50),
            "find_p95_s": percentile(self._run.find_s, 95),
        }

    def _settled(self, client: MeshNode, model_id: str) -> set[str]:
        hosts = self._mesh.serving(model_id, for_s=SETTLED_S)
        return {host.machine.name for host in hosts if self._reaches(client, host)}

    def _was_true(self, choice: HostChoice, model_id: str, began_s: float) -> bool:
        """Whether the host that was found served the model at some time since the find began."""
        node = self._mesh.by_peer_id(choice.peer_id)
        return model_id in node.models and (node.left_s is None or node.left_s >= began_s)


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Return the value that so many percent do not exceed, rounded to milliseconds; None of nothing.

    >>> percentile([0.3, 0.1, 0.2], 50)
    0.2
    """
    ordered = sorted(values)
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 3)
