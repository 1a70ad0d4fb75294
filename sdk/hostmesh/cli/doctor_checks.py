"""What can be looked at on this machine before a node runs: ports, the key, a binding."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from hostmesh.discovery.diagnostics import Finding, finding, on_binding
from hostmesh.errors import InvalidAddressError, KeyFileError, KeyInUseError, StoreError
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


def check_binding(path: Path, *, now: float, network: str, revocations: Path) -> Finding:
    """Look how long the binding in a file still holds, and whether this machine heard that it was taken back.

    Its signature is the host's to verify.

    Args:
        path: the binding's file.
        now: unix seconds.
        network: its name.
        revocations: the database of what this machine heard of; it need not be there, and is not made.
    """
    from hostmesh.identity.binding import load_binding

    try:
        binding = load_binding(path)
    except KeyFileError as error:
        return finding("BINDING_UNUSABLE", error.message, subject=str(path), remedy=error.remedy)
    try:
        least_epoch = _least_epoch(revocations, network, binding.operator, binding.peer_id, now)
    except StoreError as error:
        return finding("BINDING_UNUSABLE", error.message, subject=str(revocations), remedy=error.remedy)
    found = on_binding(binding.expires_at_unix_s, now=now, epoch=binding.revocation_epoch, least_epoch=least_epoch)
    return finding(found.code, found.seen, subject=str(path), remedy=found.remedy)


def _least_epoch(revocations: Path, network: str, operator: bytes, peer_id: bytes, now: float) -> int:
    """Return the lowest epoch of a wallet's bindings of a key that holds, as far as is on disk; 0 = each."""
    if not revocations.exists():
        return 0
    from hostmesh.discovery.revocation_store import RevocationStore
    from hostmesh.discovery.revocations import RevocationBook
    from hostmesh.net.peer_id import peer_id_from_bytes

    book = RevocationBook()
    with closing(RevocationStore(revocations)) as store:
        book.restore(store.load(network))
    return book.least_epoch(operator, peer_id_from_bytes(peer_id), now)
