"""One task writes the frames of a connection, so that nobody's cancellation can cut a frame in two."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import trio

MAX_QUEUED_FRAMES = 4096
"""Frames waiting. One a stream is usual; more means that answers pile up for a peer that does not read."""


class Outgoing:
    """A frame on its way, and whether it got out."""

    __slots__ = ("data", "is_sent", "settled")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.is_sent = False
        self.settled = trio.Event()
        """Set once the frame is written, or will never be."""

    def withdraw(self) -> None:
        """Do not send the frame if it is not being written yet. The stream it belongs to must be reset."""
        self.data = b""


class FrameWriter:
    """A bounded queue of frames and the task that writes them, in order.

    Args:
        write: writes bytes to the connection; called by one task only.
        batch_bytes: waiting frames are written together up to this size.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]], *, batch_bytes: int) -> None:
        self._write = write
        self._batch_bytes = batch_bytes
        self._queue: deque[Outgoing] = deque()
        self._filled = trio.Event()
        self._is_stopped = False

    @property
    def is_overfull(self) -> bool:
        """Whether :data:`MAX_QUEUED_FRAMES` frames wait."""
        return len(self._queue) >= MAX_QUEUED_FRAMES

    def put(self, data: bytes) -> Outgoing:
        """Queue a frame without waiting. Once the writer is stopped, the frame is settled at once, as not sent."""
        frame = Outgoing(data)
        if self._is_stopped:
            frame.settled.set()
        else:
            self._queue.append(frame)
            self._filled.set()
        return frame

    async def run(self) -> None:
        """Write until cancelled, or until writing fails; then every frame is settled.

        Raises:
            Exception: whatever ``write`` raised.
        """
        try:
            while True:
                while not self._queue:
                    self._filled = trio.Event()
                    await self._filled.wait()
                await self._write_some()
        finally:
            self.stop()

    async def _write_some(self) -> None:
        batch = [self._queue.popleft()]
        size = len(batch[0].data)
        while self._queue and size + len(self._queue[0].data) <= self._batch_bytes:
            batch.append(self._queue.popleft())
            size += len(batch[-1].data)
        try:
            if size:
                await self._write(b"".join(frame.data for frame in batch))
            for frame in batch:
                frame.is_sent = True
        finally:
            for frame in batch:
                frame.settled.set()

    def stop(self) -> None:
        """Take no more frames, and settle those that wait as not sent. Idempotent."""
        self._is_stopped = True
        for frame in self._queue:
            frame.settled.set()
        self._queue.clear()
