"""Two parties of whom each may lie, stop or repeat itself at any step: neither loses more than the session's slice.

The shipped client and host of jobs, over real calls. In each test one of them is honest; the world beside them keeps
the truth and checks it with every step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.jobs.two_parties.cheats import Answer, Cheat, CheatingClient, faithful, greedy
from tests.property.jobs.two_parties.honest import Ask, HonestClient
from tests.property.jobs.two_parties.liars import BETWEEN_THE_TWO, PROVED, Lie, LyingHost, is_proved
from tests.property.jobs.two_parties.truth import UNCOUNTED_CONTEXT_TOKENS, Words
from tests.property.jobs.two_parties.truth import price as price_of
from tests.property.jobs.two_parties.world import World
from tests.unit.jobs.kit import HOST_KEY

from hostmesh.jobs.server import JobServer
from hostmesh.receipts.proof import proof_from_json, verify_proof

SLICES = st.integers(4, 40)
"""Micro-units; to an engine that counts no prompt before it is answered, so much above a context, or several."""
PRICES = st.sampled_from([300_000, 1_000_000, 2_500_000])
"""A token costs a third of a micro-unit, one, or two and a half."""
CONTEXTS = st.sampled_from([0, 0, 1, 1, 2, 5])
"""0: an engine that counts prompts before they are answered. Else one that does not, and so many contexts a slice."""
PIECES = st.lists(st.integers(1, 3), max_size=20).map(tuple)


@dataclass(frozen=True)
class Wait:
    """Time goes by."""

    seconds: float


@dataclass(frozen=True)
class Restart:
    """The host is killed and starts again."""


@dataclass(frozen=True)
class Replay:
    """The client sends all its signatures again."""


@dataclass(frozen=True)
class Close:
    """The session is closed; what was done in it may still be countersigned."""


CHEATS = st.builds(
    Cheat,
    prompt_words=st.integers(0, 12),
    pieces=PIECES,
    answers=st.lists(st.sampled_from([*Answer, *[Answer.SIGN] * 6]), min_size=1, max_size=4).map(tuple),
    leave_after=st.none() | st.integers(1, 12),
    asks=st.lists(st.integers(0, 12) | st.just(2**64 - 1), max_size=2).map(tuple),
    signs_last=st.booleans(),
    is_run_twice=st.booleans(),
    asks_early=st.booleans(),
    fail_after=st.none() | st.integers(0, 8),
    delay_s=st.sampled_from([0.0, 1.0, 40.0]),
)
CLIENT_STEPS = st.lists(
    CHEATS
    | CHEATS
    | st.builds(Wait, seconds=st.sampled_from([0.5, 5.0, 35.0]))
    | st.builds(Restart)
    | st.builds(Replay)
    | st.builds(Close),
    min_size=1,
    max_size=8,
)


def run_world(play: Callable[..., Awaitable[None]], *args: object) -> None:
    trio.run(play, *args, clock=trio.testing.MockClock(autojump_threshold=0.0))


def world_of(nursery: trio.Nursery, slice_micros: int, price: int, contexts: int, **options: Any) -> World:
    """Make a world whose engine counts prompts beforehand, if no contexts are given."""
    return World(
        nursery,
        slice_micros=slice_micros + price_of(contexts * UNCOUNTED_CONTEXT_TOKENS, price),
        micros_per_mtok=price,
        counts_prompts=contexts == 0,
        **options,
    )


async def cheat_host(
    steps: list[Cheat | Wait | Restart | Replay | Close], slice_micros: int, price: int, contexts: int
) -> None:
    async with trio.open_nursery() as nursery:
        world = world_of(nursery, slice_micros, price, contexts)
        world.check = world.check_host
        client = CheatingClient(world)
        async with trio.open_nursery() as jobs:
            for step in steps:
                match step:
                    case Cheat():
                        jobs.start_soon(client.run, step)
                    case Wait():
                        await trio.sleep(step.seconds)
                    case Restart():
                        await world.restart_host()
                    case Replay():
                        jobs.start_soon(client.replay)
                    case Close():
                        world.is_closed = True
                await trio.sleep(0.01)
                world.check()
        await world.until_idle()
        world.is_closed = False
        # Whatever is left of the slice, it is all that there is.
        async with trio.open_nursery() as jobs:
            for words in (0, 1, 5):
                jobs.start_soon(client.run, greedy(words))
        await world.until_idle()
        world.check()
        assert world.broken == []
        nursery.cancel_scope.cancel()


@given(steps=CLIENT_STEPS, slice_micros=SLICES, price=PRICES, contexts=CONTEXTS)
def test_whatever_a_client_does_it_gets_one_slice_that_it_did_not_sign_for(
    steps: list[Cheat | Wait | Restart | Replay | Close], slice_micros: int, price: int, contexts: int
) -> None:
    run_world(cheat_host, steps, slice_micros, price, contexts)


@dataclass(frozen=True)
class RestartClient:
    """The client is killed and starts again."""


@dataclass(frozen=True)
class Break:
    """The connection breaks."""


ASKS = st.builds(
    Ask,
    prompt_words=st.integers(0, 12),
    pieces=PIECES,
    leave_after=st.none() | st.none() | st.integers(1, 12),
    timeout_s=st.none() | st.none() | st.sampled_from([0.2, 2.5, 41.0]),
    delay_s=st.sampled_from([0.0, 0.0, 1.0, 40.0]),
)


LIED_TO = st.builds(
    Ask,
    prompt_words=st.integers(0, 5),
    pieces=st.lists(st.integers(1, 3), min_size=3, max_size=20).map(tuple),
    leave_after=st.none() | st.none() | st.integers(1, 12),
    timeout_s=st.none() | st.none() | st.sampled_from([0.2, 2.5]),
    delay_s=st.sampled_from([0.0, 0.0, 1.0]),
)
HOST_STEPS = st.lists(
    LIED_TO | LIED_TO | LIED_TO | st.builds(Wait, seconds=st.sampled_from([0.5, 35.0])) | st.builds(RestartClient),
    min_size=1,
    max_size=5,
)


async def cheat_client(
    steps: list[Ask | Wait | RestartClient],
    lie: Lie,
    at: int,
    amount: int,
    slice_micros: int,
    has_tokenizer: bool,
    contexts: int = 0,
) -> None:
    def make(world: World, server: JobServer) -> LyingHost:
        return LyingHost(world, server, lie=lie, at=at, amount=amount)

    async with trio.open_nursery() as nursery:
        limit_micros = 250 + 200 * contexts
        world = world_of(nursery, slice_micros, 1_000_000, contexts, limit_micros=limit_micros, make_boundary=make)
        world.check = partial(world.check_client, has_tokenizer=has_tokenizer)
        client = HonestClient(world, has_tokenizer=has_tokenizer)
        async with trio.open_nursery() as jobs:
            for step in steps:
                match step:
                    case Ask():
                        jobs.start_soon(client.run, step)
                    case Wait():
                        await trio.sleep(step.seconds)
                    case RestartClient():
                        client.restart()
                await trio.sleep(0.01)
        await world.until_idle()
        world.check()
        assert world.broken == []
        assert isinstance(world.boundary, LyingHost)
        check_proofs(world, lie, has_tokenizer=has_tokenizer)
        nursery.cancel_scope.cancel()


def check_proofs(world: World, lie: Lie, *, has_tokenizer: bool) -> None:
    """What was refused contradicts what the host signed, to anybody, or is of the few reasons that nobody can show."""
    for refused in world.client_files.refused():
        shown: str | None = None
        if refused.proof is not None:
            proven = verify_proof(proof_from_json(refused.proof), counter=Words() if has_tokenizer else None)
            assert proven.host == HOST_KEY.peer_id
            shown = proven.reason
        if is_proved(refused.reason, lie):
            assert shown == refused.reason, refused
            continue
        assert refused.reason in BETWEEN_THE_TWO, refused
        # What nobody else can check may come with a lie that everybody can.
        assert shown in (None, *PROVED, "OVER_QUOTE")


@pytest.mark.parametrize("lie", Lie, ids=lambda lie: lie.name.lower())
@settings(max_examples=max(4, settings.default.max_examples // 4))
@given(
    steps=HOST_STEPS,
    at=st.integers(0, 5),
    amount=st.integers(1, 30),
    slice_micros=st.integers(8, 40),
    has_tokenizer=st.booleans(),
    contexts=CONTEXTS,
)
def test_whatever_a_host_claims_its_client_signs_for_what_came(
    lie: Lie,
    steps: list[Ask | Wait | RestartClient],
    at: int,
    amount: int,
    slice_micros: int,
    has_tokenizer: bool,
    contexts: int,
) -> None:
    run_world(cheat_client, steps, lie, at, amount, slice_micros, has_tokenizer, contexts)


@pytest.mark.parametrize("seconds", [0.01, 5.0], ids=["at once", "one after the other"])
@pytest.mark.parametrize("has_tokenizer", [True, False])
def test_a_host_that_answers_nothing_is_paid_a_slice_for_all_prompts(seconds: float, has_tokenizer: bool) -> None:
    words = 1 if seconds < 1 else 10
    ask = Ask(prompt_words=words, pieces=(1, 1, 1), leave_after=None, timeout_s=None, delay_s=1.0)
    steps = [step for _ in range(8) for step in (ask, Wait(seconds=seconds))]
    run_world(cheat_client, steps, Lie.EARLY, 0, 1, 20, has_tokenizer)


def test_a_host_that_claims_two_slices_at_once_is_signed_for_none_of_them() -> None:
    ask = Ask(prompt_words=1, pieces=(1,) * 20, leave_after=None, timeout_s=None, delay_s=0.0)
    run_world(cheat_client, [ask], Lie.HOARD, 0, 1, 15, True)


async def be_honest(
    steps: list[Ask | Wait | Restart | RestartClient | Break],
    slice_micros: int,
    price: int,
    contexts: int,
    has_tokenizer: bool,
    is_disturbed: bool,
) -> None:
    async with trio.open_nursery() as nursery:
        world = world_of(nursery, slice_micros, price, contexts)

        def check() -> None:
            world.check_host()
            world.check_client(has_tokenizer=has_tokenizer)

        world.check = check
        client = HonestClient(world, has_tokenizer=has_tokenizer)
        async with trio.open_nursery() as jobs:
            for step in steps:
                match step:
                    case Ask():
                        jobs.start_soon(client.run, step)
                    case Wait():
                        await trio.sleep(step.seconds)
                    case Restart():
                        await world.restart_host()
                    case RestartClient():
                        await world.break_streams()
                        client.restart()
                    case Break():
                        await world.break_streams()
                await trio.sleep(0.01)
        await world.until_idle()
        check()
        assert world.broken == []
        assert all(refused.proof is None for refused in world.client_files.refused())
        if is_disturbed:
            # Nobody knows what of the last pieces came; a slice is the most that this costs.
            nursery.cancel_scope.cancel()
            return
        if sum(world.cost_of(facts) for facts in world.facts.values() if not facts.arrived) > world.slice_micros:
            # More prompts were left unanswered than a client pays for in one session: it opens a new one.
            nursery.cancel_scope.cancel()
            return
        for error in client.ends:
            # Too large for the slice, or too many at once; nothing else may come between two that are honest.
            assert error is None or getattr(error, "reason", "") in ("SLICE_TOO_SMALL", "BUSY", "ENGINE_FAILED"), error
        assert world.client_files.refused() == ()
        for facts in world.facts.values():
            owed = world.cost_of(facts) - facts.given_up_micros
            assert facts.paid_micros == facts.signed_micros == owed, "all that was done is countersigned"
        # The slice is free: a prompt that takes all of it is served; where it is not counted, whatever it is. A client
        # whose earlier prompts got no answer has no part of it left for that: this one has no such bound.
        words = most_words(slice_micros, price) if world.counts_prompts else 1
        await CheatingClient(world).run(faithful(words, (1,)))
        *_, last = world.facts.values()
        assert last.paid_micros == world.cost_of(last) > 0
        nursery.cancel_scope.cancel()


def test_an_honest_host_is_paid_for_prompts_that_come_at_once() -> None:
    ask = Ask(prompt_words=4, pieces=(1,), leave_after=None, timeout_s=None, delay_s=1.0)
    run_world(be_honest, [ask] * 5, 20, 1_000_000, 0, True, False)


def most_words(slice_micros: int, price: int) -> int:
    """Of a prompt that one slice pays for together with a word, without its name and what the template adds."""
    return slice_micros * 10**6 // price - 4


@given(
    steps=st.lists(ASKS | ASKS | st.builds(Wait, seconds=st.sampled_from([0.5, 35.0])), min_size=1, max_size=6),
    slice_micros=st.integers(12, 40),
    price=PRICES,
    contexts=CONTEXTS,
    has_tokenizer=st.booleans(),
)
def test_two_that_are_honest_lose_nothing_and_the_slice_is_free_again(
    steps: list[Ask | Wait], slice_micros: int, price: int, contexts: int, has_tokenizer: bool
) -> None:
    run_world(be_honest, steps, slice_micros, price, contexts, has_tokenizer, False)


@given(
    steps=st.lists(
        ASKS
        | ASKS
        | st.builds(Wait, seconds=st.sampled_from([0.5, 35.0]))
        | st.builds(Restart)
        | st.builds(RestartClient)
        | st.builds(Break),
        min_size=2,
        max_size=8,
    ),
    slice_micros=SLICES,
    price=PRICES,
    contexts=CONTEXTS,
    has_tokenizer=st.booleans(),
)
def test_two_that_are_honest_and_stop_at_any_step_lose_a_slice_at_most(
    steps: list[Ask | Wait | Restart | RestartClient | Break],
    slice_micros: int,
    price: int,
    contexts: int,
    has_tokenizer: bool,
) -> None:
    run_world(be_honest, steps, slice_micros, price, contexts, has_tokenizer, True)
