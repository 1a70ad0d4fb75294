"""What can speak for a host or against it, and how much each weighs. Pure.

Only what this client lived through, or what it holds a proof of, is evidence; what others say is in
:mod:`hostmesh.reputation.foreign`, and what a host says of itself is nowhere.

Weights are of one job: 1 for a job that ended well or failed, up to 10 for what is proven. A failed test of the model
is made of many jobs, and weighs for each. Source: docs/adr/0010-reputation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hostmesh.reputation.decay import UNIT_MICROS

MAX_DETAIL_BYTES = 200
PPM = 1_000_000
"""One, in parts per million: a false-positive rate of this says nothing."""
_MAX_CANARY_UNITS = 10
MAX_ANSWERS = 1000


class EvidenceKind(Enum):
    """A kind of evidence; the value is its name on disk and in JSON."""

    JOB_FINISHED = "job-finished"
    """A job ended with its usage, its receipt signed by both where there are receipts."""
    JOB_FAILED = "job-failed"
    """A job failed by the host's fault."""
    PROTOCOL_BROKEN = "protocol-broken"
    """The host sent what the protocol does not allow."""
    CANARY_PASSED = "canary-passed"
    """A test of the model found nothing."""
    CANARY_FAILED = "canary-failed"
    """A test of the model spoke against the host, with a stated false-positive rate."""
    FALSE_MEASUREMENT = "false-measurement"
    """What the host said of itself was measured, and is not so."""
    FALSE_RECEIPT = "false-receipt"
    """A signed receipt claims what the host's own signed chain contradicts."""
    EQUIVOCATION = "equivocation"
    """The host signed two contradicting things."""

    @property
    def is_good(self) -> bool:
        """Whether it speaks for the host."""
        return self in _GOOD

    @property
    def is_proof(self) -> bool:
        """Whether it proves a lie: then what spoke for the host before counts no longer."""
        return self in _PROOFS

    @property
    def text(self) -> str:
        """What a person reads."""
        return _TEXTS[self]


_GOOD = frozenset({EvidenceKind.JOB_FINISHED, EvidenceKind.CANARY_PASSED})
_PROOFS = frozenset({EvidenceKind.FALSE_RECEIPT, EvidenceKind.EQUIVOCATION})
_TEXTS = {
    EvidenceKind.JOB_FINISHED: "jobs finished",
    EvidenceKind.JOB_FAILED: "jobs failed by the host's fault",
    EvidenceKind.PROTOCOL_BROKEN: "broken protocol",
    EvidenceKind.CANARY_PASSED: "canaries passed",
    EvidenceKind.CANARY_FAILED: "canaries failed",
    EvidenceKind.FALSE_MEASUREMENT: "false claims measured",
    EvidenceKind.FALSE_RECEIPT: "false receipts proven",
    EvidenceKind.EQUIVOCATION: "equivocations proven",
}
_UNITS = {
    EvidenceKind.JOB_FINISHED: 1,
    EvidenceKind.JOB_FAILED: 1,
    EvidenceKind.PROTOCOL_BROKEN: 2,
    EvidenceKind.CANARY_PASSED: 1,
    EvidenceKind.FALSE_MEASUREMENT: 3,
    EvidenceKind.FALSE_RECEIPT: 10,
    EvidenceKind.EQUIVOCATION: 10,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that happened with a host.

    Args:
        kind: what.
        detail: for people: a receipt's job, what was measured. At most 200 bytes; a longer one is cut. May hold text
            of the host's: escape it before a terminal sees it.
        false_positive_ppm: of a test of the model, and of nothing else: how often, in a million, it accuses an honest
            host, 1 to 1,000,000.
        answers: of a test of the model: of how many it is made, 1 to 1,000. Each of them is a finished job in the
            host's evidence already.

    Raises:
        ValueError: a rate where there is none, none where there is one, or a number out of its range.

    >>> Evidence(kind=EvidenceKind.CANARY_FAILED, false_positive_ppm=10_000, answers=60).weight_micros
    300000000
    """

    kind: EvidenceKind
    detail: str = ""
    false_positive_ppm: int | None = None
    answers: int = 1

    def __post_init__(self) -> None:
        is_test = self.kind in (EvidenceKind.CANARY_FAILED, EvidenceKind.CANARY_PASSED)
        if (self.false_positive_ppm is not None) is not is_test:
            raise ValueError("a false-positive rate belongs to a test of the model, and to each")
        if self.false_positive_ppm is not None and not 1 <= self.false_positive_ppm <= PPM:
            raise ValueError("a false-positive rate is 1 to 1,000,000 in a million")
        if not 1 <= self.answers <= (MAX_ANSWERS if is_test else 1):
            raise ValueError("a test of the model is made of 1 to 1,000 answers, and nothing else of more than one")
        cut = self.detail.encode(errors="replace")[:MAX_DETAIL_BYTES].decode(errors="ignore")
        object.__setattr__(self, "detail", cut)

    @property
    def weight_micros(self) -> int:
        """How much it weighs on its day, in millionths of one job."""
        return self.each_micros * (self.answers if self.kind is EvidenceKind.CANARY_FAILED else 1)

    @property
    def each_micros(self) -> int:
        """How grave it is, in millionths of a failed job: of a failed test, how much it weighs for each answer."""
        if self.kind is EvidenceKind.CANARY_FAILED:
            assert self.false_positive_ppm is not None, "checked above"
            return canary_units(self.false_positive_ppm) * UNIT_MICROS
        return _UNITS[self.kind] * UNIT_MICROS


def canary_units(false_positive_ppm: int) -> int:
    """Return how many failed jobs an accusation weighs for each answer: its surprise in bits, less one, up to 10.

    An honest host that is tested again and again is accused at that rate. At 1 % an accusation weighs 5, so that
    accusations cost an honest host a twentieth of what its answers earn as finished jobs; a coin's word weighs nothing.

    Args:
        false_positive_ppm: 1 to 1,000,000.

    >>> [canary_units(ppm) for ppm in (1, 1_000, 10_000, 50_000, 500_000, 1_000_000)]
    [10, 8, 5, 3, 0, 0]
    """
    bits = (PPM // false_positive_ppm).bit_length() - 1
    return min(_MAX_CANARY_UNITS, max(0, bits - 1))
