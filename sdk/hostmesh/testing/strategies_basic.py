"""Strategies for the words that everything else is made of: names, peers, addresses, times, prices, places."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from hostmesh.discovery.terms import MAX_REGION_BYTES, MAX_UINT64, Place, Price
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER
from hostmesh.net.peer_id import PeerId
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.wallets import make_peer_key

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MAX_UINT32 = 2**32 - 1
MAX_UNIX_S = 4_102_444_800
"""1 January 2100."""
_MOST_ITEMS = 3
"""Of a list whose length is not its point: three are enough to be out of order."""


def texts(*, most_bytes: int, least_chars: int = 1) -> SearchStrategy[str]:
    """Draw text without lone surrogates, of at most ``most_bytes`` bytes in UTF-8; ``0`` first.

    Args:
        most_bytes: >= 4.
        least_chars: >= 0.
    """
    return st.text(st.characters(codec="utf-8"), min_size=least_chars, max_size=min(most_bytes // 4, 24))


def name_lists(*, most_bytes: int) -> SearchStrategy[tuple[str, ...]]:
    """Draw up to 3 different names of at most ``most_bytes`` bytes each; none first."""
    return st.lists(texts(most_bytes=most_bytes), max_size=_MOST_ITEMS, unique=True).map(tuple)


def model_ids() -> SearchStrategy[str]:
    """Draw a model's id, 1 to 128 bytes."""
    return texts(most_bytes=128)


def host_names() -> SearchStrategy[str]:
    """Draw one of 100 hosts' names, which stand for their keys and wallets; ``host-0`` first."""
    return st.integers(0, 99).map(lambda number: f"host-{number}")


def peer_ids() -> SearchStrategy[PeerId]:
    """Draw the peer id of one of the 100 hosts of :func:`host_names`, whose keys exist."""
    return host_names().map(lambda name: make_peer_key(name).peer_id)


def unix_seconds() -> SearchStrategy[int]:
    """Draw whole seconds since 1970, to the year 2100."""
    return st.integers(0, MAX_UNIX_S)


def unix_times() -> SearchStrategy[float]:
    """Draw seconds since 1970 in steps of a millisecond, to the year 2100."""
    return st.integers(0, MAX_UNIX_S * 1000).map(lambda milliseconds: milliseconds / 1000)


def counts(most: int = MAX_UINT32) -> SearchStrategy[int]:
    """Draw a whole number from 0 to ``most``."""
    return st.integers(0, most)


def multiaddrs() -> SearchStrategy[str]:
    """Draw an address that a node can speak, in its canonical form, without ``/p2p``; not all can be dialled."""
    labels = st.text(string.ascii_lowercase, min_size=1, max_size=8)
    hosts = st.one_of(
        st.ip_addresses(v=4).map(lambda ip: f"/ip4/{ip}"),
        st.ip_addresses(v=6).map(lambda ip: f"/ip6/{ip}"),
        st.builds("/{}/{}.example".format, st.sampled_from(("dns4", "dns6", "dns")), labels),
    )
    return st.builds("{}/tcp/{}{}".format, hosts, st.integers(1, 65_535), st.sampled_from(("", "/ws")))


def address_lists() -> SearchStrategy[tuple[str, ...]]:
    """Draw up to 3 addresses, of the 16 that a peer may have."""
    return st.lists(multiaddrs(), max_size=min(_MOST_ITEMS, MAX_ADDRESSES_PER_PEER), unique=True).map(tuple)


def currencies() -> SearchStrategy[str]:
    """Draw a currency's name; one in three is ``USD``, so that prices meet."""
    letters = string.ascii_letters + string.digits + "._-"
    return st.one_of(st.just("USD"), st.sampled_from(("EUR", "credit-1")), st.text(letters, min_size=1, max_size=16))


def prices() -> SearchStrategy[Price]:
    """Draw a price, free first."""
    return st.builds(
        Price, micros_per_mtok=st.one_of(st.integers(0, 1_000_000), counts(MAX_UINT64)), currency=currencies()
    )


def country_codes() -> SearchStrategy[str]:
    """Draw two capital letters."""
    return st.one_of(st.sampled_from(("US", "DE")), st.text(string.ascii_uppercase, min_size=2, max_size=2))


def places() -> SearchStrategy[Place]:
    """Draw a place that ``str`` and :meth:`Place.parse` carry unchanged; a country without a region first."""
    regions = texts(most_bytes=MAX_REGION_BYTES).map(str.strip).filter(bool)
    return st.builds(Place, country_code=country_codes(), region=st.none() | regions)
