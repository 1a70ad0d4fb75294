"""Proof of work: what is enough, what a search tries, and that a client does no more than it agreed to."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from Crypto.Hash import keccak
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import ConfigError, SessionError, UsageError
from hostmesh.sessions.admission import work_search
from hostmesh.sessions.admission.work import WorkLimit, find_work, is_enough, zero_bits
from hostmesh.sessions.admission.work_search import do_work

NONCES = st.binary(min_size=32, max_size=32)


def leading_zeros(nonce: bytes, work: bytes) -> int:
    """Count them as a text of binary digits, of a digest made without hostmesh."""
    digest = keccak.new(data=nonce + work, digest_bits=256).digest()
    text = "".join(f"{byte:08b}" for byte in digest)
    return len(text) - len(text.lstrip("0"))


@given(st.binary(max_size=40))
def test_zero_bits_are_those_of_the_text(digest: bytes) -> None:
    text = "".join(f"{byte:08b}" for byte in digest)
    assert zero_bits(digest) == len(text) - len(text.lstrip("0"))


@given(NONCES, st.integers(0, 8))
def test_what_is_found_is_enough_and_is_the_first(nonce: bytes, bits: int) -> None:
    work = find_work(nonce, bits, first=0, tries=1 << 13)
    assert work is not None
    assert leading_zeros(nonce, work) >= bits
    assert is_enough(nonce, work, bits)
    for earlier in range(int.from_bytes(work, "big")):
        assert leading_zeros(nonce, earlier.to_bytes(8, "big")) < bits


@given(NONCES, st.binary(min_size=8, max_size=8), st.integers(0, 32))
def test_enough_is_exactly_so_many_zeros(nonce: bytes, work: bytes, bits: int) -> None:
    assert is_enough(nonce, work, bits) == (leading_zeros(nonce, work) >= bits)


@pytest.mark.parametrize("size", [0, 1, 7, 9])
def test_work_has_eight_bytes(size: int) -> None:
    # One of these hashes to enough zeros, were it work.
    works = [number.to_bytes(size, "big") for number in range(min(256**size, 64))]
    assert not any(is_enough(bytes(32), work, 1) for work in works)
    assert all(is_enough(bytes(32), work, 0) for work in works)
    if size:
        assert any(leading_zeros(bytes(32), work) >= 1 for work in works)


def test_work_is_of_one_nonce() -> None:
    work = find_work(bytes(32), 12, first=0, tries=1 << 17)
    assert work is not None
    others = [bytes([number]) + bytes(31) for number in range(1, 50)]
    assert not any(is_enough(nonce, work, 12) for nonce in others)


def test_a_search_is_bounded_and_goes_on_where_it_ended() -> None:
    whole = find_work(bytes(32), 10, first=0, tries=1 << 15)
    assert whole is not None
    at = int.from_bytes(whole, "big")
    assert at > 0
    assert find_work(bytes(32), 10, first=0, tries=at) is None
    assert find_work(bytes(32), 10, first=at, tries=1) == whole
    # The last candidate is followed by the first.
    around = find_work(bytes(32), 10, first=2**64 - 1, tries=at + 2)
    assert around is not None
    assert is_enough(bytes(32), around, 10)


@pytest.mark.parametrize(("nonce", "bits"), [(bytes(31), 1), (bytes(33), 1), (bytes(32), -1), (bytes(32), 33)])
def test_nothing_else_is_searched(nonce: bytes, bits: int) -> None:
    with pytest.raises(UsageError):
        find_work(nonce, bits, first=0, tries=1)


@pytest.mark.parametrize("limits", [{"max_bits": -1}, {"max_bits": 33}, {"max_s": 0.0}, {"max_s": float("nan")}])
def test_a_limit_has_bounds(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        WorkLimit(**limits)  # type: ignore[arg-type]
    assert WorkLimit(max_bits=0).max_bits == 0, "no work at all"


async def test_a_client_does_what_it_agreed_to() -> None:
    work = await do_work(bytes(32), 10, WorkLimit(max_bits=10))
    assert leading_zeros(bytes(32), work) >= 10


async def test_a_client_does_not_begin_what_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(work_search, "find_work", lambda *args, **more: tried.append(more["tries"]))
    with pytest.raises(SessionError) as caught:
        await do_work(bytes(32), 11, WorkLimit(max_bits=10))
    assert caught.value.reason == "WORK_REQUIRED"
    assert "11 bits" in caught.value.message
    assert caught.value.remedy
    assert tried == []


async def test_a_client_stops_at_its_time(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each slice takes 1 s by this clock and finds nothing.
    def find_nothing(nonce: bytes, bits: int, *, first: int, tries: int) -> None:
        autojump_clock.jump(1.0)

    monkeypatch.setattr(work_search, "find_work", find_nothing)
    with pytest.raises(SessionError) as caught:
        await do_work(bytes(32), 20, WorkLimit(max_s=7.0))
    assert caught.value.reason == "WORK_REQUIRED"
    assert trio.current_time() == 7.0


async def test_a_search_lets_others_run_and_ends_when_it_is_cancelled() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        with trio.CancelScope() as scope:
            nursery.start_soon(end_after, scope, lambda: turns >= 50)
            await do_work(bytes(32), 32, WorkLimit(max_bits=32))
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()
    assert turns >= 50


async def end_after(scope: trio.CancelScope, is_time: object) -> None:
    assert callable(is_time)
    while not is_time():
        await trio.lowlevel.checkpoint()
    scope.cancel()
