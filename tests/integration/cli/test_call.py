"""``call`` against a node in another process, and what it shares with ``proto describe``: peers, names, errors."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path

import pytest
from cli_club import CLUB_PROGRAM, Caller, Club
from cli_world import Command, Process, World

DEAD = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcRzQ4FENEemvpg"


# --- call, without standard input ---


def test_a_unary_call_prints_one_json(command: Command, club: Club) -> None:
    blob = base64.b64encode(b"\0\xff").decode()
    called = command(
        "call", club.address, "ClubService.Echo", json.dumps({"text": "hé\u202e", "blob": blob}), "--no-mdns"
    )
    assert (called.code, called.err) == (0, "")
    assert called.json == {"text": "hé\u202e //", "blob": blob, "timesSaid": str(2**53 + 1)}
    assert called.out.isascii()


def test_what_travels_with_a_call(command: Command, club: Club) -> None:
    called = command(
        *("call", club.address, "ClubService.Echo", "--metadata", "lang=en", "--metadata", "a=b=c"),
        *("--idempotency-key", "once", "--session", "00" * 16, "--no-mdns"),
    )
    assert called.json["text"] == f" once/{'00' * 16}/a=b=c lang=en"


def test_a_server_stream_prints_one_json_a_line(command: Command, club: Club) -> None:
    called = command("call", club.address, "ClubService.Count", '{"timesSaid": 3}', "--no-mdns")
    assert called.code == 0
    assert [json.loads(line) for line in called.out.splitlines()] == [{}, {"timesSaid": "1"}, {"timesSaid": "2"}]


def test_a_refusal_is_told_in_full(command: Command, club: Club) -> None:
    argv = ("call", club.address, "ClubService.Echo", '{"text": "refuse"}', "--no-mdns")
    refused = command(*argv)
    assert (refused.code, refused.out) == (7, "")
    assert refused.err.splitlines() == [
        "status RESOURCE_EXHAUSTED, reason FULL, retry after 70 ms, room: tea",
        "may have executed: no",
        "error[RPC]: not \\x1b[2Jhere",
    ]
    error = command(*argv, "--json").json["error"]
    assert isinstance(error, dict)
    assert (error["status"], error["reason"], error["retry_after_ms"]) == ("RESOURCE_EXHAUSTED", "FULL", 70)
    assert (error["details"], error["may_have_executed"], error["exit_code"]) == ({"room": "tea"}, False, 7)


def test_a_deadline_ends_the_call(command: Command, club: Club) -> None:
    late = command("call", club.address, "ClubService.Echo", '{"text": "hang"}', "--timeout-s", "0.5", "--no-mdns")
    assert late.code == 5
    assert "may have executed: yes" in late.err
    assert "error[DEADLINE_EXCEEDED]" in late.err
    assert club.end_of("hang") == "Cancelled"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["ClubService.Echo", '{"txt": "a"}'], ['no field named "txt"', "string text = 1; bytes blob = 2;"]),
        (["ClubService.Echo", '{"timesSaid": "many"}'], ["timesSaid", "uint64 times_said = 3;"]),
        (["ClubService.Echo", '{"timesSaid": 1e400}'], ["timesSaid", "uint64 times_said = 3;"]),
        (["ClubService.Echo", '{"blob": 7}'], ["blob", "bytes blob = 2;"]),
        (["ClubService.Echo", '{"text": "\\ud800"}'], ["the request is no Word", "string text = 1;"]),
        (["ClubService.Echo", json.dumps({"text": "x" * 1001})], ["text has 1001 bytes, at most 1000"]),
        (["ClubService.Echo", '{"text": '], ["the request is no JSON"]),
        (["ClubService.Echo", "[" * 1000], ["nested deeper than 64"]),
        (["ClubService.Echo", "[]"], ["no JSON object"]),
        (
            ["ClubService.Ehco"],
            ["ClubService has no method Ehco", "did you mean Echo? it has Echo, Count, Join, Shout"],
        ),
        (["ClubServce.Echo"], ["the peer serves no ClubServce", "did you mean ClubService? it serves club.v1.ClubS"]),
        (["ClubService"], ["names no method"]),
        (["ClubService.Echo", "--session", "ff"], ["--session has 1 bytes"]),
        (["ClubService.Echo", "--session", "xy"], ["--session is no hex"]),
        (["ClubService.Echo", "--metadata", "lang"], ["--metadata lang"]),
        (["ClubService.Echo", "--idempotency-key", "x" * 33], ["idempotency"]),
        (["ClubService.Join", "--idempotency-key", "x"], ["ClubService.Join is a client stream", "no idempotency key"]),
    ],
)
def test_wrong_use_names_what_is_wrong(command: Command, club: Club, argv: list[str], words: list[str]) -> None:
    wrong = command("call", club.address, *argv, "--no-mdns", "--json")
    error = wrong.json["error"]
    assert isinstance(error, dict)
    assert (wrong.code, error["code"]) == (2, "USAGE")
    line = wrong.err.splitlines()[-1]
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("peer", "code", "word"),
    [
        ("nonsense", 2, "ADDRESS_INVALID"),
        ("/ip4/127.0.0.1/tcp/4001", 2, "ADDRESS_INVALID"),
        (DEAD, 5, "DIAL_FAILED"),
    ],
)
@pytest.mark.parametrize("words", [("call", "StatusService.Ping"), ("proto", "describe")])
def test_a_peer_that_cannot_be_reached(
    command: Command, words: tuple[str, str], peer: str, code: int, word: str
) -> None:
    argv = (words[0], peer, words[1]) if words[0] == "call" else (*words, peer)
    failed = command(*argv, "--no-mdns")
    assert failed.code == code
    assert f"error[{word}]: " in failed.err
    assert "; remedy: " in failed.err


@pytest.mark.parametrize("words", [("call", "ClubService.Echo"), ("proto", "describe")])
def test_a_node_that_lies(command: Command, tmp_path: Path, words: tuple[str, str]) -> None:
    process = Process(str(CLUB_PROGRAM), "--lie", home=tmp_path / "liar")
    try:
        address = str(process.event("ready")["address"])
        refused = command(*((words[0], address, words[1]) if words[0] == "call" else (*words, address)), "--no-mdns")
    finally:
        process.kill()
    assert (refused.code, refused.out) == (6, "")
    assert refused.err.startswith("error[MESSAGE_MALFORMED]: the peer's answer: ")
    assert "; remedy: " in refused.err
    assert all(line.isprintable() for line in refused.err.splitlines())


def test_a_node_that_tells_nothing(command: Command, world: World) -> None:
    refused = command("proto", "describe", world.bootstrap, "--no-mdns", "--protocol-prefix", "/other")
    assert refused.code == 5
    assert refused.err.startswith("error[PROTOCOL_NOT_SUPPORTED]: ")
    assert "remedy: it tells nobody what it serves: an older version" in refused.err


def test_an_id_that_nobody_knows(command: Command, world: World) -> None:
    unknown = DEAD.rpartition("/")[2]
    failed = command(*world.join("call", unknown, "StatusService.Ping", "--find-timeout-s", "2"))
    assert failed.code == 5
    assert failed.err.startswith("error[DIAL_FAILED]: ")
    assert "remedy: give its multiaddress" in failed.err


def test_a_host_is_named_by_its_id_alone(command: Command, world: World) -> None:
    called = command(*world.join("call", world.hosts["cheap"], "StatusService.GetSnapshot"))
    assert called.code == 0, called.err
    assert called.json["state"] == "HOST_STATE_AVAILABLE"
    described = command(*world.join("proto", "describe", world.hosts["cheap"], "JobService", "--json"))
    (service,) = described.json["services"] if isinstance(described.json["services"], list) else ()
    shapes = {each["name"]: each["shape"] for each in service["methods"]}
    assert shapes == {"Quote": "unary", "Run": "server stream", "Countersign": "unary", "GetReceipt": "unary"}


# --- call, with standard input ---


def test_a_bidirectional_call_answers_each_line_as_it_comes(club: Club, tmp_path: Path) -> None:
    caller = Caller(tmp_path, club.address, "ClubService.Shout")
    for word in ("one", "two"):
        caller.say(text=word)
        assert caller.hear() == {"text": word.upper()}
    assert caller.end() == (0, "", ""), "closing its input ends the requests, and the peer's handler with them"
    assert club.end_of("one", "two") == "return"


def test_the_peer_ends_a_bidirectional_call_while_input_is_open(club: Club, tmp_path: Path) -> None:
    for word, code in (("bye", 0), ("refuse", 7)):
        caller = Caller(tmp_path, club.address, "ClubService.Shout", "-")
        caller.say(text=word)
        assert caller.hear() == {"text": word.upper()}
        assert caller.process.wait(timeout=30) == code
        _, out, err = caller.end()
        assert out == ""
        assert ("status FAILED_PRECONDITION" in err) is (code == 7)


def test_a_client_stream_reads_lines_until_the_end(club: Club, tmp_path: Path) -> None:
    caller = Caller(tmp_path, club.address, "ClubService.Join")
    for word in ("a", "b"):
        caller.say(text=word)
    assert caller.end() == (0, '{"text": "a-b"}\n', "")


def test_a_peer_that_has_answered_before_the_last_request(club: Club, tmp_path: Path) -> None:
    caller = Caller(tmp_path, club.address, "ClubService.Join")
    for word in ("a", "stop", *("b" for _ in range(200))):
        caller.say(text=word)
    assert caller.end() == (0, '{"text": "a"}\n', "")


def test_a_client_stream_of_the_one_request_of_an_argument(command: Command, club: Club) -> None:
    assert command("call", club.address, "ClubService.Join", '{"text": "x"}', "--no-mdns").json == {"text": "x"}


def test_a_line_that_is_no_request_is_named_and_ends_the_call(club: Club, tmp_path: Path) -> None:
    caller = Caller(tmp_path, club.address, "ClubService.Shout")
    caller.say(text="sound")
    assert caller.hear() == {"text": "SOUND"}
    caller.say(word="unsound")
    code, out, err = caller.end()
    assert (code, out) == (2, "")
    assert err.startswith('error[USAGE]: line 2 is no Word: Message type "club.v1.Word" has no field named "word"')
    assert club.end_of("sound") == "Cancelled"


def test_a_line_that_is_no_request_comes_too_late_to_say_that_nothing_ran(club: Club, tmp_path: Path) -> None:
    caller = Caller(tmp_path, club.address, "ClubService.Shout", "--json")
    caller.say(text="heard")
    caller.hear()
    caller.say(word="unsound")
    _, out, _ = caller.end()
    assert club.end_of("heard") == "Cancelled", "a handler ran"
    error = json.loads(out)["error"]
    assert (error["code"], error["may_have_executed"]) == ("USAGE", True)


def test_a_unary_request_from_standard_input(club: Club, tmp_path: Path) -> None:
    caller = Caller(tmp_path, club.address, "ClubService.Echo", "-")
    caller.say(text="piped")
    code, out, _ = caller.end()
    assert (code, json.loads(out)["text"]) == (0, "piped //")


@pytest.mark.parametrize(("method", "first"), [("Count", '{"timesSaid": 1, "text": "for ever"}'), ("Shout", "-")])
def test_ctrl_c_cancels_the_call_on_the_peer(club: Club, tmp_path: Path, method: str, first: str) -> None:
    caller = Caller(tmp_path, club.address, f"ClubService.{method}", first)
    caller.say(text="interrupted")
    caller.hear()
    # Its input is still open, and a thread reads it.
    caller.process.send_signal(signal.SIGINT)
    assert caller.process.wait(timeout=30) == 130
    assert caller.end() == (130, "", "")
    assert club.end_of("for ever" if method == "Count" else "interrupted") == "Cancelled"


def test_nobody_reads_the_output_any_more(club: Club, tmp_path: Path) -> None:
    for method, argument in (("Count", '{"timesSaid": 1000000, "text": "many"}'), ("Shout", "-")):
        caller = Caller(tmp_path, club.address, f"ClubService.{method}", argument)
        caller.say(text="unheard")
        caller.hear()
        assert caller.process.stdout is not None
        caller.process.stdout.close()
        if method == "Shout":
            caller.say(text="again")
        assert caller.process.wait(timeout=30) == 141
        assert caller.process.stdin is not None
        assert caller.process.stderr is not None
        caller.process.stdin.close()
        assert caller.process.stderr.read() == ""
        caller.process.stderr.close()
        # A handler that sends just then learns it from that.
        by = club.end_of(*(["many"] if method == "Count" else ["unheard", "again"]))
        assert by in ("Cancelled", "ConnectionLostError")
