"""Fuzz the parsers with atheris: ``python -m tests.fuzz TARGET... --seconds N [--json FILE] [--corpus DIR]``.

Each target runs in a process of its own, guided by the branches that atheris sees in hostmesh's bytecode. Afterwards
its corpus (the seeds, and every input that reached something new) is run again under coverage.py, whose count of
branches is what is reported: of the target's own code, and of nothing but those inputs.

Exit code: 0 without a finding, 1 with one, 2 where atheris or coverage.py is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz.target import TARGETS


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz hostmesh's parsers.")
    parser.add_argument("target", nargs="+", choices=[*sorted(TARGETS), "all"])
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--json", type=Path, help="write the report here too")
    parser.add_argument("--corpus", type=Path, help="keep the corpora here, and begin with those that are there")
    options = parser.parse_args()
    missing = [name for name in ("atheris", "coverage") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"{' and '.join(missing)} not installed: see docs/testing.md, 'Fuzzing'", file=sys.stderr)
        return 2
    names = sorted(TARGETS) if "all" in options.target else options.target
    with tempfile.TemporaryDirectory() as temporary:
        kept = options.corpus or Path(temporary)
        reports = [fuzz(name, options.seconds, kept / name) for name in names]
    report = {"targets": reports, "branches": in_all(reports)}
    for name, found in sorted(report["branches"].items()):
        print(f"{name}: {found['covered']}/{found['branches']} branches")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(each["findings"] for each in reports) else 0


def fuzz(name: str, seconds: int, folder: Path) -> dict[str, Any]:
    """Fuzz one target and return what came of it."""
    corpus, harm = folder / "corpus", folder / "findings"
    for each in (corpus, harm):
        each.mkdir(parents=True, exist_ok=True)
    print(f"{name}: {seconds} s", flush=True)
    known = set(harm.iterdir())
    engine = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.engine", name, str(corpus), str(harm), str(seconds)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    executions = re.findall(r"number_of_executed_units:\s*(\d+)", engine.stderr)
    findings = [str(path) for path in sorted(set(harm.iterdir()) - known)]
    if engine.returncode and not findings:
        findings = [engine.stdout[-2000:] + engine.stderr[-4000:]]
    replay = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.replay", name, str(corpus)], capture_output=True, text=True, check=False
    )
    if replay.returncode:
        findings.append(replay.stderr[-4000:])
    report = {
        "target": name,
        "seconds": seconds,
        "executions": int(executions[-1]) if executions else None,
        "corpus": len(list(corpus.iterdir())),
        "findings": findings,
        "errors": [line for line in (engine.stdout + engine.stderr).splitlines() if "Error" in line][:5]
        if findings
        else [],
        **(json.loads(replay.stdout) if not replay.returncode else {"branches": {}}),
    }
    print(json.dumps({key: value for key, value in report.items() if key not in ("branches", "modules")}), flush=True)
    for code, found in report["branches"].items():
        share = 100 * found["covered"] / max(1, found["branches"])
        print(f"  {code}: {share:.1f} % of {found['branches']} branches, not: {found['missing']}", flush=True)
    return report


def in_all(reports: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return what all targets together reached, by module."""
    arcs: dict[str, set[tuple[int, int]]] = {}
    sizes: dict[str, int] = {}
    for report in reports:
        for name, found in report.get("modules", {}).items():
            arcs.setdefault(name, set()).update((a, b) for a, b in found["reached"])
            sizes[name] = found["branches"]
    return {name: {"branches": sizes[name], "covered": len(arcs[name])} for name in arcs}


if __name__ == "__main__":
    sys.exit(main())
