"""What facts about a node come to which code; the facts themselves are made to happen in tests/simulated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostmesh.discovery import diagnostics
from hostmesh.discovery.clock import ClockReading, ClockSample, clock_skew_s
from hostmesh.discovery.diagnostics import CODES, DhtHealth, Finding, LinkProbe, Severity, finding
from hostmesh.net.autonat_report import DialBackAnswer, judge
from hostmesh.net.autonat_report import DialBackOutcome as Outcome
from hostmesh.testing import make_peer_key

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "troubleshooting.md").read_text()
A, B = (make_peer_key(name).peer_id for name in "ab")
ADDRESS, OTHER = "/ip4/8.8.8.8/tcp/4001", "/ip4/8.8.4.4/tcp/4001"


def codes(*found: Finding) -> list[str]:
    return [each.code for each in found]


def test_the_page_has_every_code_and_no_other() -> None:
    section = PAGE.split("\n## What hostmesh doctor says\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)`", section, re.MULTILINE)) == set(CODES)


def test_what_is_not_right_has_a_remedy() -> None:
    for code, (severity, remedy) in CODES.items():
        assert bool(remedy) == (severity is not Severity.OK), code


def test_a_finding_as_json() -> None:
    assert finding("NO_PEERS", "nobody").to_dict() == {
        "code": "NO_PEERS",
        "severity": "fail",
        "subject": "",
        "seen": "nobody",
        "remedy": CODES["NO_PEERS"][1],
    }


def test_listening() -> None:
    assert codes(*diagnostics.on_listening(())) == ["NOT_LISTENING"]
    assert codes(*diagnostics.on_listening(("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"))) == ["LOOPBACK_ONLY"]
    assert codes(*diagnostics.on_listening(("/ip4/127.0.0.1/tcp/1", ADDRESS))) == ["LISTENING"] * 2


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("connected", "BOOTSTRAP_CONNECTED"),
        ("pending", "BOOTSTRAP_PENDING"),
        ("dns", "BOOTSTRAP_UNRESOLVED"),
        ("dial", "BOOTSTRAP_DOWN"),
        ("timeout", "BOOTSTRAP_SILENT"),
        ("handshake", "BOOTSTRAP_IMPOSTOR"),
        ("address", "BOOTSTRAP_UNUSABLE"),
        ("limit", "BOOTSTRAP_UNUSABLE"),
    ],
)
def test_each_outcome_of_a_bootstrap_address(outcome: str, code: str) -> None:
    (alone,) = diagnostics.on_bootstrap({"a": outcome})
    assert (alone.code, alone.subject, alone.severity) == (code, "a", CODES[code][0])
    beside, _ = diagnostics.on_bootstrap({"a": outcome, "b": "connected"})
    assert beside.severity is not Severity.FAIL


def test_no_bootstrap() -> None:
    assert codes(*diagnostics.on_bootstrap({})) == ["BOOTSTRAP_NONE"]


def test_peers() -> None:
    def on(**spoken: tuple[str, ...]) -> list[str]:
        return codes(*diagnostics.on_peers(spoken, prefix="/hostmesh"))

    assert on() == ["NO_PEERS"]
    assert on(a=(), b=()) == ["PEERS_CONNECTED"]
    assert on(a=("/ipfs/id/1.0.0", "/hostmeshed/x/1.0.0"), b=()) == ["OTHER_PREFIX"]
    assert on(a=("/other/x/1.0.0",), b=("/hostmesh/kad/1.0.0",)) == ["PEERS_CONNECTED"]


@pytest.mark.parametrize(
    ("skews", "trusted", "code"),
    [
        ((31.0,) * 3, 0, "CLOCK_DOUBTED"),
        ((-31.0,) * 3, 0, "CLOCK_DOUBTED"),
        ((-31.0, 0.0, 0.0), 1, "CLOCK_OFF"),
        ((0.0, 99.0, 99.0), 1, "CLOCK_RIGHT"),
        ((30.0,) * 3, 0, "CLOCK_RIGHT"),
        ((99.0,), 0, "CLOCK_UNKNOWN"),
    ],
)
def test_the_clock(skews: tuple[float, ...], trusted: int, code: str) -> None:
    samples = tuple(ClockSample(skew_s=each, is_trusted=index < trusted) for index, each in enumerate(skews))
    reading = ClockReading(skew_s=clock_skew_s(samples), samples=samples, measured_at_unix_s=0.0)
    assert diagnostics.on_clock(reading).code == code


def test_which_way_the_clock_is_off_and_who_says_so() -> None:
    samples = (ClockSample(skew_s=40.0, is_trusted=True), ClockSample(skew_s=0.0, is_trusted=False))
    reading = ClockReading(skew_s=40.0, samples=samples, measured_at_unix_s=0.0)
    assert diagnostics.on_clock(reading).seen == "this clock is 40.0 s behind that of 1 peers"
    assert reading.to_dict()["is_trusted"] is True
    strangers = tuple(ClockSample(skew_s=-40.0, is_trusted=False) for _ in range(3))
    reading = ClockReading(skew_s=-40.0, samples=strangers, measured_at_unix_s=0.0)
    assert diagnostics.on_clock(reading).seen == "this clock is 40.0 s ahead of that of 3 strangers"


def link(**facts: object) -> str:
    return diagnostics.on_link(LinkProbe(interface="eth0", address="10.0.0.2", **facts)).code  # type: ignore[arg-type]


def test_a_link() -> None:
    assert link(sent=False, error="Network is unreachable") == "MDNS_CANNOT_SEND"
    assert link(sent=True) == "MDNS_BLOCKED"
    assert link(sent=True, heard_itself=True) == "MDNS_WORKS"
    assert link(sent=True, packets=3) == "MDNS_WORKS"


def dht(**facts: int | None) -> str:
    usual = {"servers": 1, "provided_keys": 0, "told": 0, "failed_provides": 0, "shards_sampled": None}
    return diagnostics.on_dht(DhtHealth(**{**usual, **facts})).code  # type: ignore[arg-type]


def test_the_dht() -> None:
    assert diagnostics.on_dht(None).code == "DHT_OFF"
    assert dht(servers=0) == "DHT_NO_SERVERS"
    assert dht() == "DHT_WORKS"
    assert dht(provided_keys=2) == "DHT_WORKS"  # its first round has not ended
    assert dht(provided_keys=2, failed_provides=2) == "DHT_NOT_TOLD"
    assert dht(provided_keys=2, failed_provides=2, told=1) == "DHT_WORKS"


@pytest.mark.parametrize(
    ("left_s", "code"),
    [(-1.0, "BINDING_ENDED"), (0.0, "BINDING_ENDED"), (86_399.0, "BINDING_ENDS_SOON"), (86_400.0, "BINDING_GOOD")],
)
def test_a_binding(left_s: float, code: str) -> None:
    assert diagnostics.on_binding(1000.0 + left_s, now=1000.0).code == code
    assert diagnostics.on_binding(1000.0 + left_s, now=1000.0, epoch=4, least_epoch=4).code == code
    revoked = diagnostics.on_binding(1000.0 + left_s, now=1000.0, epoch=3, least_epoch=4)
    assert (revoked.code, revoked.severity) == ("BINDING_REVOKED", Severity.FAIL)
    assert revoked.remedy.endswith("--revocation-epoch 4")


def said(*answers: tuple[str, Outcome], announced: tuple[str, ...] = (ADDRESS,), is_host: bool = True) -> list[Finding]:
    given = [
        DialBackAnswer(peer_id=A, address=address, outcome=outcome, is_trusted=True) for address, outcome in answers
    ]
    report = judge(given, announced=announced, own=announced, at_unix_s=0.0)
    return diagnostics.on_reachability(report, is_host=is_host)


def test_reachability() -> None:
    assert codes(*said((ADDRESS, Outcome.REACHED))) == ["REACHABLE"]
    assert codes(*said((ADDRESS, Outcome.FAILED))) == ["UNREACHABLE"]
    assert codes(*said((ADDRESS, Outcome.REFUSED))) == ["REACHABILITY_UNKNOWN"]
    assert codes(*said()) == ["REACHABILITY_UNKNOWN"]


def test_an_unreachable_client_is_no_failure() -> None:
    assert said((ADDRESS, Outcome.FAILED))[0].severity is Severity.FAIL
    assert said((ADDRESS, Outcome.FAILED), is_host=False)[0].severity is Severity.WARN


def test_one_address_that_works_is_enough() -> None:
    found = said((ADDRESS, Outcome.FAILED), (OTHER, Outcome.REACHED), announced=(ADDRESS, OTHER))
    assert [(each.code, each.severity, each.subject) for each in found] == [
        ("UNREACHABLE", Severity.WARN, ADDRESS),
        ("REACHABLE", Severity.OK, OTHER),
    ]
