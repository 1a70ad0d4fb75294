"""``find`` and ``run`` against hosts in other processes, found through a bootstrap node's DHT."""

from __future__ import annotations

import io
import json
import re
import signal
import stat
import sys
from pathlib import Path

import pytest
from cli_world import HOSTILE, Command, Process, World

from hostmesh.cli.privacy import NOTE


def is_harmless(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text)


def test_find_shows_who_fits_and_why_the_others_do_not(command: Command, world: World) -> None:
    found = command(*world.join("find", "--model", "m1", "--max-price-micros", "150000"))
    assert found.code == 0
    heading, row = found.out.splitlines()
    assert heading.split() == ["HOST", "MODEL", "PRICE", "LATENCY", "REPUTATION", "UP", "PLACE", "SOURCES"]
    for part in (world.hosts["cheap"], "m1", "0.1 USD/Mtok", "100 (n=0)", "US/california", "dht"):
        assert part in row
    assert "seen 4" in found.err
    assert f"{world.hosts['dear']}  turned away by price: price 200000 > 150000" in found.err
    assert f"{world.hosts['endless']}  turned away by model" in found.err


def test_find_in_json_is_one_object(command: Command, world: World) -> None:
    found = command(*world.join("find", "--model", "m1", "--json"))
    assert found.code == 0
    hosts, funnel = found.json["hosts"], found.json["funnel"]
    assert isinstance(hosts, list)
    assert isinstance(funnel, dict)
    assert {host["peer_id"] for host in hosts} == {world.hosts["cheap"], world.hosts["dear"]}
    assert all(host["latency_ms"] > 0 and "dht" in host["sources"] for host in hosts)
    assert (funnel["seen"], funnel["matched"], funnel["rejected"]) == (4, 2, {"model": 2})


def test_find_without_a_match_says_what_would_find_one(command: Command, world: World) -> None:
    missed = command(*world.join("find", "--model", "m1", "--max-price-micros", "50000"))
    assert missed.code == 4
    assert missed.out == ""
    *table, line = missed.err.splitlines()
    assert line == (
        "error[NO_HOST_FOUND]: no host meets the criteria: seen 4 -> model 2 -> price 0; "
        "remedy: would find one: max_price 50000 -> 100000 micro-USD/Mtok"
    )
    assert len([row for row in table if "turned away by" in row]) == 4


