"""A network in memory whose lines take time and hold a bounded number of bytes, for whole nodes in virtual time."""

from __future__ import annotations

import trio
from tests.integration.net.conftest import MemoryNetwork
from tests.support.links import SimulatedLink, simulated_link_pair

from hostmesh.net.links import LinkBrokenError


class LineStream(trio.abc.Stream):
    """One end of a line, as a socket's stream would be."""

    def __init__(self, end: SimulatedLink) -> None:
        self.end = end

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self.end.send(bytes(data))
        except LinkBrokenError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self.end.receive()
        except LinkBrokenError as error:
            raise trio.ClosedResourceError from error

    async def aclose(self) -> None:
        await self.end.close()
        await trio.lowlevel.checkpoint()


class LineNetwork(MemoryNetwork):
    """Nodes dial each other over lines; a dial takes a round trip, as TCP's does.

    Args:
        delay_s: of each line, one way.
        buffer_bytes: that each line holds in each direction.
    """

    def __init__(self, delay_s: float = 0.0, buffer_bytes: int = 1 << 20) -> None:
        super().__init__()
        self._delay_s = delay_s
        self._buffer_bytes = buffer_bytes
        self.ends: list[SimulatedLink] = []
        """Of all lines, two after another: the dialer's, the listener's."""

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        listener = self.listeners.get((host, port))
        if listener is None:
            raise ConnectionRefusedError(111, "Connection refused")
        await trio.sleep(2 * self._delay_s)
        pair = simulated_link_pair(delay_s=self._delay_s, buffer_bytes=self._buffer_bytes)
        self.ends += pair
        ours, theirs = map(LineStream, pair)
        await listener.send.send(theirs)
        return ours

    def set_delay(self, delay_s: float) -> None:
        """Let everything take so long from now on, on the lines that there are too."""
        self._delay_s = delay_s
        for end in self.ends:
            end._delay_s = delay_s

    def cut(self) -> None:
        """Let nothing through any more, in either direction, without a word to anybody."""
        self.set_delay(float("inf"))
