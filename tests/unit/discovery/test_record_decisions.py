"""What the book of records tells, counts and logs of each record and proof."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import pytest
import trio
from discovery_world import EPOCH, NETWORK, make_description, make_key, make_record, trusting_verifier
from trio.testing import MockClock

from hostmesh.discovery.bans import MAX_STRANGERS_PER_INTRODUCER
from hostmesh.discovery.description import HostState
from hostmesh.discovery.equivocation import make_proof
from hostmesh.discovery.events import DiscoveryEvent, RecordDecided, RecordDecision
from hostmesh.discovery.records import MAX_NAMED, ProofTaken, RecordBook
from hostmesh.errors import HostmeshError, RemoteProtocolError, StoreError
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

HOST, OTHER, GOSSIP = (make_key(name).peer_id for name in ("host", "other", "gossip"))


class Bench:
    """A book, a clock that is moved by hand, and what was told."""

    def __init__(self) -> None:
        self.now = float(EPOCH)
        system = System(unix_s=lambda: self.now)
        self.book = RecordBook(network=NETWORK, verify_binding=trusting_verifier, system=system)
        self.told: list[DiscoveryEvent] = []
        self.book.events.listen(self.told.append)

    def accept(self, signed: pb.SignedHostRecord, **given: Any) -> RecordDecided:
        with suppress(RemoteProtocolError):
            self.book.accept(signed, **given)
        return self.last()

    def last(self) -> RecordDecided:
        (event,) = self.told
        self.told.clear()
        assert isinstance(event, RecordDecided)
        return event


def decided(decision: RecordDecision, peer_id: PeerId | None = HOST, **fields: Any) -> RecordDecided:
    return RecordDecided(at_s=trio.current_time(), decision=decision, peer_id=peer_id, **fields)


def proof_against(name: str) -> pb.EquivocationProof:
    first, second = (make_record(name, make_description(model), sequence=5) for model in ("m", "n"))
    return make_proof(first, second, network=NETWORK).to_wire()


async def test_each_record_is_told_with_what_became_of_it(autojump_clock: MockClock) -> None:
    bench = Bench()
    await trio.sleep(7)
    first, newer = make_record(sequence=2), make_record(sequence=3)
    for signed, decision, sequence in (
        (first, RecordDecision.ADDED, 2),
        (first, RecordDecision.KNOWN, 2),
        (newer, RecordDecision.REPLACED, 3),
        (first, RecordDecision.OLDER, 2),
        (make_record(sequence=4, state=HostState.WITHDRAWN), RecordDecision.WITHDRAWN, 4),
        (make_record(sequence=4, state=HostState.WITHDRAWN), RecordDecision.KNOWN, 4),
        (make_record(sequence=5), RecordDecision.REPLACED, 5),
        (make_record(sequence=5, issued=EPOCH + 1), RecordDecision.BANNED, 5),
        (make_record(sequence=6), RecordDecision.BANNED, 6),
    ):
        assert bench.accept(signed, introducer=HOST) == decided(decision, sequence=sequence)
    gossip = bench.accept(make_record("other", sequence=9), introducer=GOSSIP)
    assert gossip == decided(RecordDecision.ADDED, OTHER, sequence=9, introducer=GOSSIP)
    assert gossip.at_s == 7


async def test_a_record_that_does_not_hold_is_told_with_why(autojump_clock: MockClock) -> None:
    bench = Bench()
    wrong = make_record(network="elsewhere")
    for times in (1, 2):
        refused = bench.accept(wrong, expected_peer_id=HOST, introducer=GOSSIP)
        assert refused == decided(RecordDecision.REFUSED, introducer=GOSSIP, reason="SIGNATURE_BAD")
        assert bench.book.counts["refused:SIGNATURE_BAD"] == times
    pushed = bench.accept(make_record(state=HostState.WITHDRAWN, started=EPOCH + 31), introducer=GOSSIP)
    assert pushed == decided(RecordDecision.REFUSED, None, introducer=GOSSIP, reason="started_at_unix_s")
    another = bench.accept(make_record("other"), expected_peer_id=HOST)
    assert another == decided(RecordDecision.REFUSED, reason="peer_id")
    bench.now += 151
    late = bench.accept(make_record(), expected_peer_id=HOST)
    assert late == decided(RecordDecision.EXPIRED, reason="expires_at_unix_s")


async def test_the_counter_of_a_field_is_one_whatever_its_index(autojump_clock: MockClock) -> None:
    """Who sends garbage makes no counters."""
    bench = Bench()
    for count, index in enumerate((0, 3), start=1):
        broken = pb.SignedHostRecord(envelope=_with_a_bad_offer(index), binding=make_record().binding)
        assert bench.accept(broken, expected_peer_id=HOST).reason == "models"
        assert bench.book.counts["refused:models"] == count


def _with_a_bad_offer(index: int) -> bytes:
    signed = make_record(description=make_description(*(f"m{number}" for number in range(5))))
    domain, payload_type = f"hostmesh:{NETWORK}:host-record", b"/hostmesh/host-record"
    opened = open_envelope(signed.envelope, domain=domain, payload_type=payload_type, max_bytes=10_752)
    body = pb.HostRecord.FromString(opened.payload)
    body.models[index].weights_sha256 = b"short"
    return seal_envelope(make_key("host"), domain=domain, payload_type=payload_type, payload=body.SerializeToString())


async def test_each_proof_is_told_with_what_became_of_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    bench.accept(make_record(sequence=9))
    with caplog.at_level(logging.WARNING, logger="hostmesh.discovery"):
        assert bench.book.accept_proof(proof_against("host"), introducer=GOSSIP) is ProofTaken.BANNED
    assert caplog.messages == [f"{GOSSIP} proved that host {HOST} signed two records of one sequence; banned"]
    assert bench.last() == decided(RecordDecision.BANNED, introducer=GOSSIP, reason="proof")
    caplog.clear()
    for times in (1, 2):
        assert bench.book.accept_proof(proof_against("host"), introducer=GOSSIP) is ProofTaken.KNOWN
        assert (bench.told, bench.book.counts["proof:known"]) == ([], times)
    for number in range(MAX_STRANGERS_PER_INTRODUCER):
        bench.book.accept_proof(proof_against(f"stranger {number}"), introducer=GOSSIP)
    bench.told.clear()
    caplog.clear()
    assert bench.book.accept_proof(proof_against("one more"), introducer=GOSSIP) is ProofTaken.REFUSED
    stranger = make_key("one more").peer_id
    assert bench.last() == decided(RecordDecision.REFUSED, stranger, introducer=GOSSIP, reason="proof")
    assert caplog.messages == []


async def test_contradictions_are_counted_logged_and_dated(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    for count, name in enumerate(("host", "other"), start=1):
        bench.accept(make_record(name, make_description("m"), sequence=5))
        bench.now += 1
        bench.accept(make_record(name, make_description("n"), sequence=5))
        assert (bench.book.counts["equivocation"], bench.book.counts["proof:made"]) == (count, count)
    assert caplog.messages[0] == f"host {HOST} signed two records of sequence 5; banned"
    assert [ban.banned_at_unix_s for ban in bench.book.bans] == [EPOCH + 1, EPOCH + 2]


class Full:
    """A store whose disk is full."""

    def load(self, _network: str) -> list[Any]:
        return []

    def put(self, _network: str, _ban: Any) -> None:
        raise StoreError("the disk is full", path="bans.db")


async def test_a_ban_that_cannot_be_kept_holds_and_is_counted(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    bench.book.remember_bans(Full())  # type: ignore[arg-type]
    for count, name in enumerate(("host", "other"), start=1):
        bench.book.accept_proof(proof_against(name), introducer=GOSSIP)
        assert bench.book.counts["ban_not_kept"] == count
    assert f"the ban of {HOST} is not kept: the disk is full" in caplog.messages
    assert [ban.peer_id for ban in bench.book.bans] == [HOST, OTHER]


def test_who_was_named_is_told_by_source_with_by_whom() -> None:
    book = Bench().book
    book.name(HOST, "mdns")
    book.name(OTHER, "exchange", named_by=GOSSIP)
    book.name(HOST, "exchange", named_by=GOSSIP)
    assert book.named() == [("exchange", OTHER, GOSSIP), ("exchange", HOST, GOSSIP), ("mdns", HOST, None)]
    assert book.sources_of(HOST) == ("exchange", "mdns")


def test_of_each_source_the_one_that_it_named_longest_ago_goes() -> None:
    book = Bench().book
    for number in range(MAX_NAMED):
        book.name(PeerId(str(number)), "dht")
    book.name(PeerId("0"), "dht")
    book.name(PeerId("elsewhere"), "mdns")
    book.name(PeerId("new"), "dht")
    assert [book.sources_of(PeerId(name)) for name in ("0", "1", "2", "new")] == [("dht",), (), ("dht",), ("dht",)]
    assert book.sources_of(PeerId("elsewhere")) == ("mdns",)


async def test_nobody_listening_costs_nothing(autojump_clock: MockClock) -> None:
    book = RecordBook(network=NETWORK, verify_binding=trusting_verifier, system=System(unix_s=lambda: float(EPOCH)))
    assert not book.events
    book.accept(make_record())
    with pytest.raises(HostmeshError):
        book.accept(make_record("other"), expected_peer_id=HOST)
