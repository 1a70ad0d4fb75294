"""A plug-in that checks deposits: asked within bounds, and never trusted to behave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from hostmesh.errors import ConfigError
from hostmesh.net.peer_id import peer_id_from_public_key
from hostmesh.sessions.admission.deposits import DepositClaim, DepositDesk, DepositLimits, DepositVerdict
from hostmesh.sessions.reasons import Reason, RefusedError

PEER = peer_id_from_public_key(bytes(range(32)))


@dataclass
class Verifier:
    answer: Callable[[DepositClaim], Awaitable[DepositVerdict]]
    asked: list[DepositClaim] = field(default_factory=list)

    async def verify_deposit(self, claim: DepositClaim) -> DepositVerdict:
        self.asked.append(claim)
        return await self.answer(claim)


def claim_of(proof: bytes = b"proof") -> DepositClaim:
    return DepositClaim(
        wallet=bytes(20), peer_id=PEER, model_id="m", spending_limit_micros=5, currency="USD", proof=proof
    )


async def accept(claim: DepositClaim) -> DepositVerdict:
    return DepositVerdict(is_enough=True)


async def refuse(claim: DepositClaim) -> DepositVerdict:
    return DepositVerdict(is_enough=False, why="y" * 5000)


async def fail(claim: DepositClaim) -> DepositVerdict:
    raise OSError("the chain's node at 10.0.0.7 is gone")


async def hang(claim: DepositClaim) -> DepositVerdict:
    await trio.sleep_forever()
    raise AssertionError


async def refusal(desk: DepositDesk, claim: DepositClaim) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        await desk.check(claim)
    return caught.value


async def test_without_a_verifier_nothing_is_demanded() -> None:
    desk = DepositDesk()
    assert not desk.is_open
    await desk.check(claim_of(b""))


async def test_a_verifier_sees_the_claim_and_decides() -> None:
    verifier = Verifier(accept)
    desk = DepositDesk(verifier)
    assert desk.is_open
    await desk.check(claim_of())
    assert verifier.asked == [claim_of()]


async def test_no_proof_is_not_shown_to_the_verifier() -> None:
    verifier = Verifier(accept)
    assert (await refusal(DepositDesk(verifier), claim_of(b""))).word is Reason.DEPOSIT_REQUIRED
    assert verifier.asked == []


async def test_a_refusal_says_why_in_a_few_words() -> None:
    refused = await refusal(DepositDesk(Verifier(refuse)), claim_of())
    assert refused.word is Reason.DEPOSIT_REFUSED
    assert "yyy" in refused.message
    assert len(refused.message) < 250


async def test_a_fault_of_the_plug_in_is_not_the_clients_and_tells_it_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = await refusal(DepositDesk(Verifier(fail)), claim_of())
    assert refused.word is Reason.DEPOSIT_UNAVAILABLE
    assert refused.retry_after_s
    assert "10.0.0.7" not in refused.message
    assert "10.0.0.7" in caplog.text  # to the operator


async def test_a_plug_in_has_so_much_time(autojump_clock: trio.testing.MockClock) -> None:
    desk = DepositDesk(Verifier(hang), DepositLimits(timeout_s=3.0, at_once=1))
    for at in (3.0, 6.0):  # the place is free again
        assert (await refusal(desk, claim_of())).word is Reason.DEPOSIT_UNAVAILABLE
        assert trio.current_time() == at


async def test_so_many_are_checked_at_once(autojump_clock: trio.testing.MockClock) -> None:
    verifier = Verifier(hang)
    desk = DepositDesk(verifier, DepositLimits(at_once=2))
    words: list[Reason] = []

    async def ask() -> None:
        words.append((await refusal(desk, claim_of())).word)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert len(verifier.asked) == 2
        assert words == [Reason.DEPOSIT_UNAVAILABLE] * 3
    assert len(words) == 5


async def test_a_client_that_goes_away_frees_its_place() -> None:
    verifier = Verifier(hang)
    desk = DepositDesk(verifier, DepositLimits(at_once=1))
    with trio.move_on_after(0):
        await desk.check(claim_of())
    verifier.answer = accept
    await desk.check(claim_of())


@pytest.mark.parametrize("limits", [{"timeout_s": 0.0}, {"at_once": 0}])
def test_limits_have_bounds(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        DepositLimits(**limits)  # type: ignore[arg-type]
