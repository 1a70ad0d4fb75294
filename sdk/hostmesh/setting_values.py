"""What each setting of :mod:`hostmesh.settings` may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

MAX_ADDRESSES = 64
"""Most entries of a list. Chosen here."""


def _text_list(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_ADDRESSES:
        raise ValueError
    if not all(isinstance(item, str) and item for item in value):
        raise ValueError
    return tuple(cast("list[str]", value))


def _multiaddrs(value: object) -> tuple[str, ...]:
    items = _text_list(value)
    if not all(item.startswith("/") for item in items):
        raise ValueError
    return items


def _peer_multiaddrs(value: object) -> tuple[str, ...]:
    items = _multiaddrs(value)
    if not all("/p2p/" in item for item in items):
        raise ValueError
    return items


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - the one error that _check maps
    return value


def _integer(least: int, most: int) -> Callable[[object], int]:
    def accept(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return accept


def _path(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ValueError
    return Path(value).expanduser()


def _text(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 256 or not value.isprintable():
        raise ValueError
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _prefix(value: object) -> str:
    text = _text(value)
    if not (text.startswith("/") and len(text) > 1) or text.endswith("/") or not text.isascii() or " " in text:
        raise ValueError
    return text


CHECKS: dict[str, tuple[Callable[[object], object], str]] = {
    "listen_addresses": (_multiaddrs, 'a list of multiaddrs, such as ["/ip4/0.0.0.0/tcp/4001"]'),
    "announce_addresses": (_multiaddrs, 'a list of multiaddrs, such as ["/dns4/host.example/tcp/4001"]'),
    "bootstrap_nodes": (_peer_multiaddrs, 'a list of multiaddrs that end in "/p2p/<peer id>"'),
    "static_hosts": (_peer_multiaddrs, 'a list of multiaddrs that end in "/p2p/<peer id>"'),
    "enable_dht": (_flag, "true or false"),
    "enable_mdns": (_flag, "true or false"),
    "enable_gossip": (_flag, "true or false"),
    "max_connections": (_integer(1, 100_000), "a whole number from 1 to 100000"),
    "max_streams": (_integer(1, 100_000), "a whole number from 1 to 100000"),
    "connection_timeout_ms": (_integer(1, 3_600_000), "milliseconds, a whole number from 1 to 3600000"),
    "key_file": (_path, "a file's path"),
    "wallet_file": (_path, "a file's path"),
    "protocol_prefix": (_prefix, 'a prefix such as "/hostmesh": a slash first and none last'),
    "network": (_text, "a printable name of 1 to 256 characters"),
    "mdns_interfaces": (_text_list, "a list of interface names or addresses"),
    "location": (_optional_text, 'a place such as "US" or "US/california"'),
    "log": (_text, "a filter such as info or net=debug,discovery=info"),
    "log_json": (_flag, "true or false"),
}
"""Per setting: what returns a value in its one form or raises ValueError, and what it wants, in words."""
