"""The pages that hostmesh writes, in Chromium: they are drawn, and nothing in them is refused or fails."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.cli.test_topology_page import a_topology

from hostmesh.cli.topology_page import topology_page
from hostmesh.testing import Trace
from hostmesh.testing.trace_page import trace_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Seen:
    """What came of a page."""

    dom: str
    complaints: list[str]
    """What the browser wrote to its console: scripts that fail, styles that the page's own policy refuses."""


def look(folder: Path, page: str) -> Seen:
    """Open a page as a file, let its scripts run, and return what it is then."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser is not None, "these tests need Chromium: apt-get install chromium"
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",  # of pages of our own; root may not run it otherwise
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--run-all-compositor-stages-before-draw",  # the timeline is drawn with a frame
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return Seen(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def test_a_browser_says_what_it_refuses(tmp_path: Path) -> None:
    """So that what follows would be noticed."""
    page = topology_page(a_topology())
    assert any(
        "Content Security Policy" in line for line in look(tmp_path, page.replace("<style>", "<style>a")).complaints
    )


def test_the_picture_of_a_network(tmp_path: Path) -> None:
    topology = a_topology()
    seen = look(tmp_path, topology_page(topology))
    assert seen.complaints == []
    drawn = {*(peer.peer_id for peer in topology.peers), *(host.peer_id for host in topology.hosts)}
    assert all(peer_id in seen.dom for peer_id in drawn)
    assert seen.dom.count("<circle") > len(drawn)


def test_the_timeline_of_a_trace(tmp_path: Path) -> None:
    trace = Trace()
    for number in range(40):
        trace.add(0.1 * number, "data", "ann", "bob", 100 + number, sent_s=0.1 * number - 0.05)
    seen = look(tmp_path, trace_page(trace, title="forty messages", about={"seed": 7}))
    assert seen.complaints == []
    # The script tells what it drew.
    assert re.search(r"\b40 of 40 events", seen.dom), seen.dom[-2000:]
    assert "data 40" in re.sub(r"<[^>]+>|\s+", " ", seen.dom).replace("  ", " ")
