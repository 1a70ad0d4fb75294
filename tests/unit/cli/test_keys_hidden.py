"""No command takes a secret on its command line, and none shows one: in errors, logs, crash reports or reprs."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from hostmesh import ConfigError, KeyFileError, Settings
from hostmesh.cli.app import app
from hostmesh.cli.logs import configure_logging, parse_filter
from hostmesh.cli.main import main
from hostmesh.net.peer_key import PeerKey, open_peer_key
from hostmesh.settings import load_settings
from hostmesh_host.cli.app import app as host_app
from hostmesh_host.cli.main import main as host_main
from hostmesh_host.daemon import HostPlan
from hostmesh_host.engines.endpoint import Endpoint, check_engine_url
from hostmesh_host.settings import HostSettings

KEY = "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"
PHRASE = "myth like bonus scare over problem client lizard pioneer submit female collect"
PASSWORD = "correct-horse-battery"
SECRET_WORDS = re.compile(r"key|secret|password|passphrase|mnemonic|phrase|seed|private|wallet|token$")


def parameters(program: typer.Typer, path: str) -> Iterator[tuple[str, str, Any]]:
    """Every parameter of every command, with its type."""
    for command in program.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        for parameter, kind in get_type_hints(command.callback).items():
            yield f"{path} {name}", parameter, kind
    for group in program.registered_groups:
        assert group.typer_instance is not None
        yield from parameters(group.typer_instance, f"{path} {group.name}")


def test_no_option_takes_a_secret_itself() -> None:
    everything = [*parameters(app, "hostmesh"), *parameters(host_app, "hostmesh-host")]
    named = {(path, name): kind for path, name, kind in everything if SECRET_WORDS.search(name)}
    # It names a call.
    assert named.pop(("hostmesh call", "idempotency_key")) is str
    assert ("hostmesh wallet new", "password_file") in named
    assert ("hostmesh-host start", "engine_key_file") in named
    assert len(named) > 15
    for (path, name), kind in named.items():
        # A file, a switch, the number of a descriptor, or of dice.
        is_harmless = kind in (Path | None, Path, bool) or (
            kind in (int, int | None) and name.endswith(("_fd", "seed", "seeds"))
        )
        assert is_harmless, (path, name, kind)


@pytest.mark.parametrize("kind", [Settings, HostSettings])
def test_no_setting_and_so_no_environment_variable_is_a_secret(kind: type) -> None:
    hints = get_type_hints(kind)
    named = [item.name for item in fields(kind) if SECRET_WORDS.search(item.name)]
    assert named
    for name in set(named) - {"sessions_per_wallet"}:
        assert hints[name] == Path | None, name


@pytest.mark.parametrize("secret", [KEY, "0x" + KEY, KEY.upper(), PHRASE], ids=["key", "0x key", "upper", "phrase"])
@pytest.mark.parametrize(
    ("run", "argv"),
    [
        (main, ("wallet", "address", "--wallet")),
        (main, ("wallet", "new", "--wallet")),
        (main, ("wallet", "new", "--password-file")),
        (main, ("wallet", "delegate", "--model", "m", "--cap", "h=1", "--out", "d", "--wallet")),
        (main, ("wallet", "delegate", "--model", "m", "--cap", "h=1", "--out", "d", "--session-key")),
        (main, ("wallet", "delegate", "--model", "m", "--cap", "h=1", "--out")),
        (main, ("wallet", "revoke", "d", "--wallet")),
        (main, ("run", "hello", "--delegation")),
        (main, ("run", "hello", "--model", "m", "--wallet")),
        (main, ("run", "hello", "--model", "m", "--password-file")),
        (main, ("bootstrap", "--key")),
        (host_main, ("start", "--wallet")),
        (host_main, ("start", "--key")),
        (host_main, ("start", "--engine-key-file")),
        (host_main, ("bind", "--key")),
        (host_main, ("bind", "--password-file")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_secret_in_the_place_of_its_file_is_not_repeated(
    run: Any, argv: tuple[str, ...], secret: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    for more in ((), ("--json",), ("-vv",)):
        assert run((*argv, secret, *more)) == 2
        out, err = capsys.readouterr()
        assert "command line" in err
        assert secret.lower() not in (out + err).lower()
    assert not home.exists()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


CRASH = """
import sys
import hostmesh.identity.keystore

