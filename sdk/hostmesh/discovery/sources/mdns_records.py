"""libp2p's mDNS records: TXT data to addresses and back, and the table of what was heard. Pure.

A peer answers for ``_p2p._udp.local`` with a PTR to ``{random label}._p2p._udp.local`` and a TXT of that name, whose
strings are ``dnsaddr={multiaddr}/p2p/{peer id}``, one for each address.

Source: libp2p specs, discovery/mdns; RFC 6763, section 6 (TXT strings).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import parse_address, split_peer_address
from hostmesh.net.peer_id import PeerId

SERVICE = "_p2p._udp.local."
MAX_ADDRESSES = 16
MAX_PEERS = 512
"""Names kept; the one that would end first gives way."""
MAX_LIFETIME_S = 120.0
"""Longest life of what was heard, whatever TTL it came with (go-libp2p's is 53 minutes): we ask every 45 s, and who
leaves two questions unanswered is gone (RFC 6762, section 10.5)."""
MAX_TXT_BYTES = 1100
"""Most TXT bytes that a host sends: with the other records the answer stays within one Ethernet frame."""
LABEL_CHARS = 32

_ATTRIBUTE = b"dnsaddr="
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class MdnsStatistics:
    """What the source knows now."""

    is_listening: bool
    peers: int
    malformed: int
    """TXT strings that were skipped so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTxt:
    """What a TXT record says."""

    peer_id: PeerId | None
    """The peer of its first address that could be read; None when there is none."""
    addresses: tuple[str, ...]
    """Multiaddrs without ``/p2p``, distinct, at most 16."""
    malformed: int
    """Strings that were skipped: no such address, of a second peer, or cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a host's records say."""

    txt: bytes
    ips: tuple[str, ...]
    """IP addresses for the A and AAAA records, which hostmesh itself does not read."""
    port: int
    """For the SRV record, which hostmesh itself does not read."""


def announcement_of(peer_id: PeerId, addresses: Sequence[str]) -> Announcement:
    """Return what to announce for a host at these multiaddrs (without ``/p2p``).

    Raises:
        InvalidAddressError: one of them is malformed.
    """
    endpoints = [parse_address(address) for address in addresses]
    return Announcement(
        txt=encode_txt(peer_id, addresses),
        ips=tuple(dict.fromkeys(endpoint.host for endpoint in endpoints if endpoint.ip is not None)),
        port=endpoints[0].port if endpoints else 0,
    )


def encode_txt(peer_id: PeerId, addresses: Iterable[str]) -> bytes:
    """Return the TXT data of a host: one string an address, at most 16 addresses and :data:`MAX_TXT_BYTES`.

    What no longer fits is left out, the last first.

    >>> encode_txt(PeerId("12D3KooWB"), ["/ip4/192.0.2.1/tcp/4001"])
    b'-dnsaddr=/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWB'
    """
    out = bytearray()
    for index, address in enumerate(dict.fromkeys(addresses)):
        entry = _ATTRIBUTE + f"{address}/p2p/{peer_id}".encode()
        if index == MAX_ADDRESSES or len(out) + 1 + len(entry) > MAX_TXT_BYTES:
            break
        if len(entry) <= 255:
            out += bytes([len(entry)]) + entry
    return bytes(out)


def parse_txt(data: bytes) -> ParsedTxt:
    r"""Read TXT data. Attributes other than ``dnsaddr`` are ignored; nothing raises.

    >>> parse_txt(b'\x05hello\x09dnsaddr=x')
    ParsedTxt(peer_id=None, addresses=(), malformed=1)
    """
    peer_id: PeerId | None = None
    addresses: dict[str, None] = {}
    malformed = 0
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        entry = data[at + 1 : end]
        if end > len(data):
            malformed += 1
            break
        at = end
        # RFC 6763, section 6.4: attribute names are compared without case.
        if entry[: len(_ATTRIBUTE)].lower() != _ATTRIBUTE:
            continue
        try:
            address, named = split_peer_address(entry[len(_ATTRIBUTE) :].decode("utf-8"))
        except (InvalidAddressError, UnicodeDecodeError):
            malformed += 1
            continue
        if named is None or (peer_id is not None and named != peer_id):
            malformed += 1
            continue
        peer_id = named
        if len(addresses) < MAX_ADDRESSES:
            addresses[address] = None
    return ParsedTxt(peer_id=peer_id, addresses=tuple(addresses), malformed=malformed)


def label_from(random_bytes: bytes) -> str:
    """Return a peer name of 32 lower-case letters and digits from 32 random bytes. It says nothing about the peer.

    >>> label_from(bytes(32))
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
    """
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in random_bytes[:LABEL_CHARS])


