"""``hostmesh proto check``: its exit codes, what it prints, and what .ci/run holds the wire to."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import Command

ROOT = Path(__file__).resolve().parents[3]
PROTOS = ROOT / "protos"
RELEASED = sorted((PROTOS / "released").glob("*.binpb"))


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """A copy of hostmesh's own .proto files, to be changed."""
    return Path(shutil.copytree(PROTOS / "hostmesh", tmp_path / "protos" / "hostmesh")).parent


def edit(protos: Path, name: str, old: str, new: str) -> None:
    file = protos / "hostmesh" / "v1" / name
    text = file.read_text()
    assert text.count(old) == 1, text.count(old)
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.stem)
def test_peers_of_a_released_version_are_understood(command: Command, released: Path) -> None:
    outcome = command("proto", "check", str(released), str(PROTOS), "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, report["compatible"]) == (0, True), report["changes"]


def test_something_is_released_and_the_gate_checks_it() -> None:
    assert RELEASED
    assert 'proto check "$released" protos' in (ROOT / ".ci" / "run").read_text()


BREAKING = [
    (
        "job.proto",
        "uint32 queue_position = 12;",
        "uint32 queue_position = 16;",
        "FIELD_RENUMBERED",
        "Quote.queue_position",
    ),
    (
        "job.proto",
        "uint64 price_micros_per_mtok = 6;",
        "double price_micros_per_mtok = 6;",
        "FIELD_TYPE_CHANGED",
        "Quote.price_micros_per_mtok",
    ),
    (
        "job.proto",
        "string content = 2 [(max_bytes) = 262144];",
        "string content = 2 [(max_bytes) = 4096];",
        "LIMIT_NARROWED",
        "ChatMessage.content",
    ),
    ("job.proto", "(max_request_bytes) = 1048576", "(max_request_bytes) = 65536", "LIMIT_NARROWED", "JobService.Run"),
    ("status.proto", "rpc Ping(", "rpc Pong(", "METHOD_RENAMED", "StatusService.Ping"),
    (
        "discovery.proto",
        "HOST_STATE_WITHDRAWN = 3;",
        "HOST_STATE_WITHDRAWN = 4;",
        "ENUM_VALUE_RENUMBERED",
        "HostState.HOST_STATE_WITHDRAWN",
    ),
    (
        "message.proto",
        'option (version) = "1.0.0";',
        'option (version) = "2.0.0";',
        "PROTOCOL_VERSION_CHANGED",
        "MessageService",
    ),
]


def allowed_since_release(command: Command) -> int:
    """Return how many changes since the release the tree itself has warnings for."""
    report = json.loads(command("proto", "check", str(RELEASED[0]), str(PROTOS), "--json").out)
    assert report["refused"] == 0
    allowed: int = report["allowed"]
    return allowed


def warnings(count: int) -> str:
    return f"{count} warning" if count == 1 else f"{count} warnings"


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "place"), BREAKING, ids=[f"{row[3]}-{row[0]}" for row in BREAKING]
)
def test_a_breaking_change_of_the_wire_is_refused_and_explained(
    command: Command, protos: Path, file: str, old: str, new: str, code: str, place: str
) -> None:
    since_release = allowed_since_release(command)
    edit(protos, file, old, new)
    outcome = command("proto", "check", str(RELEASED[0]), str(protos))
    assert (outcome.code, outcome.err) == (9, "")
    blocks = outcome.out.split("\n\n")
    assert blocks[-1] == f"incompatible: 1 change refused, {warnings(since_release)}\n"
    (block,) = [block for block in blocks[:-1] if block.startswith("refused")]
    first, *rows = block.splitlines()
    assert first == f"refused {code}: hostmesh.v1.{place} (hostmesh/v1/{file})"
    told = dict(row.split(maxsplit=1) for row in rows)
    assert set(told) == {"was", "now", "breaks", "between", "why", "remedy"}
    assert told["was"] != told["now"]
    report = json.loads(command("proto", "check", str(RELEASED[0]), str(protos), "--json").out)
    (change,) = [each for each in report["changes"] if each["refused"]]
    assert (report["compatible"], report["refused"], report["allowed"]) == (False, 1, since_release)
    assert (change["kind"], change["place"], change["refused"]) == (code, f"hostmesh.v1.{place}", True)


