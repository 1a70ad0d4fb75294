"""Asks who is there on each interface by itself: whether a question leaves, and whether anything comes in.

The source proper (:mod:`hostmesh.discovery.sources.mdns`) listens on all interfaces through one socket and does not say
which one heard what; a fault of one interface hides behind the others. So a probe opens, for each IPv4 address, a
socket that is in the group on that interface alone, asks, and listens for a moment.

Source: RFC 6762, sections 3 and 5; the question is that of libp2p's mDNS.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Sequence

import ifaddr
import trio

from hostmesh.discovery.diagnostics import LinkProbe

GROUP, PORT = "224.0.0.251", 5353
LISTEN_S = 1.5
"""A responder may take its 500 ms twice (RFC 6762, section 6)."""
MAX_INTERFACES = 16
MAX_PACKETS = 1000
_SERVICE = b"\x04_p2p\x04_udp\x05local\x00"
_QUESTION = b"\0\0" + b"\0\0" + b"\0\x01" + b"\0\0" * 3 + _SERVICE + b"\0\x0c" + b"\0\x01"
_IS_ANSWER = 0x80
_IP_MULTICAST_ALL = 49
"""Linux: off, a socket gets what comes to the groups that it joined itself, on the interfaces where it did."""


async def probe_links(wanted: Sequence[str] = ()) -> tuple[LinkProbe, ...]:
    """Ask on each interface that has an IPv4 address, all at once.

    Args:
        wanted: names or addresses of interfaces; empty: all but loopback.

    Returns:
        One result for each address, at most 16.

    Cancellation: safe; the sockets are closed.
    Cost: one packet and two sockets for each interface, and 1.5 s.
    """
    found: dict[int, LinkProbe] = {}

    async def one(place: int, name: str, address: str) -> None:
        found[place] = await _probe(name, address)

    async with trio.open_nursery() as nursery:
        for place, (name, address) in enumerate(_links(wanted, ifaddr.get_adapters())):
            nursery.start_soon(one, place, name, address)
    return tuple(found[place] for place in sorted(found))


def _links(wanted: Sequence[str], adapters: Iterable[ifaddr.Adapter]) -> list[tuple[str, str]]:
    links = []
    for adapter in adapters:
        for ip in adapter.ips:
            if not ip.is_IPv4 or not isinstance(ip.ip, str):
                continue
            is_wanted = adapter.name in wanted or ip.ip in wanted if wanted else not ip.ip.startswith("127.")
            if is_wanted:
                links.append((adapter.name, ip.ip))
    return links[:MAX_INTERFACES]


async def _probe(name: str, address: str) -> LinkProbe:
    try:
        listener = await _listener(address)
    except OSError as error:
        return LinkProbe(interface=name, address=address, sent=False, error=_words(error))
    with listener:
        try:
            await listener.sendto(_QUESTION, (GROUP, PORT))
        except OSError as error:
            return LinkProbe(interface=name, address=address, sent=False, error=_words(error))
        heard_itself, packets = False, 0
        responders: set[str] = set()
        with trio.move_on_after(LISTEN_S):
            while packets < MAX_PACKETS:
                data, (source, *_) = await listener.recvfrom(9000)
                if source == address and data == _QUESTION:
                    heard_itself = True
                    continue
                if source != address:
                    packets += 1
                    if len(data) > 3 and data[2] & _IS_ANSWER and _SERVICE[:10] in data:
                        responders.add(source)
    return LinkProbe(
        interface=name,
        address=address,
        sent=True,
        heard_itself=heard_itself,
        packets=packets,
        responders=len(responders),
    )


async def _listener(address: str) -> trio.socket.SocketType:
    """Return a socket that asks and hears on one interface. Raises OSError."""
    listener = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        ip = socket.inet_aton(address)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, ip)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        # Linux and macOS alike: bound to the group, it gets nothing that was sent to this machine alone.
        await listener.bind((GROUP, PORT))
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + ip)
    except BaseException:
        listener.close()
        raise
    return listener


def _words(error: OSError) -> str:
    return error.strerror or str(error)
