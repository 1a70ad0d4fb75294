"""The figures of docs/canaries.md, from the recordings: half a minute, no model needed.

./run python -m tests.benchmarks.canaries            a table
./run python -m tests.benchmarks.canaries --json     docs/measurements/canaries.json
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from tests.benchmarks.canaries.evaluate import MODEL_ID, calibrate, evaluate, read_recordings
from tests.benchmarks.canaries.guessing import measure
from tests.benchmarks.canaries.traffic import KINDS

USERS = 48
JOBS = 300


def figures() -> dict[str, Any]:
    """Return everything that is measured."""
    return {
        "comparison": evaluate(read_recordings()),
        "guessing": {kind: measure(kind, users=USERS, jobs=JOBS) for kind in KINDS},
    }


def calibrations() -> dict[str, Any]:
    """Return the shipped calibrations as their file has them."""
    engines = calibrate(read_recordings()).engines
    return {
        MODEL_ID: {
            engine: {
                warmth.value: [[one.characters, one.parted] for one in values] for warmth, values in strata.items()
            }
            for engine, strata in engines.items()
        }
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures for people."""
    lines = [
        "                      parted                spoken against",
        "variant              n  greedy mild warm      all  greedy   mild   warm  quorum",
    ]
    for name, row in found["comparison"]["variants"].items():
        means = "  ".join(f"{value:.2f}" for value in row["parted"].values())
        rates = "  ".join(f"{value:5.3f}" for value in row["spoken_against_by_warmth"].values())
        lines.append(
            f"{name:17} {row['generations']:4}  {means}   {row['spoken_against']:5.3f}   {rates}"
            f"  {row['spoken_against_by_quorum']['honest']:5.3f}  {row['spoken_against_by_quorum']['with_a_liar']:5.3f}"
        )
    for kind, seen in found["guessing"].items():
        lines.append(f"{kind}: {seen['canaries']} canaries among {seen['jobs']} jobs")
        lines += [f"  {name:36} {row['auc']:.3f} +- {row['error']:.3f}" for name, row in seen["classifiers"].items()]
    return "\n".join(lines)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="as docs/measurements/canaries.json has them")
    parser.add_argument("--calibration", action="store_true", help="what the SDK ships, as JSON")
    arguments = parser.parse_args()
    if arguments.calibration:
        print(json.dumps(calibrations()))
        return
    found = figures()
    print(json.dumps(found, indent=1) if arguments.json else table(found))


if __name__ == "__main__":
    main()
