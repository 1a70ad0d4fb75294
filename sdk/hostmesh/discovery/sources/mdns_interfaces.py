"""Which of the machine's interfaces the settings mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import ifaddr


def choose_interfaces(wanted: Sequence[str], adapters: Iterable[ifaddr.Adapter]) -> list[str | int]:
    """Return the interfaces as zeroconf takes them: IPv4 addresses, and the interface's number where IPv6 is wanted.

    Args:
        wanted: names (``eth0``: its IPv4 and IPv6) or addresses (``192.0.2.7``, ``fe80::1``).
        adapters: the machine's interfaces.

    Raises:
        OSError: none of them is there; it may come later.
    """
    chosen: dict[str | int, None] = {}
    for adapter in adapters:
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            if adapter.name not in wanted and text not in wanted:
                continue
            choice = text if ip.is_IPv4 else adapter.index
            if choice is not None:
                chosen[choice] = None
    if not chosen:
        raise OSError(f"no interface is named {' or '.join(wanted)}, or has that address")
    return list(chosen)
