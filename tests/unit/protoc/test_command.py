"""The plugin as protoc and people run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.protoc.kit import PLUGIN, ROOT, request_of, run_protoc

from hostmesh.protoc.main import include_path, main
from hostmesh.protoc.plugin import generate

HEAD = 'import "hostmesh/v1/options.proto";\n'
SERVICE = """
service Chat {
  option (hostmesh.v1.protocol) = "chat";
  option (hostmesh.v1.version) = "1.0.0";
  rpc Get(Line) returns (Line) {
    option (hostmesh.v1.max_request_bytes) = 99;
    option (hostmesh.v1.max_response_bytes) = 99;
  }
}
"""
OPTIONAL = 'syntax = "proto3";\n' + HEAD + SERVICE + "message Line { optional uint32 number = 1; }\n"
EDITION = 'edition = "2023";\n' + HEAD + SERVICE + "message Line { uint32 number = 1; }\n"


def test_it_says_where_the_options_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--include"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == include_path()
    shipped = folder / "hostmesh/v1/options.proto"
    assert shipped.read_bytes() == (ROOT / "protos/hostmesh/v1/options.proto").read_bytes()


def test_its_command_and_its_module_are_the_same() -> None:
    for command in ([PLUGIN], [sys.executable, "-m", "hostmesh.protoc"]):
        result = subprocess.run([*command, "--include"], capture_output=True, text=True, check=True)
        assert result.stdout == f"{include_path()}\n"


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--hostmesh_out=. chat.proto" in capsys.readouterr().out
    assert main(["chat.proto"]) == 2
    assert "protoc-gen-hostmesh is a plugin of protoc" in capsys.readouterr().err


def test_what_is_no_request_is_refused() -> None:
    result = subprocess.run([PLUGIN], input=b"\xff\xff", capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr == b"protoc-gen-hostmesh: what came is no request of protoc\n"


def test_neither_the_plugin_nor_what_it_writes_loads_a_node() -> None:
    code = "import sys, hostmesh.protoc.main, hostmesh.v1.status_hostmesh\nprint('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("text", [OPTIONAL, EDITION], ids=["proto3 optional", "edition 2023"])
def test_protoc_accepts_it_for_newer_syntax(text: str, tmp_path: Path) -> None:
    (tmp_path / "chat-room.proto").write_text(text)
    result = run_protoc(tmp_path, tmp_path, "chat-room.proto")
    assert result.returncode == 0, result.stderr
    code = "import chat_room_hostmesh as m; print(m.ChatMethods.GET.full_name, m.ChatBase.SERVICE.full_name)"
    imported = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert imported.stdout == "Chat.Get Chat\n", imported.stderr


def test_a_file_without_services_gets_no_module(tmp_path: Path) -> None:
    files = {"line.proto": 'syntax = "proto3";\nmessage Line { string unbounded = 1; }\n'}
    response = generate(request_of(tmp_path, files))
    assert not response.file
    assert not response.error


def test_modules_that_end_alike_are_told_apart(tmp_path: Path) -> None:
    line = 'syntax = "proto3";\npackage {0};\nmessage Line {{}}\n'
    service = SERVICE.replace("(Line) returns (Line)", "(a.Line) returns (b.Line)")
    files = {
        "a/line.proto": line.format("a"),
        "b/line.proto": line.format("b"),
        "chat.proto": f'syntax = "proto3";\n{HEAD}import "a/line.proto";\nimport "b/line.proto";\n{service}',
    }
    (module,) = generate(request_of(tmp_path, files)).file
    assert (
        "from a import line_pb2 as a_dot_line__pb2\nfrom b import line_pb2 as b_dot_line__pb2\nimport chat_pb2\n"
        in module.content
    )
    assert (
        "async def get(self, request: a_dot_line__pb2.Line, context: hostmesh.CallContext) -> b_dot_line__pb2.Line:"
        in module.content
    )


def test_a_method_may_have_the_name_of_its_service(tmp_path: Path) -> None:
    method = SERVICE.partition("rpc Get")[2].partition("}")[0]
    text = OPTIONAL.replace("rpc Get", f"rpc Chat{method}}}\n  rpc Get")
    (tmp_path / "chat.proto").write_text(text)
    result = run_protoc(tmp_path, tmp_path, "chat.proto")
    assert result.returncode == 0, result.stderr
    code = "import chat_hostmesh as m; print(m.ChatMethods.CHAT.name, m.ChatMethods.GET.name, m.CHAT_SERVICE.name)"
    imported = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert imported.stdout == "Chat Get Chat\n", imported.stderr
