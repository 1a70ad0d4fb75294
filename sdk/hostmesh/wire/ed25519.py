"""Verifies Ed25519 signatures of peers. Pure.

A public key of small order is refused: anybody can make signatures that hold under it, so that it would be the identity
of everybody. The cipher libraries leave this to their user.

Source: RFC 8032, section 5.1.7; "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020), section 3.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_P = 2**255 - 19
_SMALL_ORDER_Y = frozenset(
    y.to_bytes(32, "little")
    for y in (
        0,
        1,
        _P - 1,
        # Order 8.
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
        # 0 and 1 again, not reduced.
        _P,
        _P + 1,
    )
)
"""The points of order 1, 2, 4 and 8, without the sign of x."""


def is_signed(public_key: bytes, signature: bytes, signed: bytes) -> bool:
    """Say whether a signature of ``signed`` holds under a raw public key, 32 bytes, that somebody owns.

    Cost: one verification, about 0.1 ms.

    >>> is_signed(bytes(32), bytes(64), b"anything")
    False
    """
    if len(public_key) != 32 or public_key[:31] + bytes((public_key[31] & 0x7F,)) in _SMALL_ORDER_Y:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True
