"""Pages of records for peers that ask."""

from __future__ import annotations

from discovery_world import EPOCH, make_key, make_record, make_records

from hostmesh.discovery.pages import MAX_PAGE_RECORDS, RecordQuery, page_of
from hostmesh.discovery.table import KnownHost
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

ASKER = make_key("asker").peer_id


def known(count: int, introducer: PeerId | None = None) -> list[KnownHost]:
    records = make_records(System(unix_s=lambda: EPOCH))
    for number in range(count):
        records.accept(make_record(f"host-{number}"), introducer=introducer)
    return records.live()


def query(cursor: bytes = b"", limit: int = 0, **criteria: object) -> RecordQuery:
    return RecordQuery(**{"model_ids": (), "country_code": "", "limit": limit, "cursor": cursor, **criteria})


def all_pages(hosts: list[KnownHost], *, limit: int = 0, asker: PeerId = ASKER) -> list[list[PeerId]]:
    pages, cursor = [], b""
    while True:
        page = page_of(hosts, query(cursor, limit), asker=asker, secret=b"s")
        pages.append([host.info.peer_id for host in page.hosts])
        cursor = page.cursor
        if not cursor:
            return pages


def test_pages_together_name_every_host_once_and_none_is_larger_than_allowed() -> None:
    hosts = known(40)
    for limit, most in ((0, MAX_PAGE_RECORDS), (7, 7), (1000, MAX_PAGE_RECORDS)):
        pages = all_pages(hosts, limit=limit)
        assert max(map(len, pages)) == most
        named = [peer_id for page in pages for peer_id in page]
        assert sorted(named) == sorted(host.info.peer_id for host in hosts)


def test_a_page_that_is_just_full_is_the_last_one() -> None:
    assert [len(page) for page in all_pages(known(MAX_PAGE_RECORDS))] == [MAX_PAGE_RECORDS]
    assert all_pages([]) == [[]]


def test_hosts_that_come_and_leave_between_pages_move_no_other() -> None:
    hosts = known(40)
    first = page_of(hosts[:30], query(), asker=ASKER, secret=b"s")
    seen = {host.info.peer_id for host in first.hosts}
    rest = all_pages_from(hosts[5:], first.cursor)
    stayed = {host.info.peer_id for host in hosts[5:30]}
    assert not seen & set(rest)
    assert stayed <= seen | set(rest)


def all_pages_from(hosts: list[KnownHost], cursor: bytes) -> list[PeerId]:
    named: list[PeerId] = []
    while cursor:
        page = page_of(hosts, query(cursor), asker=ASKER, secret=b"s")
        named += [host.info.peer_id for host in page.hosts]
        cursor = page.cursor
    return named


def test_each_asker_begins_with_other_hosts() -> None:
    hosts = known(40)
    first = {tuple(all_pages(hosts, asker=make_key(f"asker-{n}").peer_id)[0]) for n in range(10)}
    assert len(first) == 10


def test_what_others_handed_over_is_not_handed_on() -> None:
    assert page_of(known(3, introducer=ASKER), query(), asker=ASKER, secret=b"s").hosts == ()


def test_only_hosts_of_the_models_and_the_country_are_named() -> None:
    hosts = known(3)
    offered = hosts[0].info.models[0].model_id
    assert len(page_of(hosts, query(model_ids=(offered,)), asker=ASKER, secret=b"s").hosts) == 3
    assert page_of(hosts, query(model_ids=(offered, "another")), asker=ASKER, secret=b"s").hosts == ()
    assert page_of(hosts, query(country_code="ZZ"), asker=ASKER, secret=b"s").hosts == ()
