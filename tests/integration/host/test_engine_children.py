"""The embedded engines as processes: started, killed, started again, gone with their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from engine_process import RunningEngine

from hostmesh import ChatMessage, ChatWork, EngineError, Finished, ModelNotReadyError, Role, TextPiece
from hostmesh_host.engines.child import ChildEngine, ChildSpec
from hostmesh_host.engines.embedded import minilm_spec, smollm2_spec

MODEL = "smollm2-135m-instruct"


def chat(prompt: str = "What is a peer?", *, most: int = 8) -> ChatWork:
    return ChatWork(
        model_id=MODEL,
        messages=(ChatMessage(role=Role.USER, content=prompt),),
        max_output_tokens=most,
        parameters={"temperature": 0.0},
    )


@asynccontextmanager
async def running(spec: ChildSpec) -> AsyncIterator[ChildEngine]:
    engine = ChildEngine(spec)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield engine
        await engine.stop()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def contents(path: Path | str) -> bytes:
    return Path(path).read_bytes()


async def gone(pid: int) -> None:
    """Wait until a process that is not ours to reap has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


async def failure_of(spec: ChildSpec) -> EngineError:
    with pytest.RaisesGroup(pytest.RaisesExc(EngineError), flatten_subgroups=True) as caught:
        async with running(spec):
            pass
    (error,) = caught.value.exceptions
    assert isinstance(error, EngineError)
    return error


async def test_a_child_that_crashes_is_started_again_with_another_key() -> None:
    async with running(smollm2_spec(threads=1)) as engine:
        first, first_pid = engine.endpoint, engine.pid
        assert first_pid is not None
        async with engine.generate(chat("Tell a long story.", most=1000)) as events:
            assert isinstance(await anext(events), TextPiece)
            os.kill(first_pid, signal.SIGKILL)
            with pytest.raises(EngineError):
                async for _ in events:
                    pass
        with trio.fail_after(60):
            while engine.pid in (None, first_pid):
                await engine.wait_change()
                if engine.pid is None:
                    assert await engine.ready() == {MODEL: False}
                    with pytest.raises(ModelNotReadyError):
                        async with engine.generate(chat()):
                            pass
        assert engine.starts == 2
        assert engine.endpoint.api_key != first.api_key
        assert await engine.ready() == {MODEL: True}
        async with engine.generate(chat()) as events:
            assert isinstance([event async for event in events][-1], Finished)


async def test_stop_leaves_no_process_and_no_descriptor() -> None:
    before = descriptors()
    async with running(minilm_spec(threads=1)) as engine:
        pid = engine.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)  # reaped
    await engine.stop()  # again
    assert descriptors() <= before


async def test_cancellation_ends_the_child() -> None:
    engine = ChildEngine(minilm_spec(threads=1))
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        pid = engine.pid
        assert pid is not None
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


PARENT = """
import sys, trio
from hostmesh_host.engines.child import ChildEngine
from hostmesh_host.engines.embedded import smollm2_spec, minilm_spec
async def main():
    async with trio.open_nursery() as nursery:
        for spec in (smollm2_spec(threads=1), minilm_spec(threads=1)):
            engine = ChildEngine(spec)
            await nursery.start(engine.run)
            print(engine.pid, flush=True)
trio.run(main)
"""


async def test_children_die_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert parent.stdout is not None
    pids = [int(await trio.to_thread.run_sync(parent.stdout.readline)) for _ in range(2)]
    for pid in pids:
        os.kill(pid, 0)  # there
    parent.kill()
    parent.wait()
    parent.stdout.close()
    with trio.fail_after(5):
        for pid in pids:
            await gone(pid)


async def test_the_key_is_neither_an_argument_nor_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTMESH_WALLET_PASSWORD", "wallet-password")
    async with running(smollm2_spec(threads=1)) as engine:
        key = engine.endpoint.api_key
        assert key is not None
        assert len(key) == 64
        for name in ("cmdline", "environ"):
            text = contents(f"/proc/{engine.pid}/{name}")
            assert key.encode() not in text
            assert b"wallet-password" not in text
        assert key not in repr(engine.endpoint)


async def test_a_page_in_a_browser_may_not_ask(llama: RunningEngine) -> None:
    import httpx

    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{llama.url}/v1/models", headers={"Origin": "https://example.org"})
    assert answer.status_code == 401
    assert answer.headers.get("access-control-allow-origin", "") == ""


async def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    spec = minilm_spec(threads=1)
    changed = tmp_path / "model.onnx"
    changed.write_bytes(contents(str(spec.options["weights"]))[:-1] + b"!")
    error = await failure_of(replace(spec, options={**spec.options, "weights": str(changed)}))
    assert "is not the all-minilm-l6-v2 that is known" in error.message
    assert "models install" in error.remedy


@pytest.mark.parametrize(
    ("package", "spec"), [("xllamacpp", smollm2_spec), ("onnxruntime", minilm_spec), ("tokenizers", minilm_spec)]
)
async def test_a_missing_package_is_named_with_its_remedy(
    package: str, spec: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"raise ImportError('no {package}', name='{package}')\n"
    (tmp_path / f"{package}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    error = await failure_of(spec(threads=1))
    assert f"{package} is not installed" in error.message
    assert "hostmesh[engine]" in error.remedy


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys\nprint('last words', file=sys.stderr)\nsys.exit(3)", "ended before it was ready: last words"),
        ("print('no json', flush=True)\nimport time\ntime.sleep(60)", "ended before it was ready"),
        ("import time\ntime.sleep(60)", "did not load in 1 s"),
        (
            'print(\'{"event": "ready", "url": "http://192.0.2.1:80", "models": []}\', flush=True)',
            "not on this machine",
        ),
    ],
)
async def test_a_child_that_does_not_become_ready_is_given_up(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_child.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    spec = replace(minilm_spec(threads=1), module="bad_child", start_timeout_s=1.0)
    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match=words), flatten_subgroups=True):
        async with running(spec):
            pass


async def test_a_cancelled_prompt_stops_before_it_is_computed(llama: RunningEngine) -> None:
    """A prompt of 2000 tokens takes this engine ten seconds and more."""
    from hostmesh_host.engines.describe import open_engine

    async def ask() -> None:
        async with engine.generate(chat("word " * 1900, most=4)) as events:
            async for _ in events:
                raise AssertionError("the prompt was computed already")

    async with (
        open_engine(llama.url, model_ids=[MODEL], api_key=llama.key) as engine,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(ask)
        with trio.fail_after(10):
            await llama.until_busy()
        nursery.cancel_scope.cancel()
    with trio.fail_after(1):
        await llama.until_idle()


async def test_nothing_of_a_prompt_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with running(smollm2_spec(threads=1)) as engine, engine.generate(chat("My xyzzyplugh is secret.")) as events:
        answer = "".join([event.text async for event in events if isinstance(event, TextPiece)])
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "is ready" in logged
    assert "xyzzyplugh" not in logged
    assert answer.strip()
    assert answer.strip() not in logged
    assert json.dumps("xyzzyplugh") not in logged
