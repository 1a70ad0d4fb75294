"""``reputation ask`` between processes: a node whose user shares receipts, and a command that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import Command, Process
from tests.support.receipts import HOST, NETWORK, OPERATOR, WALLET
from tests.support.shared_receipts import keep, session_with

from hostmesh.receipts.receipt import JobState
from hostmesh.receipts.store import FILE_NAME, ReceiptStore
from hostmesh.testing import make_peer_key

DEAD = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcRzQ4FENEemvpg"
OTHER = make_peer_key("another host")


def start(home: Path, *, is_shared: bool) -> Process:
    """Start a node whose user has receipts of two hosts, and shares those of one of them, or of none."""
    store = ReceiptStore(home / FILE_NAME)
    keep(store, session_with(1, JobState.SUCCEEDED, JobState.FAILED, JobState.SUCCEEDED), is_shared=is_shared)
    keep(store, session_with(2, JobState.SUCCEEDED, host=OTHER), is_shared=False)
    store.close()
    listen = ("--listen", "/ip4/127.0.0.1/tcp/0")
    return Process("-m", "hostmesh.cli.main", "bootstrap", *listen, "--network", NETWORK, "--json", home=home)


@pytest.fixture(scope="module")
def sharer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process = start(tmp_path_factory.mktemp("sharer"), is_shared=True)
    try:
        addresses = process.event("ready")["addresses"]
        assert isinstance(addresses, list)
        yield str(addresses[0])
    finally:
        process.kill()


def test_a_peer_that_shares_is_asked_and_counts_for_little(command: Command, sharer: str) -> None:
    asked = command("reputation", "ask", HOST.peer_id, "--peer", sharer, "--network", NETWORK, "--no-mdns", "--json")
    assert asked.code == 0, asked.err
    assert "asking 1 peers" in asked.err
    (peer,) = asked.json["peers"]
    taken = peer["taken"]
    assert (taken["reviews"], taken["good"], taken["bad"], peer["is_whole"]) == (1, 2, 1, True)
    operator = "0x" + OPERATOR.address_bytes.hex()
    unmoved = {"peer_id": HOST.peer_id, "operator": operator, "points_before": 100, "points": 100}
    assert asked.json["hosts"] == [unmoved]
    shown = command("reputation", "show", HOST.peer_id, "--json").json["names"]
    assert isinstance(shown, list)
    foreign = shown[0]["foreign"]
    assert (foreign["reviewers"], foreign["good"], foreign["bad"]) == (1, 2, 1)


def test_what_is_not_shared_is_not_told_whoever_asks(command: Command, sharer: str) -> None:
    asked = command("reputation", "ask", OTHER.peer_id, "--peer", sharer, "--network", NETWORK, "--no-mdns")
    assert asked.code == 0
    assert asked.out == f"0 reviews of hosts taken in\n{OTHER.peer_id}: nothing is known of it\n"
    everything = command("reputation", "ask", "--peer", sharer, "--network", NETWORK, "--no-mdns")
    assert everything.out == "1 reviews of hosts taken in\n"
    assert command("reputation", "show", OTHER.peer_id, "--json").json["names"][0]["foreign"]["reviewers"] == 0


def test_nobody_who_answers_is_an_error_with_a_remedy(command: Command, tmp_path: Path) -> None:
    silent = start(tmp_path / "silent", is_shared=False)
    try:
        addresses = silent.event("ready")["addresses"]
        assert isinstance(addresses, list)
        options = ("--network", NETWORK, "--no-mdns", "--timeout-s", "5")
        asked = command("reputation", "ask", "--peer", str(addresses[0]), "--peer", DEAD, *options)
        assert (asked.code, asked.out) == (5, "")
        assert "shares no receipts" in asked.err
        assert "not reached: DIAL_FAILED" in asked.err
        last = asked.err.splitlines()[-1]
        assert last.startswith("error[NOBODY_ANSWERED]: none of 2 peers")
        assert "remedy: name a peer" in last
        # The node is remembered, and asked without being named.
        error = command("reputation", "ask", *options, "--json").json["error"]
        assert isinstance(error, dict)
        assert (error["code"], error["exit_code"], error["outcomes"]) == (
            "NOBODY_ANSWERED",
            5,
            {str(addresses[0]).rpartition("/")[2]: "PROTOCOL_NOT_SUPPORTED"},
        )
    finally:
        silent.kill()


def test_what_is_no_peer_is_refused_before_anything_is_asked(command: Command) -> None:
    for wrong in (["nobody"], ["--peer", "/ip4/127.0.0.1/tcp/1"], [WALLET.address]):
        assert command("reputation", "ask", *wrong).code == 2
