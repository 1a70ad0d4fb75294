"""What a node was told that its peers speak."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from google.protobuf.empty_pb2 import Empty
from tests.support.simulated import eventually, simulated

from hostmesh import CallContext, NodeNotRunningError
from hostmesh.testing import SimNetwork, make_service, make_wallet, open_nodes

CLUB = make_service("club", Join=(Empty, Empty))
CLUB_ID = "/hostmesh/club/1.0.0"


class Club:
    async def join(self, request: Empty, context: CallContext) -> Empty:
        return Empty()


@simulated()
async def test_what_a_connected_peer_speaks_is_known_and_kept_up_to_date(net: SimNetwork) -> None:
    async with open_nodes(net, 3) as (far, near, stranger):
        told = partial(near.sdk.protocols_of, far.peer_id)
        await eventually(told)
        assert CLUB_ID not in told()
        assert {"/hostmesh/status/1.0.0", "/hostmesh/message/1.0.0", "/ipfs/id/1.0.0"} <= set(told())
        far.sdk.serve(CLUB, Club())
        await eventually(lambda: CLUB_ID in told())
        far.sdk.withdraw(CLUB)
        await eventually(lambda: CLUB_ID not in told())
        # Both know n0, and one another they do not.
        assert near.sdk.protocols_of(stranger.peer_id) == ()
        far.machine.kill()
        await eventually(lambda: told() == ())


@simulated()
async def test_a_node_that_does_not_run_knows_no_peers(net: SimNetwork) -> None:
    async with open_nodes(net, 1) as (far,), net.machine("later").open_sdk() as sdk:
        with pytest.raises(NodeNotRunningError):
            sdk.protocols_of(far.peer_id)
        await sdk.authenticate(wallet=make_wallet("later"))
        with pytest.raises(NodeNotRunningError):
            sdk.protocols_of(far.peer_id)
        await sdk.get_discovery_manager().create_node()
        assert sdk.protocols_of(far.peer_id) == ()
        await sdk.get_discovery_manager().connect_to_peer(far.address)
        await trio.sleep(1)
        assert "/ipfs/id/1.0.0" in sdk.protocols_of(far.peer_id)
