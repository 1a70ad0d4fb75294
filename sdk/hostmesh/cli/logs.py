"""Logs of the commands: on standard error, filtered by area, as text or as JSON lines.

The library writes to stdlib loggers and installs nothing; this module is what a command installs. structlog renders
the records. It is imported with the first record, which most commands never see.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from hostmesh.cli.terminal import escape
from hostmesh.errors import ConfigError

if TYPE_CHECKING:
    import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
AREAS = (
    "cli",
    "discovery",
    "host",
    "hosting",
    "identity",
    "jobs",
    "messaging",
    "net",
    "reputation",
    "rpc",
    "sdk",
    "sessions",
    "status",
    "wire",
)
FOREIGN = ("zeroconf", "httpx", "httpcore", "trio")
"""Areas that are other packages. What they call an error we handle and report ourselves, so they keep quiet unless the
filter names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """What is logged."""

    base: int = logging.WARNING
    """Lowest level of every area that is not named."""
    areas: Mapping[str, int] = field(default_factory=dict)
    """Lowest level by logger name."""


def parse_filter(text: str, *, verbosity: int = 0, source: str = "argument") -> LogFilter:
    """Read a filter: a level, or ``area=level`` pairs, separated by commas.

    Args:
        text: such as ``info`` or ``net=debug,discovery=info,error``. An area may go deeper: ``net.dialer``.
        verbosity: number of ``-v``: 1 shows at least info, 2 debug.
        source: where the text came from, for the error.

    Raises:
        ConfigError: an area or a level that is not known.

    >>> parse_filter("net=debug")
    LogFilter(base=30, areas={'hostmesh.net': 10})
    """
    base = logging.WARNING
    areas: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        area, separator, word = part.rpartition("=")
        if word.lower() not in LEVELS:
            raise _wrong(part, source, f"use one of the levels {', '.join(LEVELS)}")
        level = LEVELS[word.lower()]
        if separator:
            areas[_logger_name(area, part, source)] = level
        else:
            base = level
    if verbosity:
        base = min(base, logging.INFO if verbosity == 1 else logging.DEBUG)
    return LogFilter(base=base, areas=areas)


def configure_logging(chosen: LogFilter, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Send the process's log records to standard error. Called again, it replaces what it installed before."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    root.addHandler(_Handler(stream if stream is not None else sys.stderr, chosen, as_json=as_json))
    root.setLevel(logging.WARNING)
    for name in ("hostmesh", "hostmesh_host"):
        logging.getLogger(name).setLevel(chosen.base)
    _set_foreign(chosen)
    for name, level in chosen.areas.items():
        logging.getLogger(name).setLevel(level)


def _set_foreign(chosen: LogFilter) -> None:
    for name in FOREIGN:
        logger = logging.getLogger(name)
        logger.propagate = True
        logger.setLevel(chosen.areas.get(name, logging.CRITICAL))


class _Handler(logging.StreamHandler[TextIO]):
    """Renders with structlog, which it imports when there is something to render."""

    def __init__(self, stream: TextIO, chosen: LogFilter, *, as_json: bool) -> None:
        super().__init__(stream)
        self.chosen = chosen
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        if self.formatter is None:
            self.formatter = _formatter(as_json=self._as_json, colors=self.stream.isatty())
        return super().format(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if isinstance(sys.exc_info()[1], BrokenPipeError):  # nobody reads the log any more: no reason to stop
            return
        super().handleError(record)


def _formatter(*, as_json: bool, colors: bool) -> logging.Formatter:
    import structlog
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

    renderer: structlog.typing.Processor
    if as_json:
        # ASCII with escapes: raw for who parses it, harmless for who looks at it.
        renderer = structlog.processors.JSONRenderer(default=str)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=0, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_log_level,
            add_logger_name,
            ExtraAdder(),
            structlog.processors.format_exc_info,
        ],
        processors=[ProcessorFormatter.remove_processors_meta, *([] if as_json else [_escape_values]), renderer],
    )


def _escape_values(logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make every text of a record safe to look at; a traceback keeps its lines."""
    del logger, name
    return {
        escape(str(key)): escape(value if isinstance(value, str) else str(value), keep_layout=key == "exception")
        for key, value in event.items()
    }


def _logger_name(area: str, part: str, source: str) -> str:
    first = area.split(".")[0]
    if first in FOREIGN:
        return area
    if first == "host":
        return "hostmesh_host" + area.removeprefix("host")
    if first not in AREAS:
        raise _wrong(part, source, f"use one of the areas {', '.join((*AREAS, *FOREIGN))}")
    return f"hostmesh.{area}"


def _wrong(part: str, source: str, remedy: str) -> ConfigError:
    return ConfigError(f"log filter {part!r} is not known ({source})", name="log", source=source, remedy=remedy)
