"""Of what a peer tells nothing counts where one session is forged: not even those that are true and came first."""

from __future__ import annotations

import pytest
from tests.simulated.test_receipt_exchange import Hostile, hostile_peer, world_of
from tests.support.simulated import simulated

from hostmesh.receipts.sharing import FIRST, session_message
from hostmesh.testing import SimNetwork
from hostmesh.v1 import receipt_pb2 as pb


@pytest.mark.parametrize("is_forged", [True, False])
@simulated()
async def test_a_true_session_before_a_forged_one_is_not_taken_in(net: SimNetwork, is_forged: bool) -> None:
    async with world_of(net) as world:
        world.sharer.get_receipt_exchange().share()
        shared = world.sharer._files.receipts.shared
        ((_, bundle),) = shared.after(FIRST, network="simnet", hosts=(), max_sessions=1, max_jobs=8)
        true, second = session_message(bundle), session_message(bundle)
        if is_forged:
            second.authorization = second.authorization[:-1] + bytes([second.authorization[-1] ^ 1])

        async def tell(request: pb.ListSharedRequest) -> pb.ListSharedResponse:
            return pb.ListSharedResponse(sessions=[true, second])

        async with hostile_peer(net, world.asker, Hostile(tell)) as peer:
            asked = await world.asker.get_receipt_exchange().ask([world.host], peers=[peer])
            assert [answer.taken is None for answer in asked.answers] == [is_forged]
            assert bool(world.asker._files.reputation.names(world.host)) is not is_forged
