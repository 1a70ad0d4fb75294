"""docs/operators.md and the systemd unit are true to the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from hostmesh_host.cli.main import main
from hostmesh_host.offer import offered_models
from hostmesh_host.settings import HostSettings, load_host_settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.setenv("COLUMNS", "200")

    def show(command: str) -> str:
        assert main([command, "--help"]) == 0
        return capsys.readouterr().out

    return show


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE.partition("## Settings")[2], re.MULTILINE))
    assert set(rows) == {item.name for item in fields(HostSettings)}
    defaults = HostSettings()
    numbers = [item.name for item in fields(HostSettings) if type(getattr(defaults, item.name)) is int]
    assert len(numbers) == 7
    for name in numbers:
        assert rows[name] == str(getattr(defaults, name))
    assert rows["engines"] == '`["smollm2"]`'
    assert rows["currency"] == "`USD`"


def test_the_example_file_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "host.toml").write_text(example)
    loaded = load_host_settings({}, config_dir=tmp_path, stored={}, env={})
    assert offered_models(loaded, {}) == {"all-minilm-l6-v2": 0, "llama3.2:1b": 150_000}


def test_every_option_on_the_page_exists(help_of: Callable[[str], str]) -> None:
    known = "".join(
        help_of(command) for command in ("start", "update", "bind", "revoke", "status", "register", "withdraw")
    )
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - {"--batch-size"}:
        assert option in known, option


def test_the_unit_starts_what_exists(help_of: Callable[[str], str]) -> None:
    unit = (ROOT / "examples" / "ops" / "hostmesh-host.service").read_text(encoding="utf-8")
    assert max(map(len, unit.splitlines())) <= 130
    (line,) = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", unit, re.MULTILINE)
    program, command, *arguments = shlex.split(line.replace("\\\n", " "))
    assert program.endswith("/hostmesh-host")
    known = help_of(command)
    for option in (word for word in arguments if word.startswith("--")):
        assert option in known
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop_s) > HostSettings().drain_timeout_s
