"""Signatures of peers, and the keys that nobody owns."""

from __future__ import annotations

from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostmesh.wire.ed25519 import is_signed

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int]


def add(left: Point, right: Point) -> Point:
    """The sum of two points of the curve; RFC 8032, section 5.1.4, in affine coordinates."""
    (x1, y1), (x2, y2) = left, right
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def point(y: int) -> Point | None:
    """A point with this y, if there is one; RFC 8032, section 5.1.3."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y % P) if x * x % P == square else None


@cache
def torsion() -> set[int]:
    """The y of every point whose order divides 8, found by taking points of the curve times the order of the base."""
    order = 2**252 + 27742317777372353535851937790883648493
    found: set[int] = set()
    y = 2
    while len(found) < 5:
        start = point(y)
        y += 1
        if start is None:
            continue
        result: Point = (0, 1)
        for bit in f"{order:b}":
            result = add(result, result)
            if bit == "1":
                result = add(result, start)
        found.add(result[1])
    return found


def encodings() -> list[bytes]:
    """Every way to write a y of small order: with both signs of x, and not reduced where that fits."""
    whole = [y + extra for y in sorted(torsion()) for extra in (0, P) if y + extra < 2**255]
    return [(y | sign << 255).to_bytes(32, "little") for y in whole for sign in (0, 1)]


def test_there_are_fourteen_encodings_of_small_order() -> None:
    assert len(encodings()) == 14


@pytest.mark.parametrize("public_key", encodings(), ids=bytes.hex)
def test_a_key_of_small_order_has_signed_nothing(public_key: bytes) -> None:
    identity = (1).to_bytes(32, "little")
    for message in (b"a", b"b", b"c"):
        # R is the key itself or the identity, and S is 0: what holds for many messages under such keys.
        for first in (identity, public_key):
            assert not is_signed(public_key, first + bytes(32), message)


def test_an_honest_signature_holds_for_its_key_and_message_alone() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signature = key.sign(b"message")
    public_key = key.public_key().public_bytes_raw()
    assert is_signed(public_key, signature, b"message")
    assert not is_signed(public_key, signature, b"another")
    assert not is_signed(other.public_key().public_bytes_raw(), signature, b"message")
    assert not is_signed(public_key, signature[:-1], b"message")
    assert not is_signed(public_key[:-1], signature, b"message")
