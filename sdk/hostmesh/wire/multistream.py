"""multistream-select 1.0: two sides agree on a protocol by name. Pure.

Participants: a proposer, who opened the stream, and a responder. Each line is a varint length, a text and a newline.

::

    proposer:   /multistream/1.0.0  /job/1.0.0   [first bytes of the protocol]
    responder:  /multistream/1.0.0  /job/1.0.0 | na

The proposer names one protocol and never waits for the greeting, so that an agreement takes one round trip, or none
when it sends the protocol's first bytes along. The responder takes such bytes, and those of a proposer that waits for
every line.

Limits: a line of 1,024 bytes, 16 proposals, 8 KiB before the agreement; both sides check a length before they wait for
its bytes.

Source: multiformats, "multistream-select"; libp2p specs, "Connections".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from hostmesh.errors import MalformedMessageError, ProtocolNotSupportedError

MAX_LINE_BYTES = 1024
MAX_PROPOSALS = 16
MAX_NEGOTIATION_BYTES = 8192

_GREETING_TEXT = b"/multistream/1.0.0"
GREETING = b"\x13/multistream/1.0.0\n"
_REFUSAL = b"\x03na\n"


@lru_cache(maxsize=1024)
def proposal(protocol_id: str) -> bytes:
    r"""Return the bytes with which a proposer asks for a protocol, which are also the bytes that agree to it.

    >>> proposal("/a")
    b'\x13/multistream/1.0.0\n\x03/a\n'
    """
    return GREETING + _line(protocol_id.encode())


def _line(text: bytes) -> bytes:
    size = len(text) + 1
    if size > MAX_LINE_BYTES or b"\n" in text:
        raise ValueError("a protocol id has at most 1,023 bytes and no newline")
    prefix = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    return prefix + text + b"\n"


class _Lines:
    """Cuts received bytes into lines."""

    __slots__ = ("_budget", "_buffer", "is_over")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._budget = MAX_NEGOTIATION_BYTES
        self.is_over = False

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next line without its newline, or None while it is not complete."""
        buffer = self._buffer
        if not buffer:
            return None
        size, start = buffer[0], 1
        if size >= 0x80:
            if len(buffer) < 2:
                return None
            size, start = size & 0x7F | buffer[1] << 7, 2
            if buffer[1] >= 0x80 or size < 0x80:
                raise MalformedMessageError("a line too long to agree on a protocol")
        if not 0 < size <= MAX_LINE_BYTES:
            raise MalformedMessageError("a line too long to agree on a protocol")
        if len(buffer) < start + size:
            return None
        line = bytes(buffer[start : start + size - 1])
        if buffer[start + size - 1] != 0x0A or b"\n" in line:
            raise MalformedMessageError("a line without its newline, or with two")
        del buffer[: start + size]
        self._budget -= start + size
        if self._budget < 0:
            raise MalformedMessageError("too much was said before a protocol was agreed on")
        return line

    def rest(self) -> bytes:
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


class Proposer:
    """The side that names a protocol; it sends :func:`proposal` first.

    Args:
        protocol_id: what to agree on.
    """

    __slots__ = ("_expected", "_greeted", "_lines", "protocol_id")

    def __init__(self, protocol_id: str) -> None:
        self.protocol_id = protocol_id
        self._expected = proposal(protocol_id)
        self._greeted = False
        self._lines: _Lines | None = None

    def receive(self, data: bytes) -> bytes | None:
        """Take received bytes.

        Returns:
            None while the answer is not complete; once the responder agreed, what came after it (perhaps ``b""``).

        Raises:
            ProtocolNotSupportedError: it said no.
            MalformedMessageError: that is no multistream-select.
        """
        lines = self._lines
        if lines is None:
            if data.startswith(self._expected):
                return data[len(self._expected) :]
            lines = self._lines = _Lines()
        lines.feed(data)
        while (line := lines.next()) is not None:
            if not self._greeted:
                if line != _GREETING_TEXT:
                    raise MalformedMessageError("the peer does not speak multistream-select")
                self._greeted = True
            elif line == b"na":
                raise ProtocolNotSupportedError(
                    f"the peer does not speak {self.protocol_id}",
                    needed=self.protocol_id,
                    remedy="the peer runs another version, or another network's protocol prefix",
                )
            elif line == self.protocol_id.encode():
                return lines.rest()
            else:
                raise MalformedMessageError("the peer agreed to a protocol that nobody named")
        return None


class Responder:
    """The side that is asked.

    Args:
        supports: whether a protocol is served.
    """

    __slots__ = ("_greeted", "_lines", "_output", "_proposals", "_supports", "rest", "selected")

    def __init__(self, supports: Callable[[str], bool]) -> None:
        self._supports = supports
        self._lines: _Lines | None = None
        self._greeted = False
        self._proposals = 0
        self._output = bytearray()
        self.selected: str | None = None
        """What was agreed on."""
        self.rest = b""
        """Once something was agreed on: what came after it."""

    def receive(self, data: bytes) -> str | None:
        """Take received bytes; return the protocol once there is one. :meth:`data_to_send` may have grown.

        Raises:
            MalformedMessageError: that is no multistream-select, or goes on for too long.
        """
        if self._lines is None:
            self._lines = _Lines()
        self._lines.feed(data)
        while (line := self._lines.next()) is not None:
            if not self._greeted:
                if line != _GREETING_TEXT:
                    raise MalformedMessageError("the peer does not speak multistream-select")
                self._greeted = True
                self._output += GREETING
                continue
            self._proposals += 1
            if self._proposals > MAX_PROPOSALS:
                raise MalformedMessageError("too many protocols were proposed")
            name = line.decode("utf-8", "replace")
            if self._supports(name):
                self.selected = name
                self.rest = self._lines.rest()
                self._output += _line(line)
                return name
            self._output += _REFUSAL
        return None

    @property
    def was_answered(self) -> bool:
        """Whether a proposal was refused."""
        return self._proposals > 0

    def data_to_send(self) -> bytes:
        """Return the answers that were not taken yet."""
        output = bytes(self._output)
        self._output.clear()
        return output


def parse_proposal(data: bytes) -> tuple[str, int] | None:
    """Read a proposal that lies at the start of ``data`` as :func:`proposal` writes it.

    The way of every call between two hostmesh nodes; anything else is for :class:`Responder`.

    Returns:
        The protocol id and the size of the proposal, or None.

    >>> parse_proposal(proposal("/a") + b"hello")
    ('/a', 24)
    """
    if not data.startswith(GREETING):
        return None
    start = len(GREETING) + 1
    if len(data) < start:
        return None
    size = data[start - 1]
    end = start + size
    # Longer lines have a prefix of two bytes.
    if not 0 < size < 0x80 or len(data) < end or data.find(b"\n", start, end) != end - 1:
        return None
    return data[start : end - 1].decode("utf-8", "replace"), end
