"""Which address is dialled for whom, how often, and what the answers come to."""

from __future__ import annotations

import pytest

from hostmesh.net.address import AddressScope
from hostmesh.net.autonat_policy import (
    MAX_AT_ONCE,
    MAX_PAID_PER_WINDOW,
    MAX_PER_NETWORK,
    MAX_PER_PEER,
    MAX_PER_WINDOW,
    WINDOW_S,
    Chosen,
    DialBackLimiter,
    choose_address,
)
from hostmesh.net.autonat_report import DialBackAnswer, ReachState, can_judge, judge
from hostmesh.net.autonat_report import DialBackOutcome as Outcome
from hostmesh.net.peer_id import PeerId
from hostmesh.testing import make_peer_key

HERE = ("127.0.0.1", "8.8.4.4", "2600::1")
PUBLIC, OTHER = "/ip4/8.8.8.8/tcp/4001", "/ip4/9.9.9.9/tcp/4001"
PEERS = [make_peer_key(f"peer-{number}").peer_id for number in range(5)]


def choose(*addresses: str | None, asker_ip: str | None = "8.8.8.8", own_ips: tuple[str, ...] = HERE) -> Chosen | None:
    return choose_address(addresses, asker_ip=asker_ip, own_ips=own_ips)


# --- what is dialled ---


def test_the_asker_s_own_address_costs_nothing() -> None:
    assert choose(PUBLIC) == Chosen(index=0, address=PUBLIC, is_paid=False)


def test_another_address_is_paid_for() -> None:
    assert choose(OTHER, PUBLIC) == Chosen(index=0, address=OTHER, is_paid=True)
    assert choose(OTHER, asker_ip=None) == Chosen(index=0, address=OTHER, is_paid=True)


def test_a_name_is_paid_for() -> None:
    assert choose("/dns4/a.example/tcp/1") == Chosen(index=0, address="/dns4/a.example/tcp/1", is_paid=True)


@pytest.mark.parametrize(
    "address",
    [
        "/ip4/127.0.0.1/tcp/6379",
        "/ip4/10.0.0.7/tcp/80",
        "/ip4/169.254.1.1/tcp/80",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/0.0.0.0/tcp/80",
        "/ip4/8.8.8.8/tcp/0",
        "/ip6/::1/tcp/80",
        "/ip6/fd00::1/tcp/80",
        "/ip6/::ffff:10.0.0.7/tcp/80",
        "/ip6/64:ff9b::a00:7/tcp/80",
    ],
)
@pytest.mark.parametrize("asker_ip", ["8.8.8.8", "10.0.0.8", None])
def test_what_is_never_dialled(address: str, asker_ip: str | None) -> None:
    assert choose(address, asker_ip=asker_ip) is None


@pytest.mark.parametrize(("ip", "kind"), [("127.0.0.1", "ip4"), ("10.0.0.7", "ip4"), ("::1", "ip6")])
def test_private_addresses_lead_to_the_asker_only(ip: str, kind: str) -> None:
    address = f"/{kind}/{ip}/tcp/4001"
    assert choose(address, asker_ip=ip) == Chosen(index=0, address=address, is_paid=False)


def test_the_metadata_service_is_not_dialled_even_for_itself() -> None:
    assert choose("/ip4/169.254.169.254/tcp/80", asker_ip="169.254.169.254") is None


def test_an_asker_seen_at_a_mapped_address_is_itself() -> None:
    assert choose(PUBLIC, asker_ip="::ffff:8.8.8.8") == Chosen(index=0, address=PUBLIC, is_paid=False)


def test_what_cannot_be_dialled_is_passed_over_with_its_index() -> None:
    assert choose(None, "/ip4/10.0.0.7/tcp/1", PUBLIC) == Chosen(index=2, address=PUBLIC, is_paid=False)
    assert choose(None) is None
    assert choose() is None


def test_a_machine_without_ipv6_dials_none() -> None:
    address = "/ip6/2600::7/tcp/1"
    assert choose(address, own_ips=("192.168.1.2", "fd00::2", "fe80::2")) is None
    assert choose(OTHER, own_ips=("192.168.1.2",)) == Chosen(index=0, address=OTHER, is_paid=True)
    assert choose(OTHER, own_ips=("127.0.0.1", "2600::1")) is None


# --- how often ---


def ip(number: int) -> str:
    return f"20.{number // 250}.{number % 250}.1"


def test_one_at_a_time() -> None:
    limiter = DialBackLimiter()
    assert limiter.begin(PEERS[0], ip(0), 0.0)
    assert not limiter.begin(PEERS[0], ip(1), 100.0)
    assert limiter.begin(PEERS[1], ip(1), 100.0)
    limiter.end(PEERS[0])
    assert limiter.begin(PEERS[0], ip(0), 100.0)
    assert limiter.refused == {"one_at_a_time": 1}


def served(limiter: DialBackLimiter, peer_id: PeerId, where: str | None, now: float) -> bool:
    admitted = limiter.begin(peer_id, where, now)
    if admitted:
        limiter.end(peer_id)
    return admitted


def test_so_many_of_a_peer_in_a_minute() -> None:
    limiter = DialBackLimiter()
    asked = [served(limiter, PEERS[0], ip(number), float(number)) for number in range(MAX_PER_PEER + 1)]
    assert asked == [True] * MAX_PER_PEER + [False]
    assert served(limiter, PEERS[0], ip(0), WINDOW_S)
    assert limiter.refused == {"peer": 1}


