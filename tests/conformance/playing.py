"""A server that does what a case's script says, right or wrong, and tells what it saw of the caller."""

from __future__ import annotations

from typing import Any

import trio
from tests.conformance.values import bytes_of, frame_fields
from tests.support.wire_frames import split_frames

from hostmesh.errors import ConnectionLostError
from hostmesh.net.stream import Stream

PROTOCOLS = (
    "/hostmesh/conformance-script/1.0.0",
    "/hostmesh/conformance-range/1.0.0",
    "/hostmesh/conformance-range/1.1.0",
)


class PlayingServer:
    """Serves :data:`PROTOCOLS`. One script at a time: that of the case which was begun last."""

    def __init__(self) -> None:
        self.begin([])

    def begin(self, script: list[dict[str, Any]]) -> None:
        """Take the script of the next case."""
        self._script = script
        self._received = bytearray()
        self._protocol = ""
        self._end = ""
        self._changed = trio.Event()
        self._done = trio.Event()

    def seen(self) -> dict[str, Any]:
        """Return what the caller did."""
        return {
            "protocol": self._protocol,
            "end": self._end,
            "frames": [frame_fields(payload) for payload in split_frames(bytes(self._received)) if payload],
        }

    def leave(self) -> None:
        """End a script that is still being played."""
        self._done.set()

    async def wait_end(self, end: str) -> None:
        """Return once the caller has ended its side in that way."""
        while self._end != end:
            await self._changed.wait()

    async def serve(self, stream: Stream) -> None:
        """Play the script on a stream."""
        self._protocol = stream.protocol_id
        done = self._done
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, stream)
            nursery.start_soon(self._watch, stream)
            nursery.start_soon(self._play, stream)
            await done.wait()
            nursery.cancel_scope.cancel()
        await stream.reset()

    async def _play(self, stream: Stream) -> None:
        try:
            await self._wait_frames(1)
            for step in self._script:
                await self._step(stream, step)
        except ConnectionLostError:
            pass

    async def _step(self, stream: Stream, step: dict[str, Any]) -> None:
        ((what, value),) = step.items()
        if what == "send":
            await stream.send(bytes_of(value))
        elif what == "pause_ms":
            await trio.sleep(value / 1000)
        elif what == "half_close":
            await stream.close_write()
        elif what == "reset":
            await stream.reset()
        elif what == "read_frames":
            await self._wait_frames(value)
        elif what == "read_to_end":
            await self.wait_end("half_close")
        else:
            raise ValueError(f"no step of a script: {step}")

    async def _wait_frames(self, count: int) -> None:
        while sum(1 for _ in split_frames(bytes(self._received))) < count:
            await self._changed.wait()

    async def _read(self, stream: Stream) -> None:
        try:
            while data := await stream.receive():
                self._received += data
                self._change()
        except ConnectionLostError:
            return
        # The two may come together, and this be told after the reset.
        self._end = self._end or "half_close"
        self._change()

    async def _watch(self, stream: Stream) -> None:
        await stream.wait_reset()
        self._end = "reset"
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
