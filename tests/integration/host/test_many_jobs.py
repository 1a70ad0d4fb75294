"""Many jobs against one host: each ends once, and the host does not grow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import trio
from engine_process import RunningEngine
from host_process import HostProcess, client, command, find

StartHost = Callable[..., HostProcess]
LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht")


def size_of(pid: int) -> tuple[int, int]:
    """Threads and open files of a process."""
    process = Path(f"/proc/{pid}")
    return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))


async def jobs_of(host: HostProcess) -> dict[str, int]:
    jobs: dict[str, int] = json.loads((await command(host.home, "status", "--json")).stdout)["jobs"]
    return jobs


async def test_two_hundred_in_turn_and_fifty_at_once(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    (tmp_path / "engine.key").write_text(recorded.key or "")
    host = start_host(
        *LISTEN, "--engine", recorded.url, "--engine-key-file", str(tmp_path / "engine.key"), "--model", "recorded=1"
    )
    ready = await host.ready()
    answers: list[tuple[str, int]] = []
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        choice = await find(sdk, "recorded")
        async with sdk.get_session_manager().open_session(choice, spending_limit_micros=10**9) as session:

            async def one() -> None:
                async with sdk.get_job_manager().run(
                    session, prompt="What is a peer?", max_output_tokens=8, parameters={"temperature": 0}
                ) as job:
                    text = "".join([delta.text async for delta in job])
                    answers.append((text, job.usage.completion_tokens))

            for _ in range(20):
                await one()
            before, own_before = size_of(host.process.pid), size_of_own()
            for _ in range(180):
                await one()
            after, own_after = size_of(host.process.pid), size_of_own()
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(one)
        assert len(answers) == 250
        assert set(answers) == {("A peer is a user of a digital", 8)}
        counts = await recorded.stats(wait="completed:250")
        assert (counts["requests"], counts["completed"], counts["active"]) == (250, 250, 0)
        assert counts["most_active"] <= 4
        jobs = await jobs_of(host)
        assert (jobs["accepted"], jobs["active"], jobs["queued"]) == (250, 0, 0)
    # Threads of a pool come and go with load; what must not happen is growth by the number of jobs.
    assert after[0] <= before[0] + 4
    assert after[1] <= before[1] + 4
    assert own_after[0] <= own_before[0] + 4
    assert own_after[1] <= own_before[1] + 4
    assert own_after[2] <= own_before[2] + 4


def size_of_own() -> tuple[int, int, int]:
    """Threads, open files and tasks of this process, the client."""
    return (*size_of(os.getpid()), trio.lowlevel.current_statistics().tasks_living)


async def test_twenty_against_a_real_model(start_host: StartHost, tmp_path: Path) -> None:
    host = start_host(*LISTEN, "--price", "0", "--threads", "1")
    ready = await host.ready()
    answers: list[str] = []
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        choice = await find(sdk, "smollm2-135m-instruct")
        async with sdk.get_session_manager().open_session(choice, spending_limit_micros=0) as session:

            async def one() -> None:
                async with sdk.get_job_manager().run(
                    session, prompt="What is a peer?", max_output_tokens=8, parameters={"temperature": 0}
                ) as job:
                    answers.append("".join([delta.text async for delta in job]))

            for _ in range(10):
                await one()
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(one)
    assert len(answers) == 20
    assert len(set(answers)) == 1  # at temperature 0, whoever waits beside it
    jobs = await jobs_of(host)
    assert (jobs["accepted"], jobs["active"], jobs["queued"]) == (20, 0, 0)
