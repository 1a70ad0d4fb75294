"""Runs a simulation: trio with a virtual clock and a scheduler that one seed decides."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import trio

from hostmesh.testing.clock import SimClock, SimStuckError, seeded
from hostmesh.testing.link import LinkProfile
from hostmesh.testing.network import SimNetwork
from hostmesh.testing.trace import MAX_KEPT_EVENTS, Trace

T = TypeVar("T")

_COLLECTION_THRESHOLD = 50_000
"""Objects made between two collections of the youngest. Chosen here: with Python's own threshold, collections took a
quarter of the CPU time of 50 nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimOptions:
    """What a network is made of; see :class:`SimNetwork`."""

    link: LinkProfile = field(default_factory=LinkProfile)
    max_events: int = MAX_KEPT_EVENTS
    max_sim_s: float = 86_400.0
    """A simulation that is not over by then is stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimRun(Generic[T]):
    """How a simulation ended."""

    result: T
    """What ``main`` returned."""
    trace: Trace
    trace_hash: str
    """SHA-256 of the trace; the same for the same seed, program and hash seed of Python."""
    sim_s: float
    """Seconds that passed in the simulation."""
    wall_s: float
    """Seconds that it took."""


def run_sim(
    main: Callable[[SimNetwork], Awaitable[T]], *, seed: int = 0, network: SimOptions | None = None
) -> SimRun[T]:
    """Run ``main(network)`` under a virtual clock, which jumps whenever every task waits.

    The same seed gives the same run: scheduling, randomness and time. Also in another process, if both have the same
    ``PYTHONHASHSEED``, on which the order of sets of text depends. Nothing in ``main`` may use threads, real sockets,
    the machine's clocks or randomness of its own.

    Args:
        main: the simulation. Whatever it leaves running is cancelled when it returns.
        seed: fixes everything.
        network: what the network is like.

    Raises:
        SimStuckError: every task waits, cancelled or not, and nothing will ever happen.
        trio.TooSlowError: ``main`` was not over after ``max_sim_s`` of the simulation: perhaps it waits for itself.
        Whatever ``main`` raises.
    """
    options = network or SimOptions()
    began_s = time.perf_counter()
    with _seeded_scheduler(seed), _rare_collections():
        try:
            result, trace, sim_s = trio.run(_run, main, seed, options, clock=SimClock())
        except trio.TrioInternalError as error:
            if isinstance(error.__cause__, SimStuckError):
                raise error.__cause__ from None
            raise
    return SimRun(
        result=result, trace=trace, trace_hash=trace.hash(), sim_s=sim_s, wall_s=time.perf_counter() - began_s
    )


async def _run(main: Callable[[SimNetwork], Awaitable[T]], seed: int, options: SimOptions) -> tuple[T, Trace, float]:
    network = SimNetwork(seed, options.link, max_events=options.max_events)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.run)
            try:
                # Without any deadline a simulation whose tasks all wait for each other would spin for ever.
                with trio.fail_after(options.max_sim_s):
                    result = await main(network)
            except (trio.Cancelled, BaseExceptionGroup) as error:
                if not isinstance(error, Exception):
                    raise
                failure = error
            except BaseException as error:  # noqa: BLE001 - raised again below, without the nursery's group around it
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        network.close()
    if failure is not None:
        raise failure
    return result, network.trace, trio.current_time()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cyclic garbage less often: dozens of nodes are a large heap to walk, and little of it dies in cycles."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_COLLECTION_THRESHOLD, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def _seeded_scheduler(seed: int) -> Iterator[None]:
    """Let trio order the tasks of each pass by when they were made, shuffled by dice of our own.

    trio shuffles on purpose and has no public way to seed that. What pytest-trio calls for Hypothesis
    (``trio._core._run._hypothesis_plugin_setup``) sets this flag and gives the generator to Hypothesis, which a shipped
    kit cannot ask for; so these two module attributes are set here, and put back. The flag makes trio sort each batch
    by the tasks' creation before it shuffles: so no set of tasks, ordered by address, shows through.
    """
    from trio._core import _run as scheduler

    flags: Any = scheduler
    dice: random.Random = flags._r  # noqa: SLF001
    flag, state = flags._ALLOW_DETERMINISTIC_SCHEDULING, dice.getstate()  # noqa: SLF001
    flags._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    dice.setstate(seeded(seed, "scheduler").getstate())
    try:
        yield
    finally:
        flags._ALLOW_DETERMINISTIC_SCHEDULING = flag  # noqa: SLF001
        dice.setstate(state)
