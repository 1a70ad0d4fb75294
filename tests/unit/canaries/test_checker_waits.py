"""Who waits for canaries is told when there is nothing to wait for; a quorum hears no words and holds up nobody."""

from __future__ import annotations

import math
import random

import pytest
import trio
from tests.unit.canaries.checker_world import MODEL, World, checker

from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.canaries.checker import CanaryChecker
from hostmesh.canaries.plan import CanaryPlan
from hostmesh.canaries.rhythm import MAX_JOBS, MAX_PAUSE_S, MAX_WAIT_S, MIN_JOBS, Asked
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape

SHAPE = JobShape(length_bytes=40, max_output_tokens=64)
PAUSE_S = 0.05


async def use(
    checking: CanaryChecker, host: str, jobs: int, shape: JobShape, *, longest_pause_s: float, first: int = 0
) -> None:
    """Send jobs one after the other, a second each."""
    dice = random.Random(3)
    for number in range(first, first + jobs):
        await job(checking, host, b"%d" % number, shape)
        await trio.sleep(dice.uniform(1, longest_pause_s))


async def leave(checking: CanaryChecker, host: str, conversation: bytes, shape: JobShape = SHAPE) -> float:
    """Let a job leave, and return how long it waited for that."""
    asked = await checking.may_leave(host, conversation, timeout_s=shape.timeout_s)
    checking.job_started(host, MODEL, conversation, shape, asked=asked)
    return trio.current_time() - asked.asked_s


async def job(checking: CanaryChecker, host: str, conversation: bytes, shape: JobShape = SHAPE) -> float:
    """Run a job, and return how long it waited before it left."""
    waited_s = await leave(checking, host, conversation, shape)
    await trio.sleep(1.0)
    checking.job_ended(host, MODEL, conversation)
    return waited_s


async def until_a_canary(
    checking: CanaryChecker, host: str, *, turns: int = 1, pause_s: float = 0.0, shape: JobShape = SHAPE
) -> None:
    """Run conversations one after the other until one has to wait for a canary; half a second later it is given up."""
    for number in range(1000):
        conversation = b"before %d" % number
        for _ in range(turns):
            with trio.move_on_after(0.5) as waiting:
                await leave(checking, host, conversation, shape)
            if waiting.cancelled_caught:
                return
            await trio.sleep(1.0)
            checking.job_ended(host, MODEL, conversation)
            await trio.sleep(pause_s)
        await trio.sleep(PAUSE_S)
    raise AssertionError("no canary came")


async def test_a_job_that_leaves_ends_the_wait_of_others_for_a_turn_that_it_ended(autojump_clock: object) -> None:
    world = World({"host": "true"})
    checking = checker(world, rate=0.1)
    waited_s: dict[str, float] = {}

    async def ask(name: str, timeout_s: float | None) -> None:
        shape = JobShape(length_bytes=40, max_output_tokens=64, timeout_s=timeout_s)
        waited_s[name] = await job(checking, "host", name.encode(), shape)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await until_a_canary(checking, "host", turns=2, pause_s=1.7)
        await trio.sleep(0.6)
        assert world.under_way == 0, "its next turn is due soon"
        async with trio.open_nursery() as users:
            users.start_soon(ask, "short", 1.0)
            users.start_soon(ask, "patient", None)
        nursery.cancel_scope.cancel()
    assert waited_s["short"] == 0.5
    assert waited_s["patient"] < 10


async def test_nobody_waits_for_turns_that_come_no_more(autojump_clock: object) -> None:
    world = World({"host": "true", "other": "true"})
    checking = checker(world, rate=0.1)
    world.hanging.add("other")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await until_a_canary(checking, "other")  # so that it does not end when it is stopped
        await until_a_canary(checking, "host", turns=2, pause_s=1.7)
        await trio.sleep(0.6)
        assert world.under_way == 1, "the other host's: this one's next turn is due soon"
        checking.stop()
        assert await job(checking, "host", b"next") == 0.0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("timeout_s", "longest_s"), [(None, MAX_WAIT_S), (20.0, 10.0)])
