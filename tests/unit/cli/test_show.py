"""The table of hosts. Numbers that are not known are shown as unknown."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

from hostmesh.cli.show import choice_row, print_choices, print_funnel
from hostmesh.cli.watch import event_line
from hostmesh.discovery.funnel import Funnel, Rejection
from hostmesh.discovery.roster import HostChanged, HostJoined, HostLeft, LeaveReason
from hostmesh.discovery.terms import Place, Price

HOSTILE = "\x1b[2J\r<script>\u202e"


def choice(**changed: object) -> Any:
    known = {
        "peer_id": "12D3KooWA",
        "model_id": "m1",
        "price": Price(micros_per_mtok=150_000, currency="USD"),
        "latency": SimpleNamespace(value=1.26, samples=3),
        "reputation": SimpleNamespace(points=181, n=1),
        "uptime": SimpleNamespace(value=5400.0),
        "claimed_uptime": None,
        "place": Place(country_code="US", region="california"),
        "place_refuted": "",
        "sources": ("dht", "mdns"),
    }
    return cast("Any", SimpleNamespace(**(known | changed)))


def test_a_row_says_each_number_and_how_it_was_come_by() -> None:
    assert choice_row(choice()) == (
        "12D3KooWA",
        "m1",
        "0.15 USD/Mtok",
        "1.3 ms (n=3)",
        "181 (n=1)",
        "1.5 h",
        "US/california",
        "dht+mdns",
    )


def test_what_is_not_known_is_shown_so() -> None:
    row = choice_row(choice(price=None, latency=None, uptime=None, place=None))
    assert row[2:7] == ("unpriced", "?", "181 (n=1)", "?", "?")


def test_uptimes() -> None:
    shown = [choice_row(choice(uptime=SimpleNamespace(value=s)))[5] for s in (0.4, 1, 59, 60, 3600, 200_000)]
    assert shown == ["?", "1 s", "59 s", "1.0 min", "1.0 h", "2.3 d"]


def test_columns_line_up_and_hostile_text_cannot_act() -> None:
    out = io.StringIO()
    hostile = choice(model_id=HOSTILE, place=Place(country_code="US", region=HOSTILE))
    print_choices([choice(), hostile], out)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert len({line.index(word) for line, word in zip(lines, ("PRICE", "0.15", "0.15"), strict=True)}) == 1
    assert all(line.isprintable() for line in lines)


def test_the_funnel_names_each_host_that_was_turned_away() -> None:
    rejections = tuple(
        Rejection(peer_id=cast("Any", peer), criterion="model", detail=f"serves no {HOSTILE}") for peer in ("A", "B")
    )
    funnel = Funnel(seen=3, rejected={"model": 2}, matched=1, rejections=rejections, relaxation=None)
    out = io.StringIO()
    print_funnel(funnel, out)
    first, *rest = out.getvalue().splitlines()
    assert first == "seen 3 -> model 1 -> matched 1"
    assert [line.split()[0] for line in rest] == ["A", "B"]
    assert all(line.isprintable() for line in rest)


def test_what_a_watch_prints_cannot_act_either() -> None:
    one = choice(model_id=HOSTILE)
    lines = [
        event_line(HostJoined(at_unix_s=0.0, choice=one)),
        event_line(HostChanged(at_unix_s=0.0, choice=one, changes=("price", "latency_ms"))),
        event_line(HostLeft(at_unix_s=0.0, choice=one, reason=LeaveReason.UNFIT, criterion="model", detail=HOSTILE)),
        event_line(HostLeft(at_unix_s=0.0, choice=one, reason=LeaveReason.EXPIRED)),
    ]
    assert all(line.isprintable() for line in lines)
    assert [line.split()[1] for line in lines] == ["joined", "changed", "left", "left"]
    assert lines[1].endswith("(price, latency_ms)")
    assert "unfit: " in lines[2]
    assert lines[3].split()[2:] == ["12D3KooWA", "expired"]
