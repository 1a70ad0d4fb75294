"""What is remembered of the real jobs that a host got: their shapes and conversations. Pure.

A canary copies them. Shapes are numbers and settings, no words. The unit is the conversation, as a user has it: one
job, or several of which each goes on with the one before. A canary conversation copies the turns of a real one, and the
pauses between its turns are those of real ones. When it begins is :mod:`hostmesh.canaries.rhythm`'s to say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from hostmesh.canaries.draws import Draws
from hostmesh.canaries.gaps import most
from hostmesh.canaries.rhythm import MAX_JOBS, MAX_WAIT_S, Asked, Rhythm, Stay

MAX_TURNS = 16
"""Of a conversation that is copied; later ones are not."""
_JITTER = 0.1
"""A canary's lengths and pauses are those of a real conversation, by up to this part more or less."""
_BLUR_NEIGHBOURS = 8

Setting = tuple[str, float | int | str | tuple[str, ...]]
"""A parameter of a job and its value."""


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
    pauses_s: list[float]
    """Between them, from an answer to what was said to it."""
    system_prompt: bytes | None
    """Its digest; None = there is none."""
    ended_s: float | None = None
    """Of the last turn that ended."""
    started_s: float = 0.0
    """Of the last turn."""
    began_s: float = 0.0

    @property
    def settings(self) -> tuple[object, ...]:
        """Of its first turn: what conversations of one sort share."""
        return (self.shapes[0].model_id, self.shapes[0].parameters, self.system_prompt)

    def is_over(self, now_s: float, pause_s: float) -> bool:
        """Return whether its last answer has ended, and longer ago than a pause."""
        return self.ended_s is not None and self.ended_s >= self.started_s and now_s - self.ended_s > pause_s


class Traffic:
    """The recent real jobs of one host.

    Args:
        rate: canary conversations for each real one, > 0 and <= 1.
    """

    def __init__(self, *, rate: float) -> None:
        self.rhythm = Rhythm(rate=rate)
        """When they came, and when canaries are due among them."""
        self.shapes: deque[JobShape] = deque(maxlen=MAX_JOBS)
        self._conversations: OrderedDict[bytes, Conversation] = OrderedDict()
        self._durations_s: deque[float] = deque(maxlen=MAX_JOBS)

    def job_asked(self, conversation: bytes | None, *, now_s: float, draws: Draws) -> Asked:
        """Note that the user asks for a job of a conversation; None = one that is not copied."""
        begins = conversation is not None and conversation not in self._conversations
        return self.rhythm.job_asked(begins, now_s, draws)

    def job_started(
        self,
        conversation: bytes,
        shape: JobShape,
        *,
        asked: Asked,
        now_s: float,
        draws: Draws,
        system_prompt: bytes | None = None,
    ) -> None:
        """Note that a real job leaves for the host.

        Args:
            conversation: the same for all turns of one conversation, and for no other.
            shape: the job's.
            asked: when the user asked for it.
            now_s: monotonic seconds.
            draws: for when the next canary is due.
            system_prompt: the digest of its system prompt.
        """
        self._note_start(conversation, shape, now_s, system_prompt, asked_s=asked.asked_s)
        self.rhythm.job_started(asked, now_s, draws)

    def job_ended(self, conversation: bytes, *, now_s: float, draws: Draws) -> None:
        """Note that a real job is over, however it ended."""
        self._note_end(conversation, now_s)
        self.rhythm.job_ended(now_s, draws)

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
                asked = self.rhythm.note_asked(job.conversation not in self._conversations, at_s)
                self._note_start(job.conversation, job.shape, at_s, job.system_prompt, asked_s=at_s)
                self.rhythm.note_start(asked, at_s)
            else:
                self._note_end(job.conversation, at_s)
                self.rhythm.note_end(at_s)

    def _note_start(
        self, conversation: bytes, shape: JobShape, now_s: float, system_prompt: bytes | None, *, asked_s: float
    ) -> None:
        known = self._conversations.get(conversation)
        if known is None:
            known = self._conversations[conversation] = Conversation(
                shapes=[shape], pauses_s=[], system_prompt=system_prompt, began_s=now_s
            )
            if len(self._conversations) > MAX_JOBS:
                self._conversations.popitem(last=False)
        else:
            if len(known.shapes) < MAX_TURNS:
                known.shapes.append(shape)
                known.pauses_s.append(max(asked_s - (asked_s if known.ended_s is None else known.ended_s), 0.0))
            self._conversations.move_to_end(conversation)
        known.started_s = now_s
        self.shapes.append(shape)
        self._note_stay()

    def _note_end(self, conversation: bytes, now_s: float) -> None:
        known = self._conversations.get(conversation)
        if known is not None:
            known.ended_s = now_s
            self._durations_s.append(max(now_s - known.started_s, 0.0))
            self._note_stay()

    def _note_stay(self) -> None:
        turns = most([len(known.shapes) for known in self._conversations.values()])
        pause_s = most([pause_s for known in self._conversations.values() for pause_s in known.pauses_s])
        self.rhythm.stay = Stay(
            canary_s=turns * most(self._durations_s) + (turns - 1) * pause_s,
            pause_s=pause_s,
            # Nine in ten jobs have time for that; another one waits for as long as it can.
            bound_s=-most([-longest_wait_s(shape.timeout_s) for shape in self.shapes]),
        )

    def conversation(
        self, draws: Draws, *, now_s: float, system_prompts: Collection[bytes] | None = None
    ) -> Conversation | None:
        """Return a real conversation to be copied; there has been one.

        Args:
            draws: for the choice.
            now_s: monotonic seconds.
            system_prompts: the digests of those that a copy can be given; None = copies go without one.

        Returns:
            None: each has a system prompt that a copy cannot be given, and would be known by that.
        """
        known = sorted(self._conversations.values(), key=lambda each: each.began_s)
        # Of those that began later than one that goes on yet the long ones would be missing.
        over = list(takewhile(lambda each: each.is_over(now_s, self.rhythm.stay.pause_s), known))
        # What follows a job like the last one: a program may plan and act in turn.
        next_ones = {id(after) for before, after in pairwise(known) if before.settings == known[-1].settings}
        fit = [
            each
            for each in over or known[:-1] or known
            if system_prompts is None or each.system_prompt is None or each.system_prompt in system_prompts
        ]
        return draws.choice([each for each in fit if id(each) in next_ones] or fit) if fit else None


def longest_wait_s(timeout_s: float | None) -> float:
    """Return how long a job waits for canaries at most.

    >>> longest_wait_s(None), longest_wait_s(20.0)
    (120.0, 10.0)
    """
    return MAX_WAIT_S if timeout_s is None else min(MAX_WAIT_S, max(timeout_s, 0.0) / 2)


def jittered(value: float, draws: Draws) -> float:
    """Return a length or a pause for a copy, like the copied one.

    >>> 90.0 <= jittered(100.0, Draws(bytes(32))) <= 110.0
    True
    """
    return value * (1 + _JITTER * (2 * draws.unit() - 1))


def is_like(value: float, wanted: float) -> bool:
    """Return whether :func:`jittered` could return a value."""
    return abs(value - wanted) <= _JITTER * wanted


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
