"""Multiaddrs that a node can dial, their scopes, and which of them it may dial. Pure.

An address here is text of one of these forms, without ``/p2p`` unless a function says so::

    /ip4/<a>/tcp/<port>[/ws]    /ip6/<a>/tcp/<port>[/ws]    /ip6zone/<zone>/ip6/<a>/tcp/<port>[/ws]
    /dns/<name>/tcp/<port>[/ws]    /dns4/...    /dns6/...

Every other transport is refused with :class:`hostmesh.errors.InvalidAddressError`; who reads somebody's list skips
such entries. An address from others is a claim, and dialling it is a request that they make this machine send: so the
policy :func:`may_dial` lets remote claims lead to public addresses only, unless this node lives in the same scope.

Source: multiformats, "multiaddr" and its protocol table; RFC 6890 (special-purpose addresses), RFC 6598 (shared space).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from hostmesh.errors import InvalidAddressError
from hostmesh.net.peer_id import PeerId, parse_peer_id

MAX_ADDRESSES_PER_PEER = 16
"""Addresses kept or dialled for one peer. Source: issue "find a compute host"."""
MAX_ADDRESS_CHARS = 512
"""Longest text that is parsed: the longest DNS name (253) with room for the rest."""

MAX_REMEMBERED = 4096
"""Forms of addresses that are kept, at most 512 characters each: a network's addresses come again and again."""

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*{_LABEL}\.?\Z")
_ZONE = re.compile(r"[A-Za-z0-9_.:-]{1,32}\Z")
_PORT = re.compile(r"(0|[1-9][0-9]{0,4})\Z")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressOrigin(Enum):
    """Who said so."""

    CONFIGURED = "configured"
    """The user's settings or the caller, by hand."""
    MDNS = "mdns"
    """Heard on the local link."""
    REMOTE = "remote"
    """A peer, a record or the DHT: anybody."""
    CONNECTED = "connected"
    """It worked before: the peer was reached here in this process."""


class AddressScope(Enum):
    """How far an address reaches."""

    PUBLIC = "public"
    PRIVATE = "private"
    """RFC 1918, unique local IPv6, the space of carrier-grade NAT, and what else is routed inside a network only."""
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"
    """Where clouds hand out credentials to anything that can dial."""
    NAME = "name"
    """A DNS name: its answers have scopes, it has none."""
    UNUSABLE = "unusable"
    """Unspecified, multicast, broadcast, no unicast space at all, or port 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A parsed address."""

    kind: str
    """``ip4``, ``ip6``, ``dns``, ``dns4`` or ``dns6``."""
    host: str
    """Canonical IP address, or a lower-case DNS name."""
    port: int
    """0 to 65535; 0 only makes sense to listen on."""
    zone: str = ""
    """Interface of a link-local IPv6 address, or empty."""
    is_websocket: bool = False

    @property
    def is_name(self) -> bool:
        """Whether the host is a DNS name."""
        return self.kind.startswith("dns")

    @property
    def ip(self) -> IpAddress | None:
        """The IP address, or None for a name."""
        return None if self.is_name else ipaddress.ip_address(self.host)

    @property
    def dial_host(self) -> str:
        """The host as sockets want it, zone included."""
        return f"{self.host}%{self.zone}" if self.zone else self.host

    def with_host(self, host: str) -> Endpoint:
        """Return this endpoint at an IP address, which may carry ``%zone``."""
        bare, _, zone = host.partition("%")
        ip = ipaddress.ip_address(bare)
        return Endpoint(kind=f"ip{ip.version}", host=str(ip), port=self.port, zone=zone, is_websocket=self.is_websocket)

    def __str__(self) -> str:
        zone = f"/ip6zone/{self.zone}" if self.zone else ""
        return f"{zone}/{self.kind}/{self.host}/tcp/{self.port}{'/ws' if self.is_websocket else ''}"


_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, OpenStack, DigitalOcean, Oracle
        "169.254.170.2",  # AWS ECS task credentials
        "169.254.170.23",  # AWS EKS pod identity
        "fd00:ec2::254",  # AWS over IPv6
        "fd00:ec2::23",  # AWS EKS pod identity over IPv6
        "fd20:ce::254",  # Google over IPv6
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle classic
        "168.63.129.16",  # Azure's host
    )
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_BROADCAST = ipaddress.ip_address("255.255.255.255")
_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")


def _refuse(text: str, why: str) -> InvalidAddressError:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return InvalidAddressError(
        f"invalid address {shown!r}: {why}", remedy="write it like /ip4/192.0.2.1/tcp/4001, with /ws for WebSocket"
    )


@lru_cache(maxsize=MAX_REMEMBERED)
def parse_address(text: str) -> Endpoint:
    """Parse a multiaddr without ``/p2p``.

    Raises:
        InvalidAddressError: malformed, or of a transport that a node does not speak.

    Cost: O(length); results are cached (4096 newest).

    >>> parse_address("/ip6/2001:0db8::1/tcp/4001/ws")
    Endpoint(kind='ip6', host='2001:db8::1', port=4001, zone='', is_websocket=True)
    """
    if len(text) > MAX_ADDRESS_CHARS:
        raise _refuse(text, "too long")
    parts = text.split("/")
    if parts[0] or len(parts) < 5:
        raise _refuse(text, "it must start with /ip4, /ip6, /dns, /dns4 or /dns6 and go on with /tcp/<port>")
    zone = ""
    if parts[1] == "ip6zone":
        zone = parts[2]
        if not _ZONE.match(zone) or parts[3] != "ip6":
            raise _refuse(text, "/ip6zone/<interface> must stand before /ip6")
        parts = ["", *parts[3:]]
    kind, host, tcp, port_text, *rest = [*parts[1:], ""] if len(parts) == 4 else parts[1:]
    if tcp != "tcp":
        raise _refuse(text, "only TCP and WebSocket over TCP are spoken")
    if not _PORT.match(port_text) or int(port_text) > 65535:
        raise _refuse(text, "the port must be 0 to 65535")
    if rest not in ([], ["ws"]):
        raise _refuse(text, f"/{rest[0]} is not spoken here; only /ws may follow the port")
    return Endpoint(kind=kind, host=_host(text, kind, host), port=int(port_text), zone=zone, is_websocket=bool(rest))


