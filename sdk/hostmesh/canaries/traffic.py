"""What is remembered of the real jobs that a host got: their shapes, conversations and times. Pure.

A canary copies them. Shapes are numbers and settings, no words.

The unit is the conversation, as a user has it: one job, or several of which each goes on with the one before. A canary
conversation copies the turns of a real one, and the pauses between its turns are those of real ones.

When it begins is copied by rate: whatever the host knows, the rate at which canary conversations begin is at each
moment the same small multiple of the rate at which real ones do. The chance that a conversation is a canary is then the
same number at each beginning, so that times tell nothing. The rate of real beginnings is estimated from the recent gaps
between jobs, given how long the last job is ago (Nelson and Aalen's cumulative hazard, where a gap that ended with a
further turn of a conversation counts as one that did not end); canaries are a Poisson process in its time.

A user who asks one thing after the other never has two jobs at once. His next job would come while a canary runs, and
tell it. So it waits for the canary's end, and a pause like his (:meth:`Traffic.pause_after_canary_s`); what is
remembered as the gap is when he asked. Where he would wait too long no canary is due.

Source: D. Cox, D. Oakes, "Analysis of Survival Data", 1984, chapters 2, 4 and 9.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from hostmesh.canaries.draws import Draws

MAX_JOBS = 128
"""Real jobs that are remembered of a host; what came before them no longer counts."""
MIN_JOBS = 32
"""A host that has had fewer gets no canary: there is no traffic to be like."""
MAX_TURNS = 16
"""Of a conversation that is copied; later ones are not."""
LENGTH_JITTER = 0.1
"""A canary's length is that of a real job, by up to this part more or less."""
MAX_WAIT_S = 120.0
"""A real job waits no longer for canaries. Also: not longer than half of its own deadline."""
MAX_PAUSE_S = 2.0
"""Nor longer than that for the pause after one."""
_OVERLAPPING_PART = 0.1
_LONG_PART = 0.9
"""Answers, pauses and conversations are taken to be as long as so many of them are at most."""
_RARE_PART = 0.05
_BLUR_NEIGHBOURS = 8
_MAX_EXPONENT = 12.0
_TAIL_POWER = 0.4
"""Beyond the longest gap that is known, gaps longer than t are as many as t to the minus this. Chosen here: users who
pause have far longer gaps than they had so far, others have hardly any."""

