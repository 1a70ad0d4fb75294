"""A list of wallets as a text: an address a line, ``#`` begins a comment. Pure."""

from __future__ import annotations

from hostmesh.errors import UsageError
from hostmesh.identity.address import parse_address
from hostmesh.sessions.admission.policy import MAX_ALLOWED


def parse_allow_list(text: str) -> frozenset[bytes]:
    """Return the wallets that a text names, 20 bytes each, for :class:`AdmissionPolicy`.

    Args:
        text: ``0x`` and 40 hex digits a line; in mixed case the checksum must hold. Blank lines count for nothing.

    Raises:
        UsageError: a line is no address, or there are more than 65,536. The line is named by its number and not
            repeated: somebody may have put a key there.

    >>> len(parse_allow_list("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed  # the office"))
    1
    """
    wallets: set[bytes] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        address = line.partition("#")[0].strip()
        if not address:
            continue
        try:
            wallets.add(parse_address(address))
        except UsageError as error:
            raise UsageError(f"line {number}: {error.message}", remedy=error.remedy) from None
        if len(wallets) > MAX_ALLOWED:
            raise UsageError(f"more than {MAX_ALLOWED} wallets", remedy="ask for a reputation instead")
    return frozenset(wallets)
