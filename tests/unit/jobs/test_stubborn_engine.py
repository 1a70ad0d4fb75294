"""An engine that ends its step first when it is told to stop: what it made then is a debt of nobody."""

from __future__ import annotations

import trio
import trio.testing
from tests.unit.jobs.kit import Script, ScriptedEngine
from tests.unit.jobs.receipt_kit import EVERYTHING, SESSION_ID, ask, assert_free, cut, numbers, setting, sign

from hostmesh.receipts.receipt import JobState


class StubbornEngine(ScriptedEngine):
    """A step is not interrupted, as on a graphics card."""

    @staticmethod
    async def _step(script: Script, number: int) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(script.delay_s)


async def test_the_piece_of_a_job_that_was_left_meanwhile_is_in_no_receipt_and_takes_no_room(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 20, engine=StubbornEngine())
    host.engine.default = Script(pieces=("x",) * 3, delay_s=1.0)
    stub, job_id = await cut(manager, host, after=2)
    last = await ask(stub, job_id, EVERYTHING)
    assert numbers([last]) == [(4, 2, 2, JobState.CANCELLED)]
    await sign(stub, last)
    assert host.receipts.unpaid(SESSION_ID) == ()
    await assert_free(manager, host, 20)
