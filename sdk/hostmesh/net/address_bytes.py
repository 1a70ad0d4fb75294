"""Multiaddrs as bytes, the form they have in messages. Pure.

Source: multiformats, "multiaddr" and its protocol table.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import (
    MAX_ADDRESS_CHARS,
    MAX_REMEMBERED,
    join_peer_address,
    parse_address,
    split_peer_address,
)
from hostmesh.net.peer_id import peer_id_from_bytes, peer_id_to_bytes

_CODES = {"ip4": 4, "tcp": 6, "ip6": 41, "ip6zone": 42, "dns": 53, "dns4": 54, "dns6": 55, "p2p": 421, "ws": 477}
_NAMES = {code: name for name, code in _CODES.items()}


@lru_cache(maxsize=MAX_REMEMBERED)
def address_to_bytes(text: str) -> bytes:
    """Return the binary multiaddr of an address, which may carry ``/p2p``.

    Raises:
        InvalidAddressError: see :func:`hostmesh.net.address.split_peer_address`.
    """
    address, peer_id = split_peer_address(text)
    endpoint = parse_address(address)
    out = bytearray()
    if endpoint.zone:
        out += _varint(_CODES["ip6zone"]) + _sized(endpoint.zone.encode())
    ip = endpoint.ip
    out += _varint(_CODES[endpoint.kind]) + (ip.packed if ip is not None else _sized(endpoint.host.encode()))
    out += _varint(_CODES["tcp"]) + endpoint.port.to_bytes(2, "big")
    if endpoint.is_websocket:
        out += _varint(_CODES["ws"])
    if peer_id is not None:
        out += _varint(_CODES["p2p"]) + _sized(peer_id_to_bytes(peer_id))
    return bytes(out)


@lru_cache(maxsize=MAX_REMEMBERED)
def address_from_bytes(raw: bytes) -> str:
    """Return the text of a binary multiaddr, in canonical form; ``/p2p`` is kept.

    Raises:
        InvalidAddressError: truncated, trailing bytes, or a transport that a node does not speak.
    """
    if len(raw) > MAX_ADDRESS_CHARS:
        raise InvalidAddressError("invalid binary address: too long")
    text, at = "", 0
    try:
        while at < len(raw):
            code, at = _read_varint(raw, at)
            name = _NAMES[code]
            if name == "ws":
                text += "/ws"
                continue
            size = {"ip4": 4, "ip6": 16, "tcp": 2}.get(name)
            if size is None:
                size, at = _read_varint(raw, at)
            value = raw[at : at + size]
            if len(value) != size or not value:
                raise InvalidAddressError("invalid binary address: it ends too early")
            at += size
            text += f"/{name}/{_value_text(name, value)}"
    except (KeyError, IndexError, UnicodeDecodeError) as error:
        raise InvalidAddressError("invalid binary address: unknown protocol or truncated") from error
    address, peer_id = split_peer_address(text)
    return address if peer_id is None else join_peer_address(address, peer_id)


def _value_text(name: str, value: bytes) -> str:
    if name in ("ip4", "ip6"):
        return str(ipaddress.ip_address(value))
    if name == "tcp":
        return str(int.from_bytes(value, "big"))
    if name == "p2p":
        return peer_id_from_bytes(value)
    decoded = value.decode("ascii")
    if "/" in decoded:
        raise InvalidAddressError("invalid binary address: a slash inside a name")
    return decoded


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(value: bytes) -> bytes:
    return _varint(len(value)) + value


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in (0, 7, 14):
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise InvalidAddressError("invalid binary address: a number is too long")
