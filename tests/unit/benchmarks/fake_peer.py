"""A peer of the benchmark that only speaks its command line. Usage: fake_peer.py BEHAVIOURS bench-server|bench-client

Behaviours, with commas between: ``die`` ends at once, ``mute`` never says anything, ``garbage`` says what is no JSON,
``refuse=WORK`` answers that run with an error, ``hang=WORK`` does not answer it, ``die=WORK`` ends upon it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

OPS = 10
OWN_CPU_S = 0.002
SERVED_CPU_S = 0.003
ASKING_CPU_S = 0.5
HELD_KIB = 7


def tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def serve() -> None:
    """The CPU that the other process's runs cost it is known from a count of the questions."""
    tell({"address": "nowhere", "settings": {"tuned": "well"}})
    for asked, _ in enumerate(sys.stdin, 1):
        # Every third question follows a run.
        cpu_s = asked * ASKING_CPU_S + (asked // 4) * SERVED_CPU_S
        tell({"cpu_s": cpu_s, "rss_kib": 1000 + asked * HELD_KIB})


def run(command: dict[str, Any]) -> dict[str, Any]:
    frames = {"bytes": OPS * 1_000_000} if command["work"] == "bulk" else {}
    latency_us = {"p50": 2500.0, "p99": 9000.0}
    return {"ok": True, "ops": OPS, "wall_s": 0.5, "cpu_s": OWN_CPU_S, "latency_us": latency_us, **frames}


def main() -> None:
    behaviours, role = sys.argv[1].split(","), sys.argv[2]
    if "die" in behaviours:
        print("no such luck", file=sys.stderr)
        sys.exit(3)
    if "mute" in behaviours:
        sys.stdin.read()
        return
    if "garbage" in behaviours:
        print("listening", flush=True)
        sys.stdin.read()
        return
    if role == "bench-server":
        serve()
        return
    for line in sys.stdin:
        command = json.loads(line)
        work = command.get("work", "")
        if f"die={work}" in behaviours:
            sys.exit(3)
        if f"hang={work}" in behaviours:
            continue
        if f"refuse={work}" in behaviours:
            tell({"ok": False, "error": "too much"})
        elif command["cmd"] == "run" and work != "verify":
            tell(run(command))
        else:
            tell({"ok": True})


main()
