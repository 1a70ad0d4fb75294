"""What a drawn program consists of: steps, which carry all they need. Leaving any of them out leaves a program."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from hostmesh.errors import RpcError, StatusCode
from hostmesh.rpc.method import method
from hostmesh.testing import make_service
from hostmesh.v1.job_pb2 import TextDelta

SERVICE = make_service(
    "work",
    streams=["Down", "Both"],
    request_streams=["Up", "Both"],
    One=(TextDelta, TextDelta),
    Down=(TextDelta, TextDelta),
    Up=(TextDelta, TextDelta),
    Both=(TextDelta, TextDelta),
)
PROTOCOL = "/hostmesh/work/1.0.0"


class Shape(Enum):
    """The four kinds of calls."""

    ONE = "One"
    DOWN = "Down"
    UP = "Up"
    BOTH = "Both"

    @property
    def sends_many(self) -> bool:
        """Whether requests are a stream."""
        return self in (Shape.UP, Shape.BOTH)

    @property
    def gets_many(self) -> bool:
        """Whether responses are a stream."""
        return self in (Shape.DOWN, Shape.BOTH)


METHODS = {shape: method(SERVICE, shape.value, TextDelta, TextDelta) for shape in Shape}


class Side(Enum):
    """Who does something, or whom it happens to."""

    CALLER = "caller"
    SERVER = "server"


class When(Enum):
    """When a handler ends that was told to."""

    NOW = "now"
    """Whatever it is doing is cancelled, a response that is being sent among it."""
    AFTER_SENDING = "after sending"
    """It reads no further, and has sent what it was told to."""
    AFTER_ALL = "after all"
    """Also the last request has come."""


@dataclass(frozen=True)
class Ending:
    """How a handler ends."""

    status: StatusCode | None = None
    """None: it returns, or fails as below."""
    reason: str = ""
    retry_after_ms: int | None = None
    is_bug: bool = False
    """It raises what is no answer."""
    when: When = When.AFTER_ALL

    def error(self) -> Exception | None:
        """Return what it raises."""
        if self.is_bug:
            return ValueError("a secret of the handler's")
        if self.status is None:
            return None
        details = {"why": "drawn"} if self.reason else {}
        return RpcError(
            f"told to end with {self.status.name}",
            status=self.status,
            reason=self.reason,
            retry_after_ms=self.retry_after_ms,
            details=details,
        )


@dataclass(frozen=True)
class Begin:
    """A call begins. Numbers are given in order and never again."""

    call: int
    shape: Shape
    timeout_s: float | None
    ending: Ending | None = None
    """Of its handler; None: it is told later."""
    request_bytes: int = 0
    attempts: int = 1
    """More than one: with a retry policy. Only for :attr:`Shape.ONE`."""
    unavailable: int = 0
    """So many runs of the handler answer UNAVAILABLE at once."""

    @property
    def is_plain(self) -> bool:
        """Whether its header says nothing but the method, as that of nearly every call: its text has its number."""
        return self.shape is Shape.ONE and self.attempts == 1


@dataclass(frozen=True)
class Send:
    """One side of a call sends messages, after those that it was told to send before."""

    call: int
    side: Side
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """One side of a call stops reading, or reads again."""

    call: int
    side: Side
    reads: bool


@dataclass(frozen=True)
class HalfClose:
    """The caller has no more requests, after those that it was told to send before."""

    call: int


@dataclass(frozen=True)
class Leave:
    """The caller leaves the call: its task is cancelled, or it leaves the block of the call."""

    call: int
    by_cancelling: bool


@dataclass(frozen=True)
class Finish:
    """The handler is told how to end, if it was not before."""

    call: int
    ending: Ending


class Harm(Enum):
    """What happens to the network, or to the node of a side."""

    CUT = "cut"
    STALL = "stall"
    FREEZE = "freeze"
    KILL = "kill"
    POWER_OFF = "power off"
    STOP = "stop"
    DISCONNECT = "disconnect"
    FORGET = "forget"
    """The server takes calls and says nothing more of them. Its node lives."""


@dataclass(frozen=True)
class Drop:
    """Something breaks, and stays so until :class:`Repair`."""

    harm: Harm
    side: Side


@dataclass(frozen=True)
class Repair:
    """All that broke is whole again; nodes that ended start anew."""

    then_s: float
    """How long nothing else happens."""


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    for_s: float


Step: TypeAlias = Begin | Send | Read | HalfClose | Leave | Finish | Drop | Repair | Wait


@dataclass(frozen=True)
class Setting:
    """What holds for a whole program."""

    seed: int = 0
    most_calls: int = 256
    """At once, of the caller."""
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    """Of the link."""


def text_of(side: Side, call: int, index: int, size: int) -> str:
    """Return what the message of a side, with this number, says: so that none is taken for another."""
    return f"{side.value} {call} {index} ".ljust(size, "x")


def call_of(text: str) -> int:
    """Return the number of the call that a message is of."""
    return int(text.split(" ", 2)[1])