def crash(*arguments, **more):
    private_key, password = sys.stdin.read(), more["password"].reveal_text()  # in the clear, where it crashes
    raise ZeroDivisionError(f"a fault of hostmesh, with {len(private_key)} and {len(password)} bytes at hand")

hostmesh.identity.keystore.create_wallet_file = crash
from hostmesh.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("verbose", ["-v", "-vv", "--json"])
def test_a_crash_report_shows_no_local(verbose: str, tmp_path: Path) -> None:
    password_file = tmp_path / "password"
    password_file.write_text(PASSWORD)
    password_file.chmod(0o600)
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, "wallet", "new", "--password-file", str(password_file), verbose],
        env=os.environ | {"HOSTMESH_HOME": str(tmp_path / "home")},
        input=KEY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert crashed.returncode == 1
    assert f"with 64 and {len(PASSWORD)} bytes at hand" in crashed.stderr
    assert KEY not in crashed.stdout + crashed.stderr
    assert PASSWORD not in crashed.stdout + crashed.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_logged_crash_shows_no_local(as_json: bool) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    try:
        configure_logging(parse_filter("debug"), as_json=as_json, stream=stream)

        def crash() -> None:
            private_key = KEY
            raise ZeroDivisionError(len(private_key))

        try:
            crash()
        except ZeroDivisionError:
            logging.getLogger("hostmesh.identity").exception("failed")
    finally:
        root.handlers[:], root.level = handlers, level
        for name in ("hostmesh", "hostmesh_host"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert "ZeroDivisionError" in stream.getvalue()
    assert KEY not in stream.getvalue()


def test_what_holds_a_key_does_not_show_it(tmp_path: Path) -> None:
    loaded = load_settings({}, {"HOSTMESH_HOME": str(tmp_path)})
    plan = HostPlan(
        loaded=loaded,
        host=HostSettings(),
        prices={},
        host_dir=tmp_path,
        location=None,
        wallet=None,
        binding_file=tmp_path,
        engine_key=PASSWORD,
    )
    peer_key = PeerKey(bytes.fromhex(KEY))
    shown = repr([plan, peer_key, Endpoint(base_url="http://127.0.0.1:1", api_key=PASSWORD)]) + str(peer_key)
    assert PASSWORD not in shown
    assert KEY not in shown
    assert repr(bytes.fromhex(KEY))[2:-1] not in shown


@pytest.mark.parametrize(
    "url", ["http://user:hunter2", "http://user:hunter2@h:99999", "http://user:hunter2@[::1", "http://hunter2\u2100:1"]
)
def test_an_address_that_is_no_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_engine_url(url)
    assert "hunter2" not in caught.value.message + repr(caught.value.__cause__) + caught.value.remedy


def test_a_damaged_peer_key_shows_in_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "peer.key"
    path.parent.mkdir(mode=0o700)
    path.write_text(f"hostmesh-peer-key-1\n{KEY[:-1]}g\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught, open_peer_key(path):
        pass
    frame, seen = caught.value.__traceback__, []
    while frame is not None:
        if "hostmesh" in frame.tb_frame.f_globals["__name__"]:
            seen.append(repr(frame.tb_frame.f_locals))
        frame = frame.tb_next
    assert seen
    assert not any(KEY[:-1] in text for text in seen)
    assert caught.value.__context__ is None
    assert KEY[:-1] not in str(caught.value)


def test_typer_shows_no_locals_of_its_own() -> None:
    for program in (app, host_app):
        assert isinstance(program, typer.Typer)
        assert program.pretty_exceptions_enable is False
