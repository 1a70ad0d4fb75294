"""Who is told to have forged: whoever vouches, by handing it over, for what nobody signed; nobody else."""

from __future__ import annotations

import pytest

from hostmesh.discovery.equivocation import make_proof
from hostmesh.discovery.records import RecordBook
from hostmesh.errors import RemoteProtocolError
from hostmesh.identity.binding import verify_binding
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.testing import RecordFault, make_broken_record, make_host_record, make_peer_key
from hostmesh.testing.records import EPOCH_UNIX_S, TEST_NETWORK
from hostmesh.v1 import discovery_pb2 as pb

CARRIER = make_peer_key("carrier").peer_id
HOST = make_peer_key("host").peer_id
FORGERIES = {
    RecordFault.WRONG_SIGNATURE,
    RecordFault.CHANGED_AFTER_SIGNING,
    RecordFault.SIGNED_FOR_ANOTHER_NETWORK,
    RecordFault.BINDING_FORGED,
}


class Told:
    def __init__(self) -> None:
        self.peers: list[PeerId] = []
        self.records = RecordBook(
            network=TEST_NETWORK, verify_binding=verify_binding, system=System(unix_s=lambda: float(EPOCH_UNIX_S))
        )
        self.records.forgeries.tell_to(self.peers.append)


@pytest.mark.parametrize("fault", RecordFault)
def test_what_nobody_signed_is_a_forgery_and_what_only_does_not_hold_is_none(fault: RecordFault) -> None:
    told, broken = Told(), make_broken_record(fault)
    with pytest.raises(RemoteProtocolError):
        told.records.accept(broken.signed, introducer=CARRIER)
    assert told.peers == ([CARRIER] if fault in FORGERIES else [])


def test_a_host_answers_for_its_own_record_and_a_forwarder_of_gossip_for_none() -> None:
    told, broken = Told(), make_broken_record(RecordFault.WRONG_SIGNATURE)
    for expected, introducer in ((HOST, None), (HOST, CARRIER), (None, None)):
        with pytest.raises(RemoteProtocolError):
            told.records.accept(broken.signed, expected_peer_id=expected, introducer=introducer)
    assert told.peers == [HOST]


def test_a_record_that_holds_tells_nothing() -> None:
    told = Told()
    told.records.accept(make_host_record("host"), introducer=CARRIER)
    assert told.peers == []


def test_a_record_of_another_network_is_no_forgery() -> None:
    told = Told()
    with pytest.raises(RemoteProtocolError):
        told.records.accept(make_host_record("host", network="test-elsewhere"), introducer=CARRIER)
    assert told.peers == []


def test_a_proof_whose_signature_is_wrong_is_forged_by_who_brings_it() -> None:
    told = Told()
    one, other = (make_host_record("host", sequence=7, description=None, started_at_unix_s=at) for at in (1, 2))
    proof = make_proof(one, other, network=TEST_NETWORK)
    told.records.accept_proof(proof.to_wire(), introducer=CARRIER)
    same = pb.EquivocationProof(first_envelope=one.envelope, second_envelope=one.envelope)
    with pytest.raises(RemoteProtocolError):
        told.records.accept_proof(same, introducer=CARRIER)
    assert told.peers == [], "it proves nothing, and nobody forged it"
    bad = make_broken_record(RecordFault.WRONG_SIGNATURE).signed.envelope
    with pytest.raises(RemoteProtocolError):
        told.records.accept_proof(
            pb.EquivocationProof(first_envelope=one.envelope, second_envelope=bad), introducer=CARRIER
        )
    assert told.peers == [CARRIER]
