"""Wallet addresses as people write them, and the hash under them. Pure.

Source: EIP-55, "Mixed-case checksum address encoding".
"""

from __future__ import annotations

import re

from hostmesh.errors import UsageError

ADDRESS_BYTES = 20
_HEX_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}\Z")


def keccak256(data: bytes) -> bytes:
    """Return Keccak-256, 32 bytes: Ethereum's hash, which is not SHA3-256.

    >>> keccak256(b"").hex()[:16]
    'c5d2460186f7233c'
    """
    # Late: it loads a native library that most commands never need.
    from eth_hash.auto import keccak

    return keccak(data)


def address_to_text(address: bytes) -> str:
    """Return the checksummed text of a 20-byte address.

    Raises:
        UsageError: not 20 bytes.

    >>> address_to_text(bytes.fromhex("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"))
    '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'
    """
    if len(address) != ADDRESS_BYTES:
        raise UsageError("a wallet address has 20 bytes")
    digits = address.hex()
    mask = keccak256(digits.encode("ascii")).hex()
    return "0x" + "".join(
        digit.upper() if int(weight, 16) >= 8 else digit for digit, weight in zip(digits, mask, strict=False)
    )


def parse_address(text: str) -> bytes:
    """Return the 20 bytes of an address.

    Args:
        text: ``0x`` and 40 hex digits; in mixed case the checksum must hold.

    Raises:
        UsageError: another form, or a wrong checksum (a typing error).
    """
    if not _HEX_ADDRESS.match(text):
        raise UsageError("not a wallet address", remedy="give 0x and 40 hex digits")
    digits = text[2:]
    address = bytes.fromhex(digits)
    if digits not in (digits.lower(), digits.upper()) and address_to_text(address)[2:] != digits:
        raise UsageError("the wallet address's checksum is wrong", remedy="copy the address again; a digit differs")
    return address
