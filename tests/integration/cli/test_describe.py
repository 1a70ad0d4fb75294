"""``proto describe`` against a node in another process, which serves methods of every shape."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_club import Club
from cli_world import Command

ROOT = Path(__file__).resolve().parents[3]


def test_describe_shows_services_methods_limits_and_deadlines(command: Command, club: Club) -> None:
    shown = command("proto", "describe", club.address, "--no-mdns")
    assert (shown.code, shown.err) == (0, "")
    assert "service hostmesh.v1.StatusService {  // /hostmesh/status/1.0.0\n" in shown.out
    block = shown.out.partition("service club.v1.ClubService {  // /hostmesh/club/1.0.0\n")[2].partition("\n}")[0]
    limits = "request up to 2048 bytes, response up to 4096 bytes; default deadline:"
    assert block.splitlines() == [
        "  // calls_per_peer: max_concurrent 8, calls_per_s 12.5",
        f"  // unary; {limits} 20 s; idempotent",
        "  rpc Echo(club.v1.Word) returns (club.v1.Word);",
        "",
        f"  // server stream; {limits} none",
        "  rpc Count(club.v1.Word) returns (stream club.v1.Word);",
        "",
        f"  // client stream; {limits} none",
        "  rpc Join(stream club.v1.Word) returns (club.v1.Word);",
        "",
        f"  // bidirectional stream; {limits} none",
        "  rpc Shout(stream club.v1.Word) returns (stream club.v1.Word);",
    ]


@pytest.mark.parametrize("name", ["ClubService.Join", "club.v1.ClubService.Join"])
def test_describe_a_method_shows_its_messages(command: Command, club: Club, name: str) -> None:
    shown = command("proto", "describe", club.address, name, "--no-mdns")
    assert shown.code == 0
    head, message = shown.out.rstrip("\n").split("\n\n")
    assert head.count("rpc ") == 1
    assert message.splitlines() == [
        "message club.v1.Word {",
        "  string text = 1;  // up to 1000 bytes",
        "  bytes blob = 2;  // up to 1000 bytes",
        "  uint64 times_said = 3;",
        "}",
    ]


def test_describe_in_json_is_one_object(command: Command, club: Club) -> None:
    described = command("proto", "describe", club.address, "--no-mdns", "--json").json
    services = described["services"]
    assert isinstance(services, list)
    assert described["peer_id"] == club.address.rpartition("/")[2]
    assert [each["name"].rpartition(".")[2].removesuffix("Service") for each in services] == [
        "Club",
        "Discovery",
        "Message",
        "Reflection",
        "Status",
    ]
    one = command("proto", "describe", club.address, "club.v1.ClubService.Echo", "--no-mdns", "--json").json
    (service,) = one["services"] if isinstance(one["services"], list) else ()
    assert service == {
        "name": "club.v1.ClubService",
        "protocol": "club",
        "versions": ["1.0.0"],
        "protocol_ids": ["/hostmesh/club/1.0.0"],
        "calls_per_peer": {"max_concurrent": 8, "calls_per_s": 12.5},
        "calls_of_all": {},
        "comment": "",
        "methods": [
            {
                "name": "Echo",
                "shape": "unary",
                "request": "club.v1.Word",
                "response": "club.v1.Word",
                "max_request_bytes": 2048,
                "max_response_bytes": 4096,
                "default_timeout_s": 20.0,
                "is_idempotent": True,
                "comment": "",
            }
        ],
    }
    (message,) = one["messages"] if isinstance(one["messages"], list) else ()
    assert message["name"] == "club.v1.Word"
    assert message["fields"][2] == {
        "name": "times_said",
        "json_name": "timesSaid",
        "number": 3,
        "type": "uint64",
        "repeated": False,
        "oneof": "",
        "max_bytes": None,
        "min_bytes": None,
        "max_items": None,
    }
    assert one["enums"] == []


def test_what_a_node_serves_is_compared_with_a_checkout(command: Command, club: Club, tmp_path: Path) -> None:
    """The set that is written is OLD of ``proto check``: a running node against the .proto files of a checkout."""
    sets = {}
    for service in ("StatusService", "club.v1.ClubService"):
        sets[service] = tmp_path / f"{service}.binpb"
        described = command("proto", "describe", club.address, service, "--out", str(sets[service]), "--no-mdns")
        assert described.code == 0
    same = command("proto", "check", str(sets["StatusService"]), str(ROOT / "protos"), "--json")
    assert (same.code, same.json["compatible"]) == (0, True)
    other = command("proto", "check", str(sets["club.v1.ClubService"]), str(ROOT / "protos"))
    assert other.code == 9
    assert "refused SERVICE_REMOVED: club.v1.ClubService" in other.out
