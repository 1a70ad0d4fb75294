"""Log filters, and what a record looks like on standard error."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from hostmesh.cli.logs import LogFilter, configure_logging, parse_filter
from hostmesh.errors import ConfigError

HOSTILE = "\x1b]0;pwned\x07\r<script>\u202e"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    for name in ("hostmesh", "hostmesh.net", "hostmesh.net.dialer", "hostmesh_host", "zeroconf"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("warning", LogFilter()),
        ("INFO", LogFilter(base=20)),
        ("net=debug", LogFilter(areas={"hostmesh.net": 10})),
        (
            "error, net.dialer=debug,discovery=info",
            LogFilter(base=40, areas={"hostmesh.net.dialer": 10, "hostmesh.discovery": 20}),
        ),
        ("host=info,host.engines=debug", LogFilter(areas={"hostmesh_host": 20, "hostmesh_host.engines": 10})),
        ("zeroconf=debug", LogFilter(areas={"zeroconf": 10})),
    ],
)
def test_filters(text: str, expected: LogFilter) -> None:
    assert parse_filter(text) == expected


@pytest.mark.parametrize(("verbosity", "base"), [(0, 30), (1, 20), (2, 10), (5, 10)])
def test_verbosity_lowers_the_level(verbosity: int, base: int) -> None:
    assert parse_filter("warning", verbosity=verbosity).base == base
    assert parse_filter("debug", verbosity=verbosity).base == 10


@pytest.mark.parametrize("text", ["loud", "net=loud", "nett=debug", "net=", "=debug"])
def test_a_wrong_filter_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_filter(text, source="environment HOSTMESH_LOG")
    assert caught.value.name == "log"
    assert caught.value.source == "environment HOSTMESH_LOG"
    assert caught.value.remedy.startswith("use one of")


def test_areas_have_their_own_level() -> None:
    stream = io.StringIO()
    configure_logging(parse_filter("error,net=debug"), as_json=False, stream=stream)
    logging.getLogger("hostmesh.net").debug("seen")
    logging.getLogger("hostmesh.rpc").warning("hidden")
    logging.getLogger("zeroconf.x").error("hidden")
    logging.getLogger("zeroconf.x").critical("shown")
    logging.getLogger("somebody.else").warning("warned")
    lines = stream.getvalue().splitlines()
    assert [any(word in line for line in lines) for word in ("seen", "hidden", "shown", "warned")] == [
        True,
        False,
        True,
        True,
    ]


def test_a_text_line_shows_level_logger_and_fields_and_nothing_acts() -> None:
    stream = io.StringIO()
    configure_logging(parse_filter("net=debug"), as_json=False, stream=stream)
    logging.getLogger("hostmesh.net").debug("dialled %s", HOSTILE, extra={"peer": HOSTILE, HOSTILE: 1})
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    for part in ("debug", "hostmesh.net", "dialled", "peer=", "<script>", "\\x1b]0;pwned"):
        assert part in line


def test_a_json_line_is_raw_and_yet_harmless() -> None:
    stream = io.StringIO()
    configure_logging(parse_filter("net=debug"), as_json=True, stream=stream)
    logging.getLogger("hostmesh.net").info("dialled", extra={"peer": HOSTILE, "tries": 3})
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    record = json.loads(line)
    assert (record["event"], record["peer"], record["tries"]) == ("dialled", HOSTILE, 3)
    assert (record["level"], record["logger"]) == ("info", "hostmesh.net")
    assert record["timestamp"].endswith("Z")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_is_kept_and_its_text_cannot_act(as_json: bool) -> None:
    stream = io.StringIO()
    configure_logging(LogFilter(), as_json=as_json, stream=stream)
    try:
        int(HOSTILE)
    except ValueError:
        logging.getLogger("hostmesh.net").exception("failed")
    shown = stream.getvalue()
    assert "Traceback" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_configuring_twice_logs_once() -> None:
    stream = io.StringIO()
    for _ in range(2):
        configure_logging(LogFilter(), as_json=True, stream=stream)
    logging.getLogger("hostmesh.net").warning("once")
    assert len(stream.getvalue().splitlines()) == 1
