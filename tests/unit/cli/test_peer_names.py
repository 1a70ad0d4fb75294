"""How a command line names a peer, a service and a method."""

from __future__ import annotations

import pytest

from hostmesh.cli.peer import find_method, find_service, find_target, parse_peer
from hostmesh.errors import InvalidAddressError, UsageError
from hostmesh.reflection.client import ServedService
from hostmesh.rpc.method import methods_of
from hostmesh.v1 import status_pb2

ID = "12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcRzQ4FENEemvpg"
STATUS = methods_of(status_pb2.DESCRIPTOR.services_by_name["StatusService"])


def served(*names: str) -> list[ServedService]:
    return [
        ServedService(full_name=name, protocol="p", versions=("1.0.0",), methods=(), other_methods=0) for name in names
    ]


SERVICES = served("chat.v1.ChatService", "chat.v2.ChatService", "club.ClubService", "Bare")


@pytest.mark.parametrize(
    ("text", "address"), [(ID, ""), (f"/ip4/127.0.0.1/tcp/4001/p2p/{ID}", f"/ip4/127.0.0.1/tcp/4001/p2p/{ID}")]
)
def test_a_peer_by_its_id_or_address(text: str, address: str) -> None:
    named = parse_peer(text)
    assert (named.peer_id, named.address) == (ID, address)


@pytest.mark.parametrize("text", ["", "x", ID[:-1], "/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1", f"/p2p/{ID}", "/"])
def test_what_names_no_peer(text: str) -> None:
    with pytest.raises(InvalidAddressError) as caught:
        parse_peer(text)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "service", "method"),
    [
        ("club.ClubService", "club.ClubService", ""),
        ("ClubService", "club.ClubService", ""),
        ("Bare", "Bare", ""),
        ("Bare.Say", "Bare", "Say"),
        ("ClubService.Say", "club.ClubService", "Say"),
        ("club.ClubService.Say", "club.ClubService", "Say"),
        ("chat.v2.ChatService.Say", "chat.v2.ChatService", "Say"),
    ],
)
def test_a_service_with_or_without_its_package_and_a_method(text: str, service: str, method: str) -> None:
    found, name = find_target(SERVICES, text)
    assert (found.full_name, name) == (service, method)


def test_a_name_of_several_services() -> None:
    with pytest.raises(UsageError, match="serves several ChatService") as caught:
        find_target(SERVICES, "ChatService.Say")
    assert caught.value.remedy == "name one of chat.v1.ChatService, chat.v2.ChatService"


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        find_service(SERVICES, "clubservise")
    assert caught.value.remedy.startswith("did you mean ClubService? it serves chat.v1.ChatService, ")
    with pytest.raises(UsageError) as caught:
        find_method(STATUS, "StatusService", "watchStatus")
    assert caught.value.remedy == "did you mean WatchStatus? it has Ping, GetSnapshot, WatchStatus"
    with pytest.raises(UsageError) as caught:
        find_method(STATUS, "StatusService", "Zzz")
    assert caught.value.remedy == "it has Ping, GetSnapshot, WatchStatus"
    with pytest.raises(UsageError) as caught:
        find_service([], "ClubService")
    assert caught.value.remedy == "it serves nothing"


def test_a_long_list_is_cut() -> None:
    with pytest.raises(UsageError) as caught:
        find_service(served(*(f"s{number}.Service{number}" for number in range(1000))), "Zzz")
    assert caught.value.remedy.endswith("s39.Service39 and 960 more")
