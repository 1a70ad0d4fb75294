"""The table of challenges: one peer's, sixty seconds, used once, bounded."""

import pytest

from hostmesh.errors import ConfigError, UsageError
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.admission.challenge_table import ChallengeLimits, ChallengeTable, network_key_of
from hostmesh.sessions.reasons import Reason, RefusedError

ALICE, BOB = PeerId("alice"), PeerId("bob")


def nonce(number: int) -> bytes:
    return number.to_bytes(32, "big")


def refused(call: object, *args: object, **kwargs: object) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call(*args, **kwargs)  # type: ignore[operator]
    return caught.value


def test_a_challenge_is_open_until_it_is_burnt() -> None:
    table = ChallengeTable()
    assert table.issue(ALICE, nonce=nonce(1), now=0.0) == 60.0
    table.check(nonce(1), ALICE, 0.0)
    table.check(nonce(1), ALICE, 59.9)
    table.burn(nonce(1))
    assert refused(table.check, nonce(1), ALICE, 1.0).word is Reason.UNKNOWN_CHALLENGE
    assert len(table) == 0
    table.burn(nonce(1))


@pytest.mark.parametrize(
    ("number", "peer", "now"), [(1, BOB, 1.0), (2, ALICE, 1.0), (1, ALICE, 60.0), (1, ALICE, 1e9)],
    ids=["another peer", "never issued", "expired", "long expired"],
)  # fmt: skip
def test_another_challenge_is_unknown(number: int, peer: PeerId, now: float) -> None:
    table = ChallengeTable()
    table.issue(ALICE, nonce=nonce(1), now=0.0)
    assert refused(table.check, nonce(number), peer, now).word is Reason.UNKNOWN_CHALLENGE


def test_a_failed_check_spends_nothing() -> None:
    table = ChallengeTable()
    table.issue(ALICE, nonce=nonce(1), now=0.0)
    refused(table.check, nonce(1), BOB, 1.0)
    table.check(nonce(1), ALICE, 1.0)


def test_a_peer_has_so_many() -> None:
    table = ChallengeTable(ChallengeLimits(per_peer=2))
    table.issue(ALICE, nonce=nonce(1), now=0.0)
    table.issue(ALICE, nonce=nonce(2), now=10.0)
    error = refused(table.issue, ALICE, nonce=nonce(3), now=20.0)
    assert error.word is Reason.TOO_MANY_CHALLENGES
    assert error.retry_after_s == 40.0
    table.issue(BOB, nonce=nonce(4), now=20.0)
    table.burn(nonce(2))
    table.issue(ALICE, nonce=nonce(5), now=20.0)
    refused(table.issue, ALICE, nonce=nonce(6), now=59.9)
    table.issue(ALICE, nonce=nonce(6), now=60.0)


def test_a_network_has_so_many_whatever_its_peers() -> None:
    table = ChallengeTable(ChallengeLimits(per_network=3))
    for number in range(3):
        table.issue(PeerId(f"peer {number}"), nonce=nonce(number), now=0.0, network_key="203.0.113.0/24")
    error = refused(table.issue, PeerId("peer 9"), nonce=nonce(9), now=0.0, network_key="203.0.113.0/24")
    assert error.word is Reason.TOO_MANY_CHALLENGES
    table.issue(PeerId("peer 9"), nonce=nonce(9), now=0.0, network_key="198.51.100.0/24")
    table.issue(PeerId("peer 10"), nonce=nonce(10), now=0.0, network_key=None)


def test_a_flood_is_bounded_and_drops_nobodys_challenge() -> None:
    table = ChallengeTable(ChallengeLimits(total=100))
    table.issue(ALICE, nonce=nonce(0), now=0.0)
    refusals = 0
    for number in range(1, 5000):
        try:
            table.issue(PeerId(f"peer {number}"), nonce=nonce(number), now=1.0)
        except RefusedError:
            refusals += 1
    assert len(table) == 100
    assert refusals == 4999 - 99
    table.check(nonce(0), ALICE, 1.0)
    # A minute later the flood is gone.
    table.issue(BOB, nonce=nonce(6000), now=61.0)
    assert len(table) == 1


def test_what_is_gone_leaves_no_trace() -> None:
    table = ChallengeTable()
    for number in range(50):
        table.issue(PeerId(f"peer {number}"), nonce=nonce(number), now=0.0, network_key=f"net {number}")
    table.burn(nonce(0))
    table.expire(60.0)
    assert (len(table), len(table._of_peer), len(table._of_network)) == (0, 0, 0)


@pytest.mark.parametrize("bad", [b"", bytes(31), bytes(33)])
def test_a_nonce_has_32_bytes(bad: bytes) -> None:
    with pytest.raises(UsageError):
        ChallengeTable().issue(ALICE, nonce=bad, now=0.0)


def test_a_repeating_source_of_randomness_is_found_out() -> None:
    table = ChallengeTable()
    table.issue(ALICE, nonce=nonce(1), now=0.0)
    with pytest.raises(UsageError):
        table.issue(BOB, nonce=nonce(1), now=1.0)


def test_limits_of_one_are_limits() -> None:
    table = ChallengeTable(ChallengeLimits(per_peer=1, per_network=1, total=1, lifetime_s=0.5))
    assert table.issue(ALICE, nonce=nonce(1), now=0.0, network_key="n") == 0.5
    with pytest.raises(RefusedError):
        table.issue(ALICE, nonce=nonce(2), now=0.4, network_key="n")
    table.issue(ALICE, nonce=nonce(2), now=0.5, network_key="n")


@pytest.mark.parametrize(
    "limits", [{"per_peer": 0}, {"per_network": 0}, {"total": 0}, {"lifetime_s": 0.0}, {"lifetime_s": 61.0}]
)
def test_limits_that_let_nobody_in_or_hold_for_ever_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ChallengeLimits(**limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ip", "key"),
    [
        ("203.0.113.1", "203.0.113.0/24"),
        ("203.0.113.255", "203.0.113.0/24"),
        ("203.0.114.1", "203.0.114.0/24"),
        ("2001:db8:1:ffff::1", "2001:db8:1::/48"),
        ("2001:db8:2::1", "2001:db8:2::/48"),
        ("::ffff:203.0.113.1", "203.0.113.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("relay", None),
        ("", None),
    ],
)
def test_a_network_is_a_24_or_a_48(ip: str, key: str | None) -> None:
    assert network_key_of(ip) == key
