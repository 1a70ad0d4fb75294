"""Children never outlive the command, however it ends. Truth: the process table."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hostmesh.cli.processes import running_children
from hostmesh.errors import StartFailedError

READY = """
import json, os, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("noise before", flush=True)
print(json.dumps({"event": "ready", "pid": os.getpid(), "grandchild": grandchild.pid}), flush=True)
time.sleep(600)
"""
ALONE = "import json, os, time\nprint(json.dumps({'event': 'ready', 'pid': os.getpid()}), flush=True)\ntime.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def wait_gone(*pids: int) -> None:
    with trio.fail_after(10):
        for pid in pids:
            try:
                ended = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            await trio.lowlevel.wait_readable(ended)
            os.close(ended)


def started(line: object) -> tuple[int, int]:
    assert isinstance(line, dict)
    return line["pid"], line["grandchild"]


async def test_leaving_the_block_ends_children_and_theirs(tmp_path: Path) -> None:
    async with running_children(tmp_path) as children:
        pids = started(await children.start("one", ("-c", READY), os.environ).ready())
        assert all(map(is_running, pids))
    await wait_gone(*pids)


async def test_an_error_or_a_cancellation_ends_them_too(tmp_path: Path) -> None:
    pids: list[int] = []

    async def fail() -> None:
        async with running_children(tmp_path) as children:
            pids.extend(started(await children.start("one", ("-c", READY), os.environ).ready()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    with trio.CancelScope() as scope:
        async with running_children(tmp_path) as children:
            pids += started(await children.start("two", ("-c", READY), os.environ).ready())
            scope.cancel()
            await trio.lowlevel.checkpoint()
    await wait_gone(*pids)


async def test_one_that_does_not_obey_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostmesh.cli.processes.END_TIMEOUT_S", 0.2)
    async with running_children(tmp_path) as children:
        pids = started(await children.start("obedient", ("-c", READY), os.environ).ready())
        child = children.start("deaf", ("-c", DEAF), os.environ)
        pids += started(await child.ready())
        pids += started(await children.start("obedient too", ("-c", READY), os.environ).ready())
    assert child.process.returncode == -signal.SIGKILL
    await wait_gone(*pids)


async def test_one_that_ends_early_says_why(tmp_path: Path) -> None:
    async with running_children(tmp_path) as children:
        child = children.start("early", ("-c", "raise SystemExit('error[START_FAILED]: port in use')"), os.environ)
        with pytest.raises(StartFailedError, match=r"early did not start: error\[START_FAILED\]: port in use"):
            await child.ready()


async def test_each_child_has_its_own_home(tmp_path: Path) -> None:
    shared = tmp_path / "elsewhere"
    shared.mkdir()
    code = "import json, os; print(json.dumps({'event': 'ready', **os.environ}), flush=True)"
    async with running_children(tmp_path) as children:
        line = await children.start("one", ("-c", code), {"ONLY": "this"}, links={"shared": shared}).ready()
    assert line["HOSTMESH_HOME"] == line["TMPDIR"] == str(tmp_path / "one")
    assert line["ONLY"] == "this"
    assert "PATH" not in line
    assert (tmp_path / "one" / "shared").resolve() == shared
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700


async def test_children_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    """kill -9 leaves no chance to clean up: the kernel tells the children."""
    parent = f"""
import os, trio
from pathlib import Path
from hostmesh.cli.processes import running_children

async def main():
    async with running_children(Path({str(tmp_path)!r})) as children:
        line = await children.start("one", ("-c", {ALONE!r}), os.environ).ready()
        print(line["pid"], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)  # noqa: ASYNC220 - one fork
    assert process.stdout is not None
    with process.stdout:
        assert select.select([process.stdout], [], [], 30)[0]
        pid = json.loads(process.stdout.readline())
        assert is_running(pid)
        process.kill()
        process.wait()
        await wait_gone(pid)
