"""What can be wrong with a node, by code: each finding says what was seen and what to do. Pure.

docs/troubleshooting.md has every code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.discovery.clock import ClockReading
from hostmesh.discovery.record import MAX_SKEW_S
from hostmesh.net.address import AddressScope, scope_of
from hostmesh.net.autonat_report import DialBackOutcome, ReachabilityReport, ReachState

BINDING_SOON_S = 86_400.0
"""A binding that ends within a day is told of."""


class Severity(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, or works in part."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    code: str
    """Stable; docs/troubleshooting.md has them all."""
    severity: Severity
    seen: str
    """What was seen, in words. What peers said in it is as they said it: escape it before you show it."""
    remedy: str = ""
    """What to do; empty where nothing is to be done."""
    subject: str = ""
    """Which address, interface or file it is about, where there are several."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "subject": self.subject,
            "seen": self.seen,
            "remedy": self.remedy,
        }


_OK, _WARN, _FAIL = Severity.OK, Severity.WARN, Severity.FAIL
CODES: Mapping[str, tuple[Severity, str]] = {
    "VERSION": (_OK, ""),
    # this machine, before anything runs
    "PORT_FREE": (_OK, ""),
    "PORT_IN_USE": (_FAIL, "if it is your host that listens there, all is well; else stop it or choose another port"),
    "LISTEN_ADDRESS_REFUSED": (_FAIL, "listen on an address of this machine, or on 0.0.0.0 or :: for all of them"),
    "KEY_GOOD": (_OK, ""),
    "KEY_NEW": (_OK, ""),
    "KEY_BUSY": (_WARN, "if it is your host that runs with it, all is well; else give each node a key of its own"),
    "KEY_UNUSABLE": (_FAIL, "see what the finding says of the file"),
    "BINDING_GOOD": (_OK, ""),
    "BINDING_ENDS_SOON": (_WARN, "sign a new one where the wallet is: hostmesh-host bind"),
    "BINDING_ENDED": (_FAIL, "sign a new one where the wallet is: hostmesh-host bind"),
    "BINDING_REVOKED": (_FAIL, "if this machine is still yours: hostmesh-host bind --revocation-epoch N"),
    "BINDING_UNUSABLE": (_FAIL, "sign a new one where the wallet is: hostmesh-host bind"),
    "NODE_NOT_STARTED": (_FAIL, "see what the finding says"),
    # how others get here
    "LISTENING": (_OK, ""),
    "LOOPBACK_ONLY": (_WARN, "only this machine gets here; a host listens on /ip4/0.0.0.0/tcp/4001"),
    "NOT_LISTENING": (_WARN, "a client needs none; a host listens on /ip4/0.0.0.0/tcp/4001"),
    "REACHABLE": (_OK, ""),
    "UNREACHABLE": (_FAIL, "open the port in the firewall, forward it on the router, or announce the right address"),
    "REACHABILITY_UNKNOWN": (_WARN, "connect to a bootstrap node that others reach too, or ask again in a minute"),
    # the way into the network
    "BOOTSTRAP_NONE": (_WARN, "name one with --bootstrap; without, only mDNS and known peers lead into the network"),
    "BOOTSTRAP_CONNECTED": (_OK, ""),
    "BOOTSTRAP_PENDING": (_WARN, "ask again in a moment: its first attempt has not ended"),
    "BOOTSTRAP_UNRESOLVED": (_FAIL, "check the name, and this machine's resolver"),
    "BOOTSTRAP_DOWN": (_FAIL, "check the address and port; it is joined when it comes up"),
    "BOOTSTRAP_SILENT": (_FAIL, "a firewall drops the packets, or the address is wrong: open TCP to that port"),
    "BOOTSTRAP_IMPOSTOR": (_FAIL, "something else answers there: take the address that `hostmesh bootstrap` prints"),
    "BOOTSTRAP_UNUSABLE": (_FAIL, "correct the address, or raise max_connections"),
    "PEERS_CONNECTED": (_OK, ""),
    "NO_PEERS": (_FAIL, "see the findings on bootstrap and mDNS"),
    "OTHER_PREFIX": (_WARN, "use the protocol prefix and a version of the network that you join"),
    # the clock
    "CLOCK_RIGHT": (_OK, ""),
    "CLOCK_OFF": (_FAIL, "set this machine's clock, best by NTP; records and sessions fail meanwhile"),
    "CLOCK_DOUBTED": (_WARN, "compare this clock with a time server; if it is right, those peers are wrong or lie"),
    "CLOCK_UNKNOWN": (_WARN, "too few peers told the time: connect to a bootstrap node, or to peers of three networks"),
    # the local link
    "MDNS_OFF": (_OK, ""),
    "MDNS_WORKS": (_OK, ""),
    "MDNS_CANNOT_SEND": (_WARN, "let UDP to 224.0.0.251:5353 out on that interface, or leave it out: mdns_interfaces"),
    "MDNS_BLOCKED": (_WARN, "let UDP port 5353 in on that interface"),
    "MDNS_NO_INTERFACE": (_WARN, "connect to a network, or name an interface that is there: mdns_interfaces"),
    # the DHT
    "DHT_OFF": (_WARN, "turn it on: --dht"),
    "DHT_WORKS": (_OK, ""),
    "DHT_NO_SERVERS": (_WARN, "connect to a bootstrap node or host: they serve it"),
    "DHT_NOT_TOLD": (_FAIL, "no DHT server took this host's keys: see the findings on bootstrap and reachability"),
}
"""Each code with how bad it is and what to do."""


