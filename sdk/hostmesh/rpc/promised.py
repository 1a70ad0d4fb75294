"""Holds peers to the versions that they have signed: no call goes over a lower one.

Which version a call speaks is negotiated with what the peer tells of itself at that moment. A host that has signed a
higher one elsewhere and now offers a lower one only would have its clients fall back to what was mended since; such a
call is refused before anything is sent. A host that did go back to older software signs a new record, and that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hostmesh.errors import ProtocolDowngradeError, ProtocolNotSupportedError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.opening import StreamOpener


class PromisedVersions:
    """Opens streams of a node; a :class:`hostmesh.rpc.opening.StreamOpener` itself.

    Args:
        node: opens them.
        promised: returns the protocol ids that a peer has signed; none where nothing is known.
    """

    def __init__(self, node: StreamOpener, promised: Callable[[PeerId], Collection[str]]) -> None:
        self._node = node
        self._promised = promised

    def start_stream(self, peer_id: PeerId, protocol_ids: Sequence[str]) -> Stream | None:
        """As of the node, of a version that is not below the signed one."""
        if len(protocol_ids) > 1:
            protocol_ids = self._kept(peer_id, protocol_ids)
        return self._node.start_stream(peer_id, protocol_ids)

    async def open_stream(
        self, peer_id: PeerId, protocol_id: str | Sequence[str], *, timeout_s: float | None = None
    ) -> Stream:
        """As of the node, of a version that is not below the signed one.

        Raises:
            ProtocolDowngradeError: the peer offers lower ones only; nothing was sent.
        """
        if isinstance(protocol_id, str):
            return await self._node.open_stream(peer_id, protocol_id, timeout_s=timeout_s)
        kept = self._kept(peer_id, protocol_id)
        try:
            return await self._node.open_stream(peer_id, kept, timeout_s=timeout_s)
        except ProtocolNotSupportedError as error:
            offered = next((each for each in protocol_id if each not in kept and each in error.offered), None)
            if offered is None:
                raise
            raise ProtocolDowngradeError(
                f"the host offers {offered}, and has signed that it speaks {kept[-1]}",
                promised=kept[-1],
                offered=offered,
                remedy="find hosts again: if the host went back to an older version, its next record says so",
            ) from error

    def _kept(self, peer_id: PeerId, protocol_ids: Sequence[str]) -> Sequence[str]:
        """Return the ids down to the highest that the peer has signed, of those that are spoken here."""
        promised = self._promised(peer_id)
        for index, protocol_id in enumerate(protocol_ids):
            if protocol_id in promised:
                return protocol_ids[: index + 1]
        return protocol_ids
