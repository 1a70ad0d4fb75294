"""What tests of revoked bindings share."""

from __future__ import annotations

from discovery_world import (
    EPOCH,
    NETWORK,
    make_description,
    make_key,
    make_records,
)
from discovery_world import make_record as record

from hostmesh.discovery.equivocation import make_proof
from hostmesh.discovery.records import RecordBook
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

GOSSIP = make_key("gossip").peer_id


def book(now: float = EPOCH) -> RecordBook:
    return make_records(System(unix_s=lambda: now))


def proof_of(sequence: int = 5, epoch: int = 0) -> pb.EquivocationProof:
    first, second = (record("host", make_description(model), sequence=sequence, epoch=epoch) for model in ("m", "n"))
    return make_proof(first, second, network=NETWORK).to_wire()
