"""What ``hostmesh-host`` says when something is wrong: one line, a code, a remedy, an exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_process import RunningEngine
from host_process import PROGRAM, HostProcess, client, command, environment, find

StartHost = Callable[..., HostProcess]
Command = Callable[..., subprocess.CompletedProcess[str]]
LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht")
FREE = ("--price", "0", "--threads", "1")


def is_one_line(stderr: str) -> bool:
    return stderr.startswith("error[") and stderr.count("\n") == 1 and "Traceback" not in stderr and "remedy" in stderr


def test_without_a_wallet_it_says_how_to_get_one(command_here: Command, tmp_path: Path) -> None:
    done = command_here("start", *LISTEN, *FREE)
    assert done.returncode == 2
    assert is_one_line(done.stderr)
    assert "hostmesh wallet new" in done.stderr
    assert "--new-wallet" in done.stderr
    assert not (tmp_path / "h" / "wallet.json").exists()


def test_without_a_price_nothing_is_served(command_here: Command) -> None:
    done = command_here("start", *LISTEN, "--new-wallet", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "CONFIG_INVALID"
    assert "0 is free" in error["remedy"]
    assert is_one_line(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--engine", "http://192.0.2.1:80", "--model", "m=1"), 2, "not on this machine"),
        (("--engine", "http://127.0.0.1:9", "--model", "m=1"), 8, "cannot be reached"),
        (("--engine", "http://127.0.0.1:9"), 2, "no model of the engine is named"),
        (("--engine", "gpt"), 2, "engines is"),
        ((*FREE, "--model", "other=1"), 2, "has the model 'other'"),
        ((*FREE, "--location", "nowhere"), 2, "not a country code"),
        ((*FREE, "--listen", "/ip4/127.0.0.1/xyz"), 2, "xyz"),
        ((*FREE, "--key", "/dev/null/key"), 3, "cannot use the key file"),
        ((*FREE, "--wallet", "/dev/null/wallet"), 2, "there is no wallet"),
        ((*FREE, "--engine-key-file", "/nowhere"), 3, "cannot read /nowhere"),
        ((*FREE, "--host-config", "/nowhere"), 2, "cannot read /nowhere"),
        ((*FREE, "--max-concurrent", "0"), 2, "max_concurrent_jobs"),
        (("--price", "-1"), 2, "price"),
        (("--private-key", "0x00"), 2, "No such option"),
    ],
)
def test_wrong_input_ends_in_one_line(command_here: Command, arguments: tuple[str, ...], code: int, words: str) -> None:
    new_wallet = () if "--wallet" in arguments else ("--new-wallet",)
    listen = () if "--listen" in arguments else LISTEN
    done = command_here("start", *new_wallet, *listen, *arguments)
    assert done.returncode == code, done.stderr
    assert is_one_line(done.stderr), done.stderr
    assert words in done.stderr


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await command(
            tmp_path / "h", "start", "--new-wallet", "--no-mdns", "--listen", f"/ip4/127.0.0.1/tcp/{port}", *FREE
        )
    assert done.returncode == 5
    assert is_one_line(done.stderr)
    assert str(port) in done.stderr


async def test_one_host_a_home_whatever_lies_there(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    home = tmp_path / ("h" * 150)  # longer than a socket's path may be
    (home / "host").mkdir(parents=True, mode=0o700)
    leave_socket(home / "host" / "control.sock")
    stale = await command(home, "status")
    assert stale.returncode == 2
    assert "no hostmesh-host runs" in stale.stderr
    key_file = tmp_path / "engine.key"
    key_file.write_text(recorded.key or "")
    key_file.chmod(0o600)
    options = (*LISTEN, "--engine", recorded.url, "--engine-key-file", str(key_file), "--model", "recorded=1")
    ready = await start_host(*options, home=home.name).ready()
    second = await command(home, "start", *options)
    assert second.returncode == 3
    assert "peer.key" in second.stderr
    assert is_one_line(second.stderr)
    # The first goes on, and its commands still reach it.
    assert json.loads((await command(home, "status", "--json")).stdout)["peer_id"] == ready["peer_id"]
    sock = home / "host" / "control.sock"
    assert sock.stat().st_mode & 0o777 == 0o600
    assert sock.parent.stat().st_mode & 0o777 == 0o700


def leave_socket(path: Path) -> None:
    """Leave a socket behind that nobody listens on, as a killed host does."""
    directory = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)


@pytest.mark.parametrize("name", ["status", "register", "withdraw"])
def test_commands_say_when_no_host_runs(command_here: Command, name: str) -> None:
    done = command_here(name)
    assert done.returncode == 2
    assert "no hostmesh-host runs" in done.stderr
    assert is_one_line(done.stderr)


async def test_an_update_without_a_host_is_kept_for_the_next(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    home = tmp_path / "host"
    done = await command(home, "update", "--model", "recorded=11", "--capability", "gpu", "--location", "FR")
    assert done.returncode == 2
    assert "kept for the next start" in done.stderr
    (home / "host.toml").write_text(
        f'engines = ["{recorded.url}"]\nengine_key_file = "engine.key"\n[models]\nrecorded = 5\n'
    )
    (home / "engine.key").write_text(recorded.key or "")
    (home / "engine.key").chmod(0o600)
    ready = await start_host(*LISTEN).ready()
    (offer,) = ready["models"]
    assert offer["price"] == {"price_micros_per_mtok": 11, "currency": "USD"}
    status = json.loads((await command(home, "status", "--json")).stdout)
    assert status["record"]["location"] == "FR"
    assert status["record"]["capabilities"] == ["gpu"]


async def test_a_binding_made_elsewhere_is_enough(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    home = tmp_path / "host"
    office = tmp_path / "office"
    (tmp_path / "engine.key").write_text(recorded.key or "")
    (tmp_path / "engine.key").chmod(0o600)
    options = (
        *LISTEN, "--engine", recorded.url, "--engine-key-file", str(tmp_path / "engine.key"), "--model", "recorded=1"
    )  # fmt: skip
    # The office has the wallet, the host its key; only an id goes one way, and a file that is no secret the other.
    made = start_host(*options, home="office")  # makes the office's wallet
    await made.ready()
    made.process.terminate()
    await made.wait()
    refused = await command(home, "start", "--no-wallet", *options)
    assert refused.returncode == 2
    assert "hostmesh-host bind" in refused.stderr
    own_id = json.loads((await command(home, "bind", "--json", "--wallet", str(office / "wallet.json"))).stdout)[
        "peer_id"
    ]
    (home / "host" / "binding.json").unlink()
    out = tmp_path / "binding.json"
    done = await command(office, "bind", "--peer-id", own_id, "--days", "2", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    bound = json.loads(done.stdout)
    assert 0 < bound["expires_at_unix_s"] - time.time() <= 2 * 86_400
    out.rename(home / "host" / "binding.json")
    host = start_host("--no-wallet", *options, new_wallet=False)
    ready = await host.ready()
    assert not (home / "wallet.json").exists()
    assert ready["peer_id"] == own_id
    assert ready["operator"] == bound["operator"].lower()
    async with client(tmp_path / "client", ready["addresses"][0]) as sdk:
        assert (await find(sdk, "recorded")).operator_address == bound["operator"].lower()
    # While the host runs it holds its key; bind asks it for its id.
    again = await command(home, "bind", "--json", "--wallet", str(office / "wallet.json"), "--out", str(out))
    assert json.loads(again.stdout)["peer_id"] == own_id


@pytest.mark.parametrize(
    "arguments", [("--days", "8"), ("--days", "0"), ("--peer-id", "nobody"), ("--peer-id", "../../etc/passwd")]
)
def test_a_binding_out_of_bounds_is_refused(command_here: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    home = tmp_path / "h"
    home.mkdir()
    wallet = home / "wallet.json"
    wallet.touch(mode=0o600)
    wallet.write_text("0x" + "11" * 32 + "\n")
    done = command_here("bind", *arguments)
    assert done.returncode == 2
    assert is_one_line(done.stderr), done.stderr
    assert not (home / "host" / "binding.json").exists()


async def test_models_are_listed_with_their_state(tmp_path: Path) -> None:
    rows = json.loads((await command(tmp_path / "h", "models", "list", "--json")).stdout)["models"]
    assert [(row["model_id"], row["problem"]) for row in rows] == [
        ("smollm2-135m-instruct", None),
        ("all-minilm-l6-v2", None),
    ]
    done = await command(tmp_path / "h", "models", "install", "gpt")
    assert done.returncode == 2
    assert is_one_line(done.stderr)


@pytest.mark.parametrize("arguments", [(), ("start",), ("update",), ("bind",), ("models",), ("models", "install")])
def test_help_is_fast(arguments: tuple[str, ...], tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*PROGRAM, *arguments, "--help"], capture_output=True, text=True, env=environment(tmp_path), check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Usage: hostmesh-host" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.6  # aimed at 0.3 on a quiet machine
    assert "--private-key" not in done.stdout


async def test_the_version_is_said(tmp_path: Path) -> None:
    done = await command(tmp_path / "h", "--version")
    assert done.stdout.startswith("hostmesh-host ")


def test_a_revocation_is_signed_offline_and_its_wallet_named(command_here: Command, tmp_path: Path) -> None:
    home = tmp_path / "h"
    home.mkdir()
    wallet = home / "wallet.json"
    wallet.touch(mode=0o600)
    wallet.write_text("0x" + "11" * 32 + "\n")
    bound = json.loads(command_here("bind", "--json").stdout)
    assert bound["revocation_epoch"] == 0
    before = int(time.time())
    done = command_here("revoke", "--peer-id", bound["peer_id"], "--offline", "--json")
    assert done.returncode == 0, done.stderr
    revoked = json.loads(done.stdout)
    assert (revoked["peer_id"], revoked["operator"]) == (bound["peer_id"], bound["operator"].lower())
    assert before <= revoked["least_epoch"] <= time.time()
    assert revoked["told"] == 0
    assert Path(revoked["path"]) == home / "host" / "revocations" / f"{bound['peer_id']}.json"
    assert "11" * 32 not in Path(revoked["path"]).read_text()
    # The next binding voids the ones before, and those after it keep its epoch.
    raised = command_here("bind", "--json", "--revocation-epoch", str(revoked["least_epoch"]))
    again = command_here("bind", "--json")
    for each in (raised, again):
        assert json.loads(each.stdout)["revocation_epoch"] == revoked["least_epoch"]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--peer-id", "nobody"), ("--peer-id", "12D3KooW", "--file", "x"), ("--least-epoch", "0", "--peer-id", "x")],
)
def test_a_revocation_of_nobody_is_refused(command_here: Command, arguments: tuple[str, ...]) -> None:
    done = command_here("revoke", *arguments)
    assert done.returncode == 2
    assert is_one_line(done.stderr), done.stderr


async def test_a_host_that_is_revoked_takes_no_new_work(
    start_host: StartHost, recorded: RunningEngine, tmp_path: Path
) -> None:
    """The operator signs where the wallet is, and spreads the file from a machine that has none."""
    engine_key = tmp_path / "engine.key"
    engine_key.touch(mode=0o600)
    engine_key.write_text(recorded.key or "")
    host = start_host(
        *LISTEN, "--engine", recorded.url, "--engine-key-file", str(engine_key), "--model", "recorded=1"
    )  # fmt: skip
    ready = await host.ready()
    signed = tmp_path / "revocation.json"
    done = await command(
        tmp_path / "office", "revoke", "--offline", "--peer-id", ready["peer_id"], "--out", str(signed),
        "--wallet", str(host.home / "wallet.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spread = await command(
        tmp_path / "elsewhere", "revoke", "--file", str(signed), "--bootstrap", ready["addresses"][0], "--json"
    )
    assert spread.returncode == 0, spread.stderr
    assert json.loads(spread.stdout)["told"] == 1
    status = json.loads((await command(host.home, "status", "--json")).stdout)
    assert (status["record"]["state"], status["is_revoked"]) == ("withdrawn", True)
    announced = await command(host.home, "register", "--json")
    assert announced.returncode != 0
