"""When a user's jobs come to one host, when canary conversations begin among them, and how long jobs wait for it. Pure.

A host sees when jobs come, and when their answers end. Canaries tell nothing by it if, whatever the host has seen, the
chance that the job that comes is a canary is the same, and if what comes after a canary is what comes after a job.

**A user who never has more than k jobs at once** (:attr:`Rhythm.places`; k = 1: one thing after the other) asks for one
when an answer has ended. A canary may take that place, in the moment in which he asks: the job leaves after the
canary's end, and a pause such as he makes.

**Any other user**'s jobs come as they come. Where one follows another within :data:`MAX_PAUSE_S`, a canary may take a
turn in the row: it comes as long after the last job as the user's own do, and the jobs behind it are later by that. It
may take the first turn of a row as well, and the row begins later.

**After longer gaps** nobody waits: the rate at which canaries begin is at each moment the same small multiple of the
rate at which real conversations do (:mod:`hostmesh.canaries.gaps`), given how long ago the last job is. They are a
Poisson process in its time. The next real one then comes sooner after a canary than after a job; by then the canary's
answer is long there.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hostmesh.canaries.draws import Draws
from hostmesh.canaries.gaps import Gap, between, hazard_at, part_soon_after, spread, time_of_hazard

MAX_JOBS = 128
"""Real jobs that are remembered of a host; what came before them no longer counts."""
MIN_JOBS = 32
"""A host that has had fewer gets no canary: there is no traffic to be like."""
MAX_WAIT_S = 120.0
"""A real job waits no longer for a canary's end. Also: not longer than half of its own deadline."""
MAX_PAUSE_S = 2.0
"""Nor longer than that for the pause after one, or for its turn in a row of jobs."""
_OVERLAPPING_PART = 0.1
"""Fewer jobs that find another one under way make a user with one place."""
_FULL_PART = 0.15
"""So many of the jobs at least find all places but theirs taken, where a user has places."""
_FULLER_PART = 0.5
"""And so many of those that find one place fewer taken."""
_AT_ENDS_PART = 0.4
"""And so many of them come when an answer has ended."""
_RARE_PART = 0.05
"""So few conversations may begin before a canary's would be over that nobody has to wait."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """A real job that its user asked for, and that may have to wait before it leaves."""

    asked_s: float
    begins: bool
    """A conversation."""
    gap_s: float | None
    """Since the user asked for the one before; None = there was none."""
    since_end_s: float | None
    """Since the last answer to one ended; None = none did."""
    under_way: int
    """Other real jobs that were asked for and are not over."""
    is_in_row: bool
    """Its user has as many at once as it happens: it leaves in its turn, else when it has a place."""
    apart_s: float
    """How long it stays away from the job, or the canary, before it."""

    @property
    def follows_end(self) -> bool:
        """An answer ended between the job before it and this one."""
        return self.since_end_s is not None and self.gap_s is not None and self.since_end_s <= self.gap_s

    @property
    def is_first(self) -> bool:
        """It comes after a long gap."""
        return (self.gap_s or 0.0) > MAX_PAUSE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """How long a canary conversation keeps a place, and how long a job would wait for that."""

    canary_s: float = 0.0
    """Nine in ten end within that."""
    pause_s: float = 0.0
    """Nine in ten pauses between its turns are as long at most."""
    bound_s: float = MAX_WAIT_S


class Rhythm:
    """The times of the recent real jobs of one host, and of the canaries among them.

    Args:
        rate: canary conversations for each real one, > 0 and <= 1.
    """

    def __init__(self, *, rate: float) -> None:
        if not 0.0 < rate <= 1.0:
            raise ValueError("a rate is more than 0 and at most 1")
        self._rate = rate
        self.stay = Stay()
        self._starts: deque[Asked] = deque(maxlen=MAX_JOBS)
        self._turn_gaps: deque[Gap] = deque(maxlen=MAX_JOBS)
        """Before real jobs as they came, their row late or not."""
        self._is_stopped = False
        self._waiting: dict[Asked, float] = {}
        """In the order in which they were asked for, with when they may leave; infinity = after a canary."""
        self._running = 0
        self._canaries = 0
        """That keep a place."""
        self._asked_s: float | None = None
        self._end_s: float | None = None
        """Of a real job."""
        self._turn_s = -math.inf
        """When the last of a row came, a real job or a canary."""
        self._late_s = 0.0
        """By how much the row is later than its user asked for it."""
        self._due_s: float | None = None
        self._has_turn = False
        """The canary that is due has its turn before the next real job, however soon that is asked for."""
        self._turn_of: Asked | None = None
        """A job that has waited for a canary, and is to wait for the one that is due."""

    # --- real jobs ---

    def job_asked(self, begins: bool, now_s: float, draws: Draws) -> Asked:
        """Note that a real job is asked for; :meth:`job_started` or :meth:`job_withdrawn` follows.

        Args:
            begins: a conversation.
            now_s: monotonic seconds.
            draws: for whether a canary goes before it.
        """
        asked = self.note_asked(begins, now_s, pause_s=MAX_PAUSE_S * draws.unit())
        apart_s = self._give_way(asked, draws)
        if apart_s is None:
            return asked
        del self._waiting[asked]
        self._due_s, self._has_turn = now_s, True
        self._turn_s, self._late_s = now_s, 0.0
        asked = replace(asked, apart_s=apart_s)
        self._waiting[asked] = math.inf
        return asked

    def note_asked(self, begins: bool, now_s: float, *, pause_s: float = MAX_PAUSE_S) -> Asked:
        """Note that a real job is asked for, or was in an earlier run; no canary is due by it.

        Args:
            begins: a conversation.
            now_s: monotonic seconds.
            pause_s: how long it stays away from a canary that it waits for, if its user takes longer than such a pause.
        """
        gap_s = None if self._asked_s is None else max(now_s - self._asked_s, 0.0)
        since_end_s = None if self._end_s is None else max(now_s - self._end_s, 0.0)
        places = self.places
        asked = Asked(
            asked_s=now_s,
            begins=begins,
            gap_s=gap_s,
            since_end_s=since_end_s,
            under_way=self._running + len(self._waiting),
            is_in_row=places is None,
            # A row is late by less than a long gap: whoever comes after one has it behind him.
            apart_s=_if_short(gap_s, 0.0) if places is None else _if_short(since_end_s, pause_s),
        )
        self._asked_s = now_s
        self._waiting[asked] = math.inf if self._taken and not self.has_room(1) else now_s
        return asked

    def leaves_s(self, asked: Asked) -> float:
        """Return when a real job may leave, as is known now; infinity = it is known when something has happened."""
        if not asked.is_in_row:
            return self._waiting.get(asked, asked.asked_s)
        if self._has_turn or next((one for one in self._waiting if one.is_in_row), asked) is not asked:
            return math.inf
        return max(asked.asked_s, self._turn_s + asked.apart_s)

    def job_withdrawn(self, asked: Asked) -> None:
        """Note that a real job that was asked for never leaves."""
        self._waiting.pop(asked, None)

    def job_started(self, asked: Asked, now_s: float, draws: Draws) -> None:
        """Note that a real job leaves."""
        self.note_start(asked, now_s)
        places = self.places
        if places is None:
            self._begin_gap(now_s, draws)
        elif not self._has_turn and not self.has_room(1):
            self._none_due()

    def job_ended(self, now_s: float, draws: Draws) -> None:
        """Note that a real job is over, however it ended."""
        self.note_end(now_s)
        if self.places is not None and not self._has_turn:
            self._go_on(now_s, draws)

    def note_start(self, asked: Asked, now_s: float) -> None:
        """Note that a real job leaves, or left in an earlier run; no canary is due by it."""
        self._waiting.pop(asked, None)
        self._starts.append(asked)
        self._running += 1
        self._turn_gaps.append((now_s - self._turn_s, asked.begins))
        self._turn_s = now_s
        self._late_s = now_s - asked.asked_s

    def note_end(self, now_s: float) -> None:
        """Note that a real job is over, or was in an earlier run; no canary is due by it."""
        self._running = max(self._running - 1, 0)
        self._end_s = now_s

    # --- canaries ---

    @property
    def due_s(self) -> float | None:
        """When the next canary conversation begins, in the time of ``now_s``; None = not before the next real job."""
        return self._due_s

    def waited_s(self, now_s: float) -> float:
        """Return how long a real job would have waited that left now, in the place of the canary that is due."""
        if self.places is None:
            return self._late_s if now_s - self._turn_s <= MAX_PAUSE_S else 0.0
        return 0.0 if self._turn_of is None else now_s - self._turn_of.asked_s

    def canary_began(self, now_s: float, draws: Draws) -> None:
        """Note that the canary conversation that was due has begun."""
        had_turn = self._has_turn
        self.canary_goes_on()
        if self.places is not None:
            self._none_due()
        elif had_turn:
            self._late_s += now_s - self._turn_s
            self._turn_s = now_s
            self._begin_gap(now_s, draws)
        else:
            self._go_on(now_s, draws)

    def canary_goes_on(self) -> None:
        """Note that a canary conversation takes a place again."""
        self._canaries += 1

    def canary_dropped(self, now_s: float, draws: Draws) -> None:
        """Note that the canary that was due did not leave: its time is over."""
        if self.places is None:
            self._go_on(now_s, draws)
        else:
            self._none_due()
        self._let_go(now_s)

    def canary_over(self, now_s: float, draws: Draws) -> None:
        """Note that a canary conversation keeps its place no longer."""
        self._canaries = max(self._canaries - 1, 0)
        places = self.places
        if places is not None and not self._has_turn:
            held, short = self._held, _short(self._gaps(places))
            if held and held[0].begins and short and self._is_canary(1.0, draws):
                self._due_s, self._has_turn, self._turn_of = now_s + between(short, draws), True, held[0]
        self._let_go(now_s)
        if places is not None and not self._has_turn:
            self._go_on(now_s, draws)

    def has_waited(self, asked: Asked, now_s: float) -> bool:
        """Note that a real job waits no longer; return whether a canary has lost its place to it."""
        is_held = self._waiting.get(asked) == math.inf and not asked.is_in_row
        self._waiting[asked] = now_s
        if not is_held:
            return False
        has_lost = self._canaries > 0
        if has_lost:
            self._canaries -= 1
        else:
            self._none_due()
        self._let_go(now_s)
        return has_lost

    def stop(self, now_s: float) -> None:
        """Have no canary due any more."""
        self._is_stopped = True
        self._none_due()
        self._let_go(now_s)

    # --- inside ---

    @property
    def places(self) -> int | None:
        """The most real jobs that the user has at once, and often has; None = no such number."""
        if sum(start.under_way > 0 for start in self._starts) < _OVERLAPPING_PART * max(len(self._starts), 1):
            return 1
        found = Counter(start.under_way for start in self._starts)
        full = max(found)
        is_often = found[full] >= max(_FULL_PART * len(self._starts), _FULLER_PART * found[full - 1])
        # Jobs of a group have no answer's end between them.
        at_ends = sum(start.under_way == full and start.follows_end for start in self._starts)
        return full + 1 if is_often and at_ends >= _AT_ENDS_PART * found[full] else None

    def has_room(self, more: int) -> bool:
        """Return whether the user has had as many jobs at once as there are now, with canaries and so many more."""
        places = self.places
        return places is None or self._running + self._taken + more <= places

    @property
    def _held(self) -> list[Asked]:
        """Jobs that wait for a canary's place, the one first that has waited longest."""
        return [asked for asked, at_s in self._waiting.items() if at_s == math.inf and not asked.is_in_row]

    def _let_go(self, now_s: float) -> None:
        """Have those leave that no canary's place is left for."""
        held = self._held
        for asked in held[: max(len(held) - self._taken, 0)]:
            self._waiting[asked] = now_s + asked.apart_s

    @property
    def _taken(self) -> int:
        """Places that are a canary's, or are kept for the one that is due."""
        return self._canaries + self._has_turn

    def _gaps(self, places: int | None) -> list[Gap]:
        """Return the gaps that a canary's is like: since the last answer where its end is what a job waits for."""
        if places is None:
            return [(one.gap_s, one.begins) for one in self._starts if one.gap_s is not None]
        by_clock = self._keeps_to_clock(places)
        return [
            (one.gap_s if by_clock and one.gap_s is not None else one.since_end_s, one.begins)
            for one in self._starts
            if one.since_end_s is not None and one.under_way < places
        ]

    def _keeps_to_clock(self, places: int | None) -> bool:
        """Who asks one thing after the other does so by a clock, however long answers take: a job each minute."""
        late = [one for one in self._starts if one.is_first and one.begins and one.under_way == 0]
        since_start_s = [one.gap_s or 0.0 for one in late]
        since_end_s = [one.since_end_s or 0.0 for one in late]
        return places == 1 and len(late) >= MIN_JOBS // 2 and spread(since_start_s) < spread(since_end_s) / 2

    def _rows(self) -> tuple[float, list[float]]:
        """Return which part of the canaries after a long gap are the first of a row, and the gaps after such a job.

        As many as there are rows; but the row of another job may follow a canary that nobody waits for, too.
        """
        if self.stay.bound_s < MAX_PAUSE_S:
            return 0.0, []  # no row can make way
        followed = [two.gap_s or 0.0 for one, two in pairwise(self._starts) if one.is_first]
        short = [gap_s for gap_s in followed if gap_s <= MAX_PAUSE_S]
        by_chance = part_soon_after([gap_s for gap_s, _ in self._gaps(None)], MAX_PAUSE_S)
        if not short or by_chance >= 1.0:
            return 0.0, short
        return max((len(short) / len(followed) - by_chance) / (1.0 - by_chance), 0.0), short

    def _give_way(self, asked: Asked, draws: Draws) -> float | None:
        """Choose whether a canary conversation takes the turn of a real one that is to begin.

        Where the user has all his places taken at times it takes one's place, if an answer has just ended there. Any
        other user's is the first of a row as often as there are rows: whether this job has one is not known yet.

        Returns:
            How long the job stays away from the canary; None = it does not give way.
        """
        places = self.places
        gaps = self._gaps(places)
        if not asked.begins or self._has_turn or len(gaps) < MIN_JOBS - 1 or self._waiting[asked] == math.inf:
            return None
        if places is not None:
            part, short = 1.0, _short(gaps)
            is_near = asked.since_end_s is not None and asked.since_end_s <= MAX_PAUSE_S and asked.under_way < places
            may_wait = is_near and self._may_be_waited_for(gaps)
        else:
            part, short = self._rows()
            may_wait = asked.is_first and len(self._waiting) == 1
        return between(short, draws) if may_wait and short and self._is_canary(part, draws) else None

    def _is_canary(self, part: float, draws: Draws) -> bool:
        """Choose whether the next turn is a canary's, where so great a part of them may be."""
        return not self._is_stopped and draws.unit() < self._rate * part / (1 + self._rate * part)

    def _may_be_waited_for(self, gaps: Sequence[Gap]) -> bool:
        """Whether a job can wait for a canary conversation to its end, or hardly any would come before that."""
        begun = [gap for gap, begins in gaps if begins]
        if sum(gap <= self.stay.canary_s for gap in begun) <= _RARE_PART * len(begun):
            return True
        return self.stay.canary_s <= self.stay.bound_s and self.stay.pause_s <= MAX_PAUSE_S

    def _none_due(self) -> None:
        self._due_s, self._has_turn, self._turn_of = None, False, None

    def _begin_gap(self, now_s: float, draws: Draws) -> None:
        """Choose what comes next, after a turn in a row."""
        self._none_due()
        if len(self._turn_gaps) < MIN_JOBS:
            return
        room_s = max(min(MAX_PAUSE_S, self.stay.bound_s) - self._late_s, 0.0)
        short = _short(self._turn_gaps, room_s)
        if short and self._is_canary(len(short) / len(self._turn_gaps), draws):
            self._due_s, self._has_turn = now_s + between(short, draws), True
        else:
            self._due_s = self._due_after(now_s, room_s, draws)

    def _go_on(self, now_s: float, draws: Draws) -> None:
        """Choose when the next canary comes that nobody waits for, if no job does before."""
        self._none_due()
        if self.places is None:
            self._due_s = self._due_after(self._turn_s, now_s - self._turn_s, draws)
        elif not self._canaries and not self._waiting and self.has_room(1):
            began_s = self._asked_s if self._keeps_to_clock(self.places) else self._end_s
            if began_s is not None:
                self._due_s = self._due_after(began_s, max(now_s - began_s, MAX_PAUSE_S), draws)

    def _due_after(self, began_s: float, gap_s: float, draws: Draws) -> float | None:
        """Return when the next canary is due that nobody waits for, later than a while after a gap began."""
        places = self.places
        gaps = self._gaps(places)
        if self._is_stopped or len(gaps) < MIN_JOBS - 1:
            return None
        if places is not None and not self._may_be_waited_for(gaps):
            return None
        hazard = hazard_at(gaps, gap_s) + draws.exponential() / self._rate
        until = hazard_at(gaps, MAX_PAUSE_S)
        if places is None and hazard > until:
            # Of those after a long gap some are the first of a row, see _give_way.
            alone = 1.0 - self._rows()[0]
            if alone <= 0.0:
                return None
            hazard = max(hazard_at(gaps, gap_s), until) + draws.exponential() / (self._rate * alone)
        after_s = time_of_hazard(gaps, hazard)
        return None if after_s is None else began_s + after_s


def _if_short(gap_s: float | None, else_s: float) -> float:
    return gap_s if gap_s is not None and gap_s <= MAX_PAUSE_S else else_s


def _short(gaps: Iterable[Gap], most_s: float = MAX_PAUSE_S) -> list[float]:
    """Return the gaps before conversations that are no longer than that."""
    return [gap for gap, begins in gaps if begins and gap <= most_s]
