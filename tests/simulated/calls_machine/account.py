"""What a call was told to do, and what came of it: each side's own account, which the judge compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import trio
from tests.simulated.calls_machine.program import Begin, Ending, Setting, Side
from tests.simulated.calls_machine.taps import Tap

from hostmesh.rpc.routes import RpcCounters


@dataclass
class CallerEnd:
    """How a call ended for its caller."""

    how: Literal["ok", "error", "left", "crashed"]
    at_s: float
    error: Exception | None = None


@dataclass
class HandlerEnd:
    """How a run of a handler ended."""

    how: Literal["returned", "raised", "cancelled"]
    at_s: float
    error: BaseException | None = None


@dataclass(eq=False)
class Run:
    """One run of a handler."""

    life: int
    began_s: float
    received: list[str] = field(default_factory=list)
    requests_ended: bool = False
    sent: int = 0
    is_sending: bool = False
    ends: list[HandlerEnd] = field(default_factory=list)


@dataclass(eq=False)
class Call:
    """One call: what both sides were told to do with it, and what they did."""

    begin: Begin
    began_s: float
    sizes: dict[Side, list[int]] = field(default_factory=lambda: {Side.CALLER: [], Side.SERVER: []})
    reads: dict[Side, bool] = field(default_factory=lambda: {Side.CALLER: True, Side.SERVER: True})
    was_paused: set[Side] = field(default_factory=set)
    half_closes: bool = False
    ending: Ending | None = None
    left_s: float | None = None
    """When the caller was told to leave, if it was before the end."""
    by_cancelling: bool = False
    """Otherwise the block of the call is left, once it was entered."""
    # The caller's account.
    entered_s: float | None = None
    """When it was in the block of the call."""
    sent: int = 0
    is_sending: bool = False
    sent_all_s: float | None = None
    """When it had sent its requests, or could send no more."""
    received: list[str] = field(default_factory=list)
    ends: list[CallerEnd] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    """What did not hold after the end."""
    taps: list[Tap] = field(default_factory=list)
    """Of the streams that it had."""
    # The handler's.
    runs: list[Run] = field(default_factory=list)
    # What wakes those who wait for something above.
    _changed: trio.Event = field(default_factory=trio.Event)
    reading: dict[Side, trio.CancelScope] = field(default_factory=dict)
    """In which a side waits for a message."""
    task: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of the caller's task."""
    block: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of the block of the call."""

    @property
    def deadline(self) -> float | None:
        """By the simulation's clock."""
        return None if self.begin.timeout_s is None else self.began_s + self.begin.timeout_s

    def entered(self) -> trio.CancelScope:
        """Note that the block of the call is entered; return its scope."""
        self.entered_s = trio.current_time()
        return self.block

    def changed(self) -> None:
        """Wake who waits."""
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        while not holds():
            await self._changed.wait()


@dataclass(eq=False)
class ServerLife:
    """A server, from its start to its end."""

    number: int
    counters: RpcCounters
    taps: list[Tap] = field(default_factory=list)
    has_crashed: bool = False


@dataclass
class Account:
    """What came of a program."""

    setting: Setting
    latency_s: float
    calls: dict[int, Call] = field(default_factory=dict)
    lives: list[ServerLife] = field(default_factory=list)
    unrest: list[tuple[float, float]] = field(default_factory=list)
    """When something was broken, or may not have been noticed to be whole again."""
    forgotten: dict[int, float] = field(default_factory=dict)
    """When the server took a call of which it says nothing more."""
    left: list[str] = field(default_factory=list)
    """What was still in use in the end."""

    @property
    def wanted_bytes(self) -> int:
        """How much text all calls were told to send, a unary one's again with each attempt."""
        texts = sum(sum(sizes) for call in self.calls.values() for sizes in call.sizes.values())
        return texts + sum(call.begin.attempts * call.begin.request_bytes for call in self.calls.values())

    def was_calm(self, from_s: float, until_s: float) -> bool:
        """Whether nothing was broken all that time."""
        return not any(begin <= until_s and from_s <= end for begin, end in self.unrest)
