"""Server-sent events: bytes to events. Pure.

Takes what OpenAI-compatible engines send: lines ended by LF or CRLF, ``data:`` lines, comments, and the ``error:``
field of older llama.cpp servers. A CR alone ends no line here, though the standard allows it; no engine sends it.

Source: WHATWG HTML, "Server-sent events", section 9.2.6.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hostmesh.errors import EngineError

MAX_EVENT_BYTES = 256 * 1024
"""Most bytes of one event; chosen here: an event carries one token, about 300 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One event with data."""

    data: str = field(repr=False)
    is_error: bool = False
    """It came in an ``error:`` field."""


class SseDecoder:
    """Turns chunks of any size into events; holds at most one unfinished event.

    Args:
        max_event_bytes: most bytes of one event, its line ends included.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._buffer = bytearray()
        self._searched = 0
        self._event_bytes = 0
        self._lines: list[str] = []
        self._is_error = False

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that the chunk completes.

        Raises:
            EngineError: an event over the bound, or bytes that are no UTF-8. The decoder is of no use afterwards.
        """
        self._buffer += chunk
        events = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            line = bytes(self._buffer[start:end]).removesuffix(b"\r")
            self._check_size(end + 1 - start)
            start = end + 1
            event = self._take_line(line)
            if event is not None:
                events.append(event)
        del self._buffer[:start]
        self._searched = len(self._buffer)
        if self._event_bytes + len(self._buffer) > self._max_event_bytes:
            raise _too_large(self._max_event_bytes)
        return events

    def _check_size(self, line_bytes: int) -> None:
        self._event_bytes += line_bytes
        if self._event_bytes > self._max_event_bytes:
            raise _too_large(self._max_event_bytes)

    def _take_line(self, line: bytes) -> ServerEvent | None:
        if not line:
            event = ServerEvent(data="\n".join(self._lines), is_error=self._is_error) if self._lines else None
            self._lines = []
            self._is_error = False
            self._event_bytes = 0
            return event
        name, _, value = line.partition(b":")
        if name not in (b"data", b"error"):
            if not self._lines:
                self._event_bytes = 0  # a comment is no part of an event
            return None
        try:
            self._lines.append(value.removeprefix(b" ").decode())
        except UnicodeDecodeError as error:
            raise EngineError("the engine's stream is no UTF-8") from error
        self._is_error = self._is_error or name == b"error"
        return None


def _too_large(limit: int) -> EngineError:
    return EngineError(f"the engine sent an event of more than {limit} bytes")
