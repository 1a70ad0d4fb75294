"""The name of a host: its peer key under the wallet of one operator. Pure.

A key can be copied, and whoever has a copy can bind it to a wallet of his own. So what a host has earned belongs to its
name, and its key under another wallet is another host. What speaks against a key holds for all its names: see
:mod:`hostmesh.reputation.reputations`.

Source: docs/adr/0010-reputation.md.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hostmesh.net.peer_id import PeerId

WALLET = re.compile(r"0x[0-9a-f]{40}")
NO_OPERATOR = ""
"""Of what a key did where nobody knew for which wallet it spoke, as before a session. Nothing is earned so."""


class HostName(NamedTuple):
    """A peer key and the wallet that answers for it."""

    peer_id: PeerId
    operator: str
    """The wallet's address, ``0x`` and lower case, or :data:`NO_OPERATOR`."""


def address_of(wallet: bytes) -> str:
    """Return a wallet's address as names have it; empty bytes are :data:`NO_OPERATOR`.

    >>> address_of(bytes(20))
    '0x0000000000000000000000000000000000000000'
    """
    return "0x" + wallet.hex() if wallet else NO_OPERATOR


def host_name(peer_id: PeerId, operator_address: str) -> HostName:
    """Return the name of a host.

    Args:
        peer_id: its key's.
        operator_address: its wallet's, ``0x`` and lower case, or :data:`NO_OPERATOR`.

    Raises:
        ValueError: no such address; that of one wallet in two cases would be two wallets.

    >>> host_name(PeerId("12D3KooWA"), "0x" + "ab" * 20).operator
    '0xabababababababababababababababababababab'
    """
    if operator_address != NO_OPERATOR and WALLET.fullmatch(operator_address) is None:
        raise ValueError("a wallet's address is 0x and 40 hex digits in lower case")
    return HostName(peer_id, operator_address)
