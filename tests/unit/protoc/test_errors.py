"""A .proto of which no protocol can be made is refused, each time with its place and what helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.protoc.kit import GOLDEN, POLL, TALK, request_of, run_protoc

from hostmesh.protoc.plugin import generate

GOOD = (GOLDEN / TALK).read_text()
HEAD = 'syntax = "proto3";\nimport "hostmesh/v1/options.proto";\n'
OPTIONS = 'option (hostmesh.v1.protocol) = "{name}"; option (hostmesh.v1.version) = "1.0.0";'
SIZES = "{ option (hostmesh.v1.max_request_bytes) = 9; option (hostmesh.v1.max_response_bytes) = 9; }"


def errors_of(folder: Path, files: dict[str, str]) -> list[str]:
    response = generate(request_of(folder, files))
    assert not response.file or not response.error
    return response.error.splitlines()


def service(methods: str, *, name: str = "Talk", protocol: str = "talk") -> str:
    return f"service {name} {{ {OPTIONS.format(name=protocol)} {methods} }}\nmessage Nothing {{}}\n"


def rpc(name: str) -> str:
    return f"rpc {name}(Nothing) returns (Nothing) {SIZES}"


def test_the_good_file_has_none(tmp_path: Path) -> None:
    assert errors_of(tmp_path, {TALK: GOOD}) == []


CHANGES = {
    "no protocol": (
        '  option (hostmesh.v1.protocol) = "talk";\n',
        "",
        'talk.proto:31: TalkService: no protocol option; add: option (hostmesh.v1.protocol) = "chat";',
    ),
    "no version": (
        '  option (hostmesh.v1.version) = "1.0.0";\n',
        "",
        'talk.proto:31: TalkService: no version option; add: option (hostmesh.v1.version) = "1.0.0";',
    ),
    "a name in upper case": ('"talk"', '"Talk"', "talk.proto:31: TalkService: 'Talk' is no name of a protocol; use"),
    "a name that ends in a slash": ('"talk"', '"talk/"', "TalkService: 'talk/' is no name of a protocol; use"),
    "a name that is too long": ('"talk"', f'"{"t" * 41}"', "is no name of a protocol; use lower-case letters"),
    "a name of hostmesh's": ('"talk"', '"job"', "TalkService: 'job' is a protocol of hostmesh itself; choose another"),
    "two numbers": ('"1.0.0"', '"1.0"', "TalkService: '1.0' is no version; use three numbers, as in 1.0.0"),
    "a leading zero": ('"1.0.0"', '"1.00.0"', "TalkService: '1.00.0' is no version; use three numbers"),
    "no size": (
        "    option (hostmesh.v1.max_response_bytes) = 16;\n",
        "",
        "talk.proto:38: TalkService.OpenRoom: no max_response_bytes; add: option (hostmesh.v1.max_response_bytes) = ",
    ),
    "a size over 1 MiB": (
        "max_response_bytes) = 16;",
        "max_response_bytes) = 1048577;",
        "TalkService.OpenRoom: max_response_bytes of 1048577 is over 1 MiB (1048576); send what is larger in parts",
    ),
    "a string without a bound": (
        "string text = 2 [(hostmesh.v1.max_bytes) = 1024];",
        "string text = 2;",
        "talk.proto:20: talk.v1.Line.text: no max_bytes; add [(hostmesh.v1.max_bytes) = 64]",
    ),
    "a string inside a nested message": (
        "string name = 1 [(hostmesh.v1.max_bytes) = 64];",
        "string name = 1;",
        "talk.proto:16: talk.v1.Line.Author.name: no max_bytes; add",
    ),
    "a list without a bound": (
        "authors = 2 [(hostmesh.v1.max_items) = 16];",
        "authors = 2;",
        "talk.proto:25: talk.v1.Summary.authors: no max_items; add [(hostmesh.v1.max_items) = 64]",
    ),
    "a string over 1 MiB": (
        "(hostmesh.v1.max_bytes) = 1024",
        "(hostmesh.v1.max_bytes) = 2000000",
        "talk.v1.Line.text: max_bytes of 2000000 is over 1 MiB (1048576); lower it",
    ),
    "a least over the most": (
        "(hostmesh.v1.min_bytes) = 1",
        "(hostmesh.v1.min_bytes) = 65",
        "talk.v1.Room.name: min_bytes of 65 is over max_bytes of 64; lower it",
    ),
    "a map": (
        "uint32 lines = 1;",
        "map<string, uint32> lines = 1;",
        "talk.proto:24: talk.v1.Summary.lines: a map, which has no bounds; use a repeated message of key and value",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_missing_or_out_of_bounds(change: str, tmp_path: Path) -> None:
    old, new, expected = CHANGES[change]
    assert old in GOOD
    (error,) = errors_of(tmp_path, {TALK: GOOD.replace(old, new)})
    assert expected in error
    assert error.startswith("talk/v1/talk.proto:")


POLLS = (GOLDEN / POLL).read_text()
OPTION_CHANGES = {
    "a range downwards": (
        '"1.2.0"',
        '"0.9.0"',
        "poll.proto:18: PollService: min_version '1.0.0' and version '0.9.0' are no range: the versions of a range are",
    ),
    "a range that is empty": ('"1.0.0"', '"1.3.0"', "are no range: a range goes up from min_version to version"),
    "a range over major numbers": ('"1.2.0"', '"2.0.0"', "are no range: the versions of a range are as 1.2.0 and"),
    "a range of patches": ('"1.0.0"', '"1.0.1"', "and patch 0; state the lowest version that is still spoken, as in 1"),
    "a range too long": ('"1.2.0"', '"1.8.0"', "are no range: a range goes up from min_version to version, over 8"),
    "a least version that is none": ('"1.0.0"', '"1"', "min_version '1' and version '1.2.0' are no range"),
    "a negative rate": (
        "calls_per_s: 0.5",
        "calls_per_s: -0.5",
        "poll.proto:18: PollService: calls_per_peer: calls_per_s of -0.5 is no rate; state a positive number, or leave",
    ),
    "a rate that is no number": ("calls_per_s: 0.5", "calls_per_s: nan", "calls_per_s of nan is no rate"),
    "a rate without end": ("calls_per_s: 0.5", "calls_per_s: inf", "calls_per_s of inf is no rate"),
    "a rate of all": (
        "{max_concurrent: 3}",
        "{calls_per_s: -1}",
        "PollService: calls_of_all: calls_per_s of -1 is no rate",
    ),
    "no time at all": (
        "default_timeout_ms) = 5000",
        "default_timeout_ms) = 0",
        "poll.proto:26: PollService.Cast: default_timeout_ms of 0 lets no call through; state how many milliseconds",
    ),
    "hostmesh's reflection": (
        '"poll"',
        '"reflection"',
        "'reflection' is a protocol of hostmesh itself; choose another",
    ),
}


@pytest.mark.parametrize("change", OPTION_CHANGES)
def test_options_that_mean_nothing(change: str, tmp_path: Path) -> None:
    old, new, expected = OPTION_CHANGES[change]
    assert old in POLLS
    (error,) = errors_of(tmp_path, {POLL: POLLS.replace(old, new)})
    assert expected in error
    assert error.startswith("poll/v1/poll.proto:")


def test_what_is_stated_as_0_is_not_stated(tmp_path: Path) -> None:
    text = POLLS.replace("{max_concurrent: 2, calls_per_s: 0.5, burst: 4}", "{max_concurrent: 0, calls_per_s: 0}")
    assert errors_of(tmp_path, {POLL: text}) == []


def test_two_services_whose_ranges_meet(tmp_path: Path) -> None:
    older = POLLS.partition("// Asks many")[2]
    older = "// Asks many" + older.replace("PollService", "Older").replace('"1.2.0"', '"1.1.0"')
    (error,) = errors_of(tmp_path, {POLL: POLLS + older})
    assert "Older: poll.v1.PollService has the same protocol and version; give each service" in error
    assert errors_of(tmp_path, {POLL: POLLS.replace('"1.0.0"', '"1.2.0"') + older}) == []


def test_a_message_of_others_is_replaced_by_an_own_one(tmp_path: Path) -> None:
    text = GOOD.replace("returns (google.protobuf.Empty)", "returns (google.protobuf.StringValue)")
    text = text.replace("google/protobuf/empty.proto", "google/protobuf/wrappers.proto")
    (error,) = errors_of(tmp_path, {TALK: text})
    assert "google.protobuf.StringValue.value: no max_bytes; use a message of your own" in error


def test_a_file_without_the_options_is_told_where_they_are(tmp_path: Path) -> None:
    text = 'syntax = "proto3";\nmessage A {}\nservice S { rpc Get(A) returns (A); }\n'
    errors = errors_of(tmp_path, {"s.proto": text})
    assert [each.split(";")[0] for each in errors] == [
        "s.proto:3: S: no protocol option",
        "s.proto:3: S: no version option",
        "s.proto:3: S.Get: no max_request_bytes",
        "s.proto:3: S.Get: no max_response_bytes",
    ]
    assert all('import "hostmesh/v1/options.proto" (its folder: protoc-gen-hostmesh --include)' in e for e in errors)


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (("GetLine", "getLine"), "Talk.getLine: in Python it has the name of GetLine, get_line; rename one of the two"),
        (("Import", "Import_"), "Talk.Import_: in Python it has the name of Import, import_; rename one of the two"),
        (
            ("Bytes",),
            "Talk.Bytes: in Python it is bytes, which hides what the generated class needs; rename the method",
        ),
        (("Hostmesh",), "Talk.Hostmesh: in Python it is hostmesh, which hides what the generated class needs; rename"),
        (("s_pb2",), "Talk.s_pb2: in Python it is s_pb2, which hides what the generated class needs; rename"),
        (("Get", "Get_"), "Talk.Get_: in Python it has the name of Get, GET; rename one of the two"),
        (
            ("TalkService",),
            "Talk.TalkService: in Python it is TALK_SERVICE, which hides what the generated class needs",
        ),
        (("_Get",), "Talk._Get: a method's name starts with a letter; rename the method"),
    ],
)
def test_method_names_that_clash(methods: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    (error,) = errors_of(tmp_path, {"s.proto": HEAD + service(" ".join(map(rpc, methods)))})
    assert expected in error


def test_a_message_that_is_a_word_of_python(tmp_path: Path) -> None:
    text = HEAD + service("rpc Get(None) returns (None) " + SIZES) + "message None {}\n"
    errors = errors_of(tmp_path, {"s.proto": text})
    assert "Talk.Get: the name of its message None is a word of Python's; rename the message None" in errors[0]


@pytest.mark.parametrize("name", ["DESCRIPTOR", "Outer.DESCRIPTOR", "__Line"])
def test_a_message_that_the_generated_class_could_not_name(name: str, tmp_path: Path) -> None:
    """A module or message has a DESCRIPTOR of its own, and Python mangles two underscores inside a class."""
    outer, _, inner = name.rpartition(".")
    message = f"message {inner} {{}}"
    text = HEAD + service(f"rpc Get({name}) returns (Nothing) {SIZES}")
    text += f"message {outer} {{ {message} }}" if outer else message
    (error,) = errors_of(tmp_path, {"s.proto": text})
    assert f"Talk.Get: in Python the name of its message {name} is another's; rename the message {inner}" in error


@pytest.mark.parametrize("name", ["SerializeToString", "DESCRIPTOR", "HasField", "__class__", "ListFields"])
def test_a_field_that_hides_what_pythons_messages_need(name: str, tmp_path: Path) -> None:
    inner = f"message Inner {{ bool {name} = 1; }}"
    text = HEAD + service(rpc("Get")).replace("Nothing {}", "Nothing { Inner inner = 1; }") + inner
    (error,) = errors_of(tmp_path, {"s.proto": text})
    assert error == f"s.proto:5: Inner.{name}: the field hides what a message of Python needs; rename the field"


def test_a_folder_that_is_a_word_of_python(tmp_path: Path) -> None:
    errors = errors_of(tmp_path, {"class/s.proto": HEAD + service(rpc("Get"))})
    assert errors == [
        "class/s.proto: class.s_pb2: 'class' can be no part of a module's name; rename the folder or file"
    ]


def test_two_services_of_one_protocol_or_name(tmp_path: Path) -> None:
    text = HEAD + service(rpc("Get")) + service(rpc("Get"), name="talk").replace("message Nothing {}", "")
    errors = errors_of(tmp_path, {"s.proto": text})
    assert "talk: in Python its constant has the name of Talk's, TALK_SERVICE; rename one of the two" in errors[0]
    assert "talk: Talk has the same protocol and version; give each service a protocol of its own" in errors[1]
    assert len(errors) == 2


def test_protoc_shows_the_errors_and_writes_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "s.proto").write_text(HEAD + service("rpc Get(Nothing) returns (Nothing);"))
    result = run_protoc(source, target, "s.proto")
    assert result.returncode != 0
    assert "s.proto:3: Talk.Get: no max_request_bytes; add: option" in result.stderr
    assert not list(target.glob("*_hostmesh.py"))


def test_an_option_of_the_plugin_that_there_is_not(tmp_path: Path) -> None:
    request = request_of(tmp_path, {TALK: GOOD})
    request.parameter = "quick"
    assert generate(request).error == "protoc-gen-hostmesh takes no options: remove 'quick' from --hostmesh_opt"