def finding(
    code: str, seen: str, *, subject: str = "", remedy: str | None = None, severity: Severity | None = None
) -> Finding:
    """Return a finding of a code, with what the table says unless told otherwise."""
    usual, what_to_do = CODES[code]
    return Finding(
        code=code,
        severity=severity or usual,
        seen=seen,
        remedy=what_to_do if remedy is None else remedy,
        subject=subject,
    )


def on_listening(addresses: Sequence[str]) -> list[Finding]:
    """Judge where a running node listens."""
    if not addresses:
        return [finding("NOT_LISTENING", "the node listens nowhere")]
    if all(scope_of(address) is AddressScope.LOOPBACK for address in addresses):
        return [finding("LOOPBACK_ONLY", f"listens on {', '.join(addresses)}")]
    return [finding("LISTENING", f"listens on {address}", subject=address) for address in addresses]


def on_reachability(report: ReachabilityReport, *, is_host: bool) -> list[Finding]:
    """Judge what peers that dialled back said. That nobody reaches a client is no failure."""
    found = []
    for each in report.addresses:
        about = [answer for answer in report.answers if answer.address == each.address]
        said = "; ".join(f"{answer.peer_id}: {answer.outcome.value}" for answer in about)
        if each.is_reachable:
            by = [answer.peer_id for answer in about if answer.outcome is DialBackOutcome.REACHED]
            found.append(finding("REACHABLE", f"dialled back by {', '.join(by)}", subject=each.address))
        elif each.is_reachable is False:
            # Another address that works is enough for those who know both.
            is_bad = is_host and report.state is ReachState.UNREACHABLE
            found.append(
                finding("UNREACHABLE", said, subject=each.address, severity=Severity.FAIL if is_bad else Severity.WARN)
            )
        else:
            seen = said or "no connected peer could dial it back"
            found.append(finding("REACHABILITY_UNKNOWN", seen, subject=each.address))
    return found


_BOOTSTRAP = {
    "connected": ("BOOTSTRAP_CONNECTED", "connected"),
    "pending": ("BOOTSTRAP_PENDING", "no outcome yet"),
    "dns": ("BOOTSTRAP_UNRESOLVED", "the name does not resolve"),
    "dial": ("BOOTSTRAP_DOWN", "nothing listens there"),
    "timeout": ("BOOTSTRAP_SILENT", "no answer in time"),
    "handshake": ("BOOTSTRAP_IMPOSTOR", "what answers is another node, or none"),
}


def on_bootstrap(outcomes: Mapping[str, str]) -> list[Finding]:
    """Judge the outcome of each bootstrap address; one that is connected makes the others' failures warnings."""
    if not outcomes:
        return [finding("BOOTSTRAP_NONE", "no bootstrap node is configured")]
    is_in = "connected" in outcomes.values()
    found = []
    for address, outcome in outcomes.items():
        code, seen = _BOOTSTRAP.get(outcome, ("BOOTSTRAP_UNUSABLE", f"not dialled: {outcome}"))
        severity = CODES[code][0]
        if is_in and severity is Severity.FAIL:
            severity = Severity.WARN
        found.append(finding(code, seen, subject=address, severity=severity))
    return found