Setting = tuple[str, float | int | str | tuple[str, ...]]
"""A parameter of a job and its value."""
Gap = tuple[float, bool]
"""Seconds between two jobs, and whether the second one began a conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobShape:
    """What a job looks like from outside, without its words.

    >>> JobShape(length_bytes=40, max_output_tokens=256, parameters=(("temperature", 0.7),)).temperature
    0.7
    """

    length_bytes: int
    """Of the last message, in UTF-8."""
    max_output_tokens: int | None
    """None = the host's own limit."""
    parameters: tuple[Setting, ...] = ()
    """As the user gave them, ``seed`` only if he gave it."""
    model_id: str = ""
    """Empty = there is one model only."""
    timeout_s: float | None = None
    """The deadline that the job had, which its host is told; None = it had none."""

    def __post_init__(self) -> None:
        if self.length_bytes < 0 or (self.max_output_tokens is not None and self.max_output_tokens < 1):
            raise ValueError("lengths are 0 or more, tokens 1 or more")

    @property
    def temperature(self) -> float | None:
        """None = the engine's default."""
        value = dict(self.parameters).get("temperature")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def has_words(self) -> bool:
        """Whether a setting holds words of the user's, which no other host may get."""
        return any(name == "stop" for name, _ in self.parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastJob:
    """A real job of an earlier run. Times are monotonic seconds of this one, so that they may be below 0."""

    conversation: bytes
    shape: JobShape
    system_prompt: bytes | None
    """Its digest; None = it had none."""
    started_s: float
    ended_s: float | None
    """None = its end was not noted."""


@dataclass(slots=True)
class Conversation:
    """What is remembered of one."""

    shapes: list[JobShape]
    """Of its turns."""
    system_prompt: bytes | None
    """Its digest; None = there is none."""
    ended_s: float | None = None
    """Of the last turn that ended."""
    started_s: float = 0.0
    """Of the last turn."""


class Traffic:
    """The recent real jobs of one host, and when canary conversations begin among them.

    Args:
        rate: canary conversations for each real one, > 0 and <= 1.
    """

    def __init__(self, *, rate: float) -> None:
        if not 0.0 < rate <= 1.0:
            raise ValueError("a rate is more than 0 and at most 1")
        self._rate = rate
        self.shapes: deque[JobShape] = deque(maxlen=MAX_JOBS)
        self._conversations: OrderedDict[bytes, Conversation] = OrderedDict()
        self._pauses_s: deque[float] = deque(maxlen=MAX_JOBS)
        self._from_start: deque[Gap] = deque(maxlen=MAX_JOBS)
        self._from_end: deque[Gap] = deque(maxlen=MAX_JOBS)
        self._overlaps: deque[bool] = deque(maxlen=MAX_JOBS)
        self._durations_s: deque[float] = deque(maxlen=MAX_JOBS)
        self._waits_s: deque[float] = deque(maxlen=MAX_JOBS)
        self._running = 0
        self._last_start_s: float | None = None
        self._last_end_s: float | None = None
        self._hazard = 0.0
        self._due_s: float | None = None

    def job_started(
        self,
        conversation: bytes,
        shape: JobShape,
        *,
        now_s: float,
        draws: Draws,
        system_prompt: bytes | None = None,
        waited_s: float = 0.0,
    ) -> None:
        """Note that a real job leaves for the host.

        Args:
            conversation: the same for all turns of one conversation, and for no other.
            shape: the job's.
            system_prompt: the digest of its system prompt.
            now_s: monotonic seconds.
            draws: for when the next canary is due.
            waited_s: for canaries, since it was asked for.
        """
        self._note_start(conversation, shape, now_s, system_prompt, asked_s=now_s - waited_s)
        self._begin_gap(draws)

    def job_ended(self, conversation: bytes, *, now_s: float, draws: Draws) -> None:
        """Note that a real job is over, however it ended."""
        self._note_end(conversation, now_s)
        if self.is_sequential:
            self._begin_gap(draws)

    def restore(self, jobs: Iterable[PastJob]) -> None:
        """Take in the jobs of an earlier run, before any of this one. None is due before the first of this run.

        Cost: O(n log n).
        """
        events: list[tuple[float, int, int, PastJob]] = []
        for place, job in enumerate(jobs):
            ended_s = job.started_s if job.ended_s is None else max(job.ended_s, job.started_s)
            events.append((job.started_s, 1, place, job))
            # At one moment the end of one comes before the start of the next, and after its own start.
            events.append((ended_s, 0 if ended_s > job.started_s else 2, place, job))
        for at_s, kind, _, job in sorted(events, key=lambda event: event[:3]):
            if kind == 1:
                self._note_start(job.conversation, job.shape, at_s, job.system_prompt, asked_s=at_s)
            else:
                self._note_end(job.conversation, at_s)

    def _note_start(
        self, conversation: bytes, shape: JobShape, now_s: float, system_prompt: bytes | None, *, asked_s: float
    ) -> None:
        known = self._conversations.get(conversation)
        if self._last_start_s is not None:
            self._from_start.append((max(asked_s - self._last_start_s, 0.0), known is None))
            self._overlaps.append(self._running > 0)
            if self._running == 0 and self._last_end_s is not None:
                self._from_end.append((max(asked_s - self._last_end_s, 0.0), known is None))
        if known is None:
            known = self._conversations[conversation] = Conversation(shapes=[shape], system_prompt=system_prompt)
            if len(self._conversations) > MAX_JOBS:
                self._conversations.popitem(last=False)
        else:
            if known.ended_s is not None:
                self._pauses_s.append(max(asked_s - known.ended_s, 0.0))
            if len(known.shapes) < MAX_TURNS:
                known.shapes.append(shape)
            self._conversations.move_to_end(conversation)
        known.started_s = now_s
        self._waits_s.append(now_s - asked_s)
        self.shapes.append(shape)
        self._running += 1
        self._last_start_s = now_s

    def _note_end(self, conversation: bytes, now_s: float) -> None:
        known = self._conversations.get(conversation)
        if known is not None:
            known.ended_s = now_s
            self._durations_s.append(max(now_s - known.started_s, 0.0))
        self._running = max(self._running - 1, 0)
        self._last_end_s = now_s

    def canary_began(self, draws: Draws) -> None:
        """Note that the canary that was due has left: the next one is due later in the same gap, or not at all."""
        self._hazard += draws.exponential() / self._rate
        self._set_due()

    def skip_gap(self) -> None:
        """Have none due before the next real job: what was due has been held back, and its time is over."""
        self._due_s = None

    @property
    def due_s(self) -> float | None:
        """When the next canary conversation begins, in the time of ``now_s``; None = not before the next real job."""
        return self._due_s

    def conversation(self, draws: Draws, *, system_prompts: Collection[bytes] | None = None) -> Conversation | None:
        """Return a real conversation to be copied; there has been one.

        Args:
            draws: for the choice.
            system_prompts: the digests of those that a copy can be given; None = copies go without one.

        Returns:
            None: each has a system prompt that a copy cannot be given, and would be known by that.
        """
        known = list(self._conversations.values())
        # The latest one may go on yet.
        fit = [
            each
            for each in known[:-1] or known
            if system_prompts is None or each.system_prompt is None or each.system_prompt in system_prompts
        ]
        return draws.choice(fit) if fit else None

    def pause_s(self, draws: Draws) -> float:
        """Return a pause like those between an answer and the next turn; 0.0 where there were none."""
        pauses = sorted(self._pauses_s)
        return _between(pauses, draws) if pauses else 0.0

    def pause_after_canary_s(self, draws: Draws) -> float:
        """Return how long a real job that waited for a canary stays away after its end.

        A gap like those that are known between conversations, of those up to :data:`MAX_PAUSE_S`; longer ones are not
        for a job that waits.
        """
        short = sorted(gap for gap, begins in self._from_end if begins and gap <= MAX_PAUSE_S)
        return _between(short, draws) if short else MAX_PAUSE_S

    def timeout_like(self, timeout_s: float, draws: Draws) -> float:
        """Return the deadline of a copy: less than that of the copied job as often as real ones have waited."""
        waited_s = draws.choice(self._waits_s) if self._waits_s else 0.0
        return max(timeout_s - 2 * draws.unit() * waited_s, timeout_s / 2)

    @property
    def is_sequential(self) -> bool:
        """The user waits for an answer before he asks again, so that gaps are counted from the answer's end."""
        return sum(self._overlaps) < _OVERLAPPING_PART * max(len(self._overlaps), 1)

    @property
    def _may_be_waited_for(self) -> bool:
        """Whether a job can wait for a canary conversation to its end, or hardly any would come before that."""
        turns = _mostly([len(known.shapes) for known in self._conversations.values()])
        pause_s = _mostly(self._pauses_s)
        canary_s = turns * _mostly(self._durations_s) + (turns - 1) * pause_s
        bound_s = min((longest_wait_s(shape.timeout_s) for shape in self.shapes), default=MAX_WAIT_S)
        begun = [gap for gap, begins in self._from_end if begins]
        is_rare = sum(gap <= canary_s for gap in begun) <= _RARE_PART * len(begun)
        return is_rare or (canary_s <= bound_s and pause_s <= MAX_PAUSE_S)

    def _begin_gap(self, draws: Draws) -> None:
        self._hazard = draws.exponential() / self._rate
        self._set_due()

    def _set_due(self) -> None:
        self._due_s = None
        if self.is_sequential:
            if not self._may_be_waited_for:
                return
            began, gaps = (self._last_end_s if self._running == 0 else None), self._from_end
        else:
            began, gaps = self._last_start_s, self._from_start
        if began is not None and len(gaps) >= MIN_JOBS - 1 and any(begins for _, begins in gaps):
            after_s = time_of_hazard(gaps, self._hazard)
            self._due_s = None if after_s is None else began + after_s


def longest_wait_s(timeout_s: float | None) -> float:
    """Return how long a job waits for canaries at most.

    >>> longest_wait_s(None), longest_wait_s(20.0)
    (120.0, 10.0)
    """
    return MAX_WAIT_S if timeout_s is None else min(MAX_WAIT_S, timeout_s / 2)


def _mostly(values: Collection[float]) -> float:
    """Return what most of the values do not exceed; 0 = there are none."""
    return sorted(values)[int(_LONG_PART * (len(values) - 1))] if values else 0.0


def _between(ordered: Sequence[float], draws: Draws) -> float:
    """Return a number like those given, one or more in order: somewhere between two that are neighbours."""
    place = draws.unit() * (len(ordered) - 1)
    low = ordered[int(place)]
    return low + (place - int(place)) * (ordered[math.ceil(place)] - low)


def time_of_hazard(gaps: Iterable[Gap], hazard: float) -> float | None:
    """Return the time at which the cumulative hazard of a beginning reaches a value.

    It grows by 1/(gaps at least as long, and one) at each gap that ended with a beginning, linearly in between, and
    beyond the longest of them with the logarithm of time.

    Args:
        gaps: seconds, and whether a conversation began at the end.
        hazard: 0 or more.

    Returns:
        None = at no time: no gap is known that ended with a beginning after a while.

    >>> gaps = [(1.0, True), (2.0, False), (3.0, True)]
    >>> time_of_hazard(gaps, 0.25), time_of_hazard(gaps, 0.5), round(time_of_hazard(gaps, 1.0), 1)
    (1.0, 2.0, 5.6)
    """
    ordered = sorted(gaps)
    passed, at = 0.0, 0.0
    for place, (gap, begins) in enumerate(ordered):
        if not begins:
            continue
        step = 1 / (len(ordered) - place + 1)
        if passed + step >= hazard:
            return at + (hazard - passed) / step * (gap - at)
        passed, at = passed + step, gap
    exponent = (hazard - passed) / _TAIL_POWER
    return at * math.exp(exponent) if at > 0.0 and exponent < _MAX_EXPONENT else None


def blurred(values: Sequence[int], draws: Draws, chosen: int) -> int:
    """Return a value like the chosen one of the values, which are all of one setting.

    Where values come back again and again the chosen one is right as it is. Where hardly one does, a copy would stand
    out by coming twice, and some value among the chosen one's neighbours is returned.

    >>> blurred([256] * 9 + [512], Draws(bytes(32)), 256)
    256
    >>> blurred(list(range(100, 900, 50)), Draws(bytes(32)), 400) in range(100, 801)
    True
    """
    distinct = sorted(set(values))
    if 2 * len(distinct) <= len(values) or len(distinct) < 2:
        return chosen
    place = bisect_left(distinct, chosen)
    low = distinct[max(place - _BLUR_NEIGHBOURS, 0)]
    high = distinct[min(place + _BLUR_NEIGHBOURS, len(distinct) - 1)]
    return low + draws.below(high - low + 1)