def test_keys_of_one_network_share_its_portion() -> None:
    limiter = DialBackLimiter()
    keys = [make_peer_key(f"key-{number}").peer_id for number in range(MAX_PER_NETWORK + 2)]
    asked = [served(limiter, key, f"20.0.0.{number}", 0.0) for number, key in enumerate(keys)]
    assert asked == [True] * MAX_PER_NETWORK + [False] * 2
    assert served(limiter, keys[-1], "20.0.1.1", 0.0)


def test_so_many_of_all() -> None:
    limiter = DialBackLimiter()
    keys = [make_peer_key(f"key-{number}").peer_id for number in range(MAX_PER_WINDOW + 1)]
    assert [served(limiter, key, ip(number), 0.0) for number, key in enumerate(keys)].count(True) == MAX_PER_WINDOW
    assert limiter.refused == {"busy": 1}


def test_so_many_at_once() -> None:
    limiter = DialBackLimiter()
    keys = [make_peer_key(f"key-{number}").peer_id for number in range(MAX_AT_ONCE + 1)]
    assert [limiter.begin(key, ip(number), 0.0) for number, key in enumerate(keys)].count(True) == MAX_AT_ONCE


def test_paid_dials_have_a_portion_of_their_own() -> None:
    limiter = DialBackLimiter()
    assert [limiter.admit_paid(1.0) for _ in range(MAX_PAID_PER_WINDOW + 1)] == [True] * MAX_PAID_PER_WINDOW + [False]
    assert not limiter.admit_paid(WINDOW_S)
    assert limiter.admit_paid(1.0 + WINDOW_S)


# --- what the answers come to ---


def answers(*said: tuple[int, str, Outcome], trusted: int | None = None) -> list[DialBackAnswer]:
    return [
        DialBackAnswer(peer_id=PEERS[peer], address=address, outcome=outcome, is_trusted=peer == trusted)
        for peer, address, outcome in said
    ]


def state(said: list[DialBackAnswer], *announced: str, own: tuple[str, ...] = (PUBLIC,)) -> ReachState | None:
    return judge(said, announced=announced or (PUBLIC,), own=own, at_unix_s=7.0).state


def test_one_dial_back_that_arrived_is_proof() -> None:
    said = answers(*((peer, PUBLIC, Outcome.FAILED) for peer in range(4)), (4, PUBLIC, Outcome.REACHED))
    assert state(said) is ReachState.PUBLIC


def test_an_address_that_the_machine_does_not_have_is_mapped() -> None:
    assert state(answers((0, PUBLIC, Outcome.REACHED)), own=("/ip4/10.0.0.2/tcp/4001",)) is ReachState.MAPPED
    both = answers((0, OTHER, Outcome.REACHED), (0, PUBLIC, Outcome.REACHED))
    assert state(both, OTHER, PUBLIC) is ReachState.PUBLIC


def test_failures_count_when_two_say_so_or_one_that_we_configured() -> None:
    assert state(answers((0, PUBLIC, Outcome.FAILED))) is None
    assert state(answers((0, PUBLIC, Outcome.FAILED), (0, PUBLIC, Outcome.FAILED))) is None
    assert state(answers((0, PUBLIC, Outcome.FAILED), (1, PUBLIC, Outcome.FAILED))) is ReachState.UNREACHABLE
    assert state(answers((0, PUBLIC, Outcome.FAILED), trusted=0)) is ReachState.UNREACHABLE


@pytest.mark.parametrize("outcome", [Outcome.UNPROVEN, Outcome.REFUSED, Outcome.BUSY, Outcome.NO_ANSWER])
def test_other_words_say_nothing(outcome: Outcome) -> None:
    assert state(answers((0, PUBLIC, outcome), (1, PUBLIC, outcome), trusted=0)) is None


def test_nobody_was_asked() -> None:
    report = judge([], announced=(PUBLIC,), own=(), at_unix_s=7.0)
    assert (report.state, report.addresses[0].is_reachable, report.answers) == (None, None, ())
    assert judge([], announced=(), own=(), at_unix_s=7.0).state is None


def test_what_an_answer_is_about_is_its_address() -> None:
    said = answers((0, OTHER, Outcome.FAILED), (1, OTHER, Outcome.FAILED), (0, PUBLIC, Outcome.REACHED))
    report = judge(said, announced=(OTHER, PUBLIC), own=(PUBLIC,), at_unix_s=7.0)
    assert [each.is_reachable for each in report.addresses] == [False, True]
    assert report.to_dict()["state"] == "public"


def test_who_can_judge() -> None:
    assert can_judge(PUBLIC, AddressScope.PUBLIC)
    assert not can_judge(PUBLIC, AddressScope.LOOPBACK)
    assert not can_judge(PUBLIC, None)
    assert can_judge("/dns4/a.example/tcp/1", AddressScope.PUBLIC)
    assert not can_judge("/dns4/a.example/tcp/1", AddressScope.PRIVATE)
    assert can_judge("/ip4/10.0.0.1/tcp/1", AddressScope.PRIVATE)
    assert not can_judge("/ip4/10.0.0.1/tcp/1", AddressScope.PUBLIC)
