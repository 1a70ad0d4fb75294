"""docs/protocols/job.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.parameters import ALLOWED
from hostmesh.jobs.reasons import REASONS

PAGE = (Path(__file__).parents[3] / "docs" / "protocols" / "job.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"][2:]


def test_the_page_lists_every_reason_with_its_status() -> None:
    listed = {
        reason: code for reasons, code, _ in rows(section("Reasons")) for reason in re.findall(r"`([A-Z_]+)`", reasons)
    }
    assert listed == {reason: rule.status.name for reason, rule in REASONS.items()}


def test_the_page_lists_every_parameter() -> None:
    assert {name for cell, *_ in rows(section("Parameters")) for name in re.findall(r"`(\w+)`", cell)} == ALLOWED.keys()


def test_the_page_states_the_default_limits() -> None:
    stated = {
        setting.strip("`"): float(re.sub(r"[^\d.]", "", value))
        for _, value, setting in rows(section("Limits"))
        if setting
    }
    defaults = JobLimits()
    assert stated == {name: getattr(defaults, name) for name in stated}
    assert len(stated) == 5