def _host(text: str, kind: str, host: str) -> str:
    if kind in ("dns", "dns4", "dns6"):
        name = host.lower()
        if not _DNS_NAME.match(name):
            raise _refuse(text, "not a DNS name")
        return name.removesuffix(".")
    if kind not in ("ip4", "ip6"):
        raise _refuse(text, f"/{kind} is not spoken here")
    try:
        ip = ipaddress.IPv4Address(host) if kind == "ip4" else ipaddress.IPv6Address(host)
    except ValueError as error:
        raise _refuse(text, f"not an {'IPv4' if kind == 'ip4' else 'IPv6'} address") from error
    if "%" in host:
        raise _refuse(text, "write the zone as /ip6zone/<interface>/ip6/...")
    return str(ip)


@lru_cache(maxsize=MAX_REMEMBERED)
def split_peer_address(text: str) -> tuple[str, PeerId | None]:
    """Split ``<address>[/p2p/<peer id>]`` into the address and the peer id.

    Returns:
        The canonical address, and the peer id or None when there is none.

    Raises:
        InvalidAddressError: either half is malformed, or the address goes through a relay.
    """
    if len(text) > MAX_ADDRESS_CHARS:
        raise _refuse(text, "too long")
    address, separator, peer = text.partition("/p2p/")
    if not separator:
        address, separator, peer = text.partition("/ipfs/")
    if not separator:
        return str(parse_address(text)), None
    if "/" in peer:
        raise _refuse(text, "nothing may follow the peer id")
    return str(parse_address(address)), parse_peer_id(peer)


def join_peer_address(address: str, peer_id: PeerId) -> str:
    """Return ``<address>/p2p/<peer id>``."""
    return f"{address}/p2p/{peer_id}"


def _embedded_v4(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that traffic to an IPv6 address ends up at, if there is one."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip in _NAT64:
        return ipaddress.IPv4Address(ip.packed[-4:])
    return None


def scope_of_ip(ip: IpAddress) -> AddressScope:
    """Return the scope of an IP address; IPv4 inside IPv6 counts as what it leads to."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = _embedded_v4(ip)
        if inner is not None:
            return scope_of_ip(inner)
    if ip in _METADATA:
        return AddressScope.METADATA
    if ip.is_unspecified or ip.is_multicast or ip in _THIS_NETWORK or ip == _BROADCAST:
        return AddressScope.UNUSABLE
    if ip.is_loopback:
        return AddressScope.LOOPBACK
    if ip.is_link_local:
        return AddressScope.LINK_LOCAL
    if ip.version == 6 and not any(ip in network for network in (_GLOBAL_UNICAST, _UNIQUE_LOCAL, _NAT64_LOCAL)):
        return AddressScope.UNUSABLE
    return AddressScope.PUBLIC if ip.is_global and ip not in _NAT64_LOCAL else AddressScope.PRIVATE


def scope_of(address: str) -> AddressScope:
    """Return the scope of an address.

    Raises:
        InvalidAddressError: malformed.

    >>> scope_of("/ip6/::ffff:10.0.0.1/tcp/4001").name
    'PRIVATE'
    """
    endpoint = parse_address(address)
    ip = endpoint.ip
    if endpoint.port == 0:
        return AddressScope.UNUSABLE
    return AddressScope.NAME if ip is None else scope_of_ip(ip)


def may_dial(address: str, origin: AddressOrigin, own_scopes: frozenset[AddressScope]) -> bool:
    """Say whether an address may be dialled.

    - unusable addresses: never; metadata addresses: only when configured;
    - public addresses and DNS names: always (the answers of a name come here again, under the name's origin);
    - loopback, private and link-local: when mDNS or the configuration gave them, when they worked before, or when this
      node itself is in that scope.

    Args:
        address: the address.
        origin: who said so.
        own_scopes: scopes that this node lives in; see ``Node.own_scopes``.

    Raises:
        InvalidAddressError: malformed.

    >>> may_dial("/ip4/127.0.0.1/tcp/6379", AddressOrigin.REMOTE, frozenset())
    False
    >>> may_dial("/ip4/127.0.0.1/tcp/6379", AddressOrigin.REMOTE, frozenset({AddressScope.LOOPBACK}))
    True
    """
    scope = scope_of(address)
    if scope is AddressScope.UNUSABLE:
        return False
    if scope is AddressScope.METADATA:
        return origin is AddressOrigin.CONFIGURED
    if scope in (AddressScope.PUBLIC, AddressScope.NAME):
        return True
    return origin is not AddressOrigin.REMOTE or scope in own_scopes


def keep_usable(addresses: Iterable[str], *, limit: int = MAX_ADDRESSES_PER_PEER) -> tuple[str, ...]:
    """Return the canonical, distinct, parseable ones of somebody's addresses, in order, at most ``limit``.

    ``/p2p`` suffixes are dropped. Looks at no more than four times ``limit`` entries.
    """
    kept: dict[str, None] = {}
    for index, text in enumerate(addresses):
        if len(kept) == limit or index == 4 * limit:
            break
        try:
            address, _ = split_peer_address(text)
        except InvalidAddressError:
            continue
        kept[address] = None
    return tuple(kept)
