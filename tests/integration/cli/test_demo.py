"""``hostmesh demo``: a whole network, and nothing left of it. Every host here computes with its real model."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostmesh_host.engines.weights import SMOLLM2, find_weights

MODEL = "smollm2-135m-instruct"
PROMPT = "Name three colours."


class Demo:
    """A demo as a process, with a folder of its own for what it leaves behind."""

    def __init__(self, folder: Path, *argv: str, **more: str) -> None:
        self.folder = folder
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HOSTMESH_", "P2P_"))}
        env |= {"TMPDIR": str(folder), "HOSTMESH_HOME": str(folder / "mine")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hostmesh.cli.main", "demo", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env | more,
            start_new_session=True,
        )

    def wait_for(self, words: str) -> None:
        """Read standard error until these words came."""
        stream = self.process.stderr
        assert stream is not None
        # The descriptor itself: a buffered reader would hide lines from select().
        seen = b""
        while words.encode() not in seen:
            assert select.select([stream.fileno()], [], [], 60)[0], f"{words!r} did not come in time"
            data = os.read(stream.fileno(), 4096)
            assert data, f"it ended before {words!r}"
            seen += data

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=90)
        return self.process.returncode, out, err

    def left_behind(self) -> list[str]:
        """Return the processes that have this demo's folder in their environment."""
        marker = f"{self.folder}/hostmesh-demo-".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if marker in (entry / "environ").read_bytes():
                        found.append((entry / "cmdline").read_text())
                except OSError:
                    continue  # it has ended, or is somebody else's
        return found

    def wait_gone(self) -> None:
        """Wait for all that the demo started, by the kernel's word for each."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                mine = f"{self.folder}/hostmesh-demo-".encode() in (entry / "environ").read_bytes()
                ended = os.pidfd_open(int(entry.name)) if mine else -1
            except OSError:
                continue
            if ended >= 0:
                assert select.select([ended], [], [], 30)[0], "a process stays"
                os.close(ended)

    def files_left(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]


@pytest.fixture
def engine() -> Iterator[str]:
    """llama.cpp's own server with SmolLM2, as a host runs it; yields its URL."""
    options = {
        "api_key": "k",
        "weights": str(find_weights(SMOLLM2, None)),
        "context_tokens": 2048,
        "slots": 1,
        "threads": 1,
        "metrics": False,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "hostmesh_host.engines.llamacpp_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.flush()
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.communicate()


def ask(url: str, prompt: str, max_tokens: int) -> dict[str, object]:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": max_tokens,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer k"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        decoded = json.load(answer)
    return {"text": decoded["choices"][0]["message"]["content"], **decoded["usage"]}


def test_the_demo_finds_a_host_in_the_dht_and_streams_what_its_engine_says(tmp_path: Path, engine: str) -> None:
    demo = Demo(tmp_path, "--json", "--prompt", PROMPT, "--max-tokens", "32")
    code, out, err = demo.end()
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result) == {"choice", "funnel", "timings_ms", "answer", "usage", "finish_reason"}

    choice = result["choice"]
    assert choice["model"] == MODEL
    assert "dht" in choice["sources"], "the client knew the bootstrap node alone, which is no host"
    assert choice["price"] == {"price_micros_per_mtok": 50_000, "currency": "USD"}
    assert choice["reputation"] == {"points": 100, "n": 0}
    assert choice["latency_ms"] > 0
    assert re.fullmatch(r"12D3KooW\w+", choice["peer_id"])

    funnel = result["funnel"]
    assert (funnel["seen"], funnel["matched"], funnel["rejected"]) == (3, 1, {"model": 1, "price": 1})
    assert list(result["timings_ms"].values()) == sorted(result["timings_ms"].values())

    direct = ask(engine, PROMPT, 32)
    assert result["answer"] == direct["text"]
    assert result["usage"]["prompt_tokens"] == direct["prompt_tokens"]
    assert result["usage"]["completion_tokens"] == direct["completion_tokens"]
    assert demo.left_behind() == []
    assert demo.files_left() == []


def test_the_demo_for_people_under_another_prefix(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--protocol-prefix", "/fabstir-llm", "--max-tokens", "8")
    code, out, err = demo.end()
    assert code == 0
    assert out.strip(), "the answer, and nothing else, is on standard output"
    for words in ("bootstrap node ready: /ip4/127.0.0.1/tcp/", "host-us ready", "seen 3 -> model 2 -> price 1", "HOST"):
        assert words in err
    assert len(re.findall("turned away by (model|price)", err)) == 2
    assert re.search(r"^answer +\d+\.\d\d s$", err, flags=re.MULTILINE)
    assert demo.left_behind() == []
    assert demo.files_left() == []


def test_without_the_dht_the_bootstrap_node_tells_of_the_hosts(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--no-dht", "--json", "--max-tokens", "8")
    code, out, _ = demo.end()
    assert code == 0
    result = json.loads(out)
    assert result["funnel"]["seen"] == 3
    assert result["choice"]["sources"] == ["exchange"]
    assert demo.left_behind() == []
    assert demo.files_left() == []


@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [
        (signal.SIGINT, 130, "starting"),
        (signal.SIGTERM, 143, "bootstrap node ready"),
        (signal.SIGINT, 130, "asking"),
    ],
)
def test_interrupted_it_leaves_nothing(tmp_path: Path, number: int, code: int, moment: str) -> None:
    demo = Demo(tmp_path, "--max-tokens", "500")
    demo.wait_for(moment)
    demo.process.send_signal(number)
    ended, _, err = demo.end()
    assert ended == code
    assert "Traceback" not in err
    assert "error[" not in err
    assert demo.left_behind() == []
    assert demo.files_left() == []


def test_killed_it_leaves_no_process(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.wait_for("host-embed ready")
    assert demo.left_behind()
    demo.process.kill()
    demo.end()
    demo.wait_gone()
    assert demo.left_behind() == []


def test_a_host_that_cannot_start_ends_the_demo(tmp_path: Path) -> None:
    """An engine that is there but cannot be imported, as after a broken installation."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'hostmesh_host.cli.main' in sys.orig_argv:\n"
        "    print('error[ENGINE]: no engine here', file=sys.stderr, flush=True)\n"
        "    os._exit(8)\n"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    demo = Demo(folder, PYTHONPATH=str(broken))
    code, out, err = demo.end()
    assert code == 5
    assert out == ""
    assert err.splitlines()[-1].startswith("error[START_FAILED]: host-us did not start: error[ENGINE]: no engine here")
    assert demo.left_behind() == []
    assert demo.files_left() == []
