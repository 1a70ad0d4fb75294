from __future__ import annotations

from hostmesh.net import address_book
from hostmesh.net.address import AddressOrigin
from hostmesh.net.address_book import AddressBook
from hostmesh.net.peer_id import PeerId

A, B = PeerId("a"), PeerId("b")


def _ports(*ports: int) -> list[str]:
    return [f"/ip4/1.1.1.1/tcp/{port}" for port in ports]


def test_newest_list_comes_first_in_its_order():
    book = AddressBook()
    book.add(A, _ports(1, 2), AddressOrigin.REMOTE)
    book.add(A, _ports(3, 4), AddressOrigin.REMOTE)
    assert [address for address, _ in book.addresses_of(A)] == _ports(3, 4, 1, 2)
    assert book.addresses_of(B) == ()


def test_best_origin_is_kept():
    book = AddressBook()
    book.add(A, _ports(1), AddressOrigin.CONFIGURED)
    book.add(A, _ports(1), AddressOrigin.REMOTE)
    book.add(A, _ports(2), AddressOrigin.REMOTE)
    book.add(A, _ports(2), AddressOrigin.MDNS)
    assert dict(book.addresses_of(A)) == {
        _ports(1)[0]: AddressOrigin.CONFIGURED,
        _ports(2)[0]: AddressOrigin.MDNS,
    }


def test_a_flood_of_claims_does_not_push_out_what_is_known():
    book = AddressBook()
    book.add(A, _ports(1), AddressOrigin.CONFIGURED)
    for start in range(100, 1000, 16):
        book.add(A, _ports(*range(start, start + 16)), AddressOrigin.REMOTE)
    known = book.addresses_of(A)
    assert len(known) == 16
    assert (_ports(1)[0], AddressOrigin.CONFIGURED) in known


def test_peers_are_bounded(monkeypatch):
    monkeypatch.setattr(address_book, "MAX_PEERS", 3)
    book = AddressBook()
    for name in "abcd":
        book.add(PeerId(name), _ports(1), AddressOrigin.REMOTE)
        book.add(A, _ports(1), AddressOrigin.REMOTE)
    assert len(book) == 3
    assert book.addresses_of(A)
    assert not book.addresses_of(B)


def test_no_addresses_make_no_entry():
    book = AddressBook()
    book.add(A, [], AddressOrigin.REMOTE)
    assert len(book) == 0
