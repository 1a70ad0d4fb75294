"""Challenges that a host need not remember: of one peer, one minute, one host, one session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import UsageError
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.sessions.admission.challenge_cookies import ChallengeCookies
from hostmesh.sessions.reasons import Reason, RefusedError

PEER = peer_id_from_public_key(bytes(range(32)))
OTHER = peer_id_from_public_key(bytes(range(1, 33)))
SECRET = b"s" * 32
RANDOM = b"r" * 11


def refusal(cookies: ChallengeCookies, nonce: bytes, now: float, peer: PeerId = PEER) -> Reason:
    with pytest.raises(RefusedError) as caught:
        cookies.bits_of(nonce, peer, now)
    return caught.value.word


@given(st.floats(0, 2**33), st.integers(0, 32), st.binary(min_size=11, max_size=11), st.floats(0, 58.9))
def test_a_cookie_says_its_work_for_a_minute(now: float, bits: int, random: bytes, later: float) -> None:
    cookies = ChallengeCookies(SECRET)
    nonce, expires_at = cookies.issue(PEER, bits=bits, random=random, now=now)
    assert len(nonce) == 32
    assert now + 59 <= expires_at <= now + 60
    assert cookies.bits_of(nonce, PEER, now + later) == bits
    assert refusal(cookies, nonce, expires_at) is Reason.UNKNOWN_CHALLENGE
    assert refusal(cookies, nonce, now + 3600) is Reason.UNKNOWN_CHALLENGE


@given(st.integers(0, 31), st.integers(1, 255))
def test_no_byte_of_it_can_be_changed(at: int, change: int) -> None:
    cookies = ChallengeCookies(SECRET)
    nonce, _ = cookies.issue(PEER, bits=14, random=RANDOM, now=100.0)
    forged = nonce[:at] + bytes([nonce[at] ^ change]) + nonce[at + 1 :]
    assert cookies.bits_of(forged, PEER, 100.0) is None


def test_it_is_of_one_peer_and_one_host_and_one_start() -> None:
    cookies = ChallengeCookies(SECRET)
    nonce, _ = cookies.issue(PEER, bits=14, random=RANDOM, now=100.0)
    assert cookies.bits_of(nonce, OTHER, 100.0) is None
    assert ChallengeCookies(b"t" * 32).bits_of(nonce, PEER, 100.0) is None
    assert ChallengeCookies(SECRET).bits_of(nonce, PEER, 100.0) == 14


def test_a_nonce_that_is_no_cookie_is_none() -> None:
    cookies = ChallengeCookies(SECRET)
    for nonce in (b"", bytes(31), bytes(32), bytes(33)):
        assert cookies.bits_of(nonce, PEER, 0.0) is None


def test_it_opens_one_session() -> None:
    cookies = ChallengeCookies(SECRET)
    nonce, expires_at = cookies.issue(PEER, bits=14, random=RANDOM, now=100.9)
    cookies.burn(nonce, 159.0)
    for now in (159.0, expires_at - 0.1):
        assert refusal(cookies, nonce, now) is Reason.REPLAYED
    # From here on it is its age that refuses it; there is nothing to remember.
    other, _ = cookies.issue(PEER, bits=14, random=b"o" * 11, now=300.0)
    assert cookies.bits_of(other, PEER, 300.0) == 14
    assert len(cookies) == 0
    assert refusal(cookies, nonce, 300.0) is Reason.UNKNOWN_CHALLENGE


def test_what_was_burnt_is_bounded_and_never_forgotten_too_early() -> None:
    cookies = ChallengeCookies(SECRET, max_burnt=3)
    nonces = [cookies.issue(PEER, bits=1, random=bytes([n]) * 11, now=100.0)[0] for n in range(4)]
    for at, nonce in enumerate(nonces[:3]):
        assert cookies.bits_of(nonce, PEER, 100.0 + at) == 1
        cookies.burn(nonce, 100.0 + at)
    with pytest.raises(RefusedError) as caught:
        cookies.bits_of(nonces[3], PEER, 110.0)
    assert caught.value.word is Reason.TOO_MANY_CHALLENGES
    assert caught.value.retry_after_s == 50.0
    assert [refusal(cookies, nonce, 110.0) for nonce in nonces[:3]] == [Reason.REPLAYED] * 3
    fresh, _ = cookies.issue(PEER, bits=1, random=b"f" * 11, now=160.0)
    assert cookies.bits_of(fresh, PEER, 160.0) == 1
    assert len(cookies) == 2


def test_the_secret_does_not_show() -> None:
    assert "s" * 8 not in repr(ChallengeCookies(SECRET))


def test_what_makes_no_cookie_is_refused() -> None:
    with pytest.raises(UsageError):
        ChallengeCookies(b"short")
    with pytest.raises(UsageError):
        ChallengeCookies(SECRET).issue(PEER, bits=1, random=b"short", now=0.0)
