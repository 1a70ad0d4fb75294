"""The page "Watch and guard your calls", run as a reader does it: its files, its commands, what they print."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/interceptors.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = dict(re.findall(r"^```console\n\$ python (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
PORT = "9464"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the page."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace(PORT, port), encoding="utf-8")
    return tmp_path


def with_numbered_traces(text: str) -> str:
    """Return what was printed, with each trace's id as the number of its first place: all else is told again."""
    ids = list(dict.fromkeys(re.findall(r"\b[0-9a-f]{32}\b", text)))
    return re.sub(r"\b[0-9a-f]{32}\b", lambda found: f"trace {ids.index(found[0])}", text)


@pytest.mark.parametrize("program", COMMANDS)
def test_a_program_of_the_page_prints_what_the_page_shows(folder: Path, program: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PROMETHEUS_"))}
    result = subprocess.run(
        [sys.executable, program], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert with_numbered_traces(result.stdout) == with_numbered_traces(COMMANDS[program])


def test_every_python_block_is_run() -> None:
    assert set(FILES) == {*COMMANDS, "sums.py"}
    assert PAGE.count("```python\n") == len(FILES)
    assert all(PORT not in text or name == "metrics.py" for name, text in FILES.items())
