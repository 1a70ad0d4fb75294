"""One HTML page of a trace: a lifeline for each machine, messages drawn between them. Pure.

The page needs nothing but itself: its style and its script stand in it, its content security policy names both by their
hashes, and forbids to load or run anything else. Of the trace it has data only, as JSON: no name becomes markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from typing import TypedDict

from hostmesh.testing.trace import Trace, TraceEvent

MAX_PAGE_EVENTS = 200_000
"""Events that a page has at most, the first ones; it says how many are left out."""
MAX_EVENT_CHARS = 32
"""What an event takes of the page at most, in a run of up to a day: so all events together at most 6.4 MB."""
MAX_FRAME_CHARS = 65_536
"""What the page has at most besides: its script and style. Names, title and ``about`` come on top of that."""

_SCRIPT_PARTS = ("trace_page_data.js", "trace_page_draw.js", "trace_page_input.js")
_GROUPS = {
    "dial": "dial",
    "syn": "connect",
    "accept": "connect",
    "ack": "connect",
    "data": "data",
    "end": "close",
    "reset": "failure",
    "refuse": "failure",
    "lost": "failure",
}
"""How the kinds of traffic are drawn; every other kind is an event of a machine or a link."""
_EVENT_GROUP = "event"
_NUMBERS = re.compile(r"([^0-9]*)([0-9]{0,18})")


class _PageData(TypedDict):
    machines: list[str]
    kinds: list[tuple[str, str]]
    """Name and group."""
    count: int
    leftOut: int
    events: str


def trace_page(trace: Trace, *, title: str, about: Mapping[str, object]) -> str:
    """Return a self-contained HTML page that draws a trace.

    The same arguments give the same page.

    Args:
        trace: of the events that it keeps the page has the first 200,000.
        title: its headline.
        about: what else to say of the run, such as its seed; shown as text.

    Raises:
        ValueError: an event is before the one before it, or arrives before it was sent.

    Cost: linear in the events; about a second for 200,000.
    """
    data = _data_of(trace)
    facts = {
        **about,
        "machines": len(data["machines"]),
        "events": len(trace),
        "bytes": trace.total_bytes,
        "trace hash": trace.hash(),
    }
    style = _part("trace_page.css")
    script = "".join(["(() => {\n'use strict'\n", *map(_part, _SCRIPT_PARTS), "})()\n"])
    sources = f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; {sources}"
    rows = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts.items())
    return _part("trace_page.html").format(
        title=_text(title), policy=policy, style=style, about=rows, data=_json(data), script=script
    )


def _data_of(trace: Trace) -> _PageData:
    """Return what the page's script is given.

    ``events`` is base64 of varints (LEB128), six for each event: nanoseconds since the event before, those from sending
    to arrival, the kind, the source, the target plus one (0 = none), bytes. Kinds and machines are the
    numbers of their places in the lists.

    Raises:
        ValueError: see :func:`trace_page`.
    """
    events = trace.events[:MAX_PAGE_EVENTS]
    names = {event.source for event in events} | {event.target for event in events if event.target}
    machines = _numbered(sorted(names, key=_natural))
    kinds = _numbered(sorted({event.kind for event in events}))
    return {
        "machines": [*machines],
        "kinds": [(kind, _GROUPS.get(kind, _EVENT_GROUP)) for kind in kinds],
        "count": len(events),
        "leftOut": len(trace) - len(events),
        "events": base64.b64encode(_encoded(events, machines, kinds)).decode(),
    }


def _encoded(events: Iterable[TraceEvent], machines: Mapping[str, int], kinds: Mapping[str, int]) -> bytes:
    encoded = bytearray()
    before_ns = 0
    for event in events:
        time_ns, sent_ns = round(event.time_s * 1e9), round(event.sent_s * 1e9)
        if time_ns < before_ns or time_ns < sent_ns:
            raise ValueError("an event of a trace is out of its order, or arrives before it was sent")
        target = machines[event.target] + 1 if event.target else 0
        for number in (
            time_ns - before_ns,
            time_ns - sent_ns,
            kinds[event.kind],
            machines[event.source],
            target,
            event.size,
        ):
            rest = number
            while rest > 127:
                encoded.append(rest & 127 | 128)
                rest >>= 7
            encoded.append(rest)
        before_ns = time_ns
    return bytes(encoded)


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return what puts ``n2`` before ``n10``."""
    return [(int(digits or 0), text) for text, digits in _NUMBERS.findall(name)], name


def _json(data: object) -> str:
    """Return JSON that stands in a script element and cannot end it: ASCII without ``<``, ``>`` and ``&``."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(value: object) -> str:
    return escape(str(value))


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
