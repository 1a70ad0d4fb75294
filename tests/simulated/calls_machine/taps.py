"""What truly passed over a stream, and how it ended: noted beneath the code under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from tests.simulated.calls_machine.program import call_of
from tests.support.wire_frames import split_frames

from hostmesh.errors import StatusCode
from hostmesh.net.stream import Stream
from hostmesh.v1.job_pb2 import TextDelta
from hostmesh.v1.rpc_pb2 import Frame


class Tap:
    """A stream that notes what passes. All else is that of the stream beneath."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.began_s = trio.current_time()
        self.over_s: float | None = None
        """When whoever serves it was done."""
        self.sent = bytearray()
        self.received = bytearray()
        self.is_cut_off = False
        """A send did not come to its end."""
        self.goes_on = False
        """Something was sent after that."""
        self.has_ended = False
        """Its own side was half-closed."""
        self.closed = 0
        self.resets = 0
        self.begin: Callable[[], None] = lambda: None
        """Called when somebody begins to serve it."""
        self.active_before = 0
        """How many others were being served when it came."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        """See :class:`Stream`."""
        was_cut_off, self.is_cut_off = self.is_cut_off, True
        await self._stream.send(data, head=head, end=end)
        self.is_cut_off = was_cut_off
        self.goes_on |= was_cut_off
        self.sent += head + data
        self.has_ended = self.has_ended or end

    async def receive(self, max_bytes: int = 1 << 20) -> bytes:
        """See :class:`Stream`."""
        data = await self._stream.receive(max_bytes)
        self.received += data
        return data

    async def receive_chunk(self) -> bytes | memoryview:
        """See :class:`Stream`."""
        data = await self._stream.receive_chunk()
        self.received += data
        return data

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        """See :class:`Stream`."""
        was_sent = self._stream.send_nowait(data, end=end)
        if was_sent:
            self.sent += data
            self.has_ended = self.has_ended or end
        return was_sent

    def receive_nowait(self) -> bytes | memoryview | None:
        """See :class:`Stream`."""
        self.begin()
        data = self._stream.receive_nowait()
        self.received += data or b""
        return data

    async def close_write(self) -> None:
        """See :class:`Stream`."""
        await self._stream.close_write()
        self.has_ended = True

    async def close(self) -> None:
        """See :class:`Stream`."""
        await self._stream.close()
        self.closed += 1

    async def reset(self) -> None:
        """See :class:`Stream`."""
        self.resets += 1
        await self._stream.reset()

    @property
    def statuses(self) -> list[StatusCode]:
        """Of the frames that were sent here."""
        return [StatusCode(frame.status.code) for frame in frames(self.sent) if frame.HasField("status")]

    @property
    def call(self) -> int | None:
        """The number of the call whose header came in; None where none did."""
        for frame in frames(self.received):
            for entry in frame.header.metadata:
                if entry.key == "call":
                    return int(entry.value)
            if frame.HasField("message"):
                return call_of(TextDelta.FromString(frame.message).text)
        return None


def frames(data: bytes | bytearray) -> list[Frame]:
    """Return the whole frames at the beginning of what was sent."""
    return [Frame.FromString(payload) for payload in split_frames(bytes(data))]