def label_of(name: str) -> str | None:
    """Return the peer name of a full record name, in lower case; None when it is not of the service.

    >>> label_of("AB._p2p._udp.local.")
    'ab'
    """
    lowered = name.lower()
    label = lowered.removesuffix("." + SERVICE)
    return label if label != lowered and 0 < len(label) <= 63 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """A TXT record. A name has one with all addresses (go, hostmesh), or one for each (js)."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    heard_at: float
    expires_at: float


class HeardPeers:
    """Peers that were heard of on the link, by their random names, until their TTL ends.

    Args:
        own: our peer id, which is never put in.
        max_peers: most names kept.
    """

    def __init__(self, own: PeerId, *, max_peers: int = MAX_PEERS) -> None:
        self._own = own
        self._max_peers = max_peers
        self._names: OrderedDict[str, OrderedDict[bytes, _Record]] = OrderedDict()
        self.malformed = 0
        """TXT strings that were skipped so far."""

    def __len__(self) -> int:
        return len(self._names)

    def on_txt(self, label: str, data: bytes, *, ttl_s: float, now: float, flush: bool) -> PeerId | None:
        """Take a TXT record in; return the peer when it or its addresses are news.

        Args:
            label: the name that the record is of.
            data: the record's strings.
            ttl_s: how long it holds.
            now: monotonic seconds.
            flush: the record's cache-flush bit: those of the name that are older than a second no longer hold
                (RFC 6762, section 10.2).
        """
        self.expire(now)
        parsed = parse_txt(data)
        self.malformed += parsed.malformed
        if parsed.peer_id is None or parsed.peer_id == self._own or ttl_s <= 0:
            return None
        if label not in self._names and len(self._names) >= self._max_peers:
            del self._names[min(self._names, key=self._end_of)]
        records = self._names.setdefault(label, OrderedDict())
        self._names.move_to_end(label)
        is_news = records.pop(data, None) is None
        if flush:
            for old in [old for old, record in records.items() if record.heard_at < now - 1]:
                del records[old]
        if len(records) >= MAX_ADDRESSES:
            records.popitem(last=False)
        records[data] = _Record(
            peer_id=parsed.peer_id,
            addresses=parsed.addresses,
            heard_at=now,
            expires_at=now + min(ttl_s, MAX_LIFETIME_S),
        )
        return parsed.peer_id if is_news else None

    def on_goodbye(self, label: str, data: bytes | None = None) -> None:
        """Forget a name, whose PTR ended, or one TXT record of it."""
        if data is None:
            self._names.pop(label, None)
            return
        records = self._names.get(label, OrderedDict())
        records.pop(data, None)
        if not records:
            self._names.pop(label, None)

    def expire(self, now: float) -> None:
        """Forget what is past its time."""
        for label, records in list(self._names.items()):
            for data in [data for data, record in records.items() if record.expires_at <= now]:
                self.on_goodbye(label, data)

    def peers(self, now: float) -> dict[PeerId, tuple[str, ...]]:
        """Return the peers and their addresses, at most 16 each, what was heard last first."""
        self.expire(now)
        out: dict[PeerId, tuple[str, ...]] = {}
        for records in reversed(self._names.values()):
            for record in reversed(records.values()):
                known = out.get(record.peer_id, ())
                out[record.peer_id] = tuple(dict.fromkeys((*known, *record.addresses)))[:MAX_ADDRESSES]
        return out

    def _end_of(self, label: str) -> float:
        return max(record.expires_at for record in self._names[label].values())
