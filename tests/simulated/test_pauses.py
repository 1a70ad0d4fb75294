"""A host that fails a job is left alone for a while; one whose client leaves is not."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.test_jobs import CHAT, Pair, pair_of
from tests.support.simulated import simulated

from hostmesh import HostCriteria, JobError, NoHostFoundError
from hostmesh.testing import FailsAfter, HangsAfter

M = HostCriteria(required_models=[CHAT])


@simulated(pair_of)
async def test_a_failed_job_pauses_its_host_and_a_good_one_clears_it(pair: Pair) -> None:
    discovery = pair.client.get_discovery_manager()
    async with pair.session(pair.chat, 1000) as session:
        pair.engine.fail_next(FailsAfter(1))
        with pytest.raises(JobError) as failed:
            async with pair.jobs.run(session, prompt="Hi there") as job:
                await job.read_text()
        assert failed.value.reason == "ENGINE_FAILED"
        assert pair.outcomes() == (0, 1)
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(M, timeout_s=1)
        assert caught.value.rejected == {"listed": 1}
        await trio.sleep(15)
        assert (await discovery.find_host(M)).peer_id == pair.chat.peer_id  # the one trial
        with pytest.raises(NoHostFoundError):
            await discovery.find_host(M, timeout_s=1)
        async with pair.jobs.run(session, prompt="Hi there") as job:
            await job.read_text()
        assert pair.outcomes() == (1, 1)
        for _ in range(3):
            assert (await discovery.find_host(M)).peer_id == pair.chat.peer_id


@simulated(pair_of)
async def test_what_the_host_did_not_cause_pauses_nobody(pair: Pair) -> None:
    """A job that its client leaves, and one that the session forbids."""
    discovery = pair.client.get_discovery_manager()
    async with pair.session(pair.chat, 20) as session:
        pair.engine.fail_next(HangsAfter(1))
        with trio.move_on_after(5):
            async with pair.jobs.run(session, prompt="Hi there") as job:
                await job.read_text()
        await pair.until_idle()
        with pytest.raises(JobError) as refused:
            async with pair.jobs.run(session, prompt="Hi there " * 60):
                pass
        assert refused.value.reason
        assert pair.outcomes() == (0, 0)
        assert (await discovery.find_host(M)).peer_id == pair.chat.peer_id
