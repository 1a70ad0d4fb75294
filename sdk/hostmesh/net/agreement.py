"""A stream of the best of several protocols: those of our versions of one, for example."""

from __future__ import annotations

from collections.abc import Sequence

from hostmesh.errors import ProtocolNotSupportedError
from hostmesh.net.connection import Connection
from hostmesh.net.identify import Identify
from hostmesh.net.node_stream import NodeStream
from hostmesh.wire.versions import highest_common, refusal


async def open_agreed(connection: Connection, protocol_ids: Sequence[str], identify: Identify) -> NodeStream:
    """Open a stream of the first of some protocols that the peer speaks.

    What the peer told is believed and not waited for. While it has told nothing that would do, the first is proposed;
    where it refuses that, it is asked what it speaks by now. To a peer that tells nothing each is proposed in turn.

    Args:
        connection: to the peer.
        protocol_ids: the best first; at least one.
        identify: knows, or learns, what the peer speaks.

    Raises:
        ProtocolNotSupportedError: it speaks none of them.
        DialError, ConnectionLostError: see :meth:`hostmesh.net.connection.Connection.open_stream`.

    Cancellation: safe.

    Cost: a round trip for each refusal, and one to ask what the peer speaks.
    """
    untried = list(protocol_ids)
    refused: set[str] = set()
    while True:
        before = connection.spoken
        chosen = highest_common(untried, before) or untried[0]
        try:
            return await connection.open_stream(chosen, protocol_ids)
        except ProtocolNotSupportedError as error:
            untried.remove(chosen)
            if not refused and connection.spoken == before:  # nothing new was told meanwhile
                await identify.refresh(connection, is_urgent=bool(untried))
            refused.add(chosen)
            spoken = connection.spoken
            if not untried or (spoken and highest_common(untried, spoken) is None):
                raise refusal(connection.peer_id, protocol_ids, spoken, refused) from error
