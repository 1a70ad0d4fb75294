"""The page "Your own protocol in ten minutes", done as a reader does it: its files, its commands, what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/own-protocol.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:^`(?P<file>[\w.]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER_LIFE_S = 120
"""A server that says less than the page shows is not waited for without end."""
ADDRESS = re.compile(r"/ip4/127\.0\.0\.1/tcp/\d+/p2p/12D3Koo\w+")
INSTALL = "pip install 'hostmesh[proto]' mypy types-protobuf pytest"
# A fresh folder and this test's interpreter stand for these.
NOT_RUN = {
    "mkdir chat && cd chat",
    "python3 -m venv .venv && . .venv/bin/activate",
    "cd chat && . .venv/bin/activate",
    INSTALL,
}


@dataclass
class Reader:
    """Who follows the page in a fresh folder, with a fresh home and nothing but loopback."""

    folder: Path
    environment: dict[str, str]
    server: subprocess.Popen[str] | None = None
    watchdog: threading.Timer | None = None
    address: str = ""
    commands: int = 0

    def run(self, command: str, shown: str) -> None:
        """Type a command, and compare what it prints with what the page shows."""
        self.commands += 1
        if command in NOT_RUN:
            assert shown == ""
        elif command == "python server.py":
            self.start_server(shown)
        else:
            # What the page shows is another run's address.
            command = ADDRESS.sub(self.address or "no server runs", command)
            shell = ["bash", "-c", command]
            result = subprocess.run(
                shell, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=100, check=False
            )
            assert without_times(result.stdout) == without_times(shown), result.stderr
            assert result.returncode == (9 if "incompatible" in shown else 0)
            assert result.stderr == ""

    def start_server(self, shown: str) -> None:
        assert ADDRESS.fullmatch(shown.rstrip("\n"))
        self.server = subprocess.Popen(
            [sys.executable, "server.py"],
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.server.stdout is not None
        self.watchdog = threading.Timer(SERVER_LIFE_S, self.server.kill)
        self.watchdog.start()
        self.address = self.server.stdout.readline().strip()
        assert ADDRESS.fullmatch(self.address)

    def read_server(self, shown: str) -> None:
        """Compare what the server says next."""
        assert self.server is not None
        assert self.server.stdout is not None
        assert [self.server.stdout.readline() for _ in shown.splitlines()] == shown.splitlines(keepends=True)

    def change_message(self, text: str) -> None:
        """Put a message in the place of the one that has its name."""
        path = self.folder / "chat.proto"
        name = text.split()[1]
        changed, count = re.subn(
            rf"^message {name} {{\n.*?^}}\n", text, path.read_text(), flags=re.MULTILINE | re.DOTALL
        )
        assert count == 1
        path.write_text(changed)

    def stop_server(self) -> None:
        """End it as Ctrl-C does; it says no more than the page tells of."""
        assert self.server is not None
        self.server.send_signal(2)
        said, failed = self.server.communicate(timeout=20)
        assert (self.server.returncode, failed) == (0, "")
        # What errors.py and the second client.py made it say.
        assert said.splitlines() == ["Bob is here", "Ada is here", "heard: anybody here?", "heard: bye"]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    folder, home = tmp_path / "chat", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    unwanted = ("HOSTMESH_", "P2P_", "XDG_", "PYTHON", "PYTEST", "MYPY", "COV_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment |= {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "P2P_ENABLE_MDNS": "false",
        "PYTHONUNBUFFERED": "1",  # what the server prints shall come out of the pipe as it comes on a terminal
    }
    reader = Reader(folder, environment)
    yield reader
    if reader.watchdog is not None:
        reader.watchdog.cancel()
    if reader.server is not None:
        reader.server.kill()
        reader.server.communicate()


def without_times(text: str) -> str:
    return re.sub(r"\bin [\d.]+s\b", "in a while", text)


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


@pytest.mark.timeout(240)
def test_a_reader_gets_what_the_page_shows(reader: Reader) -> None:
    commands_before_the_first_answer = 0
    for block in BLOCK.finditer(PAGE):
        text = block["text"]
        if block["file"] is not None:
            (reader.folder / block["file"]).write_text(text, encoding="utf-8")
        elif block["kind"] == "console":
            for command, shown in commands_of(text):
                reader.run(command, shown)
                if command.startswith("python client.py") and not commands_before_the_first_answer:
                    commands_before_the_first_answer = reader.commands
        elif block["kind"] == "text":
            reader.read_server(text)
        else:
            assert block["kind"] == "proto"
            reader.change_message(text)
    reader.stop_server()
    # Three to install, one to generate and one to look, one for each program, one to enter the folder a second time.
    assert commands_before_the_first_answer == 8
    files = {"chat.proto", "server.py", "client.py", "errors.py", "test_chat.py"}
    assert files <= {path.name for path in reader.folder.iterdir()}


def test_what_the_page_installs_is_what_this_environment_has() -> None:
    assert PAGE.count(INSTALL) == 1
    distribution = metadata.distribution("hostmesh")
    assert "proto" in (distribution.metadata.get_all("Provides-Extra") or [])
    assert any("grpcio-tools" in each and "proto" in each.partition(";")[2] for each in distribution.requires or [])
    assert {"hostmesh", "protoc-gen-hostmesh"} <= {point.name for point in distribution.entry_points}
    for name in INSTALL.split()[3:]:
        assert metadata.version(name)
    wheel = re.findall(r"hostmesh-[\d.]+-py3-none-any\.whl", PAGE)
    assert wheel == [f"hostmesh-{distribution.version}-py3-none-any.whl"]
