"""Users' traffic with the plan's canaries in it, as one host sees it. Simulated, with real canary texts."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.benchmarks.canaries.kinds import KINDS as KINDS
from tests.benchmarks.canaries.kinds import Habits, Kind, Talk

from hostmesh.canaries.canary import Canary
from hostmesh.canaries.plan import CanaryPlan, job_seed
from hostmesh.canaries.rhythm import Asked
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape, Setting, longest_wait_s

RATE = 0.1
HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A job as the host sees it come, and the truth that it does not see."""

    at_s: float
    ends_s: float
    """When its answer will be complete."""
    running: int
    """Jobs of this client that it is still working on."""
    since_end_s: float
    """Since its last answer to this client."""
    messages: tuple[tuple[str, str], ...]
    max_output_tokens: int | None
    timeout_s: float | None
    """The deadline that the host is told."""
    parameters: tuple[Setting, ...]
    seed: int
    is_canary: bool


class User:
    """One client's traffic to one host, until it has sent so many real jobs."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self._random = random.Random(seed)
        self._habits = Habits(kind, seed, self._random)
        self._plan = CanaryPlan(shipped_corpus(), rate=RATE)
        self._events: list[tuple[float, int, str, object]] = []
        self._order = 0
        self._now_s = 0.0
        self._running = 0
        self._last_end_s = -math.inf
        self._waiting: list[tuple[Asked, Talk]] = []
        """Jobs in the order in which they were asked for."""
        self.waits_s: list[float] = []
        """Of each real job, for canaries."""

    def arrivals(self, real_jobs: int) -> Iterator[Arrival]:
        """Yield the jobs in the order in which they come."""
        for at in self._habits.first():
            self._push(at, "begin", None)
        while len(self.waits_s) < real_jobs:
            due = self._plan.next_due()
            due_s = math.inf if due is None else due[0]
            leaves_s, place = min(
                ((max(self._leaves_s(*job), self._now_s), place) for place, job in enumerate(self._waiting)),
                default=(math.inf, 0),
            )
            event_s = self._events[0][0] if self._events else math.inf
            at = max(min(due_s, leaves_s, event_s), self._now_s)
            assert at < math.inf, "jobs wait for what never comes"
            self._now_s = at
            # At one moment a canary goes before a job, and whoever may leave before anything else happens.
            if due_s <= at:
                canary = self._plan.make(HOST, now_s=at, entropy=self._entropy())
                if canary is not None:
                    yield self._canary(canary)
            elif leaves_s <= at:
                yield self._leave(*self._waiting.pop(place))
            else:
                self._happen(*heapq.heappop(self._events)[2:])

    def _leaves_s(self, asked: Asked, talk: Talk) -> float:
        return min(self._plan.leaves_s(HOST, asked), asked.asked_s + longest_wait_s(talk.timeout_s))

    def _happen(self, what: str, subject: object) -> None:
        at = self._now_s
        match what, subject:
            case "begin", None:
                self._push_all(self._habits.after_beginning(at))
                self._push(at, "turn", self._habits.new_talk())
            case "turn", Talk() as talk:
                self._waiting.append((self._plan.job_asked(HOST, talk.key, now_s=at, entropy=self._entropy()), talk))
            case "end", Talk() as talk:
                self._ended()
                self._plan.job_ended(HOST, talk.key, now_s=at, entropy=self._entropy())
                talk.messages.append(("assistant", self._answer()))
                if talk.turns_left:
                    self._push(at + self._habits.until_next_turn_s(talk), "turn", talk)
                else:
                    self._push_all(self._habits.after_end(at))
            case "end", Canary() as canary:
                self._ended()
                self._plan.answered(canary, self._answer(), now_s=at, entropy=self._entropy())

    def _leave(self, asked: Asked, talk: Talk) -> Arrival:
        if self._plan.leaves_s(HOST, asked) > self._now_s:
            self._plan.has_waited(HOST, asked, now_s=self._now_s)  # it has waited for as long as it does at most
        waited_s = self._now_s - asked.asked_s
        self.waits_s.append(waited_s)
        text, tokens = self._habits.next_turn(talk)
        shape = JobShape(
            length_bytes=len(text.encode()),
            max_output_tokens=tokens,
            parameters=talk.parameters,
            timeout_s=talk.timeout_s,
        )
        left_s = None if talk.timeout_s is None else talk.timeout_s - waited_s
        arrival = self._arrive(tuple(talk.messages), shape, left_s, job_seed(self._entropy()), is_canary=False)
        self._plan.job_started(
            HOST,
            talk.key,
            shape,
            asked=asked,
            now_s=self._now_s,
            entropy=self._entropy(),
            system_prompt=talk.system_prompt,
        )
        self._push(arrival.ends_s, "end", talk)
        return arrival

    def _canary(self, canary: Canary) -> Arrival:
        shape = canary.shape
        arrival = self._arrive(canary.messages_for(HOST), shape, shape.timeout_s, canary.seed, is_canary=True)
        self._push(arrival.ends_s, "end", canary)
        return arrival

    def _arrive(
        self,
        messages: tuple[tuple[str, str], ...],
        shape: JobShape,
        timeout_s: float | None,
        seed: int,
        *,
        is_canary: bool,
    ) -> Arrival:
        arrival = Arrival(
            at_s=self._now_s,
            ends_s=self._now_s + self._random.uniform(1.0, 5.0),
            running=self._running,
            since_end_s=self._now_s - self._last_end_s,
            messages=messages,
            max_output_tokens=shape.max_output_tokens,
            timeout_s=timeout_s,
            parameters=shape.parameters,
            seed=seed,
            is_canary=is_canary,
        )
        self._running += 1
        return arrival

    def _ended(self) -> None:
        self._running -= 1
        self._last_end_s = self._now_s

    def _answer(self) -> str:
        return self._habits.text(self._random.randint(50, 400))

    def _entropy(self) -> bytes:
        return self._random.randbytes(32)

    def _push_all(self, beginnings: list[float]) -> None:
        for at in beginnings:
            self._push(at, "begin", None)

    def _push(self, at: float, what: str, subject: object) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, what, subject))
