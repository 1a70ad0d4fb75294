"""The checker with hosts that answer as they like, on virtual time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import trio
from tests.unit.canaries.checker_world import MODEL, WALLET, World, checker, run, use

from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.canaries.checker import CanaryChecker
from hostmesh.canaries.evidence import WINDOW
from hostmesh.canaries.plan import MAX_SENT, CanaryPlan
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape
from hostmesh.errors import UsageError
from hostmesh.system import System


async def test_a_false_host_gets_evidence_against_it_and_a_true_one_does_not(autojump_clock: object) -> None:
    world = World({"honest": "true", "cheat": "smaller"})
    await run(checker(world), ("honest", 190), ("cheat", 190))
    found = {one.peer_id: one for one in world.evidence}
    assert {peer_id: one.speaks_against for peer_id, one in found.items()} == {"honest": False, "cheat": True}
    assert all(one.n == WINDOW for one in world.evidence)
    assert (found["honest"].parted, found["cheat"].parted) == (0, WINDOW)


async def test_canaries_go_to_the_host_that_is_used_and_to_no_other(autojump_clock: object) -> None:
    world = World({"used": "true", "other": "true"})
    await run(checker(world), ("used", 90), system_prompt="You are the user's own.")
    assert len(world.asked) > 20
    assert {peer_id for peer_id, _, _ in world.asked} == {"used"}
    assert all(request.messages[0] == ("system", "You are the user's own.") for _, request, _ in world.asked)


async def test_a_quorum_is_asked_after_the_host_and_hears_no_words_of_the_users(autojump_clock: object) -> None:
    others = {"one": "true", "two": "true", "three": "true"}
    world = World({"cheat": "smaller", **others})
    checking = checker(world, quorum=["one", "cheat", "two", "three"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        for number in range(190):
            await use(checking, "cheat", 1, seed=number, system_prompt="SECRET" if number % 2 else None)
        nursery.cancel_scope.cancel()
    assert world.evidence[0].speaks_against
    assert "SECRET" not in str([request.messages for _, request, _ in world.asked])
    first_asked: dict[str, str] = {}
    answered_s: dict[str, float] = {}
    for peer_id, request, at_s in world.asked:
        text = request.messages[-1][1]
        first_asked.setdefault(text, peer_id)
        if peer_id == "cheat":
            assert text not in answered_s, "asked once"
            answered_s[text] = at_s + world.duration_s
        else:
            assert at_s >= answered_s[text], "nobody knows the prompt before the host's answer is there"
    assert set(first_asked.values()) == {"cheat"}
    assert {peer_id for peer_id, _, _ in world.asked} == {"cheat", *others}


@pytest.mark.parametrize(("host", "speaks_against"), [("honest", False), ("cheat", True)])
async def test_one_that_lies_in_a_quorum_of_three_has_no_say(
    autojump_clock: object, host: str, speaks_against: bool
) -> None:
    world = World({"honest": "true", "cheat": "smaller", "one": "true", "two": "true", "liar": "smaller"})
    await run(checker(world, quorum=["one", "liar", "two"]), (host, 190))
    assert {one.speaks_against for one in world.evidence} == {speaks_against}


async def test_too_few_others_are_no_quorum_and_make_no_evidence(autojump_clock: object) -> None:
    world = World({"cheat": "smaller", "one": "true", "two": "true", "down": "true"})
    world.failing.add("down")
    await run(checker(world, quorum=["one", "two", "down"]), ("cheat", 190))
    assert len(world.asked) > WINDOW
    assert not world.evidence


async def test_a_model_without_a_calibration_gets_no_canaries(autojump_clock: object) -> None:
    world = World({"host": "true"})
    checking = checker(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await use(checking, "host", 60, model_id="unknown")
        nursery.cancel_scope.cancel()
    assert not world.asked


async def test_failed_canaries_are_no_observations_and_end_nothing(autojump_clock: object) -> None:
    world = World({"host": "true"})
    world.failing.add("host")
    await run(checker(world), ("host", 190))
    assert len(world.asked) > WINDOW
    assert not world.evidence


async def test_each_model_of_a_host_has_a_window_of_its_own(autojump_clock: object) -> None:
    """Also for a user who goes from one to the other with each job: what is known of the one stays."""
    world = World({"host": "smaller"})
    checking = checker(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        for turn in range(240):
            await use(checking, "host", 1, seed=turn, model_id=f"model {turn % 2}")
        nursery.cancel_scope.cancel()
    asked = [request.model_id for _, request, _ in world.asked]
    assert min(asked.count(name) for name in ("model 0", "model 1")) > WINDOW
    assert {one.model_id: (one.n, one.speaks_against) for one in world.evidence} == {
        "model 0": (WINDOW, True),
        "model 1": (WINDOW, True),
    }


async def test_a_canary_asks_for_the_model_of_the_jobs_that_it_copies(autojump_clock: object) -> None:
    """Settings of one model in a job for another would give it away."""
    world, source = World({"host": "true"}), random.Random(1)
    checking = checker(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        for turn in range(100):
            key, which = f"{turn}".encode(), turn % 2
            shape = JobShape(length_bytes=40, max_output_tokens=(64, 256)[which], parameters=(("top_k", which),))
            for _ in range(2):
                asked = await checking.may_leave("host", key, timeout_s=None)
                checking.job_started("host", f"model {which}", key, shape, asked=asked)
                await trio.sleep(1.0)
                checking.job_ended("host", f"model {which}", key)
                await trio.sleep(1.5)
            await trio.sleep(source.expovariate(1 / 60))  # in which a canary's further turns find room
        nursery.cancel_scope.cancel()
    seen = {(request.model_id, request.parameters["top_k"]) for _, request, _ in world.asked}
    assert seen == {("model 0", 0), ("model 1", 1)}
    assert any(len(request.messages) > 1 for _, request, _ in world.asked), "conversations stay with their model"


async def test_a_job_that_leaves_in_the_moment_in_which_a_canary_is_due_puts_it_off(autojump_clock: object) -> None:
    """Whichever of the two tasks runs first: the checker goes on."""
    world = World({"host": "true"})
    checking = checker(world)
    met = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await use(checking, "host", 60)
        for turn in range(100):
            due = checking._plan.next_due()
            await trio.sleep(5.0 if due is None else max(due[0] - trio.current_time(), 0.0))
            met += due is not None
            await use(checking, "host", 1, seed=1000 + turn)
        nursery.cancel_scope.cancel()
    assert met > 20
    assert len(world.asked) > met / 4


async def test_jobs_of_other_models_are_not_in_the_traffic(autojump_clock: object) -> None:
    """A job that is not noted when it starts is not noted when it ends, or a running one would seem to be over."""
    world = World({"host": "true"})
    checking = checker(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await use(checking, "host", 40)
        before = len(world.asked)
        shape = JobShape(length_bytes=40, max_output_tokens=64, parameters=(("temperature", 0.0),))
        for model_id, key in ((MODEL, b"long"), ("unknown", b"short")):
            asked = await checking.may_leave("host", key, timeout_s=None)
            checking.job_started("host", model_id, key, shape, asked=asked)
        checking.job_ended("host", "unknown", b"short")
        await trio.sleep(10_000.0)
        assert len(world.asked) == before, "a user who waits for an answer gets no canary meanwhile"
        checking.job_ended("host", MODEL, b"long")
        await trio.sleep(10_000.0)
        assert len(world.asked) > before
        nursery.cancel_scope.cancel()


async def test_settings_seed_and_length_are_those_of_the_users_jobs(autojump_clock: object) -> None:
    world = World({"host": "true"})
    await run(checker(world), ("host", 90))
    for _, request, _ in world.asked:
        assert request.model_id == MODEL
        assert request.max_output_tokens == 64
        assert set(request.parameters) == {"temperature", "seed"}
        assert len(request.messages[-1][1]) == pytest.approx(40, rel=0.3)
    assert len({request.parameters["seed"] for _, request, _ in world.asked}) == len(world.asked)


async def test_it_takes_a_reference_or_a_quorum(autojump_clock: object) -> None:
    world = World({})
    plan = CanaryPlan(shipped_corpus())
    with pytest.raises(UsageError, match="exactly one"):
        CanaryChecker(plan, run_job=world.run_job, calibrations={}, book=world, system=System())
    with pytest.raises(UsageError, match="open words only"):
        CanaryChecker(plan, run_job=world.run_job, quorum=lambda *_: (), calibrations={}, book=world, system=System())


async def test_when_all_prompts_are_sent_it_ends_and_says_so(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    world = World({"host": "true"})
    few = CanaryPlan(shipped_corpus(), rate=1.0, sent=[number.to_bytes(16, "big") for number in range(MAX_SENT - 5)])
    checking = checker(world, plan=few)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, checking, "host", 120)
        await checking.run()
        assert checking.is_exhausted
        nursery.cancel_scope.cancel()
    assert len(world.asked) == 5
    assert [record.levelname for record in caplog.records if "no canary is sent any more" in record.message] == [
        "WARNING"
    ]


async def test_it_stops_when_it_is_told_to_and_those_under_way_end(autojump_clock: object) -> None:
    world = World({"host": "true"}, duration_s=500.0)
    store = CanaryStore()
    checking = checker(world, store=store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, checking, "host", 60)
        with trio.fail_after(10_000):
            async with trio.open_nursery() as running:
                running.start_soon(checking.run)
                await world.busy.wait()
                checking.stop()
        nursery.cancel_scope.cancel()
    assert len(world.asked) == 1
    assert len(store.window("host", MODEL, operator=WALLET)) == 1, "its answer counts"


async def test_a_window_goes_on_after_a_restart_and_is_evidence_once(autojump_clock: object) -> None:
    store = CanaryStore()
    world = World({"cheat": "smaller"})
    waits_s: list[float] = []
    for seed in range(6):
        again = CanaryPlan(shipped_corpus(), rate=1.0, sent=store.sent())
        checking = checker(world, seed=seed, plan=again, store=store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(checking.run)
            waits_s += await use(checking, "cheat", 50, seed=seed)
            nursery.cancel_scope.cancel()
        if world.evidence:
            break
    [found] = world.evidence
    assert (found.n, found.speaks_against) == (WINDOW, True)
    assert seed > 0, "no run alone had a window"
    assert len(store.window("cheat", MODEL, operator=WALLET)) < WINDOW
    jobs = store.jobs("cheat", unix_s=1e10, now_s=1e10)
    noted_s = [(job.ended_s or 0.0) - job.started_s for job in jobs]
    assert noted_s == pytest.approx([1.0 + wait_s for wait_s in waits_s[-len(jobs) :]]), "from when they were asked for"
    assert 0 < sum(wait_s > 0.0 for wait_s in waits_s) < len(jobs) / 4
    assert len({str(request.messages) for _, request, _ in world.asked}) == len(world.asked), "none is sent again"


async def test_a_disk_that_fails_harms_no_job_and_lets_no_prompt_leave(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    store = CanaryStore()
    store.close()
    world = World({"host": "true"})
    await run(checker(world, store=store), ("host", 60))
    assert not world.asked
    assert "traffic is not on disk" in caplog.text


async def test_the_reference_is_asked_the_same_and_stops_where_the_host_said_that_it_does(
    autojump_clock: object,
) -> None:
    """Of a job without a limit of its own only the host knows where its answers are cut."""
    world = World({"host": "true"})
    checking = checker(world)
    shape = JobShape(length_bytes=40, max_output_tokens=None, timeout_s=9.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        for number in range(60):
            asked = await checking.may_leave("host", b"%d" % number, timeout_s=shape.timeout_s)
            checking.job_started("host", MODEL, b"%d" % number, shape, asked=asked)
            await trio.sleep(1.0)
            checking.job_ended("host", MODEL, b"%d" % number)
            await trio.sleep(5.0 + number % 7)
        nursery.cancel_scope.cancel()
    requests = [request for _, request, _ in world.asked]
    assert {(request.max_output_tokens, request.timeout_s) for request in requests} == {(None, 9.0)}
    assert len(world.reference_asked) > 5
    quoted = [replace(request, max_output_tokens=64) for request in requests]
    assert all(request in quoted for request in world.reference_asked)
