"""The command as a process: what it imports, how it ends, what it prints where."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_world import Command

MAIN = ("-m", "hostmesh.cli.main")
HEAVY = ("libp2p", "eth_account", "zeroconf", "trio", "pydantic", "structlog", "rich", "httpx", "google.protobuf")


def hostmesh(
    home: Path, *argv: str, interpreter: Sequence[str] = (), stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HOSTMESH_", "P2P_"))}
    return subprocess.run(
        [sys.executable, *interpreter, *MAIN, *argv],
        env=env | {"HOSTMESH_HOME": str(home)} | more,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        input=stdin,
    )


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["find", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(argv: list[str], tmp_path: Path) -> None:
    """What keeps ``--help`` under 0.3 s of CPU on every machine; the number itself is printed (pytest -s)."""
    code = (
        "import sys; from hostmesh.cli.main import main; code = main(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # typer itself needs pydantic for a command with numbers.
    assert done.stderr == ("[]\n" if len(argv) == 1 else "['pydantic']\n")
    assert "hostmesh" in done.stdout
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"hostmesh {' '.join(argv)}: {cpu_s:.2f} s CPU, interpreter included")


def test_the_version_is_the_packages(command: Command) -> None:
    from importlib.metadata import version

    assert command("--version").out == f"hostmesh {version('hostmesh')}\n"


def test_every_command_has_json_and_help(command: Command) -> None:
    for words in (
        ["demo"],
        ["find"],
        ["run"],
        ["bootstrap"],
        ["wallet", "new"],
        ["wallet", "address"],
        ["config", "show"],
        ["call"],
        ["proto", "check"],
        ["proto", "describe"],
    ):
        shown = command(*words, "--help")
        assert shown.code == 0
        assert "--json" in shown.out
        assert "-v, --verbose" in shown.out


def test_config_show_names_each_origin(home: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / "config.toml").write_text('enable_mdns = false\nnetwork = "n\\u202e"\n')
    refused = command("config", "show")
    assert (refused.code, refused.err.isprintable()) == (2, False)
    assert refused.err.rstrip("\n").isprintable()
    (home / "config.toml").write_text("enable_mdns = false\n")
    monkeypatch.setenv("P2P_MAX_CONNECTIONS", "25")
    shown = command("--log", "info", "config", "show")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in shown.out.splitlines() if line}
    assert rows["enable_mdns"] == ["false", str(home / "config.toml")]
    assert rows["max_connections"] == ["25", "environment P2P_MAX_CONNECTIONS"]
    assert rows["log"] == ['"info"', "argument"]
    assert rows["enable_dht"] == ["true", "default"]
    told = command("config", "show", "--json").json
    settings = told["settings"]
    assert isinstance(settings, dict)
    assert settings["max_connections"] == {"value": 25, "origin": "environment P2P_MAX_CONNECTIONS"}
    assert told["data_dir"] == str(home)


def test_output_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    env = os.environ | {"HOSTMESH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, *MAIN, "config", "show"], stdout=writer, stderr=subprocess.PIPE, env=env)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_that_cannot_show_a_character_is_no_error(tmp_path: Path) -> None:
    done = hostmesh(tmp_path, "config", "show", PYTHONIOENCODING="ascii", HOSTMESH_NETWORK="näht")
    assert done.returncode == 0
    assert "n\\xe4ht" in done.stdout


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_unforeseen_error_is_one_line_too(tmp_path: Path, flags: list[str]) -> None:
    """A fault is put into the program from outside, by a module that Python imports first."""
    (tmp_path / "sitecustomize.py").write_text(
        "import hostmesh.cli.options as o\n"
        "def fail(*a, **k): raise ZeroDivisionError('\\x1b]0;x\\x07')\n"
        "o.Invocation.load = fail\n"
    )
    done = hostmesh(tmp_path, "config", "show", *flags, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error[INTERNAL]: ZeroDivisionError: \\x1b]0;x\\x07; remedy: ")
    if flags:
        assert json.loads(done.stdout)["error"]["code"] == "INTERNAL"
    with_traceback = hostmesh(tmp_path, "-vv", "config", "show", PYTHONPATH=str(tmp_path))
    assert (with_traceback.returncode, "Traceback" in with_traceback.stderr) == (1, True)


# --- wallets ---


def test_a_new_wallet_is_private_and_never_overwritten(home: Path, command: Command, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    made = command("wallet", "new", "--password-file", str(password), "--json")
    assert made.code == 0
    file = home / "wallet.json"
    assert made.json["path"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    content = file.read_bytes()
    assert json.loads(content)["version"] == 3

    again = command("wallet", "new", "--password-file", str(password))
    assert again.code == 3
    assert "exists already and is not overwritten" in again.err
    assert file.read_bytes() == content

    shown = command("wallet", "address", "--password-file", str(password), "--json")
    assert shown.json == made.json
    password.write_text("wrong")
    wrong = command("wallet", "address", "--password-file", str(password))
    assert wrong.code == 3
    assert "wrong" not in wrong.err.replace("wrong use", "")


def test_a_raw_wallet_and_its_address(home: Path, command: Command) -> None:
    made = command("wallet", "new", "--no-password")
    address, place = made.out.splitlines()
    assert place == f"in {home / 'wallet.json'}"
    assert command("wallet", "address").out == made.out
    from eth_account import Account

    assert Account.from_key((home / "wallet.json").read_text().strip()).address == address


def test_a_password_from_a_descriptor(tmp_path: Path) -> None:
    done = hostmesh(tmp_path, "wallet", "new", "--password-fd", "0", stdin="correct horse\n")
    assert done.returncode == 0
    assert hostmesh(tmp_path, "wallet", "address", "--password-fd", "0", stdin="correct horse\n").stdout == done.stdout


def test_without_a_terminal_no_password_is_asked_for(tmp_path: Path) -> None:
    done = hostmesh(tmp_path, "wallet", "new")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error[USAGE]: no terminal to ask for the password; remedy: give --password-file")
    assert not (tmp_path / "wallet.json").exists()


def test_a_wallet_is_not_written_through_a_link(home: Path, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    home.mkdir(mode=0o700)
    (home / "wallet.json").symlink_to(target)
    assert command("wallet", "new", "--no-password").code == 3
    assert not target.exists()


def test_contradicting_password_options(command: Command) -> None:
    for argv in (["--no-password", "--password-fd", "0"], ["--password-file", "a", "--password-fd", "0"]):
        assert command("wallet", "new", *argv).code == 2
