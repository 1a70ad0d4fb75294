"""Whose clock is wrong is told so: records that were refused for their times stand in the funnel."""

from __future__ import annotations

import pytest
import trio
from discovery_world import EPOCH, NETWORK, make_description, make_key, make_record, make_records, trio_system
from find_world import World
from trio.testing import MockClock

from hostmesh.cli.client import ExplainedNoHostError
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.misses import CLOCK_REMEDY
from hostmesh.discovery.ranking import SPECIFIC
from hostmesh.discovery.records import MAX_UNTIMELY, RecordBook
from hostmesh.errors import HostUnfitError, NoHostFoundError, RecordExpiredError, RecordInvalidError
from hostmesh.system import System
from hostmesh.testing.records import reseal
from hostmesh.v1 import discovery_pb2 as pb

M = HostCriteria(required_models=["m"])


class Clock:
    """The wall clock of a client, ``off_s`` from that of the hosts."""

    def __init__(self, off_s: float) -> None:
        self.off_s = off_s
        self.system = System(
            unix_s=lambda: EPOCH + trio.current_time() + self.off_s,
            monotonic_s=trio.current_time,
            random_bytes=trio_system().random_bytes,
        )


def world_at(clock: Clock) -> World:
    world = World()
    world.records = make_records(clock.system)
    return world


@pytest.mark.parametrize(
    ("off_s", "detail"),
    [
        (-60.0, "issued 60 s after the time of this machine's clock"),
        (200.0, "expired 80 s before the time of this machine's clock"),
    ],
)
async def test_a_client_whose_clock_is_wrong_is_told_so(autojump_clock: MockClock, off_s: float, detail: str) -> None:
    clock = Clock(off_s)
    world = world_at(clock)
    for number in range(3):
        world.host(f"host {number}", "m")
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(M)
        error = caught.value
        assert (error.seen, error.rejected, error.remedy) == (3, {"record": 3}, CLOCK_REMEDY)
        assert error.message == f"no host's record is of now by this machine's clock: seen 3 -> record 0 ({detail})"
        funnel = (await discovery.explain(M)).funnel
        assert {(each.criterion, each.detail) for each in funnel.rejections} == {("record", detail)}
        told = ExplainedNoHostError(funnel)
        assert (told.message, told.remedy) == (error.message, error.remedy)
        clock.off_s = 0
        assert (await discovery.explain(M)).funnel.rejected == {}


async def test_the_counts_add_up_with_hosts_whose_records_hold(autojump_clock: MockClock) -> None:
    """One host's clock is wrong, this one's perhaps not: the other's price is spoken of, too."""
    world = World()
    world.host("other", "n")
    world.host("early", "m", issued=EPOCH + 500)
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(M)
        error = caught.value
        assert (error.seen, error.rejected) == (2, {"record": 1, "model": 1})
        assert error.message == "no host meets the criteria: seen 2 -> record 1 -> model 0"
        assert error.remedy.startswith("a host would match with: required_models without")
        assert error.remedy.endswith(f"; records refused for their times: 1, so {CLOCK_REMEDY}")
        funnel = (await discovery.explain(M)).funnel
        assert ExplainedNoHostError(funnel).remedy.endswith(CLOCK_REMEDY)
        assert (await discovery.explain(HostCriteria(required_models=["n"]))).funnel.matched == 1


async def test_the_one_host_that_is_wanted(autojump_clock: MockClock) -> None:
    world = world_at(Clock(-60))
    wanted = world.host("host", "m")
    async with world.client() as discovery:
        with pytest.raises(HostUnfitError) as caught:
            await discovery.find_host(HostCriteria(include=[str(wanted.peer_id)]), strategy=SPECIFIC)
    assert (caught.value.criterion, caught.value.remedy) == ("record", CLOCK_REMEDY)


async def test_a_record_of_its_own_counts_for_nothing(autojump_clock: MockClock) -> None:
    world = World()
    async with world.client() as discovery:
        refuse(world.records, "client", issued=EPOCH + 500)
        assert world.node.peer_id in world.records.untimely(0)
        assert (await discovery.explain()).funnel.seen == 0


# --- the book ---


def refuse(records: RecordBook, name: str = "host", *, issued: int) -> None:
    with pytest.raises(RecordInvalidError):
        records.accept(make_record(name, issued=issued), introducer=make_key("gossip").peer_id)


async def test_only_what_came_since_then_counts_and_of_whom_nothing_is_known(autojump_clock: MockClock) -> None:
    host = make_key("host").peer_id
    records = make_records(Clock(0).system)
    refuse(records, issued=EPOCH + 100)
    await trio.sleep(1)
    assert list(records.untimely(0)) == [host]
    assert records.untimely(1) == {}
    records.accept(make_record(sequence=9))
    refuse(records, issued=EPOCH + 100)
    assert records.untimely(0) == {}, "an old record handed over again says nothing of a host that is there"
    with pytest.raises(RecordExpiredError):
        records.accept(make_record("gone", issued=EPOCH - 500), expected_peer_id=make_key("gone").peer_id)
    assert list(records.untimely(0)) == [make_key("gone").peer_id]


async def test_a_host_that_came_and_went_is_not_counted(autojump_clock: MockClock) -> None:
    records = make_records(Clock(0).system)
    refuse(records, issued=EPOCH + 100)
    records.accept(make_record(sequence=8))
    records.accept(make_record(sequence=9, state=HostState.WITHDRAWN))
    assert records.live() == []
    assert records.untimely(0) == {}


async def test_who_is_banned_is_not_counted(autojump_clock: MockClock) -> None:
    records = make_records(Clock(0).system)
    for model in ("m", "n"):
        records.accept(make_record("host", make_description(model)))
    refuse(records, issued=EPOCH + 100)
    assert records.untimely(0) == {}


async def test_a_record_that_lives_too_long_is_no_matter_of_clocks(autojump_clock: MockClock) -> None:
    records = make_records(Clock(0).system)

    def edit(body: pb.HostRecord) -> None:
        body.expires_at_unix_s = EPOCH + 100_000

    signed = reseal(make_record(), edit, key=make_key("host"), network=NETWORK)
    with pytest.raises(RecordInvalidError) as caught:
        records.accept(signed)
    assert caught.value.field == "expires_at_unix_s"
    assert records.untimely(0) == {}


async def test_a_flood_of_them_is_bounded_and_the_latest_stay(autojump_clock: MockClock) -> None:
    records = make_records(Clock(0).system)
    for number in range(MAX_UNTIMELY + 10):
        refuse(records, f"host {number}", issued=EPOCH + 100)
    latest = {make_key(f"host {number}").peer_id for number in range(10, MAX_UNTIMELY + 10)}
    assert set(records.untimely(0)) == latest
