"""Whom a sweep holds back, and with what they come when there is a place; the shares themselves are properties."""

from __future__ import annotations

from discovery_world import make_key

from hostmesh.discovery.intake import Intake
from hostmesh.discovery.source import Candidate
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId

FIRST, SECOND, NAMER = (make_key(name).peer_id for name in ("first", "second", "namer"))


def candidate(peer_id: PeerId, *addresses: str) -> Candidate:
    return Candidate(
        peer_id=peer_id, addresses=addresses, source="exchange", origin=AddressOrigin.REMOTE, named_by=NAMER
    )


def test_who_was_held_back_comes_with_every_address_that_was_named() -> None:
    """Of 8 places one peer that names others has one, until its source has ended."""
    intake = Intake(["exchange"], max_candidates=8)
    assert intake.offer(candidate(FIRST, "/ip4/192.0.2.1/tcp/1"), "exchange")
    named = [("/ip4/192.0.2.2/tcp/1",), ("/ip4/192.0.2.2/tcp/1", "/ip4/192.0.2.3/tcp/1")]
    for addresses in named:
        assert not intake.offer(candidate(SECOND, *addresses), "exchange")
    assert (len(intake), intake.dropped) == (1, 1)
    assert intake.end("exchange") == [(candidate(SECOND, *named[1]), "exchange")]
    assert (len(intake), intake.dropped) == (2, 0)
    assert [intake.next(), intake.next(), intake.next()] == [FIRST, SECOND, None]