def test_a_removed_method_breaks_old_clients(command: Command, protos: Path) -> None:
    text = (protos / "hostmesh/v1/status.proto").read_text()
    cut = re.sub(r"  rpc Ping\(.*?\n  }\n", "", text, flags=re.DOTALL)
    assert cut != text
    (protos / "hostmesh/v1/status.proto").write_text(cut)
    outcome = command("proto", "check", str(RELEASED[0]), str(protos))
    assert outcome.code == 9
    assert "refused METHOD_REMOVED: hostmesh.v1.StatusService.Ping" in outcome.out
    assert "between  old clients with new servers\n" in outcome.out


def test_a_compatible_change_passes_with_its_warnings(command: Command, protos: Path) -> None:
    since_release = allowed_since_release(command)
    edit(protos, "job.proto", "uint32 queue_position = 12;", "uint32 queue_position = 12; bool is_priority = 16;")
    assert command("proto", "check", str(RELEASED[0]), str(protos)).out.endswith(
        f"compatible: {warnings(since_release)}\n"
    )
    edit(protos, "job.proto", "(max_request_bytes) = 16384", "(max_request_bytes) = 32768")
    edit(protos, "status.proto", "uint32 active_jobs = 2;", "uint32 running_jobs = 2;")
    outcome = command("proto", "check", str(RELEASED[0]), str(protos))
    assert outcome.code == 0
    assert "warning LIMIT_WIDENED: hostmesh.v1.JobService.Quote" in outcome.out
    assert "remedy   update servers first" in outcome.out
    assert outcome.out.endswith(f"compatible: {warnings(since_release + 2)}\n")
    strict = command("proto", "check", str(RELEASED[0]), str(protos), "--strict")
    assert strict.code == 9
    assert "refused FIELD_RENAMED: hostmesh.v1.StatusSnapshot.active_jobs" in strict.out
    assert strict.out.endswith(f"incompatible: 1 change refused, {warnings(since_release + 1)}\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["missing.binpb", "protos"], "No such file"),
        (["pyproject.toml", "protos"], "no descriptor set"),
        (["protos", "tests/vectors"], "holds no .proto file"),
    ],
)
def test_wrong_use_is_no_incompatibility(
    command: Command, monkeypatch: pytest.MonkeyPatch, argv: list[str], message: str
) -> None:
    monkeypatch.chdir(ROOT)
    outcome = command("proto", "check", *argv, "--json")
    error = json.loads(outcome.out)["error"]
    assert (outcome.code, error["code"], error["exit_code"]) == (2, "SCHEMA_INVALID", 2)
    assert message in error["message"]
    assert error["remedy"]
    assert error["path"] in argv


def test_text_of_a_file_cannot_act_on_the_terminal(command: Command, tmp_path: Path) -> None:
    """A descriptor set may hold what protoc would never write."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    for name, number in (("old", 1), ("new", 2)):
        made = FileDescriptorSet()
        file = made.file.add(name="\x1b]0;owned\x07.proto", syntax="proto3")
        file.message_type.add(name="M").field.add(name="a", number=number, label=1, type=5, json_name="a")
        (tmp_path / f"{name}.binpb").write_bytes(made.SerializeToString())
    outcome = command("proto", "check", str(tmp_path / "old.binpb"), str(tmp_path / "new.binpb"))
    assert outcome.code == 9
    assert "\\x1b]0;owned\\x07.proto" in outcome.out
    assert all(line.isprintable() for line in outcome.out.splitlines())


def test_it_runs_as_a_process_without_the_extra_where_only_sets_are_compared(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['grpc_tools'] = None; from hostmesh.cli.main import main;sys.exit(main(sys.argv[1:]))"
    )
    env = {**os.environ, "HOSTMESH_HOME": str(tmp_path)}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "proto", "check", *argv]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    same = run(str(RELEASED[0]), str(RELEASED[0]))
    assert (same.returncode, same.stdout, same.stderr) == (0, "compatible: 0 warnings\n", "")
    needs = run(str(RELEASED[0]), str(PROTOS))
    assert (needs.returncode, needs.stdout) == (2, "")
    assert needs.stderr.startswith("error[SCHEMA_INVALID]")
    assert "pip install 'hostmesh[proto]'" in needs.stderr


def test_help_tells_the_codes(command: Command) -> None:
    assert "9 check failed" in " ".join(command("--help").out.split())
    shown = command("proto", "check", "--help")
    assert shown.code == 0
    for word in ("OLD", "NEW", "--strict", "--proto-path", "--json", "-v, --verbose", "Exit code 9"):
        assert word in shown.out
