"""From when to when what was signed for a session holds, to the second; clocks may differ by half a minute."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from hostmesh.identity.structs import NO_DIGEST, DelegationRevocation
from hostmesh.sessions.authorization import check_times, message_from_terms
from hostmesh.sessions.delegation import check_revocation_times
from hostmesh.sessions.reasons import Reason, RefusedError

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NOW = 1_700_000_000


def reason_of(check: Any, *args: Any, **options: Any) -> str | None:
    try:
        check(*args, **options)
    except RefusedError as error:
        return error.word
    return None


@pytest.mark.parametrize(
    ("issued", "expires", "reason"),
    [
        (-60, 1, None),
        (-60, 0, Reason.EXPIRED),
        (30, 60, None),
        (31, 60, Reason.NOT_YET_VALID),
        # For no time at all, though the other's clock is ahead.
        (20, 21, None),
        (20, 20, Reason.EXPIRED),
        (-60, 3540, None),
        (-60, 3541, Reason.LIFETIME_TOO_LONG),
    ],
)
def test_an_authorisation(issued: int, expires: int, reason: Reason | None, world: World) -> None:
    terms = dataclasses.replace(world.terms(bytes(32)), issued_at_unix_s=NOW + issued, expires_at_unix_s=NOW + expires)
    assert reason_of(check_times, terms, now=NOW, max_lifetime_s=3600) == reason


@pytest.mark.parametrize(
    ("issued", "reason"),
    [
        (30, None),
        (31, Reason.REVOCATION_NOT_YET_VALID),
        # A delegation lives a day; both were issued by clocks that may differ.
        (-86_400 - 59, None),
        (-86_400 - 60, Reason.REVOCATION_EXPIRED),
    ],
)
def test_a_revocation(issued: int, reason: Reason | None) -> None:
    revocation = DelegationRevocation(owner=bytes(20), delegation_digest=bytes(32), issued_at_unix_s=NOW + issued)
    assert reason_of(check_revocation_times, revocation, NOW) == reason


def test_no_delegation_takes_no_room_on_the_wire(world: World) -> None:
    terms = world.terms(bytes(32))
    assert terms.delegation_digest == NO_DIGEST
    assert message_from_terms(terms, bytes(65)).delegation_digest == b""
