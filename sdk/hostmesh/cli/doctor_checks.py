"""What can be looked at on this machine before a node runs: ports, the key, a binding."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from pathlib import Path

from hostmesh.discovery.diagnostics import Finding, finding, on_binding
from hostmesh.errors import InvalidAddressError, KeyFileError, KeyInUseError
from hostmesh.net.address import parse_address


def check_version(version: str, python: str) -> Finding:
    """Tell what runs."""
    return finding("VERSION", f"hostmesh {version}, Python {python}")


def check_ports(addresses: Sequence[str]) -> list[Finding]:
    """Look whether each address can be listened on; the port is free again afterwards.

    A port of 0 is any free one, and always there.
    """
    return [_check_port(address) for address in addresses]


def _check_port(address: str) -> Finding:
    try:
        endpoint = parse_address(address)
    except InvalidAddressError as error:
        return finding("LISTEN_ADDRESS_REFUSED", error.message, subject=address, remedy=error.remedy)
    if endpoint.is_name:
        return finding("LISTEN_ADDRESS_REFUSED", "a name cannot be listened on", subject=address)
    family = socket.AF_INET6 if endpoint.kind == "ip6" else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(socket.getaddrinfo(endpoint.dial_host, endpoint.port, family, socket.SOCK_STREAM)[0][4])
            tried.listen()
    except OSError as error:
        seen = error.strerror or str(error)
        code = "PORT_IN_USE" if error.errno == errno.EADDRINUSE else "LISTEN_ADDRESS_REFUSED"
        return finding(code, seen, subject=address)
    return finding("PORT_FREE", "free", subject=address)


def check_key(path: Path) -> Finding:
    """Look whether the key file can be used. Nothing is made or changed."""
    from hostmesh.net.peer_key import open_peer_key

    if not path.is_symlink() and not path.exists():
        return finding("KEY_NEW", "there is none yet; the first start makes it", subject=str(path))
    try:
        with open_peer_key(path) as key:
            return finding("KEY_GOOD", f"peer id {key.peer_id}", subject=str(path))
    except KeyInUseError as error:
        return finding("KEY_BUSY", error.message, subject=str(path))
    except KeyFileError as error:
        return finding("KEY_UNUSABLE", error.message, subject=str(path), remedy=error.remedy)


def check_binding(path: Path, *, now: float) -> Finding:
    """Look how long the binding in a file still holds. Its signature is the host's to verify."""
    from hostmesh.identity.binding import load_binding

    try:
        binding = load_binding(path)
    except KeyFileError as error:
        return finding("BINDING_UNUSABLE", error.message, subject=str(path), remedy=error.remedy)
    found = on_binding(binding.expires_at_unix_s, now=now)
    return finding(found.code, found.seen, subject=str(path))
