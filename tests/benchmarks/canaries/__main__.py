"""The figures of docs/canaries.md, from the recordings: a minute or two, no model needed.

./run python -m tests.benchmarks.canaries            the page's tables
./run python -m tests.benchmarks.canaries --json     all figures
./run python -m tests.benchmarks.canaries --write    the page, docs/measurements/canaries.json and the calibration
                                                     that is shipped, after new recordings
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.benchmarks.canaries.evaluate import MODEL_ID, calibrate, evaluate, read_recordings
from tests.benchmarks.canaries.guessing import measure
from tests.benchmarks.canaries.report import TABLES, with_tables
from tests.benchmarks.canaries.traffic import KINDS

USERS = 48
JOBS = 300
ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "canaries.md"
FIGURES = ROOT / "docs" / "measurements" / "canaries.json"
CALIBRATIONS = ROOT / "sdk" / "hostmesh" / "canaries" / "calibrations.json"


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


def main() -> None:
    """Print the figures, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print all figures as JSON")
    what.add_argument("--write", action="store_true", help="write the files that hold them")
    arguments = parser.parse_args()
    found = figures()
    if arguments.write:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        CALIBRATIONS.write_text(json.dumps(calibrations()) + "\n", encoding="utf-8")
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    elif arguments.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n\n".join(table(found) for table in TABLES.values()))


if __name__ == "__main__":
    main()
