"""Peers that replay records, pass for others, or contradict themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from hostmesh.discovery.calls import fetch_record
from hostmesh.discovery.description import HostDescription
from hostmesh.discovery.service import CallFrom
from hostmesh.net.peer_id import PeerId
from hostmesh.testing.adversary_node import AdversaryNode, open_adversary_node
from hostmesh.testing.machine import NETWORK_NAME, SimMachine
from hostmesh.testing.records import make_description, make_host_record
from hostmesh.testing.wallets import make_wallet
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient

CALL_TIMEOUT_S = 10.0


class RecordPeer:
    """A peer that gives, to each who asks for its record, what it was told to give. :func:`run_record_peer` makes it.

    Args:
        adversary: the node that it runs on.
        choose: returns the record for an asker, who asks for the n-th time, counted from 0.
    """

    def __init__(self, adversary: AdversaryNode, choose: Callable[[PeerId, int], pb.SignedHostRecord]) -> None:
        self.adversary = adversary
        self.choose = choose
        """May be replaced at any time."""
        self.asked: Counter[PeerId] = Counter()
        """How often each peer asked for the record."""
        adversary.serve_records(self)

    async def get_record(self, _request: pb.GetRecordRequest, context: CallFrom) -> pb.GetRecordResponse:
        """Serve the chosen record."""
        record = self.choose(context.peer_id, self.asked[context.peer_id])
        self.asked[context.peer_id] += 1
        return pb.GetRecordResponse(record=record)

    async def announce(self, _request: pb.AnnounceRequest, _context: CallFrom) -> pb.AnnounceResponse:
        """Take what others push, and keep nothing."""
        return pb.AnnounceResponse()

    async def query(self, _request: pb.QueryRequest, _context: CallFrom) -> pb.QueryResponse:
        """Tell of nobody."""
        return pb.QueryResponse()

    async def fetch(self, target: PeerId, address: str) -> pb.SignedHostRecord:
        """Ask a host for its record, to replay it later.

        Raises:
            HostmeshError: the peer was not reached, or is no host.
        """
        await self.adversary.node.connect(target, [address])
        return (await fetch_record(self.adversary.rpc, target, timeout_s=CALL_TIMEOUT_S)).record

    async def push(self, target: PeerId, record: pb.SignedHostRecord) -> None:
        """Hand a record over to a peer, its own or another host's.

        Raises:
            RpcError: the peer refused it; ``reason`` says why.
            HostmeshError: the peer was not reached.
        """
        request = pb.AnnounceRequest(record=record)
        await DiscoveryServiceClient(self.adversary.rpc, target).announce(request, timeout_s=CALL_TIMEOUT_S)

    def record(
        self,
        description: HostDescription | None = None,
        *,
        sequence: int,
        age_s: int = 0,
        addresses: tuple[str, ...] | None = None,
    ) -> pb.SignedHostRecord:
        """Sign a record of its own, good in every way, with the machine's clock.

        Args:
            description: what it offers; None = :func:`make_description`.
            sequence: >= 1; two with one sequence and other contents are an equivocation.
            age_s: seconds ago that it says it was issued.
            addresses: None = where it is.
        """
        machine = self.adversary.machine
        return make_host_record(
            machine.name,
            description or make_description(),
            key=self.adversary.key,
            wallet=make_wallet(machine.name),
            network=NETWORK_NAME,
            sequence=sequence,
            issued_at_unix_s=int(machine.system.unix_s()) - age_s,
            addresses=(self.adversary.address,) if addresses is None else addresses,
        )


@asynccontextmanager
async def run_record_peer(
    machine: SimMachine,
    *,
    model_ids: Iterable[str] = ("fake-chat",),
    bootstrap: Sequence[str] = (),
) -> AsyncIterator[RecordPeer]:
    """Run a peer that serves whatever record it is told to, for the life of the block.

    It begins with a good record of sequence 1, and gives the same one to all. Set :attr:`RecordPeer.choose` to have it
    replay (give an older one), equivocate (:func:`by_asker`, :func:`by_turns`) or pass for another host.

    Args:
        machine: where it runs; its name gives key and wallet.
        model_ids: under which the DHT names it.
        bootstrap: where it joins the network: addresses with ``/p2p``.

    Raises:
        UsageError: the machine is off, or has a process already.
    """
    async with open_adversary_node(machine, bootstrap=bootstrap) as adversary:
        peer = RecordPeer(adversary, lambda asker, turn: first)
        first = peer.record(make_description(model_ids), sequence=1)
        await adversary.advertise(model_ids)
        yield peer


def by_asker(*records: pb.SignedHostRecord) -> Callable[[PeerId, int], pb.SignedHostRecord]:
    """Return a choice that gives each asker always the same record, and askers in the order of coming the next one."""
    places: dict[PeerId, int] = {}

    def choose(asker: PeerId, _turn: int) -> pb.SignedHostRecord:
        return records[places.setdefault(asker, len(places)) % len(records)]

    return choose


def by_turns(*records: pb.SignedHostRecord) -> Callable[[PeerId, int], pb.SignedHostRecord]:
    """Return a choice that gives each asker the first record first, then the next one, and the last for ever."""

    def choose(_asker: PeerId, turn: int) -> pb.SignedHostRecord:
        return records[min(turn, len(records) - 1)]

    return choose
