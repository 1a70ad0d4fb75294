"""The script of a trace's page, run by Node on a document of a few objects: what it draws, says and lets through.

The fake canvas (``trace_page_walk.mjs``) refuses methods that a real one does not have, and coordinates that are no
numbers.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hostmesh.testing import Trace
from hostmesh.testing.trace_page import trace_page

pytestmark = pytest.mark.interop

WALK = Path(__file__).with_name("trace_page_walk.mjs")
GUTTER_PX, WIDTH_PX = 130, 1200
EVERYTHING = [
    *(["key", key] for key in "jkjnnpp0+=-x"),
    *(["key", key] for key in ("ArrowLeft", "ArrowRight", "Home", "End", "j", "Escape")),
    *(["button", name] for name in ("zoom-in", "next", "previous", "zoom-out", "all")),
    ["filter", "nobody"], ["filter", ""],
    ["hover", 600, 40], ["press", 600, 40], ["press", 50, 40], ["press", 50, 40], ["press", 50, 5], ["drag", 700, 300],
    ["wheel", -100, {"ctrlKey": True}], ["wheel", 100, {"shiftKey": True}], ["wheel", 100, {}], ["go", 300],
    ["scroll", 100], ["scroll", 0], ["resize"], ["scheme"],
]  # fmt: skip


def walk(trace: Trace, folder: Path, *steps: list[Any]) -> list[dict[str, Any]]:
    """Return what the page has after its start and after each step."""
    node = shutil.which("node")
    assert node is not None, "these tests need Node.js 18 or newer in PATH"
    page = folder / "page.html"
    page.write_text(trace_page(trace, title="a run", about={}), encoding="utf-8")
    answer = subprocess.run(
        [node, WALK, page], input=json.dumps(steps), capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    frames: list[dict[str, Any]] = json.loads(answer.stdout)
    return frames


def texts(frame: dict[str, Any]) -> list[str]:
    return [text for text, *_ in frame["chart"]["texts"]]


@pytest.fixture
def small() -> Trace:
    trace = Trace()
    trace.add(1.0, "dial", "ann", "bob")
    trace.add(1.25, "data", "ann", "bob", 40, 1.0)
    trace.add(1.5, "kill", "cid")
    trace.add(1.5, "stall", "ann", "bob")
    trace.add(1.75, "heal", "bob", "ann")
    trace.add(2.0, "data", "bob", "ann", 20_000, 1.5)
    trace.add(3.0, "end", "ann", "ann", 0, 2.5)
    return trace


def test_an_empty_trace_is_an_empty_page(tmp_path: Path) -> None:
    frames = walk(Trace(), tmp_path, *EVERYTHING)
    assert len(frames) == len(EVERYTHING) + 1
    assert "0 of 0 events" in frames[0]["status"]


def test_a_message_is_a_line_from_its_sender_and_time_to_its_receiver_and_arrival(small: Trace, tmp_path: Path) -> None:
    start, whole, without = walk(small, tmp_path, ["key", "0"], ["kind", "heal", False])
    assert "7 of 7 events" in start["status"]
    rows = {text: y for text, x, y in whole["chart"]["texts"] if x == 6}
    margin_s = (3.0 - 1.0) * 0.01

    def x_of(time_s: float) -> float:
        return GUTTER_PX + (time_s - 1.0 + margin_s) / (2.0 + 2 * margin_s) * (WIDTH_PX - GUTTER_PX)

    lines = whole["chart"]["lines"]
    for source, target, sent_s, arrived_s in (
        ("ann", "bob", 1.0, 1.25),
        ("bob", "ann", 1.5, 2.0),
        ("ann", "bob", 1.5, 1.5),
    ):
        wanted = pytest.approx([x_of(sent_s), rows[source], x_of(arrived_s), rows[target]], abs=0.01)
        assert any(line == wanted for line in lines)
    assert {"ann", "bob", "cid", "data 40 B", "kill", "stall", "heal", "dial"} <= {*texts(whole)}
    # Labels make way for each other, those of messages for those of machines and links.
    assert "data 19.5 KiB" not in texts(whole)
    assert "data 19.5 KiB" in texts(without)


def test_a_reader_walks_through_the_events_by_keys(small: Trace, tmp_path: Path) -> None:
    frames = walk(small, tmp_path, *(["key", key] for key in ("n", "n", "n", "n", "p", "j", "k", "Escape", "j")))
    details = [frame["detail"] for frame in frames[1:]]
    kinds = [detail.split("  ")[1] if detail else "" for detail in details]
    assert kinds == ["kill", "stall", "heal", "heal", "stall", "heal", "stall", "", "dial"]
    assert details[0] == "1.500000000 s  kill  cid"


def test_the_details_of_a_message_under_the_pointer(small: Trace, tmp_path: Path) -> None:
    _, whole = walk(small, tmp_path, ["key", "0"])
    x0, y0, x1, y1 = max(whole["chart"]["lines"], key=lambda line: line[2] - line[0] if line[1] > line[3] + 20 else 0)
    place = [x0 + (x1 - x0) * 0.4, y0 + (y1 - y0) * 0.4]
    _, hovered, pressed = walk(small, tmp_path, ["hover", *place], ["press", *place])
    said = "2.000000000 s  data  bob  →  ann  20000 B  sent 1.500000000 s, 500 ms on the way"
    assert hovered["hover"] == pressed["detail"] == said


def test_filters_by_kind_and_machine_leave_the_rest_out(small: Trace, tmp_path: Path) -> None:
    _, no_data, one, all_again = walk(small, tmp_path, ["kind", "data", False], ["filter", "CID"], ["press", 50, 40])
    assert no_data["kinds"] == ["data 2", "dial 1", "end 1", "heal 1", "kill 1", "stall 1"]
    assert "5 of 5 events; 2 are filtered out" in no_data["status"]
    assert not [text for text in texts(no_data) if text.startswith("data")]
    assert "1 of 1 events; 6 are filtered out" in one["status"]
    assert not {"ann", "bob"} & {*texts(one)}
    assert "1 of 1" in all_again["status"]


def test_a_whole_name_is_that_machine_only_and_a_part_all_that_have_it(tmp_path: Path) -> None:
    trace = Trace()
    for name in ("n1", "n10", "n11", "m1"):
        trace.add(1.0, "kill", name)
    _, whole, part, two = walk(trace, tmp_path, ["filter", "n1"], ["filter", "n"], ["filter", "n11, m"])
    assert [frame["status"].split(": ")[1][0] for frame in (whole, part, two)] == ["1", "3", "2"]


def test_every_way_to_use_the_page_of_200_000_events_of_50_machines(tmp_path: Path) -> None:
    dice, now = random.Random(3), 0.0
    of_machines = ("kill", "freeze", "resume", "power-off", "power-on", "move")
    of_links = ("stall", "heal", "fault-cut")
    trace = Trace()
    for number in range(205_000):
        now += dice.expovariate(100)
        one, two = (f"node-{each}" for each in dice.sample(range(50), 2))
        if number % 1000:
            trace.add(now, "data", one, two, dice.randrange(3000), max(0.0, now - dice.random() * 0.08))
        else:
            kind = dice.choice([*of_machines, *of_links])
            trace.add(now, kind, one, two if kind in of_links else "")
    frames = walk(trace, tmp_path, *EVERYTHING)
    assert frames[0]["leftOut"] == "5000 later events of the run are left out: the page has its first 200000."
    # What is drawn at once is bounded, and the reader is told.
    whole = frames[1 + EVERYTHING.index(["key", "0"])]
    assert "200000 of 200000 events; one message of 14 is drawn, zoom in for all" in whole["status"]
    assert max(frame["chart"]["calls"].get("lineTo", 0) for frame in frames) < 30_000
    # The start can be read: some messages, no more than have arrowheads.
    assert 20 < len(frames[0]["chart"]["lines"]) < 3000
