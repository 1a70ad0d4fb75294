"""The table and its pages are whole, and the runner finds what differs."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.compare import differences
from tests.conformance.pairs import run_cases
from tests.conformance.schema import METHODS, PROTO, PROTOS, ROOT, read_table
from tests.conformance.values import bytes_of, from_message, to_message

PAGES = ROOT / "docs" / "protocols"
CASES = {case["name"]: case for case in read_table()}
_CALLS = [call for case in CASES.values() for call in (*case.get("before", ()), case.get("call")) if call is not None]


@pytest.mark.parametrize(
    ("page", "file"),
    [
        ("conformance.md", PROTOS / PROTO),
        ("rpc.md", ROOT / "protos/hostmesh/v1/rpc.proto"),
        ("rpc.md", ROOT / "protos/hostmesh/v1/options.proto"),
    ],
    ids=lambda value: Path(value).name,
)
def test_a_page_holds_the_whole_proto(page: str, file: Path) -> None:
    assert f"```proto\n{file.read_text()}```\n" in (PAGES / page).read_text(), f"copy {file} into {page}"


def test_each_case_has_a_name_of_its_own() -> None:
    assert len(CASES) == len(read_table()) > 200
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in CASES)
    assert all(case["about"] for case in CASES.values())


def test_every_method_is_called() -> None:
    assert {call["method"] for call in _CALLS} == METHODS.keys()


def test_every_word_of_the_table_is_in_the_page() -> None:
    page = (PAGES / "conformance.md").read_text()
    steps = [step for call in _CALLS for step in call["steps"]]
    for case in CASES.values():
        steps += case.get("raw", {}).get("steps", []) + case.get("script", [])
    words = {word for step in steps for word in step}
    words |= {word for case in CASES.values() for word in (*case, *case["expect"])}
    words |= {word for call in _CALLS for word in call}
    words |= {case["expect"]["client"]["end"]["kind"] for case in CASES.values() if "call" in case}
    assert [word for word in sorted(words) if f"`{word}`" not in page and f'"{word}"' not in page] == []


def test_steps_begin_and_end_as_the_page_says() -> None:
    for call in _CALLS:
        assert METHODS[call["method"]].takes_stream or "send" in call["steps"][0]
        assert call["steps"][-1].keys() <= {"finish", "cancel"}
    for case in CASES.values():
        if "raw" in case:
            assert any(step.keys() <= {"read_to_end", "reset"} for step in case["raw"]["steps"]), case["name"]


def test_every_expected_message_is_one_of_the_service() -> None:
    for case in CASES.values():
        for message in case["expect"]["client"].get("responses", ()):
            if "deadline_left_ms" not in message:
                to_message(METHODS[case["call"]["method"]].response_type, message)


# --- what the runner finds ---


def passing(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a case of the table, and a result and an account that agree with it."""
    case = copy.deepcopy(CASES[name])
    expect = _with_numbers(case["expect"])
    # The bytes are those of raw-echo.
    result = {"name": name, "received": "0712030a01611a00", **expect["client"]}
    return case, result, {"journal": expect.get("journal", []), "script": expect.get("script", {})}


def _with_numbers(value: Any) -> Any:
    """Return a copy that has a number in place of each range."""
    if isinstance(value, dict):
        return value["at_most"] if "at_most" in value else {key: _with_numbers(each) for key, each in value.items()}
    return [_with_numbers(each) for each in value] if isinstance(value, list) else value


Change = Callable[[dict[str, Any], dict[str, Any]], None]
CHANGES: dict[str, tuple[str, str, Change]] = {
    "another kind": ("echo", "client.end.kind", lambda result, _: result["end"].update(kind="lost")),
    "a response too many": (
        "generate-some",
        "client.responses has 4",
        lambda result, _: result["responses"].append({}),
    ),
    "one response less": ("generate-some", "client.responses has 2", lambda result, _: result["responses"].pop()),
    "another payload": ("echo", "payload", lambda result, _: result["responses"][0].update(payload="68")),
    "a payload too many": ("echo-empty", "payload", lambda result, _: result["responses"][0].update(payload="68")),
    "an optional field missing": ("check-all-fields", "note", lambda result, _: result["responses"][0].pop("note")),
    "another code": ("fail-bare", "client.end.code", lambda result, _: result["end"].update(code=6)),
    "a detail missing": ("fail-with-everything", "needed", lambda result, _: result["end"]["details"].pop("needed")),
    "a detail too many": ("fail-bare", "details.x", lambda result, _: result["end"]["details"].update(x="y")),
    "an untrue word": ("silence", "may_have_executed", lambda result, _: result["end"].update(may_have_executed=False)),
    "no word": ("silence", "may_have_executed", lambda result, _: result["end"].pop("may_have_executed")),
    "a deadline out of range": (
        "describe-bare",
        "not from 1000 to 8000",
        lambda result, _: result["responses"][0].update(deadline_left_ms="8001"),
    ),
    "a handler that should not have run": (
        "echo-one-over",
        "journal has 1",
        lambda _, account: account["journal"].append({"method": "Echo", "ended": "returned"}),
    ),
    "a handler that was not cancelled": (
        "cancel-unary",
        "journal[0].ended",
        lambda _, account: account["journal"][0].update(ended="returned"),
    ),
    "a stream that was not reset": ("silence", "script.end", lambda _, account: account["script"].update(end="")),
    "a frame missing": ("caller-frame", "script.frames has 0", lambda _, account: account["script"].update(frames=[])),
    "a reset instead of an answer": ("raw-echo", "client.end", lambda result, _: result.update(end="reset")),
    "no answer": ("raw-echo", "client.frames has 0", lambda result, _: result.update(received="")),
}


@pytest.mark.parametrize(("name", "says", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_a_difference_is_found(name: str, says: str, change: Change) -> None:
    case, result, account = passing(name)
    assert differences(case, result, account) == []
    change(result, account)
    assert says in "\n".join(differences(case, result, account))


def test_bytes_may_be_told_by_size_and_digest() -> None:
    case, result, account = passing("large-at-the-bound")
    message = to_message(METHODS["EchoLarge"].response_type, result["responses"][0])
    result["responses"] = json.loads(json.dumps([from_message(message)]))
    assert result["responses"][0]["payload"]["size"] == 1048572
    assert differences(case, result, account) == []
    result["responses"][0]["payload"]["sha256"] = "00" * 32
    assert "payload" in "\n".join(differences(case, result, account))


def test_bytes_in_parts() -> None:
    assert bytes_of(["0102", {"hex": "ab", "times": 3}, ""]) == b"\x01\x02\xab\xab\xab"


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ('import sys; sys.stdin.readline(); print(\'{"name": "other"}\')', "the result is of 'other'"),
        ("print('nonsense', flush=True)", "said 'nonsense"),
        ("raise SystemExit('no such address')", "no such address"),
    ],
    ids=["another case", "nonsense", "gone"],
)
def test_a_program_that_does_not_keep_to_the_contract(program: str, says: str) -> None:
    outcomes = run_cases([sys.executable, "-c", program], [CASES["echo-one-over"]])
    assert says in "\n".join(outcomes["echo-one-over"])
