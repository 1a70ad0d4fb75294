"""A stream of the best of several protocols: those of our versions of one, for example."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from hostmesh.errors import ConnectionLostError, ProtocolNotSupportedError
from hostmesh.net.connection import Connection
from hostmesh.net.identify import Identify
from hostmesh.net.node_stream import NodeStream
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peering import Peering
from hostmesh.net.pool import ConnectionPool
from hostmesh.wire.versions import highest_common, refusal

_log = logging.getLogger("hostmesh.net")

_DEAF_S = 5.0
"""A call that ran out of time on a connection that was silent so long takes the connection with it."""


async def open_reached(
    peer_id: PeerId,
    protocol_ids: Sequence[str],
    *,
    peering: Peering,
    pool: ConnectionPool,
    identify: Identify,
    timeout_s: float,
) -> NodeStream:
    """Open a stream as :func:`open_agreed` does, dialling the peer's known addresses if there is no connection.

    A connection that turns out to be dead is replaced by a new one, once.

    Args:
        peer_id: whom to.
        protocol_ids: the best first; at least one.
        peering: reaches the peer.
        pool: the connections that there are.
        identify: knows, or learns, what the peer speaks.
        timeout_s: seconds for everything.

    Raises:
        See :meth:`hostmesh.net.node.Node.open_stream`.

    Cancellation: safe; the connection stays usable.
    """
    deadline = trio.current_time() + timeout_s
    for is_last in (False, True):
        connection = await peering.reach(peer_id, max(0.0, deadline - trio.current_time()))
        with trio.move_on_at(deadline):
            try:
                return await open_agreed(connection, protocol_ids, identify)
            except ConnectionLostError:
                if is_last or not connection.is_closed:
                    raise
                pool.remove(connection)
                continue
        if trio.current_time() - connection.last_heard_s > _DEAF_S:
            _log.info("closing a silent connection", extra={"peer_id": peer_id})
            await connection.close()
        break
    raise ConnectionLostError(f"{peer_id} did not answer within {timeout_s:g} s", may_have_executed=False)


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
