"""Who waits for canaries is told when there is nothing to wait for; a quorum hears no words and holds up nobody."""

from __future__ import annotations

import random

import trio
from tests.unit.canaries.checker_world import MODEL, World, checker

from hostmesh.canaries.checker import CanaryChecker
from hostmesh.canaries.plan import CanaryPlan, _Begun
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape

SHAPE = JobShape(length_bytes=40, max_output_tokens=64)


async def use(checking: CanaryChecker, host: str, jobs: int, shape: JobShape, *, longest_pause_s: float) -> None:
    """Send jobs one after the other, a second each."""
    dice = random.Random(3)
    for number in range(jobs):
        conversation = b"%d" % number
        checking.job_started(host, MODEL, conversation, shape)
        await trio.sleep(1)
        checking.job_ended(host, MODEL, conversation)
        await trio.sleep(dice.uniform(1, longest_pause_s))


async def begin_conversation(plan: CanaryPlan, checking: CanaryChecker, host: str, *, due_in_s: float) -> None:
    """Let the next turn of a canary conversation be due."""
    await use(checking, host, 3, SHAPE, longest_pause_s=5)
    plan._hosts[host].begun = _Begun([SHAPE], (), 99, trio.current_time() + due_in_s)


async def test_a_job_that_leaves_ends_the_wait_of_others_for_a_turn_that_it_ended(autojump_clock: object) -> None:
    plan = CanaryPlan(shipped_corpus(), rate=1.0)
    checking = checker(World({"host": "true"}), plan=plan)
    waited: dict[str, float] = {}

    async def ask(name: str, timeout_s: float | None) -> None:
        waited[name] = await checking.may_leave("host", timeout_s=timeout_s)
        checking.job_started("host", MODEL, name.encode(), SHAPE, waited_s=waited[name])
        await trio.sleep(0.1)
        checking.job_ended("host", MODEL, name.encode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await begin_conversation(plan, checking, "host", due_in_s=1.9)
        checking._wake()
        async with trio.open_nursery() as users:
            users.start_soon(ask, "short", 1.0)
            users.start_soon(ask, "patient", None)
        nursery.cancel_scope.cancel()
    assert waited["short"] == 0.5
    assert waited["patient"] < 10


async def test_nobody_waits_for_turns_that_come_no_more(autojump_clock: object) -> None:
    world = World({"host": "true", "other": "true"})
    plan = CanaryPlan(shipped_corpus(), rate=1.0)
    checking = checker(world, plan=plan)
    world.hanging.add("other")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await begin_conversation(plan, checking, "other", due_in_s=0.0)
        checking._wake()
        await world.busy.wait()  # so that it does not end when it is stopped
        await begin_conversation(plan, checking, "host", due_in_s=1.5)
        checking.stop()
        assert await checking.may_leave("host", timeout_s=None) < 10
        nursery.cancel_scope.cancel()


async def test_a_quorum_hears_no_stop_text(autojump_clock: object) -> None:
    asked = {}
    for settings in ((), (("stop", ("Regards, Anna Secret",)),)):
        world = World(dict.fromkeys(("host", "one", "two", "three"), "true"))
        checking = checker(world, quorum=["one", "two", "three"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(checking.run)
            shape = JobShape(length_bytes=40, max_output_tokens=64, parameters=settings)
            await use(checking, "host", 60, shape, longest_pause_s=20)
            nursery.cancel_scope.cancel()
        asked[bool(settings)] = [request for host, request, _ in world.asked if host != "host"]
    assert len(asked[False]) > 10
    assert asked[True] == []


async def test_a_member_of_a_quorum_that_stalls_keeps_no_host_from_being_asked(autojump_clock: object) -> None:
    canaries = {}
    for stalls in (False, True):
        world = World(dict.fromkeys(("host", "one", "two", "three", "four"), "true"))
        checking = checker(world, quorum=["one", "two", "three", "four"])
        if stalls:
            world.hanging.add("one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(checking.run)
            await use(checking, "host", 300, SHAPE, longest_pause_s=20)
            nursery.cancel_scope.cancel()
        canaries[stalls] = sum(host == "host" for host, _, _ in world.asked)
    assert canaries[True] > canaries[False] / 2 > 20
