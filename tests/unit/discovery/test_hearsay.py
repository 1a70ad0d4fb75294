"""Who is known by hearsay only, and who spoke for himself: it decides what is handed on and what stays."""

from __future__ import annotations

import pytest
import trio
from discovery_world import EPOCH, make_description, make_info, make_key, make_record, make_records
from trio.testing import MockClock

from hostmesh.discovery.bans import Familiarity
from hostmesh.discovery.pages import RecordQuery, page_of
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.table import MAX_PER_INTRODUCER, HostTable, Merge
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

HOST = make_key("host").peer_id
GOSSIP = make_key("gossip").peer_id
OTHER = make_key("other").peer_id


def book() -> RecordBook:
    return make_records(System(unix_s=lambda: EPOCH + 9.0))


def handed_on(records: RecordBook) -> list[PeerId]:
    """Return whom this node names to a peer that asks."""
    query = RecordQuery(model_ids=(), country_code="", limit=0, cursor=b"")
    return [host.info.peer_id for host in page_of(records.live(), query, asker=OTHER, secret=b"s").hosts]


@pytest.mark.parametrize(
    ("came_from", "is_heard_itself"),
    [
        ([HOST, GOSSIP], True),
        ([HOST, GOSSIP, OTHER], True),
        ([GOSSIP, HOST, GOSSIP], True),
        ([GOSSIP, HOST], True),
        ([GOSSIP], False),
        ([GOSSIP, OTHER], False),
    ],
)
def test_a_host_that_spoke_itself_is_no_hearsay_whoever_brings_its_newer_records(
    came_from: list[PeerId], is_heard_itself: bool
) -> None:
    records = book()
    for number, introducer in enumerate(came_from):
        record = make_record("host", sequence=number + 1, issued=EPOCH + number)
        merge = records.accept(record, introducer=introducer)[1]
        assert merge is (Merge.REPLACED if number else Merge.ADDED)
    (known,) = records.live()
    assert known.info.sequence == len(came_from)
    assert known.introducer == (None if is_heard_itself else came_from[-1])
    assert handed_on(records) == ([HOST] if is_heard_itself else [])


def test_newer_records_of_hosts_that_spoke_themselves_leave_their_bringer_his_quota() -> None:
    table = HostTable()
    for sequence, introducer in ((1, None), (2, GOSSIP)):
        for number in range(MAX_PER_INTRODUCER):
            info = make_info(f"host {number}", sequence=sequence, issued=EPOCH + sequence)
            table.merge(info, now=EPOCH + 2, introducer=introducer)
    for number in range(MAX_PER_INTRODUCER):
        assert table.merge(make_info(f"news {number}"), now=EPOCH + 2, introducer=GOSSIP) is Merge.ADDED
    assert table.merge(make_info("one too many"), now=EPOCH + 2, introducer=GOSSIP) is Merge.REFUSED


def test_a_full_table_keeps_a_host_that_spoke_itself_though_another_brought_its_last_record() -> None:
    table = HostTable(max_hosts=8)
    table.merge(make_info("host"), now=EPOCH)
    table.merge(make_info("host", sequence=2, issued=EPOCH + 1), now=EPOCH + 1, introducer=GOSSIP)
    assert table.merge(make_info("heard of"), now=EPOCH + 2, introducer=OTHER) is Merge.ADDED
    for number in range(7):
        table.merge(make_info(f"newcomer {number}"), now=EPOCH + 3)
    kept = {known.info.peer_id for known in table.live(EPOCH + 3)}
    assert kept == {HOST, *(make_key(f"newcomer {number}").peer_id for number in range(7))}


@pytest.mark.parametrize("is_by_itself", [True, False])
async def test_a_host_heard_of_that_contradicts_itself_here_is_a_stranger_no_more(
    autojump_clock: MockClock, is_by_itself: bool
) -> None:
    """Its ban takes no room of the strangers', and other nodes are told; what only others say stays hearsay."""
    records = book()
    records.accept(make_record("host", make_description("m"), sequence=5), introducer=GOSSIP)
    second = make_record("host", make_description("n"), sequence=5)
    merge = records.accept(second, introducer=HOST if is_by_itself else OTHER)[1]
    assert merge is Merge.EQUIVOCATION
    (ban,) = records.bans
    assert ban.familiarity is (Familiarity.SEEN if is_by_itself else Familiarity.STRANGER)
    told = []
    with trio.move_on_after(60):
        told.append((await records.next_news()).peer_id)
    assert told == ([HOST] if is_by_itself else [])
