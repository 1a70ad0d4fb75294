"""Proofs of equivocation: two bodies of one sequence by one key, and nothing less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.description import HostState
from hostmesh.discovery.equivocation import MAX_PROOF_BYTES, make_proof, read_proof, verify_proof
from hostmesh.discovery.record import MAX_ENVELOPE_BYTES
from hostmesh.errors import BadSignatureError, RecordInvalidError, RemoteProtocolError
from hostmesh.testing.records import make_description, make_host_record, reseal
from hostmesh.testing.wallets import TEST_NETWORK, make_peer_key, make_wallet
from hostmesh.v1 import discovery_pb2 as pb

HOST = make_peer_key("host")
ONE = make_host_record("host", make_description("m"), sequence=7)
OTHER = make_host_record("host", make_description("n"), sequence=7)
PROOF = make_proof(ONE, OTHER, network=TEST_NETWORK).to_bytes()


def proof_of(first: pb.SignedHostRecord, second: pb.SignedHostRecord) -> bytes:
    return pb.EquivocationProof(first_envelope=first.envelope, second_envelope=second.envelope).SerializeToString()


def test_a_proof_convicts_the_key_that_signed() -> None:
    assert verify_proof(PROOF, network=TEST_NETWORK) == HOST.peer_id
    proof = read_proof(PROOF, network=TEST_NETWORK)
    assert (proof.peer_id, proof.sequence) == (HOST.peer_id, 7)


def test_one_contradiction_has_one_proof() -> None:
    assert make_proof(OTHER, ONE, network=TEST_NETWORK) == make_proof(ONE, OTHER, network=TEST_NETWORK)
    assert read_proof(proof_of(OTHER, ONE), network=TEST_NETWORK).to_bytes() == PROOF


def test_neither_clock_nor_binding_matters() -> None:
    """Long after both have expired, and without the wallet's word."""
    old = [
        make_host_record("host", make_description(model), sequence=3, issued_at_unix_s=1_000_000, life_s=1)
        for model in ("m", "n")
    ]
    for record in old:
        record.ClearField("binding")
    assert make_proof(*old, network=TEST_NETWORK).peer_id == HOST.peer_id


def test_a_tombstone_contradicts_too() -> None:
    gone = make_host_record("host", sequence=7, state=HostState.WITHDRAWN)
    assert make_proof(ONE, gone, network=TEST_NETWORK).peer_id == HOST.peer_id


def test_two_wallets_are_no_excuse() -> None:
    """A key numbers its records, not those of each wallet: it shows one price here and another one there."""
    other = make_host_record("host", make_description("n"), wallet=make_wallet("another"), sequence=7)
    assert verify_proof(proof_of(ONE, other), network=TEST_NETWORK) == HOST.peer_id
    assert make_proof(other, ONE, network=TEST_NETWORK) == make_proof(ONE, other, network=TEST_NETWORK)


def test_a_proof_says_whose_the_records_are() -> None:
    """So that it stands in the history of each."""
    other = make_host_record("host", make_description("n"), wallet=make_wallet("another"), sequence=7)
    owner, another = (make_wallet(name).address.lower() for name in ("host", "another"))
    assert read_proof(PROOF, network=TEST_NETWORK).operators == (owner,)
    assert make_proof(ONE, other, network=TEST_NETWORK).operators == tuple(sorted((owner, another)))


def test_a_wallet_alone_makes_the_difference() -> None:
    """Which of the two may be paid is no small thing."""
    same = make_host_record("host", make_description("m"), wallet=make_wallet("another"), sequence=7)
    assert verify_proof(proof_of(ONE, same), network=TEST_NETWORK) == HOST.peer_id


def _renamed(network: str) -> pb.SignedHostRecord:
    def rename(body: pb.HostRecord) -> None:
        body.network = network

    return reseal(OTHER, rename, key=HOST)


def _by_another_peer() -> pb.SignedHostRecord:
    """The same body as one of ours, in an envelope of somebody else's."""
    return reseal(OTHER, lambda body: None, key=make_peer_key("mallory"))


def _named_after_the_host() -> pb.SignedHostRecord:
    return make_host_record("mallory", make_description("n"), sequence=7)


def _unnumbered() -> pb.SignedHostRecord:
    def clear(body: pb.HostRecord) -> None:
        body.sequence = 0

    return reseal(OTHER, clear, key=HOST)


TRIVIAL: dict[str, tuple[Callable[[], pb.SignedHostRecord], str, str]] = {
    "the same record": (lambda: ONE, "payload", "the two records say the same"),
    "the same body signed again": (
        lambda: reseal(ONE, lambda body: None, key=HOST),
        "payload",
        "the two records say the same",
    ),
    "another sequence": (
        lambda: make_host_record("host", make_description("n"), sequence=8),
        "sequence",
        "the two records have two sequences",
    ),
    "another host of one sequence": (_named_after_the_host, "peer_id", "two peers signed the two records"),
    "signed by another": (
        _by_another_peer,
        "peer_id",
        "the record names another peer than the one that signed it",
    ),
    "names another network": (lambda: _renamed("elsewhere"), "network", "the record is of another network"),
    "no sequence": (_unnumbered, "sequence", "the record has no sequence"),
}


@pytest.mark.parametrize(("second", "field", "says"), TRIVIAL.values(), ids=TRIVIAL)
@pytest.mark.parametrize("swapped", [False, True])
def test_what_proves_nothing_is_refused(
    second: Callable[[], pb.SignedHostRecord], field: str, says: str, swapped: bool
) -> None:
    pair = (second(), ONE) if swapped else (ONE, second())
    with pytest.raises(RecordInvalidError) as caught:
        verify_proof(proof_of(*pair), network=TEST_NETWORK)
    assert (caught.value.field, caught.value.message) == (field, says)
    with pytest.raises(RecordInvalidError):
        make_proof(*pair, network=TEST_NETWORK)


def test_a_proof_of_another_network_is_refused() -> None:
    with pytest.raises(BadSignatureError):
        verify_proof(PROOF, network="elsewhere")


def test_two_unnumbered_records_prove_nothing() -> None:
    with pytest.raises(RecordInvalidError) as caught:
        verify_proof(proof_of(_unnumbered(), _unnumbered()), network=TEST_NETWORK)
    assert caught.value.field == "sequence"


def test_sizes_are_bounded_before_anything_is_verified() -> None:
    message = pb.EquivocationProof(first_envelope=bytes(MAX_ENVELOPE_BYTES + 1), second_envelope=OTHER.envelope)
    for proof in (message.SerializeToString(), bytes(MAX_PROOF_BYTES + 1), b"", proof_of(ONE, pb.SignedHostRecord())):
        with pytest.raises(RecordInvalidError, match=r"^the (proof|record) is malformed: ."):
            verify_proof(proof, network=TEST_NETWORK)
    longest = pb.EquivocationProof(first_envelope=bytes(MAX_ENVELOPE_BYTES), second_envelope=bytes(MAX_ENVELOPE_BYTES))
    assert len(longest.SerializeToString()) <= MAX_PROOF_BYTES


@given(position=st.integers(0, len(PROOF) - 1), mask=st.integers(1, 255))
def test_a_changed_byte_convicts_nobody_else(position: int, mask: int) -> None:
    """A flip may fall on what protobuf leaves out of the value; who is convicted then has signed both all the same."""
    broken = bytearray(PROOF)
    broken[position] ^= mask
    try:
        convicted = verify_proof(bytes(broken), network=TEST_NETWORK)
    except RemoteProtocolError:
        return
    assert convicted == HOST.peer_id
