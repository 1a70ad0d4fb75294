"""Every example runs, and so does the README's program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = {
    "check_models.py",
    "direct_message.py",
    "find_and_run.py",
    "own_engine.py",
    "scenario.py",
    "simulated_protocol.py",
    "watch_status.py",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"HOSTMESH_HOME": str(tmp_path / "home"), "P2P_ENABLE_MDNS": "false"}


def run_example(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )


@pytest.fixture
def reverser(environment: dict[str, str]) -> Iterator[str]:
    """A running examples/own_engine.py; its address."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "examples/own_engine.py"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
        process.send_signal(2)
        assert process.wait(timeout=15) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_each_example_has_its_test() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == EXAMPLES


def test_find_and_run(reverser: str, environment: dict[str, str]) -> None:
    result = run_example(environment, "examples/find_and_run.py", reverser, "reverser", "one two three")
    assert result.stdout == "three two one"
    assert "prompt_tokens=3, completion_tokens=3" in result.stderr


def test_find_and_run_says_why_nobody_fits(reverser: str, environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "examples/find_and_run.py", reverser, "gpt-4", "hello"],
        env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 1
    assert "seen 1" in result.stderr


def test_watch_status(reverser: str, environment: dict[str, str]) -> None:
    result = run_example(environment, "examples/watch_status.py", reverser)
    assert re.fullmatch(r"round trip [\d.]+ ms\navailable: 0 of \d+ slots in use\n", result.stdout)


def test_direct_message(environment: dict[str, str]) -> None:
    result = run_example(environment, "examples/direct_message.py")
    assert "Bob got {'type': 'greeting', 'data': 'hello'} from 12D3KooW" in result.stdout
    assert result.stdout.endswith("delivered after 1 attempt(s)\n")


def test_check_models_finds_out_a_host_with_other_weights(environment: dict[str, str]) -> None:
    result = run_example(environment, "examples/check_models.py")
    found, cost, points = result.stdout.splitlines()
    assert found.startswith("60 of 60 answers to canaries part from the reference")
    assert "speaks against tiny-chat" in found
    jobs, canaries, micros = (int(number) for number in re.findall(r"\d+", cost))
    assert 60 <= canaries < jobs
    assert 0 < micros < 50_000
    assert points.endswith(" 1 bad")


def test_check_models_accuses_no_host_with_the_right_weights(environment: dict[str, str]) -> None:
    program = (ROOT / "examples/check_models.py").read_text()
    assert program.count("smaller weights") == 1
    result = run_example(environment, "-c", program.replace("smaller weights", "the right weights"))
    assert result.stdout.startswith("0 of 60 answers to canaries part from the reference")
    assert result.stdout.endswith(" 0 bad\n")


def test_simulated_protocol_gives_the_same_run_each_time(environment: dict[str, str]) -> None:
    environment["PYTHONHASHSEED"] = "0"
    first, second = (run_example(environment, "examples/simulated_protocol.py").stdout for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{64}\n", first)
    assert first == second


def test_simulated_protocol_finds_a_protocol_that_counts_a_repeated_call_twice(environment: dict[str, str]) -> None:
    program = (ROOT / "examples/simulated_protocol.py").read_text()
    for right, wrong in (("Club(set)", "Club(list)"), ("self.add(", "self.append(")):
        assert program.count(right) == 1
        program = program.replace(right, wrong)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_example(environment, "-c", program)
    assert "AssertionError" in failed.value.stderr


def test_the_guide_shows_simulated_protocol_and_it_has_20_lines_of_code() -> None:
    program = (ROOT / "examples/simulated_protocol.py").read_text()
    without_docstring = program.split('"""\n', 2)[-1].lstrip()
    assert f"```python\n{without_docstring}```" in (ROOT / "docs/testing.md").read_text()
    assert len([line for line in without_docstring.splitlines() if line]) <= 20


def test_the_guide_draws_a_page_of_that_run(environment: dict[str, str], tmp_path: Path) -> None:
    program, page = re.findall(r"```python\n(.*?)```", (ROOT / "docs/testing.md").read_text(), flags=re.DOTALL)[:2]
    kept = re.sub(r"^print\((.*)\.trace_hash\)$", r"run = \1", program, flags=re.MULTILINE)
    subprocess.run(
        [sys.executable, "-c", kept + page], env=environment, cwd=tmp_path, capture_output=True, timeout=60, check=True
    )
    assert "<h1>club</h1>" in (tmp_path / "run.html").read_text()


def test_a_scenario_of_ones_own(environment: dict[str, str]) -> None:
    result = run_example(environment, "-m", "hostmesh.cli.main", "sim", "examples/scenario.py", "--json")
    report = json.loads(result.stdout)
    assert (report["scenario"], report["nodes"], report["found"], report["answers"]) == ("late-host", 12, 3, 3)
    assert 0 < report["longest_wait_s"] < 60


def test_the_program_of_the_readme(reverser: str, environment: dict[str, str], tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    wallet = tmp_path / "wallet.json"
    make = "import sys; from pathlib import Path; from hostmesh.identity.keystore import create_wallet_file as create\n"
    run_example(environment, "-c", make + "create(Path(sys.argv[1]), password='correct horse')", wallet)
    for placeholder, value in (
        ("/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...", reverser),
        ('"wallet.json"', repr(str(wallet))),
        ('password="..."', 'password="correct horse"'),
        ("smollm2-135m-instruct", "reverser"),
    ):
        assert program.count(placeholder) == 1
        program = program.replace(placeholder, value)
    result = run_example(environment, "-c", program)
    assert result.stdout == "peer? a is What\n4 + 4 tokens\n"
