"""A protocol of your own on 50 simulated nodes, while the one that serves it is cut off for 20 seconds.

Usage: python examples/simulated_protocol.py
"""

from contextlib import suppress

from google.protobuf.empty_pb2 import Empty

from hostmesh import HostmeshError, method
from hostmesh.testing import EventKind, LinkProfile, NetworkEvent, SimOptions, make_service, open_nodes, run_sim

SERVICE = make_service("club", Join=(Empty, Empty))
JOIN = method(SERVICE, "Join", Empty, Empty)


class Club(set):
    async def join(self, request, context):
        self.add(context.peer_id)
        return Empty()


async def main(network):
    async with open_nodes(network, 50) as (server, *clients):
        server.sdk.serve(SERVICE, club := Club())
        network.faults.schedule([NetworkEvent(kind=EventKind.PARTITION, machines=("n0",), at_s=1, for_s=20)])
        while clients:
            with suppress(HostmeshError):
                await clients[-1].call(server, JOIN, Empty(), timeout_s=5)
                clients.pop()
        assert len(club) == 49


print(run_sim(main, seed=7, network=SimOptions(link=LinkProfile(latency_s=0.05, jitter_s=0.02))).trace_hash)
