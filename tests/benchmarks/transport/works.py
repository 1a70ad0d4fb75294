"""What is measured, how much of it, and what it should come to. Pure."""

from __future__ import annotations

from dataclasses import dataclass

HOSTMESH = "hostmesh"
"""The stack whose figures stand over the others' in every ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One kind of work and the figure that it gives."""

    name: str
    title: str
    unit: str
    lower_is_better: bool = False
    concurrency: int = 0
    """Callers at once, of a unary work."""
    fresh_server: bool = False
    """Memory is measured in a server that has done nothing else."""


WORKS = (
    Work(name="unary_1", title="unary calls, one after another", unit="ops/s", concurrency=1),
    Work(name="unary_32", title="unary calls, 32 at once", unit="ops/s", concurrency=32),
    Work(name="unary_128", title="unary calls, 128 at once", unit="ops/s", concurrency=128),
    Work(name="stream_burst", title="token stream, as fast as it goes", unit="messages/s"),
    Work(name="stream_paced", title="token every 10 ms, latency p50", unit="us", lower_is_better=True),
    Work(name="bulk", title="bulk, 256 KiB frames", unit="MB/s"),
    Work(name="connect", title="connect to first reply, p50", unit="ms", lower_is_better=True),
    Work(
        name="mem_connection",
        title="server memory per idle connection",
        unit="KiB",
        lower_is_better=True,
        fresh_server=True,
    ),
    Work(name="mem_stream", title="server memory per idle stream", unit="KiB", lower_is_better=True, fresh_server=True),
)
WORK_BY_NAME = {work.name: work for work in WORKS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each work one repetition does."""

    unary_s: float
    burst_messages: int
    """Of one call."""
    bulk_frames: int
    """Of one call, 256 KiB each."""
    least_timed_s: float
    """Burst and bulk calls are made until they took so long together: fast stacks would be done in no time."""
    paced_messages: int
    connects: int
    connections_before: int
    """Held by another client while memory is first measured: they fill what the start of the server left free."""
    held_connections: int
    streams_before: int
    """Likewise; it takes more of the smaller ones."""
    held_streams: int
    ramp_s: float
    """Untimed calls, 32 at once, before the first figure, for compilers that compile while they run; 0 = none."""


FULL = Sizes(
    unary_s=2.0,
    burst_messages=10_000,
    bulk_frames=256,
    least_timed_s=1.0,
    paced_messages=200,
    connects=20,
    connections_before=50,
    held_connections=200,
    streams_before=100,
    held_streams=200,
    ramp_s=1.0,
)
QUICK = Sizes(
    unary_s=0.4,
    burst_messages=2000,
    bulk_frames=32,
    least_timed_s=0.3,
    paced_messages=30,
    connects=5,
    connections_before=30,
    held_connections=40,
    streams_before=40,
    held_streams=60,
    ramp_s=0.2,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure of hostmesh must and should reach.

    Against another stack the figure is the median ratio, hostmesh over the other; without one, hostmesh's own median.
    """

    work: str
    must: float
    aim: float
    against: str | None = None
    of_cpu: bool = False
    """The ratio is one of CPU per operation, client plus server."""

    @property
    def at_most(self) -> bool:
        """Whether the figure must stay below the target, not above."""
        return self.of_cpu or WORK_BY_NAME[self.work].lower_is_better

    def is_met(self, figure: float, bound: float) -> bool:
        """Tell whether a figure reaches ``must`` or ``aim``."""
        return figure <= bound if self.at_most else figure >= bound


TARGETS = (
    Target(work="unary_1", against="grpc", must=1.2, aim=1.6),
    Target(work="unary_32", against="grpc", must=2.0, aim=5.0),
    Target(work="unary_32", against="js", must=2.5, aim=6.0),
    Target(work="stream_burst", against="grpc", must=3.0, aim=10.0),
    Target(work="stream_burst", against="js", must=0.8, aim=2.5),
    Target(work="bulk", against="grpc", must=0.9, aim=1.2),
    Target(work="bulk", against="js", must=1.6, aim=2.2),
    Target(work="connect", against="js", must=0.75, aim=0.5),
    Target(work="unary_1", against="stock", of_cpu=True, must=1 / 5, aim=1 / 12),
    Target(work="unary_32", against="stock", of_cpu=True, must=1 / 5, aim=1 / 12),
    Target(work="mem_connection", must=40.0, aim=30.0),
    Target(work="mem_stream", must=5.0, aim=4.0),
)
