"""The page of a trace, read back: every event is there as it was, nothing of it is markup, and the size is bounded."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.testing import Trace, TraceEvent
from hostmesh.testing.trace_page import MAX_EVENT_CHARS, MAX_FRAME_CHARS, MAX_PAGE_EVENTS, trace_page

HOSTILE = """</script><script>alert(1)</script><!--<b>&amp;"'\u2028\x00{title}"""


class Page(NamedTuple):
    elements: list[tuple[str, dict[str, str | None], str]]
    """Every element in order: its tag, its attributes, and the text directly inside."""

    def texts(self, tag: str) -> list[str]:
        return [text for each, _, text in self.elements if each == tag]

    @property
    def data(self) -> Any:
        (text,) = [
            text for tag, attributes, text in self.elements if tag == "script" and attributes.get("id") == "trace"
        ]
        return json.loads(text)


VOID = {"meta", "input", "br", "link", "img"}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], str]] = []
        self._open: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), ""))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            tag, attributes, text = self.elements[self._open[-1]]
            self.elements[self._open[-1]] = tag, attributes, text + data


def read(html: str) -> Page:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader._open
    return Page(reader.elements)


def numbers(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


def events_of(data: Any) -> list[TraceEvent]:
    """Read the events, by what the docstring says of them."""
    fields = numbers(base64.b64decode(data["events"]))
    now_ns, events = 0, []
    for gap_ns, flight_ns, kind, source, target, size in zip(*[fields] * 6, strict=True):
        now_ns += gap_ns
        events.append(
            TraceEvent(
                now_ns / 1e9,
                data["kinds"][kind][0],
                data["machines"][source],
                data["machines"][target - 1] if target else "",
                size,
                (now_ns - flight_ns) / 1e9,
            )
        )
    return events


def page_of(trace: Trace, title: str = "a run", **about: object) -> str:
    return trace_page(trace, title=title, about=about)


names = st.text(max_size=8) | st.sampled_from(["n1", "n10", HOSTILE])


@given(st.lists(st.tuples(st.floats(0, 9000), names, names, names, st.integers(0, 1 << 40), st.floats(0, 1))))
def test_every_event_that_is_kept_is_on_the_page(drawn: list[tuple[float, str, str, str, int, float]]) -> None:
    trace = Trace()
    for time_s, kind, source, target, size, flight in sorted(drawn, key=lambda event: event[0]):
        trace.add(time_s, kind, source, target, size, time_s * flight)
    data = read(page_of(trace)).data
    assert data["count"] == len(drawn)
    assert data["leftOut"] == 0
    for there, kept in zip(events_of(data), trace.events, strict=True):
        assert there[1:5] == kept[1:5]
        assert (there.time_s, there.sent_s) == pytest.approx((kept.time_s, kept.sent_s), abs=1e-9)


def test_machines_stand_in_the_order_in_which_people_count() -> None:
    trace = Trace()
    for name in ("host10", "host2", "boot", "host1"):
        trace.add(1.0, "kill", name)
    assert read(page_of(trace)).data["machines"] == ["boot", "host1", "host2", "host10"]


def test_what_the_page_leaves_out_is_counted() -> None:
    trace = Trace(max_events=3)
    for number in range(10):
        trace.add(number, "data", "ann", "bob", 1)
    page = read(page_of(trace))
    assert (page.data["count"], page.data["leftOut"]) == (3, 7)
    assert [event.time_s for event in events_of(page.data)] == [0, 1, 2]
    facts = dict(zip(page.texts("dt"), page.texts("dd"), strict=True))
    assert facts == {"machines": "2", "events": "10", "bytes": "10", "trace hash": trace.hash()}


def test_nothing_of_the_trace_nor_of_what_is_said_about_it_becomes_markup() -> None:
    harmless, hostile = Trace(), Trace()
    harmless.add(1.0, "data", "ann", "bob", 5, 0.5)
    hostile.add(1.0, HOSTILE, HOSTILE, HOSTILE + "2", 5, 0.5)
    html = trace_page(hostile, title=HOSTILE, about={HOSTILE: HOSTILE})
    page = read(html)
    like = read(trace_page(harmless, title="a", about={"b": "c"}))
    assert [(tag, attributes) for tag, attributes, _ in page.elements] == [
        (tag, attributes) for tag, attributes, _ in like.elements
    ]
    assert events_of(page.data) == [TraceEvent(1.0, HOSTILE, HOSTILE, HOSTILE + "2", 5, 0.5)]
    assert [page.texts(tag)[0] for tag in ("title", "h1", "dt", "dd")] == [HOSTILE] * 4
    (data,) = re.findall('<script type="application/json" id="trace">(.*?)</script>', html, flags=re.DOTALL)
    assert not set(data) & set("<>&\u2028")


def test_the_page_loads_nothing_and_runs_its_own_script_only() -> None:
    page = read(page_of(Trace()))
    assert not {tag for tag, _, _ in page.elements} & {"link", "img", "iframe", "object", "embed", "base", "form"}
    for _, attributes, _ in page.elements:
        assert not {name for name in attributes if name in ("src", "href", "style", "action") or name.startswith("on")}
    policy = next(a["content"] for _, a, _ in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    (style,), (_, script) = page.texts("style"), page.texts("script")
    for name, source in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none'; ")
    assert "innerHTML" not in script
    assert "<!--" not in script


def test_the_size_of_a_page_is_bounded() -> None:
    dice = random.Random(5)
    machines = [f"m{number}" for number in range(10_000)]
    trace = Trace(max_events=MAX_PAGE_EVENTS + 1000)
    for number in range(MAX_PAGE_EVENTS + 1000):
        # A day, as far apart and as long on the way as it can be in one, with the names that take most.
        trace.add(86_400 * number / MAX_PAGE_EVENTS, f"kind{number % 300}", *dice.sample(machines, 2), 65_536, 0.0)
    html = page_of(trace)
    data = read(html).data
    assert (data["count"], data["leftOut"]) == (MAX_PAGE_EVENTS, 1000)
    named = len(json.dumps([data["machines"], data["kinds"]]))
    assert len(data["events"]) <= MAX_PAGE_EVENTS * MAX_EVENT_CHARS
    assert len(html) - len(data["events"]) - named <= MAX_FRAME_CHARS


def test_the_same_trace_gives_the_same_page_in_every_process() -> None:
    code = """
from hostmesh.testing import Trace
from hostmesh.testing.trace_page import trace_page
trace = Trace()
for number in range(50):
    trace.add(number, f"kind{number % 7}", f"a{number % 9}", f"b{number % 11}", number)
import sys
sys.stdout.write(trace_page(trace, title="t", about={"seed": 1}))
"""
    pages = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(pages) == 1


@pytest.mark.parametrize("times", [[(2.0, 2.0), (1.0, 1.0)], [(1.0, 1.5)], [(-1.0, -2.0)]])
def test_times_that_no_run_has_are_refused(times: list[tuple[float, float]]) -> None:
    trace = Trace()
    for time_s, sent_s in times:
        trace.add(time_s, "data", "ann", "bob", 1, sent_s)
    with pytest.raises(ValueError, match="order"):
        page_of(trace)
