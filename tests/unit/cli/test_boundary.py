"""Errors become one line, one exit code and one JSON object. Truth: the table of exit codes in docs/cli.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hostmesh import errors
from hostmesh.cli import boundary
from hostmesh.errors import StatusCode

EXAMPLES: dict[errors.HostmeshError, int] = {
    errors.ConfigError("m", name="max_connections", source="environment"): 2,
    errors.UsageError("m"): 2,
    errors.NotAuthenticatedError("m"): 2,
    errors.InvalidAddressError("m"): 2,
    errors.KeyFileError("m", path="/k"): 3,
    errors.KeyInUseError("m", path="/k"): 3,
    errors.StoreTooNewError("m", path="/s"): 3,
    errors.NoHostFoundError("m", seen=2, rejected={"price": 2}): 4,
    errors.DialError("m", stage="dial", attempts={"/ip4/192.0.2.1/tcp/1": "timeout"}): 5,
    errors.ConnectionLostError("m"): 5,
    errors.DeadlineExceededError("m"): 5,
    errors.StartFailedError("m"): 5,
    errors.ReadyTimeoutError("m", outcomes={}): 5,
    errors.FrameTooLargeError("m", size_bytes=2, limit_bytes=1): 6,
    errors.BadSignatureError("m"): 6,
    errors.RecordExpiredError("m", field="expires_at"): 6,
    errors.RpcError("m", status=StatusCode.RESOURCE_EXHAUSTED): 7,
    errors.SessionError("m", reason="UNAUTHORIZED"): 7,
    errors.BudgetExceededError("m", currency="USD", limit_micros=1, spent_micros=1, open_micros=0, needed_micros=1): 7,
    errors.JobError("m", reason="BUSY"): 8,
    errors.EngineError("m"): 8,
}


@pytest.mark.parametrize(("error", "code"), EXAMPLES.items(), ids=lambda value: type(value).__name__)
def test_exit_codes_by_kind(error: errors.HostmeshError, code: int) -> None:
    assert boundary.exit_code_of(error) == code


def test_every_error_has_an_exit_code_of_its_own_kind() -> None:
    def leaves(kind: type[errors.HostmeshError]) -> list[type[errors.HostmeshError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    ours = [kind for kind in leaves(errors.HostmeshError) if kind.__module__.startswith("hostmesh.errors.")]
    covered = tuple(kind for kind, _ in boundary._EXIT_CODES)
    uncovered = {kind.__name__ for kind in ours if not issubclass(kind, covered)}
    assert uncovered == {"HostmeshError"}


def test_the_line_says_code_message_and_remedy_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.KeyInUseError("peer.key\nis in use", path="/k", remedy="stop the other process")
    assert boundary.report(error, as_json=False) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error[KEY_IN_USE]: peer.key\\nis in use; remedy: stop the other process\n"


def test_a_message_of_a_peer_cannot_act_on_the_terminal_but_stays_raw_in_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "\x1b]0;pwned\x07<script>\r\u202e"
    error = errors.RpcError(hostile, status=StatusCode.INTERNAL, reason=hostile, details={hostile: hostile})
    assert boundary.report(error, as_json=True) == 7
    out, err = capsys.readouterr()
    for stream in (out, err):
        assert all(character.isprintable() for character in stream.rstrip("\n"))
    told = json.loads(out)["error"]
    assert (told["message"], told["reason"], told["details"]) == (hostile, hostile, {hostile: hostile})


def test_json_carries_the_errors_data() -> None:
    error = errors.NoHostFoundError("m", seen=3, rejected={"model": 1, "price": 2}, relaxation="r", remedy="x")
    assert boundary.error_object(error) == {
        "error": {
            "code": "NO_HOST_FOUND",
            "message": "m",
            "remedy": "x",
            "retry_safe": True,
            "may_have_executed": False,
            "exit_code": 4,
            "seen": 3,
            "rejected": {"model": 1, "price": 2},
            "relaxation": "r",
        }
    }
    for other in EXAMPLES:
        told = json.loads(json.dumps(boundary.error_object(other)))["error"]
        assert {"code", "message", "remedy", "retry_safe", "may_have_executed", "exit_code"} <= told.keys()


def test_a_group_of_our_errors_is_its_first_and_a_mixed_one_is_a_fault() -> None:
    ours, also = errors.UsageError("a"), errors.EngineError("b")
    assert boundary.first_known(BaseExceptionGroup("g", [BaseExceptionGroup("h", [ours]), also])) is ours
    assert boundary.first_known(BaseExceptionGroup("g", [ours, ValueError("x")])) is None


def test_plain_values() -> None:
    value = {"path": Path("/a"), "status": StatusCode.OK, "id": b"\x01", "list": ({1},), "none": None}
    assert boundary.plain(value) == {"path": "/a", "status": "OK", "id": "01", "list": [[1]], "none": None}


def test_the_page_and_the_module_list_the_same_exit_codes() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    on_page = set(re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE))
    in_module = set(re.findall(r"^(\d+)  ", boundary.__doc__ or "", flags=re.MULTILINE))
    assert on_page == in_module