async def test_nobody_waits_twice_for_a_canary_that_is_held_open(
    autojump_clock: object, timeout_s: float | None, longest_s: float
) -> None:
    world = World({"host": "true"})
    world.hanging.add("host")
    checking = checker(world, rate=0.01)
    shape = JobShape(length_bytes=40, max_output_tokens=64, timeout_s=timeout_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await until_a_canary(checking, "host", shape=shape)
        waits_s = []
        for number in range(5):
            waits_s.append(await job(checking, "host", b"%d" % number, shape))
            await trio.sleep(PAUSE_S)
        assert world.under_way == 1
        nursery.cancel_scope.cancel()
    assert len(world.asked) == 1, "no other canary came"
    assert waits_s == pytest.approx([longest_s, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("given_up_s", [1.0, 4.52])
async def test_a_job_that_is_given_up_while_it_waits_holds_up_nobody_behind_it(
    autojump_clock: object, given_up_s: float
) -> None:
    """While the canary runs, or in the pause after its end: the jobs behind it leave one after the other."""
    world = World({"host": "true"}, duration_s=5.0)
    checking = checker(world, rate=0.1)
    left_s: list[float] = []

    async def ask(number: int) -> None:
        await trio.sleep(0.1 * number)
        await job(checking, "host", b"%d" % number)
        left_s.append(trio.current_time() - 1.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await until_a_canary(checking, "host")
        async with trio.open_nursery() as users:
            with trio.move_on_after(given_up_s):
                for number in (1, 2):
                    users.start_soon(ask, number)
                await job(checking, "host", b"given up")
                raise AssertionError("it did not wait")
        nursery.cancel_scope.cancel()
    assert len(world.asked) == 1
    [over_s] = world.ended_s["host"]
    assert over_s < min(left_s)
    assert max(left_s) < over_s + 5.0


async def test_after_a_restart_canaries_are_due_without_another_so_many_jobs(autojump_clock: object) -> None:
    """What an earlier run knew is there when the first job is asked for."""
    asked = {}
    for jobs_before in (0, 40):
        store, world = CanaryStore(), World({"host": "true"})
        await use(checker(world, store=store), "host", jobs_before, SHAPE, longest_pause_s=20)
        plan = CanaryPlan(shipped_corpus(), rate=1.0)
        checking = checker(world, plan=plan, store=store)
        assert not plan.knows("host")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(checking.run)
            first = await checking.may_leave("host", b"first", timeout_s=None)
            assert plan.knows("host")
            plan.job_withdrawn("host", first)
            checking._wake("host")
            await use(checking, "host", MIN_JOBS - 2, SHAPE, longest_pause_s=20, first=100)
            nursery.cancel_scope.cancel()
        asked[jobs_before] = len(world.asked)
    assert asked[0] == 0
    assert asked[40] > 10


async def until_a_turn(checking: CanaryChecker, plan: CanaryPlan) -> None:
    """Begin jobs that overlap until a canary is to come before the next one."""
    for number in range(1000):
        await leave(checking, "host", b"%d" % number)
        due = plan.next_due()
        if number > MAX_JOBS and due is not None and due[0] <= trio.current_time() + 0.5:
            return
        await trio.sleep(0.5)
    raise AssertionError("no canary was due")


async def test_a_job_that_is_given_up_while_it_waits_for_its_turn_holds_up_no_row(autojump_clock: object) -> None:
    plan = CanaryPlan(shipped_corpus(), rate=0.1)
    checking = checker(World({"host": "true"}), plan=plan)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await until_a_turn(checking, plan)
        async with trio.open_nursery() as users:
            for number in (1, 2):
                users.start_soon(leave, checking, "host", b"behind %d" % number)
            with trio.move_on_after(0.0) as given_up:
                await leave(checking, "host", b"given up")
            began_s = trio.current_time()
        assert trio.current_time() - began_s <= MAX_PAUSE_S
        assert given_up.cancelled_caught
        nursery.cancel_scope.cancel()


class CountingPlan(CanaryPlan):
    """Counts how often it is asked when a job leaves."""

    asked = 0
    longest_s = 0.0

    def leaves_s(self, peer_id: str, asked: Asked) -> float:
        self.asked += 1
        leaves_s = super().leaves_s(peer_id, asked)
        self.longest_s = max(self.longest_s, leaves_s)
        return leaves_s


async def test_many_jobs_at_one_moment_leave_in_their_order_behind_a_canary(autojump_clock: object) -> None:
    """Of a user whose jobs overlap. The work for each is the same however many there are."""
    many = 300
    world = World({"host": "true"})
    plan = CountingPlan(shipped_corpus(), rate=0.1)
    checking = checker(world, plan=plan)
    asked: list[int] = []
    left: list[int] = []

    async def ask(number: int) -> None:
        asked.append(number)
        await leave(checking, "host", b"many %d" % number)
        left.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await until_a_turn(checking, plan)
        canaries, plan.asked, plan.longest_s, began_s = len(world.asked), 0, 0.0, trio.current_time()
        async with trio.open_nursery() as users:
            for number in range(many):
                users.start_soon(ask, number)
        waited_s = trio.current_time() - began_s
        nursery.cancel_scope.cancel()
    assert plan.longest_s == math.inf, "they had to wait for a canary"
    assert len(world.asked) > canaries
    assert left == asked
    assert len(left) == many
    assert waited_s <= MAX_PAUSE_S
    assert many < plan.asked < 7 * many


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
