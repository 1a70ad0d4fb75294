"""A peer by hand: it proves its key as any node does, and after that every frame is what a test says."""

from __future__ import annotations

from collections import deque

import trio
from tests.support.links import SimulatedLink
from tests.support.yamux_wire import DATA, Frame, FrameReader
from trio.testing import wait_all_tasks_blocked

from hostmesh.net.links import Link
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.upgrade import SecuredLink, Upgrader


def line(text: str) -> bytes:
    """Return a line of multistream-select."""
    size = len(text) + 1
    prefix = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return prefix + text.encode() + b"\n"


def proposal(protocol_id: str) -> bytes:
    """Return greeting and protocol: what a dialer says first, and what agrees to it."""
    return line("/multistream/1.0.0") + line(protocol_id)


async def secure(
    link: Link, other: Link, *, dialer: PeerKey | None = None, listener: PeerKey | None = None
) -> tuple[SecuredLink, SecuredLink]:
    """Shake hands over both ends of a line; the first one dials."""
    dialer, listener = dialer or PeerKey.generate(), listener or PeerKey.generate()
    secured: dict[str, SecuredLink] = {}

    async def dial() -> None:
        secured["dialer"] = await Upgrader(dialer).outbound(link, listener.peer_id)

    async def listen() -> None:
        secured["listener"] = await Upgrader(listener).inbound(other)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(listen)
    return secured["dialer"], secured["listener"]


class WirePeer:
    """One end of a secured link, in frames.

    Args:
        secured: after its handshake.
    """

    def __init__(self, secured: SecuredLink) -> None:
        self.peer_id: PeerId = secured.peer_id
        """Whom it speaks to."""
        self.link = secured.link
        self.channel = secured.secured.channel
        self._reader = FrameReader()
        self._frames = deque(frame for text in secured.secured.plaintexts for frame in self._reader.feed(text))

    @classmethod
    async def dial(cls, link: Link, peer_id: PeerId) -> WirePeer:
        """Shake hands as a dialer with a key of its own."""
        return cls(await Upgrader(PeerKey.generate()).outbound(link, peer_id))

    async def send(self, *frames: bytes) -> None:
        """Send frames in one message."""
        await self.link.send(self.channel.seal(b"".join(frames)))

    async def next(self) -> Frame | None:
        """Return the next frame, or None at the end of the link."""
        while not self._frames:
            if not await self._fill():
                return None
        return self._frames.popleft()

    async def next_of(self, stream_id: int, *kinds: int) -> Frame:
        """Return the next frame of a stream (of one of these kinds); others stay where they are."""
        seen = 0
        while True:
            for index in range(seen, len(self._frames)):
                came = self._frames[index]
                if came.stream_id == stream_id and (not kinds or came.kind in kinds):
                    del self._frames[index]
                    return came
            seen = len(self._frames)
            assert await self._fill(), "the link ended"

    async def arrived(self) -> list[Frame]:
        """Return all frames that are here once nothing happens without time. Needs a :class:`SimulatedLink`."""
        assert isinstance(self.link, SimulatedLink)
        await wait_all_tasks_blocked()
        while data := self.link.receive_nowait():
            self._take(data)
            # There may be room for more now.
            await wait_all_tasks_blocked()
        frames = list(self._frames)
        self._frames.clear()
        return frames

    async def _fill(self) -> bool:
        data = await self.link.receive()
        self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        self._frames.extend(frame for text in self.channel.open(data) for frame in self._reader.feed(text))

    async def read(self, stream_id: int, size: int) -> bytes:
        """Return the next ``size`` bytes of a stream; the window is not given back."""
        received = b""
        while len(received) < size:
            received += (await self.next_of(stream_id, DATA)).body
        assert len(received) == size, "more came than was asked for"
        return received

    async def rest(self) -> list[Frame]:
        """Return all frames up to the end of the link."""
        came = []
        while (each := await self.next()) is not None:
            came.append(each)
        return came
