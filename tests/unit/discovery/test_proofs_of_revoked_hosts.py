"""Proofs of contradictions ban a binding, and not the host that its operator bound anew."""

from __future__ import annotations

import pytest
from discovery_world import (
    EPOCH,
    NETWORK,
    make_description,
    make_records,
)
from discovery_world import make_record as record
from tests.unit.discovery.revoked_kit import GOSSIP, book, proof_of

from hostmesh.discovery.equivocation import make_proof
from hostmesh.discovery.records import ProofTaken
from hostmesh.discovery.store import BanStore
from hostmesh.discovery.table import Merge
from hostmesh.errors import RecordInvalidError
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb


def test_a_restored_backup_recovers_by_a_binding_of_a_higher_epoch() -> None:
    """It repeated a number; its operator binds it anew, and it may even repeat numbers once more."""
    records, store = book(), BanStore(None)
    records.remember_bans(store)
    for model in ("m", "n"):
        records.accept(record("host", make_description(model), sequence=5))
    assert records.accept(record(sequence=6))[1] is Merge.BANNED
    assert records.accept(record(sequence=5, epoch=1))[1] is Merge.ADDED
    assert [host.info.sequence for host in records.live()] == [5]
    # What proves the lie of before proves nothing against it now, whoever replays it.
    for _ in range(2):
        assert records.accept_proof(proof_of(), introducer=GOSSIP) is ProofTaken.KNOWN
        assert len(records.live()) == 1
    again = make_records(System(unix_s=lambda: EPOCH))
    again.remember_bans(store)
    assert again.accept(record(sequence=7))[1] is Merge.BANNED
    assert again.accept(record(sequence=7, epoch=1))[1] is Merge.ADDED


def test_a_proof_of_before_is_taken_and_leaves_the_host_that_was_bound_anew() -> None:
    records = book()
    records.accept(record(sequence=9, epoch=1))
    assert records.accept_proof(proof_of(), introducer=GOSSIP) is ProofTaken.BANNED
    assert len(records.live()) == 1
    assert records.accept_proof(proof_of(epoch=1), introducer=GOSSIP) is ProofTaken.BANNED
    assert (records.live(), [ban.epoch for ban in records.bans]) == ([], [1])


def test_records_of_two_epochs_of_one_wallet_contradict_nothing() -> None:
    old, new = (record("host", make_description(m), sequence=5, epoch=e) for m, e in (("m", 0), ("n", 1)))
    with pytest.raises(RecordInvalidError) as caught:
        make_proof(old, new, network=NETWORK)
    assert caught.value.field == "binding_epoch"
    records = book()
    with pytest.raises(RecordInvalidError):
        records.accept_proof(
            pb.EquivocationProof(first_envelope=old.envelope, second_envelope=new.envelope), introducer=GOSSIP
        )
    for each, merge in ((old, Merge.ADDED), (new, Merge.REPLACED), (old, Merge.REVOKED)):
        assert records.accept(each)[1] is merge
    assert records.bans == ()


def test_another_wallet_does_not_help_who_is_banned() -> None:
    records = book()
    records.accept_proof(proof_of(epoch=3), introducer=GOSSIP)
    for operator, epoch in (("host", 3), ("another", 0), ("another", 3)):
        assert records.accept(record(sequence=9, operator=operator, epoch=epoch))[1] is Merge.BANNED


def test_a_key_that_nobody_knew_gains_no_ever_higher_bans() -> None:
    """Who holds it could go on for ever, with a write to the disk each time."""
    records = book()
    assert records.accept_proof(proof_of(), introducer=GOSSIP) is ProofTaken.BANNED
    for epoch in range(1, 5):
        assert records.accept_proof(proof_of(epoch=epoch), introducer=GOSSIP) is ProofTaken.REFUSED
    assert [ban.epoch for ban in records.bans] == [0]
    records.accept(record(epoch=5))
    assert records.accept_proof(proof_of(epoch=5), introducer=GOSSIP) is ProofTaken.BANNED


def test_no_proof_bans_epochs_that_no_binding_can_have_yet() -> None:
    """Who holds a copy of the key names what he likes; the operator's next binding, of the time, is above it."""
    records = book()
    for epoch in (EPOCH + 31, 2**64 - 1):
        assert records.accept_proof(proof_of(epoch=epoch), introducer=GOSSIP) is ProofTaken.REFUSED
    assert records.accept(record())[1] is Merge.ADDED
    assert records.accept_proof(proof_of(epoch=EPOCH), introducer=GOSSIP) is ProofTaken.BANNED
    assert records.live() == []
    later = book(now=EPOCH + 60)
    for _ in range(2):
        later.accept_proof(proof_of(epoch=EPOCH), introducer=GOSSIP)
    assert later.accept(record(sequence=8))[1] is Merge.BANNED
    assert later.accept(record(sequence=8, epoch=EPOCH + 60, issued=EPOCH + 60))[1] is Merge.ADDED
