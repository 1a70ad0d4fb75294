"""``hostmesh-host start`` as a process, with a client that finds it and runs jobs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from engine_process import RunningEngine
from host_process import HostProcess, client, command, find

from hostmesh import SDK, HostmeshError, HostState, NoHostFoundError, Session, Wallet

StartHost = Callable[..., HostProcess]
LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht")


async def ask(sdk: SDK, model_id: str, prompt: str, *, most: int = 16, **options: Any) -> tuple[str, Any]:
    choice = await find(sdk, model_id)
    async with (
        sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session,
        sdk.get_job_manager().run(
            session, prompt=prompt, max_output_tokens=most, parameters={"temperature": 0}, **options
        ) as job,
    ):
        text = "".join([delta.text async for delta in job])
    return text, job.usage


async def direct(engine: RunningEngine, prompt: str, most: int = 16) -> dict[str, Any]:
    body = {
        "model": engine.chat_model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": most,
        "temperature": 0,
    }
    answer: dict[str, Any] = await engine.post("/v1/chat/completions", body)
    return answer


def engine_options(engine: RunningEngine, *models: str, tmp_path: Path) -> list[str]:
    options = ["--engine", engine.url, *LISTEN]
    for model in models or ("recorded=1000000",):
        options += ["--model", model]
    if engine.key is not None:
        key_file = tmp_path / "engine.key"
        key_file.write_text(engine.key + "\n")
        key_file.chmod(0o600)
        options += ["--engine-key-file", str(key_file)]
    return options


async def test_an_engine_at_a_url_is_served(start_host: StartHost, recorded: RunningEngine, tmp_path: Path) -> None:
    host = start_host(*engine_options(recorded, tmp_path=tmp_path), "--location", "DE/hesse", "--capability", "gpu")
    ready = await host.ready()
    expected = await direct(recorded, "What is a peer?")
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        choice = await find(sdk, "recorded")
        text, usage = await ask(sdk, "recorded", "What is a peer?")
    assert choice.peer_id == ready["peer_id"]
    assert str(choice.place) == "DE/hesse"
    assert choice.price is not None
    assert choice.price.micros_per_mtok == 1_000_000
    assert text == expected["choices"][0]["message"]["content"]
    assert usage.prompt_tokens == expected["usage"]["prompt_tokens"]
    assert usage.completion_tokens == expected["usage"]["completion_tokens"]
    assert usage.cost_micros == usage.prompt_tokens + usage.completion_tokens


async def test_the_embedded_engines_are_served(
    start_host: StartHost, llama: RunningEngine, minilm: RunningEngine, tmp_path: Path
) -> None:
    host = start_host(*LISTEN, "--engine", "smollm2", "--engine", "minilm", "--price", "0", "--threads", "1", "-vv")
    ready = await host.ready()
    prompt = "My word is xyzzyplugh."
    expected = await direct(llama, prompt)
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        text, _ = await ask(sdk, llama.chat_model, prompt)
        choice = await find(sdk, "all-minilm-l6-v2")
        async with (
            sdk.get_session_manager().open_session(choice, spending_limit_micros=0) as session,
            sdk.get_job_manager().run(session, texts=["A cat sits on the mat."]) as job,
        ):
            async for _ in job:
                pass
            (vector,) = job.vectors
    body = {"model": "all-minilm-l6-v2", "input": "A cat sits on the mat."}
    theirs = (await minilm.post("/v1/embeddings", body))["data"][0]["embedding"]
    assert list(vector) == pytest.approx(theirs, abs=1e-6)
    assert text == expected["choices"][0]["message"]["content"]
    host.process.terminate()
    assert await host.wait() == 143
    log = host.log.read_text()
    assert "is ready" in log
    assert "xyzzyplugh" not in log
    assert text not in log


async def test_the_speed_of_an_embedded_engine_is_said_after_a_job(
    start_host: StartHost, llama: RunningEngine, tmp_path: Path
) -> None:
    host = start_host(*LISTEN, "--engine", "smollm2", "--price", "0", "--threads", "1")
    ready = await host.ready()
    (offer,) = ready["models"]
    assert offer["output_millitokens_per_s"] is None
    speed, seen_from_here = None, 0.0
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        choice = await find(sdk, llama.chat_model)
        async with sdk.get_session_manager().open_session(choice, spending_limit_micros=0) as session:
            with trio.fail_after(60):
                # On a machine so busy that the client reads late, a job says nothing, and the next one may.
                while speed is None:
                    seen_from_here = await tokens_per_s(sdk, session)
                    status = json.loads((await command(tmp_path / "host", "register", "--json")).stdout)
                    (offer,) = status["record"]["models"]
                    speed = offer["output_millitokens_per_s"]
    assert speed / 1000 == pytest.approx(seen_from_here, rel=0.5)
    assert status["record"]["reachability"] is None, "its one peer does not dial back"
    shown = (await command(tmp_path / "host", "status")).stdout
    assert "reached   not known" in shown
    assert f"{speed / 1000:g} tokens/s" in shown


async def tokens_per_s(sdk: SDK, session: Session) -> float:
    """Run a job; return how fast its answer came, as seen from here."""
    options = {"max_output_tokens": 48, "parameters": {"temperature": 0}}
    async with sdk.get_job_manager().run(session, prompt="Count from 1 to 100.", **options) as job:
        came_s = [time.monotonic() async for _ in job]
    assert job.usage.completion_tokens > 17, "enough to measure"
    return (job.usage.completion_tokens - 1) / (came_s[-1] - came_s[0])


async def test_sigterm_lets_a_job_end_and_withdraws(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    host = start_host(*engine_options(recorded, "recorded-slow=1", tmp_path=tmp_path))
    ready = await host.ready()
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        choice = await find(sdk, "recorded-slow")
        async with (
            sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session,
            sdk.get_job_manager().run(session, prompt="What is a peer?", max_output_tokens=20) as job,
        ):
            pieces = [(await anext(aiter(job))).text]
            host.process.terminate()
            pieces += [delta.text async for delta in job]
        assert job.usage.completion_tokens == 20
        assert await host.wait() == 143
        with pytest.raises(NoHostFoundError):
            await sdk.get_discovery_manager().find_host(timeout_s=2)
    assert "".join(pieces) == (await direct(recorded, "What is a peer?", 20))["choices"][0]["message"]["content"]
    assert (await recorded.stats())["cancelled"] == 0
    assert not (host.home / "host" / "control.sock").exists()


async def test_draining_has_a_limit(start_host: StartHost, recorded: RunningEngine, tmp_path: Path) -> None:
    host = start_host(*engine_options(recorded, "fail-hang=1", tmp_path=tmp_path), "--drain-s", "0")
    ready = await host.ready()
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        choice = await find(sdk, "fail-hang")
        async with (
            sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session,
            sdk.get_job_manager().run(session, prompt="x") as job,
        ):
            await recorded.stats(wait="requests:1")
            host.process.terminate()
            with pytest.raises(HostmeshError):
                await anext(aiter(job))
        with trio.fail_after(10):
            assert await host.wait() == 143
    assert (await recorded.stats(wait="cancelled:1"))["cancelled"] == 1


async def test_a_second_signal_ends_at_once(start_host: StartHost, recorded: RunningEngine, tmp_path: Path) -> None:
    host = start_host(*engine_options(recorded, "fail-hang=1", tmp_path=tmp_path), "--drain-s", "3600")
    ready = await host.ready()
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        choice = await find(sdk, "fail-hang")
        async with (
            sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session,
            sdk.get_job_manager().run(session, prompt="x") as job,
        ):
            await recorded.stats(wait="requests:1")
            host.process.send_signal(signal.SIGINT)
            with trio.fail_after(20):
                while (await sdk.get_status_client().get_snapshot(choice.peer_id)).state.value != "draining":
                    pass
            host.process.send_signal(signal.SIGINT)
            with pytest.raises(HostmeshError):
                await anext(aiter(job))
        with trio.fail_after(5):
            assert await host.wait() == 130


async def test_a_client_that_cancels_stops_the_engine(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    host = start_host(*engine_options(recorded, "fail-hang=1", tmp_path=tmp_path))
    ready = await host.ready()
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        choice = await find(sdk, "fail-hang")
        async with sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session:
            async with sdk.get_job_manager().run(session, prompt="x"):
                await recorded.stats(wait="requests:1")
            with trio.fail_after(1):
                assert (await recorded.stats(wait="cancelled:1"))["cancelled"] == 1


async def test_the_engine_dies_with_a_host_that_is_killed(start_host: StartHost) -> None:
    host = start_host(*LISTEN, "--price", "0", "--threads", "1")
    await host.ready()
    status = json.loads((await command(host.home, "status", "--json")).stdout)
    engine = os.pidfd_open(status["engines"][0]["pid"])
    try:
        host.process.kill()
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(engine)
    finally:
        os.close(engine)


async def test_a_signal_while_the_engine_loads_ends_at_once(start_host: StartHost, tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("import time\ntime.sleep(300)\n")
    host = start_host(*LISTEN, "--price", "0", PYTHONPATH=str(tmp_path))
    children = Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children")
    with trio.fail_after(30):
        while not (pids := children.read_text().split()):  # noqa: ASYNC110, ASYNC240 - the kernel tells nobody
            await trio.sleep(0.02)
    engine = os.pidfd_open(int(pids[0]))
    try:
        host.process.terminate()
        with trio.fail_after(10):
            assert await host.wait() == 143
            await trio.lowlevel.wait_readable(engine)
    finally:
        os.close(engine)


async def test_the_offer_changes_while_the_host_runs(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    options = engine_options(recorded, "recorded", "recorded-embedding", tmp_path=tmp_path)
    host = start_host(*options, HOSTMESH_HOST_PRICE="7")
    ready = await host.ready()
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        discovery = sdk.get_discovery_manager()
        assert (await find(sdk, "recorded-embedding")).peer_id == ready["peer_id"]
        done = await command(
            host.home, "update", "--model", "recorded=9", "--remove-model", "recorded-embedding", "--location", "FR"
        )
        assert done.returncode == 0, done.stderr
        (choice,) = await discovery.find_all_hosts(timeout_s=5)
        assert choice.price is not None
        assert choice.price.micros_per_mtok == 9
        assert str(choice.place) == "FR"
        with pytest.raises(NoHostFoundError):
            await find(sdk, "recorded-embedding")
        assert (await command(host.home, "withdraw")).returncode == 0
        with pytest.raises(NoHostFoundError):
            await discovery.find_host(timeout_s=2)
        done = await command(host.home, "register", "--json")
        assert json.loads(done.stdout)["record"]["state"] == HostState.AVAILABLE.value
        assert (await find(sdk, "recorded")).peer_id == ready["peer_id"]
    done = await command(host.home, "update", "--model", "nobody-has-it=1", "--json")
    assert done.returncode != 0
    assert "nobody-has-it" in json.loads(done.stdout)["error"]["message"]


async def test_a_list_of_wallets_that_changes_holds_without_a_restart(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    listed = tmp_path / "wallets.txt"
    await trio.Path(listed).write_text("# nobody yet\n")
    host = start_host(
        *engine_options(recorded, tmp_path=tmp_path), "--allow-list", str(listed), "--only-allowed", home="list"
    )
    ready = await host.ready()
    told = await admission_of(host)
    assert (told["only_allowed"], told["allowed_wallets"], told["work_bits"]) == (True, 0, 0)
    wallet = Wallet.generate()
    async with client(tmp_path / "client", ready["addresses"][0], wallet=wallet) as sdk:
        with pytest.raises(HostmeshError) as caught:
            await ask(sdk, "recorded", "What is a peer?")
        assert getattr(caught.value, "reason", "") == "NOT_ALLOWED"
        await trio.Path(listed).write_text(f"{wallet.address}\n")
        await wait_for_wallets(host, 1)
        text, _ = await ask(sdk, "recorded", "What is a peer?")
        assert text
        # A list that nobody could read leaves what holds, and says so.
        await trio.Path(listed).write_text("not a wallet\n")
        await wait_for_log(host, "the list of wallets is as it was")
        await ask(sdk, "recorded", "What is a peer?")


async def wait_for_wallets(host: HostProcess, count: int) -> None:
    with trio.fail_after(30):
        while (await admission_of(host))["allowed_wallets"] != count:
            continue


async def wait_for_log(host: HostProcess, words: str) -> None:
    with trio.fail_after(30):
        while words not in await trio.Path(host.log).read_text():
            await admission_of(host)


async def admission_of(host: HostProcess) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((await command(host.home, "status", "--json")).stdout)["admission"]
    return told
