"""What one host, wallet or program can do to the checks of others: hosts that hang or are dear, on virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.unit.canaries.checker_world import MODEL, WALLET, World, checker, run, run_alone, use

from hostmesh.canaries import checker as checker_module
from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.canaries.checker import LONGEST_S
from hostmesh.canaries.evidence import WINDOW
from hostmesh.canaries.plan import MAX_AT_ONCE_OF_HOST


async def test_slow_hosts_do_not_pile_up_canaries(autojump_clock: object) -> None:
    world = World({"host": "true"}, duration_s=LONGEST_S - 1.0)
    checking = checker(world, store=(store := CanaryStore()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        async with trio.open_nursery() as users:
            for seed in range(4):  # whose jobs overlap
                users.start_soon(lambda s=seed: use(checking, "host", 50, seed=s, duration_s=60.0))
        nursery.cancel_scope.cancel()
    assert world.most_under_way == MAX_AT_ONCE_OF_HOST
    assert store.window("host", MODEL, operator=WALLET), "slow answers count"


async def test_hosts_that_hold_canaries_for_ever_keep_no_other_one_from_being_checked(autojump_clock: object) -> None:
    """They hold each for as long as one is awaited, and their canaries end then; nothing tells them that time."""
    world = World({"cheat": "smaller"} | {f"hangs {number}": "true" for number in range(5)})
    world.hanging = {name for name in world.models if name != "cheat"}
    await run(checker(world), *((name, 190) for name in world.models))
    over_s = trio.current_time()
    assert {one.peer_id for one in world.evidence} == {"cheat"}
    for name in world.hanging:
        asked_s = [at_s for peer_id, _, at_s in world.asked if peer_id == name]
        assert world.ended_s[name] == [min(at_s + LONGEST_S, over_s) for at_s in asked_s]
        assert len(asked_s) > 2 * MAX_AT_ONCE_OF_HOST, "it gets others"
    assert {request.timeout_s for _, request, _ in world.asked} == {None}


async def test_all_hosts_together_get_so_many_canaries_at_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker_module, "MAX_AT_ONCE", 5)
    world = World({f"host {number}": "true" for number in range(6)}, duration_s=LONGEST_S - 1.0)
    await run(checker(world), *((name, 100) for name in world.models))
    assert world.most_under_way == 5


async def test_a_host_whose_canaries_are_too_dear_is_named_until_one_is_not(autojump_clock: object) -> None:
    world = World({"dear": "smaller", "cheat": "smaller"})
    world.too_dear.add("dear")
    checking = checker(world)
    await run(checking, ("dear", 60), ("cheat", 190))
    assert checking.unaffordable == (("dear", MODEL),)
    assert {one.peer_id for one in world.evidence} == {"cheat"}, "the other one is checked as ever"
    world.too_dear.clear()
    await run(checking, ("dear", 30))
    assert checking.unaffordable == ()


@pytest.mark.parametrize("dear", [1, 2])
async def test_a_quorum_that_is_too_dear_leaves_its_host_unchecked(autojump_clock: object, dear: int) -> None:
    """It is the host that says how long answers are: it is named, not who would have had to answer as long."""
    others = ["one", "two", "three", "four"]
    world = World({"host": "true", **dict.fromkeys(others, "true")})
    world.too_dear = set(others[:dear])
    checking = checker(world, quorum=others)
    await run(checking, ("host", 190))
    assert checking.unaffordable == ((("host", MODEL),) if dear == 2 else ())
    assert bool(world.evidence) is (dear == 1), "three are a quorum"


async def test_a_prompt_that_another_program_sent_meanwhile_does_not_leave(autojump_clock: object) -> None:
    """Both draw the same: what the other one sent is on disk only, as its plan knows nothing of this one's."""
    store = CanaryStore()
    worlds = [World({"host": "true"}) for _ in range(2)]
    checks = [checker(world, store=store) for world in worlds]
    for checking in checks:
        await run_alone(checking, "host", 60, seed=1)
    texts = [
        [request.messages[-1][1] for _, request, _ in world.asked if len(request.messages) == 1] for world in worlds
    ]
    assert len(texts[0]) > 10
    assert not set(texts[0]) & set(texts[1])


async def test_a_window_is_of_the_wallet_under_which_its_answers_were_given(autojump_clock: object) -> None:
    """Also of answers that are under way while the wallet changes, after a restart, and when an old one comes back."""
    store = CanaryStore()
    world = World({"host": "smaller"})
    given = {WALLET: 0, "0x" + "b" * 40: 0}
    for seed, (operator, jobs) in enumerate(zip([*given] * 2, (45, 25, 25, 25), strict=True)):
        world.operator = operator
        before = len(world.asked)
        async with trio.open_nursery() as nursery:
            checking = checker(world, seed=seed, store=store)
            nursery.start_soon(checking.run)
            await use(checking, "host", jobs, seed=seed)
            nursery.cancel_scope.cancel()
        given[operator] += len(world.asked) - before
        assert 0 < len(store.window("host", MODEL, operator=operator)) <= given[operator]
    assert not world.evidence, "of neither wallet a window is full"
    assert sum(given.values()) > WINDOW
    seen = [len(store.window("host", MODEL, operator=operator)) for operator in given]
    assert seen == pytest.approx(list(given.values()), abs=2), "but for those that a run's end cut"


async def test_two_programs_of_one_data_directory_make_one_piece_of_evidence_of_a_window(
    autojump_clock: object, tmp_path: Path
) -> None:
    worlds = [World({"cheat": "smaller"}) for _ in range(2)]
    path = tmp_path / "canaries.sqlite3"
    async with trio.open_nursery() as programs:
        for seed, world in enumerate(worlds):
            checking = checker(world, seed=seed, store=CanaryStore(path))
            programs.start_soon(lambda c=checking, s=seed: run_alone(c, "cheat", 150, seed=s))
    evidence = [one for world in worlds for one in world.evidence]
    answered = sum(len(world.reference_asked) for world in worlds)
    assert len(evidence) == answered // WINDOW > 0
    assert {one.n for one in evidence} == {WINDOW}
