"""What docs/measurements/ holds: runs of the full size, within their bounds, and the pages that quote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hostmesh.testing import ScenarioSize, load_scenario

DOCS = Path(__file__).parents[3] / "docs"
NAMES = ("wan-find", "liars", "eclipse", "scale")


def measured(name: str) -> Any:
    return json.loads((DOCS / f"measurements/{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_each_was_measured_at_its_full_size_and_is_within_its_bounds(name):
    report = measured(name)
    # What `liars` plays under each seed is a topology.
    seeds = report.get("topologies") or report.get("seeds", 1)
    size = ScenarioSize(nodes=report["nodes"], minutes=report["minutes"], seeds=seeds)
    assert (report["scenario"], size) == (name, load_scenario(name).full_size)
    assert report["is_within_bounds"] is True


def test_the_page_of_scale_quotes_what_was_measured():
    report, page = measured("scale"), (DOCS / "scale.md").read_text(encoding="utf-8")
    for row in report["whole_nodes"]:
        find, rare, hour = row["cold_find"], row["cold_find_rare"], row["host_hour"]
        line = (
            f"| {row['hosts']:,} | {cost(find)} | {find['records_asked']:.0f}, {find['hosts_probed']:.0f} | "
            f"{cost(rare)} | {cost(hour)} |"
        )
        assert line in page
    for row in report["records_only"]:
        line = (
            f"| {row['hosts']:,} | {row['servers_asked']:.0f} | {row['hosts_named']:.0f} | {cost(row['find_dht'])} | "
            f"{cost(row['host_hour_dht'])} | {row['table_rows']:,} | {row['page_records']} |"
        )
        assert line in page


def cost(measured: dict[str, float]) -> str:
    return f"{measured['messages']:,.0f}, {measured['bytes'] / 1000:,.0f} kB"
