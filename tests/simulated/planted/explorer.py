"""Explores or replays in a process of its own: its ``PYTHONPATH`` says which hostmesh is looked at.

``explorer.py SEEDS`` explores that many seeds until the first violation; ``explorer.py SEED SCHEDULE`` plays one
schedule, given as Python. Prints JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import hostmesh.testing
from hostmesh.testing import MESH_INVARIANTS, MeshWorld, Violation, as_python, explore, play_schedule

WORLD = MeshWorld()


def look(seeds: int) -> dict[str, Any]:
    """Explore."""
    found = explore(WORLD, range(seeds), invariants=MESH_INVARIANTS)
    return {
        "plays": found.plays,
        "wall_s": found.wall_s,
        "violations": [_to_json(violation) for violation in found.violations],
    }


def _to_json(violation: Violation) -> dict[str, Any]:
    assert violation.shrunk is not None
    return {
        "seed": violation.seed,
        "invariants": sorted({breach.invariant for breach in violation.shrunk_breaches}),
        "drawn_steps": len(violation.schedule),
        "steps": len(violation.smallest),
        "is_minimal": violation.shrunk.is_minimal,
        "runs": violation.shrunk.runs,
        "schedule": as_python(violation.smallest),
        "text": violation.text(),
    }


def replay(seed: int, schedule: str) -> dict[str, Any]:
    """Play one schedule."""
    steps = eval(schedule, {name: getattr(hostmesh.testing, name) for name in hostmesh.testing.__all__})
    play = play_schedule(WORLD, steps, seed=seed, invariants=MESH_INVARIANTS)
    return {"invariants": sorted({breach.invariant for breach in play.breaches})}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    answer = look(int(sys.argv[1])) if len(sys.argv) == 2 else replay(int(sys.argv[1]), sys.argv[2])
    print(json.dumps({"package": hostmesh.__file__, **answer}))