def test_find_without_a_match_in_json(command: Command, world: World) -> None:
    missed = command(*world.join("find", "--model", "nobody-serves-this", "--json"))
    assert missed.code == 4
    error = missed.json["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["seen"], error["rejected"]) == ("NO_HOST_FOUND", 4, {"model": 4})
    assert len(error["funnel"]["hosts"]) == 4
    assert len(missed.err.splitlines()) == 1


def test_a_hostile_hosts_words_cannot_act_but_stay_raw_in_json(command: Command, world: World) -> None:
    model = f"evil{HOSTILE}"
    shown = command(*world.join("find"))
    assert shown.code == 0
    assert world.hosts["hostile"] in shown.out
    turned_away = command(*world.join("find", "--location", "FR"))
    for outcome in (shown, turned_away):
        assert is_harmless(outcome.out)
        assert is_harmless(outcome.err)
        assert "<script>" in outcome.out + outcome.err
    hosts = command(*world.join("find", "--json", "--model", model)).json["hosts"]
    assert isinstance(hosts, list)
    (host,) = hosts
    assert (host["model"], host["location"], host["capabilities"]) == (model, f"US/{HOSTILE}", [HOSTILE])
    assert host["record"]["software"] == HOSTILE

    ran = command(*world.join("run", "hello", "--model", model, "-vv"))
    assert ran.code == 0
    assert ran.out.startswith("one\n\\x1b]0;pwned")
    assert is_harmless(ran.out)
    assert is_harmless(ran.err), "the log neither"
    raw = command(*world.join("run", "hello", "--model", model, "--json"))
    assert raw.json["answer"] == f"one\n{HOSTILE}\ttwo"


def test_run_streams_the_answer_and_reports(command: Command, world: World) -> None:
    ran = command(*world.join("run", "hello there", "--model", "m1", "--max-price-micros", "150000"))
    assert (ran.code, ran.out) == (0, "one two\n")
    assert f"host {world.hosts['cheap']}, m1, 0.1 USD/Mtok" in ran.err
    assert "2 + 2 tokens, 1 micro-USD, stop" in ran.err


def test_run_in_json_is_one_object(command: Command, world: World) -> None:
    ran = command(*world.join("run", "hello", "--model", "m1", "--location", "DE", "--temperature", "0", "--json"))
    assert ran.code == 0
    assert ran.err == ""
    result = ran.json
    assert result["answer"] == "one two"
    assert result["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "cost_micros": 1, "currency": "USD"}
    choice, timings = result["choice"], result["timings_ms"]
    assert isinstance(choice, dict)
    assert isinstance(timings, dict)
    assert choice["peer_id"] == world.hosts["dear"]
    assert list(timings) == ["session", "accepted", "first_token", "answer"]
    assert sorted(timings.values()) == list(timings.values())


def test_the_prompt_comes_from_a_file_or_standard_input(
    command: Command, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("three words here")
    usage = command(*world.join("run", "--prompt-file", str(file), "--model", "m1", "--json")).json["usage"]
    assert isinstance(usage, dict)
    assert usage["prompt_tokens"] == 3
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a b c d")))
    usage = command(*world.join("run", "--prompt-file", "-", "--model", "m1", "--json")).json["usage"]
    assert isinstance(usage, dict)
    assert usage["prompt_tokens"] == 4


def test_what_a_host_refuses_is_one_line_and_its_own_exit_code(command: Command, world: World) -> None:
    refused = command(*world.join("run", "hello", "--model", "m1", "--limit-micros", "1"))
    assert refused.code == 8
    *_, line = refused.err.splitlines()
    assert re.match(r"error\[JOB\]: .+; remedy: .+", line)
    as_nothing = command(*world.join("run", "hello", "--model", "m1", "--limit-micros", "0"))
    assert as_nothing.code == 2, "that is seen here, before anybody is asked"


def test_a_wallet_file_signs_and_a_wrong_one_is_refused(command: Command, world: World, home: Path) -> None:
    assert command("wallet", "new", "--no-password").code == 0
    assert command(*world.join("run", "hello", "--model", "m1")).code == 0
    (home / "wallet.json").write_text("no wallet")
    wrong = command(*world.join("run", "hello", "--model", "m1"))
    assert wrong.code == 3
    assert wrong.err.startswith("error[KEY_FILE_INVALID]: ")


def test_a_dead_bootstrap_node_finds_nobody(command: Command) -> None:
    dead = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcRzQ4FENEemvpg"
    found = command("find", "--bootstrap", dead, "--no-mdns", "--timeout-s", "1")
    assert found.code == 4
    *_, line = found.err.splitlines()
    assert line.startswith("error[NO_HOST_FOUND]: no host was found at all; remedy: check --bootstrap")


@pytest.mark.parametrize("name", ["find", "run"])
def test_the_first_command_says_once_what_others_learn(command: Command, world: World, home: Path, name: str) -> None:
    argv = world.join(*{"find": ("find",), "run": ("run", "hello")}[name], "--model", "m1")
    in_json = command(*argv, "--json")
    assert in_json.err == "", "a program that reads JSON is not told"
    first, again = command(*argv), command(*argv)
    assert (first.code, again.code) == (0, 0)
    assert first.err.splitlines()[0] == NOTE
    assert again.err.splitlines()
    assert NOTE not in again.err
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_the_help_says_what_others_learn(command: Command) -> None:
    for name in ("find", "run"):
        told = " ".join(command(name, "--help").out.split())
        assert re.search(r"[Hh]ost (that runs a prompt later )?reads (it|the prompt) and its answer", told)
        assert re.search(r"[Pp]eers of the DHT learn which model you ask for", told)


@pytest.mark.parametrize(
    ("argv", "code", "word"),
    [
        (["find", "--bootstrap", "127.0.0.1:4001"], 2, "CONFIG_INVALID"),
        (["find", "--bootstrap", "/ip4/1.2.3.4/tcp/99999/p2p/12D3KooW"], 2, "ADDRESS_INVALID"),
        (["find", "--listen", "/ip4/300.1.1.1/tcp/1"], 2, "ADDRESS_INVALID"),
        (["find", "--location", "Mars"], 2, "CONFIG_INVALID"),
        (["find", "--min-reputation", "1001"], 2, "CONFIG_INVALID"),
        (["find", "--timeout-s", "0"], 2, "USAGE"),
        (["find", "--limit", "0"], 2, "USAGE"),
        (["find", "--frobnicate"], 2, "USAGE"),
        (["run"], 2, "USAGE"),
        (["run", "a", "--prompt-file", "b"], 2, "USAGE"),
        (["run", "--prompt-file", "/nonexistent"], 2, "USAGE"),
        (["run", "a", "--wallet", "/nonexistent"], 3, "KEY_FILE_INVALID"),
        (["run", "a", "--password-file", "a", "--password-fd", "3"], 2, "USAGE"),
        (["config", "show", "--log"], 2, "USAGE"),
        (["--log", "loud", "config", "show"], 2, "CONFIG_INVALID"),
        (["--config", "/nonexistent", "config", "show"], 2, "CONFIG_INVALID"),
    ],
)
def test_bad_input_is_one_line_with_a_code_and_a_remedy(
    command: Command, argv: list[str], code: int, word: str
) -> None:
    refused = command(*argv)
    assert refused.code == code
    assert refused.out == ""
    (line,) = refused.err.splitlines()
    assert line.startswith(f"error[{word}]: ")
    assert "; remedy: " in line
    as_json = command(*argv, "--json")
    assert as_json.code == code
    error = as_json.json["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["exit_code"]) == (word, code)
    assert error["remedy"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_job_on_the_host(world: World, tmp_path: Path, number: int, code: int) -> None:
    running = Process("-m", "hostmesh.cli.main", *world.join("run", "go on", "--model", "endless"), home=tmp_path)
    host = world.processes["endless"]
    try:
        host.event("started")
        assert running.process.stdout is not None
        assert running.process.stdout.read(6) == b"begun "
        ended, err = running.stop(number)
        host.event("stopped")
    finally:
        running.kill()
    assert ended == code
    assert "Traceback" not in err
    assert "error[" not in err


def test_prompts_and_answers_are_in_no_log(world: World, tmp_path: Path) -> None:
    argv = world.join("run", "a secret prompt", "--model", "m1", "--json", "-vv")
    ran = Process("-m", "hostmesh.cli.main", *argv, home=tmp_path)
    answer = ran.line()["answer"]
    code, err = ran.end()
    assert (code, answer) == (0, "one two")
    assert "debug" in err, "there is a log to look at"
    assert "secret" not in err
    assert "one two" not in err
    assert json.dumps("one ") not in err