def on_peers(protocols: Mapping[str, Sequence[str]], *, prefix: str) -> list[Finding]:
    """Judge who is connected.

    Args:
        protocols: what each connected peer said it speaks; nothing where it has not said so.
        prefix: that of our own protocols.
    """
    if not protocols:
        return [finding("NO_PEERS", "nobody is connected")]
    told = {peer_id: spoken for peer_id, spoken in protocols.items() if spoken}
    ours = [each for each, spoken in told.items() if any(name.startswith(f"{prefix}/") for name in spoken)]
    if told and not ours:
        return [finding("OTHER_PREFIX", f"none of {len(told)} connected peers speaks a protocol under {prefix}")]
    return [finding("PEERS_CONNECTED", f"{len(protocols)} connected, {len(ours)} of them speak {prefix}")]


def on_clock(reading: ClockReading) -> Finding:
    """Judge this machine's clock."""
    if reading.skew_s is None:
        return finding("CLOCK_UNKNOWN", f"{len(reading.samples)} peers told the time")
    seen = (
        f"this clock is {abs(reading.skew_s):.1f} s {'behind' if reading.skew_s > 0 else 'ahead of'} "
        f"that of {reading.voters} {'peers' if reading.is_trusted else 'strangers'}"
    )
    if abs(reading.skew_s) <= MAX_SKEW_S:
        return finding("CLOCK_RIGHT", seen)
    return finding("CLOCK_OFF" if reading.is_trusted else "CLOCK_DOUBTED", seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProbe:
    """What came of asking who is there on one interface."""

    interface: str
    address: str
    """This machine's address on it."""
    sent: bool
    error: str = ""
    """Why it could not be sent or listened to."""
    heard_itself: bool = False
    """Whether our own question came back from the group, as it does where port 5353 is open."""
    packets: int = 0
    """Of others, that were heard meanwhile."""
    responders: int = 0
    """Machines that answered as libp2p peers."""


def on_link(probe: LinkProbe) -> Finding:
    """Judge mDNS on one interface."""
    subject = f"{probe.interface} {probe.address}"
    if not probe.sent:
        return finding("MDNS_CANNOT_SEND", probe.error or "the question was not sent", subject=subject)
    if not probe.heard_itself and not probe.packets:
        return finding("MDNS_BLOCKED", probe.error or "asked, and heard not even itself", subject=subject)
    seen = f"asked, heard {probe.packets} packets of others, {probe.responders} machines answered as libp2p peers"
    return finding("MDNS_WORKS", seen, subject=subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtHealth:
    """What is known of the DHT."""

    servers: int
    """In the routing table."""
    provided_keys: int
    told: int
    failed_provides: int
    shards_sampled: int | None
    """Of the last find; None: there was none."""
    shards: int = 0
    candidates: int = 0


def on_dht(health: DhtHealth | None) -> Finding:
    """Judge the DHT; None: it is off."""
    if health is None:
        return finding("DHT_OFF", "the DHT is off: hosts are heard of through connected peers and mDNS only")
    if not health.servers:
        return finding("DHT_NO_SERVERS", "no DHT server is known")
    find = "no find yet"
    if health.shards_sampled is not None:
        find = f"last find: {health.shards_sampled} of {health.shards} keys asked, {health.candidates} candidates"
    seen = f"{health.servers} servers known; {find}"
    if health.provided_keys:
        seen += f"; {health.provided_keys} keys provided, told {health.told} times, {health.failed_provides} in vain"
    if health.provided_keys and not health.told and health.failed_provides:
        return finding("DHT_NOT_TOLD", seen)
    return finding("DHT_WORKS", seen)


def on_binding(expires_at_unix_s: float, *, now: float, epoch: int = 0, least_epoch: int = 0) -> Finding:
    """Judge whether, and for how long, the wallet's binding of a host's key still holds.

    Args:
        expires_at_unix_s: when it ends by itself.
        now: unix seconds.
        epoch: its revocation epoch.
        least_epoch: the lowest epoch that the wallet did not take back, as far as this machine heard.
    """
    if epoch < least_epoch:
        return finding(
            "BINDING_REVOKED",
            f"the operator's wallet took back its bindings of this key below epoch {least_epoch}; this one has {epoch}",
            remedy=f"if this machine is still yours: hostmesh-host bind --revocation-epoch {least_epoch}",
        )
    left_s = expires_at_unix_s - now
    if left_s <= 0:
        return finding("BINDING_ENDED", f"ended {-left_s / 3600:.1f} h ago")
    code = "BINDING_ENDS_SOON" if left_s < BINDING_SOON_S else "BINDING_GOOD"
    return finding(code, f"holds for {left_s / 3600:.1f} h more")
