"""What must hold of every program: a model of what each call may come to, held against both sides' accounts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from tests.simulated.calls_machine.account import Account, Call, CallerEnd, Run, ServerLife
from tests.simulated.calls_machine.program import Shape, Side, text_of
from tests.simulated.calls_machine.sides import RETRY
from tests.simulated.calls_machine.taps import Tap, frames

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    HostmeshError,
    NodeNotRunningError,
    RpcError,
    StatusCode,
)

SILENCE_S = 45.0
"""How long a caller bears to hear nothing of its call (docs/protocols/rpc.md)."""
MARGIN_S = 0.5
"""A few round trips: what one side did is known to the other by then, where nothing is broken."""

_NOTHING_DONE = (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED)


def judge(account: Account) -> list[str]:
    """Return a line for each thing that does not hold."""
    found = [*account.left]
    for number, call in account.calls.items():
        found.extend(f"call {number} ({call.begin.shape.value}): {line}" for line in _JudgedCall(account, call).lines())
    for life in account.lives:
        found.extend(f"server {life.number}: {line}" for line in _of_life(account, life))
    return found


def status_of(call: Call, run: Run) -> StatusCode | None:
    """Return the status that a run of the handler stands for; None: it has none of its own."""
    [end] = run.ends
    if end.how == "returned":
        return StatusCode.OK
    if isinstance(end.error, RpcError):
        return end.error.status if end.error.status is not StatusCode.OK else StatusCode.UNKNOWN
    return StatusCode.INTERNAL if isinstance(end.error, ValueError) else None


class _JudgedCall:
    def __init__(self, account: Account, call: Call) -> None:
        self.account = account
        self.call = call
        self.begin = call.begin
        # On a slow link a message may wait for all others.
        self.margin_s = MARGIN_S + account.wanted_bytes / (account.setting.bytes_per_s or math.inf)

    def lines(self) -> Iterator[str]:
        call = self.call
        yield from call.after
        if len(call.ends) != 1:
            yield f"ended {len(call.ends)} times for its caller: {call.ends}"
            return
        if endless := [run for run in call.runs if len(run.ends) != 1]:
            yield f"{len(endless)} of {len(call.runs)} runs of its handler did not end once"
            return
        [end] = call.ends
        self.calm = self.account.was_calm(call.began_s, end.at_s)
        yield from self._messages()
        yield from self._runs()
        yield from self._times(end)
        match end.how:
            case "ok":
                yield from self._ok()
            case "error":
                yield from self._error(end, end.error)
            case "crashed":
                if self.calm:
                    yield "its task was cancelled, and nothing was broken"
            case "left":
                pass

    # --- in any case ---

    def _messages(self) -> Iterator[str]:
        """Messages come in order, each once, as they were sent."""
        call = self.call
        for run in call.runs:
            yield from self._prefix("requests", run.received, Side.CALLER, call.sent + call.is_sending)
        if call.runs:
            has_one = not self.begin.shape.gets_many
            most = 1 if has_one else max(run.sent + run.is_sending for run in call.runs)
            yield from self._prefix("responses", call.received, Side.SERVER, most)
        elif call.received:
            yield f"{len(call.received)} responses, and no handler ran"

    def _prefix(self, what: str, received: list[str], side: Side, sent: int) -> Iterator[str]:
        sizes = [*self.call.sizes[side]]
        if side is Side.CALLER and not self.begin.shape.sends_many:
            sizes = [self.begin.request_bytes]
        if side is Side.SERVER and not self.begin.shape.gets_many:
            sizes = sizes[:1] or [0]
        expected = [text_of(side, self.begin.call, index, size) for index, size in enumerate(sizes)]
        if len(received) > sent:
            yield f"{len(received)} {what} came, {sent} were sent"
        if received != expected[: len(received)]:
            yield f"other {what} came than were sent: {[text[:20] for text in received]}"

    def _runs(self) -> Iterator[str]:
        """A handler runs once, and again only where the call was made anew and surely did nothing."""
        runs, taps = self.call.runs, self.call.taps
        if len(taps) > (RETRY.max_attempts if self.begin.attempts > 1 else 1):
            yield f"{len(taps)} attempts"
        if len(runs) > len(taps):
            yield f"{len(runs)} runs of {len(taps)} attempts"
        for run in runs[:-1]:
            if status_of(self.call, run) not in _NOTHING_DONE:
                yield f"made again after a run that {run.ends[0]}"
        for tap in taps:
            if (tap.closed > 0) + (tap.resets > 0) != 1:
                yield f"a stream closed {tap.closed} times and reset {tap.resets} times by its caller"

    def _times(self, end: CallerEnd) -> Iterator[str]:
        call, deadline = self.call, self.call.deadline
        for run in call.runs:
            over_s = run.ends[0].at_s
            if self.begin.timeout_s is not None and over_s > run.began_s + self.begin.timeout_s + 0.01:
                yield f"its handler ran for {over_s - run.began_s:.2f} s of {self.begin.timeout_s} s"
            # Where the line stalls before the request is there, a handler may begin late, with all of the call's time.
            if deadline is not None and self._runs_beyond(deadline, over_s):
                yield f"its handler ran {over_s - deadline:.2f} s beyond the deadline"
            if self._runs_beyond(end.at_s, over_s):
                yield f"its handler ran {over_s - end.at_s:.2f} s longer than the call"
        # A caller that reads waits all the time, and one whose requests have an end does once they have gone.
        waits = Side.CALLER not in call.was_paused and self.begin.shape is not Shape.UP
        if deadline is not None and waits and end.at_s > deadline + self.margin_s:
            yield f"its caller waited {end.at_s - deadline:.2f} s beyond the deadline"
        forgotten_s = self.account.forgotten.get(self.begin.call)
        if forgotten_s is not None and waits and end.at_s > forgotten_s + SILENCE_S + self.margin_s:
            yield f"its caller waited {end.at_s - forgotten_s:.2f} s for a server that says nothing of it"
        if call.left_s is not None and end.how == "left":
            # A block is left once it is entered.
            could_s = call.left_s if call.by_cancelling else max(call.left_s, call.entered_s or 0.0)
            if end.at_s > could_s + self.margin_s:
                yield f"leaving took {end.at_s - could_s:.2f} s"

    def _runs_beyond(self, end_s: float, over_s: float) -> bool:
        """Whether a handler ran on although its side knew of an end, whatever broke later."""
        known_s = end_s + self.margin_s
        return over_s > known_s and self.account.was_calm(self.call.began_s, known_s)

    # --- by the end ---

    def _ok(self) -> Iterator[str]:
        call = self.call
        if not call.runs or call.runs[-1].ends[0].how != "returned":
            yield f"OK, and its handler {[run.ends[0].how for run in call.runs]}"
            return
        run = call.runs[-1]
        if self.begin.shape.gets_many and len(call.received) != run.sent:
            yield f"OK, with {len(call.received)} of {run.sent} responses"
        if not self.begin.shape.gets_many and len(call.received) != 1:
            yield f"OK, with {len(call.received)} responses"
        if run.requests_ended and len(run.received) != call.sent:
            yield f"OK, and its handler had {len(run.received)} of {call.sent} requests before their end"
        if self.calm and call.taps[-1].resets:
            yield "OK, and its stream was reset by its caller"

    def _error(self, end: CallerEnd, error: Exception | None) -> Iterator[str]:
        if not isinstance(error, HostmeshError):
            yield f"ended with {error!r}, which is none of hostmesh's"
            return
        # A run that says UNAVAILABLE says that it did nothing.
        ran = [run for run in self.call.runs if status_of(self.call, run) not in _NOTHING_DONE]
        if not error.may_have_executed and ran and not isinstance(error, RpcError):
            yield f"{error!r} says that it did not run, and it did"
        was_sent = bool(self.call.taps) and (bool(self.call.taps[-1].sent) or self.call.taps[-1].is_cut_off)
        match error:
            case RpcError():
                yield from self._status(error)
            case DeadlineExceededError():
                yield from self._deadline(end, error)
            case ConnectionLostError():
                # Nor may a peer that was just dialled agree to the protocol in a short time.
                was_short = not error.may_have_executed and self._is_late(end.at_s)
                if self.calm and not self._was_cut_off() and not was_short:
                    yield f"{error!r}, and nothing was broken"
                if error.may_have_executed and not was_sent:
                    yield f"{error!r} says that it may have run, and nothing was sent"
            case DialError():
                # A call after a drop dials again, for which a short timeout is too short.
                if self.calm and not self._is_late(end.at_s):
                    yield f"{error!r}, and nothing was broken"
                if error.may_have_executed or (was_sent and self.begin.attempts == 1):
                    yield f"{error!r} with a request that was sent"
            case NodeNotRunningError():
                if self.calm:
                    yield f"{error!r}, and its node ran"
            case _:
                yield f"ended with {error!r}"
        if self.calm and self.call.runs and not isinstance(error, RpcError):
            yield from self._missed(end, error)

    def _is_late(self, at_s: float) -> bool:
        return self.call.deadline is not None and at_s > self.call.deadline - 0.01

    def _was_cut_off(self) -> bool:
        """Whether the handler ended in the midst of a response, after which there can be no status."""
        return bool(self.call.runs) and self.call.runs[-1].is_sending

    def _status(self, error: RpcError) -> Iterator[str]:
        runs = self.call.runs
        if runs and status_of(self.call, runs[-1]) is error.status:
            met = runs[-1].ends[0].error
            if isinstance(met, RpcError) and (
                (error.reason, error.retry_after_ms, error.details, error.message)
                != (met.reason, met.retry_after_ms or None, met.details, met.message)
            ):
                yield f"{error!r} is not all that the handler said: {met!r}"
            if isinstance(met, ValueError) and str(met) in str(error):
                yield f"{error!r} tells what the handler did not mean to"
            run = runs[-1]
            if self.begin.shape.gets_many and len(self.call.received) != run.sent:
                yield f"{error.status.name} after {len(self.call.received)} of {run.sent} responses"
            return
        if (error.status, error.reason) == (StatusCode.RESOURCE_EXHAUSTED, "BUSY") and len(runs) < len(self.call.taps):
            mine = [tap for life in self.account.lives for tap in life.taps if tap.call == self.begin.call]
            if not mine or mine[-1].active_before < self.account.setting.most_calls:
                yield f"BUSY with {[tap.active_before for tap in mine]} calls of {self.account.setting.most_calls}"
            return
        yield f"{error.status.name} {error.reason}, and its handler {[run.ends[0] for run in runs]}"

    def _deadline(self, end: CallerEnd, error: DeadlineExceededError) -> Iterator[str]:
        call = self.call
        said = call.runs and status_of(call, call.runs[-1]) is StatusCode.DEADLINE_EXCEEDED
        if said:
            return
        if not self._is_late(end.at_s):
            yield f"{error!r} after {end.at_s - call.began_s:.2f} s of {self.begin.timeout_s} s"

    def _missed(self, end: CallerEnd, error: HostmeshError) -> Iterator[str]:
        """Where nothing was broken a status that was given in time is heard."""
        call, run = self.call, self.call.runs[-1]
        status, over_s = status_of(call, run), run.ends[0].at_s
        if status is None or self._was_cut_off() or Side.CALLER in call.was_paused:
            return
        if call.taps[-1].began_s > over_s:
            return  # it was heard: the call was made anew, with what was left of its time
        if self.begin.shape is Shape.UP:
            # It looks for its response once it has sent its requests.
            over_s = max(over_s, call.sent_all_s or math.inf)
        if status is StatusCode.DEADLINE_EXCEEDED and isinstance(error, DeadlineExceededError):
            return
        if call.deadline is None or over_s + self.margin_s < call.deadline:
            yield f"{error!r}, and its handler ended with {status.name} {end.at_s - over_s:.2f} s before"


# --- what the server counts, and what left it ---


def _of_life(account: Account, life: ServerLife) -> Iterator[str]:
    endless = [tap for tap in life.taps if tap.over_s is None]
    if endless:
        yield f"{len(endless)} streams are still served"
    for tap in life.taps:
        yield from _of_stream(tap, has_crashed=life.has_crashed)
    runs = [(call, run) for call in account.calls.values() for run in call.runs if run.life == life.number and run.ends]
    by_stream = Counter(tap.call for tap in life.taps)
    for number in {call.begin.call for call, _ in runs}:
        own = sum(call.begin.call == number for call, _ in runs)
        if own > by_stream[number]:
            yield f"{own} runs of call {number} over {by_stream[number]} streams"
    if life.has_crashed:
        return
    counters, name = life.counters, "WorkService."
    calls = Counter({key: count for key, count in counters.calls.items() if key[0].startswith(name)})
    sent: Counter[tuple[str, str]] = Counter()
    for tap in life.taps:
        if tap.statuses and (tap.call, "BUSY") != (tap.call, _reason(tap)):
            sent[name + account.calls[tap.call or 0].begin.shape.value, tap.statuses[-1].name] += 1
    if calls != sent:
        yield f"counted {dict(calls)}, sent {dict(sent)}"
    total = sum(counters.calls.values()) + sum(counters.abandoned.values()) + sum(counters.violations.values())
    if total != len(life.taps):
        yield f"{total} of {len(life.taps)} streams were counted: {counters}"
    bugs = sum(isinstance(run.ends[0].error, ValueError) for _, run in runs)
    if sum(counters.handler_failures.values()) != bugs:
        yield f"counted {dict(counters.handler_failures)} failures of handlers, there were {bugs}"


def _reason(tap: Tap) -> str:
    return frames(tap.sent)[-1].status.reason


def _of_stream(tap: Tap, *, has_crashed: bool) -> Iterator[str]:
    """A server ends each stream once: with one status and then nothing, or by a reset."""
    said = frames(tap.sent)
    if len(tap.statuses) > 1:
        yield f"{len(tap.statuses)} statuses on one stream: {tap.statuses}"
    if tap.statuses and not said[-1].HasField("status"):
        yield "frames after the status"
    if tap.goes_on:
        yield "something was sent after a message that was cut off"
    if tap.statuses and not tap.has_ended:
        yield "a status without the end of the server's side"
    if not has_crashed and not (tap.closed or tap.resets):
        yield "a stream neither closed nor reset"
    if not has_crashed and not tap.statuses and not tap.resets:
        yield "a stream closed without a status"
