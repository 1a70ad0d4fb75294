"""Users' traffic with the plan's canaries in it, as one host sees it. Simulated, with real canary texts.

Four kinds of user. A *chat* is one person: sittings hours apart, each a conversation of some turns with pauses to
read and think, a fixed system prompt, the engine's usual settings. A *pipeline* is a program: bursts of single jobs
that overlap, greedy, each with its own token limit. A *service* has many people behind it, whose conversations overlap,
with two sets of settings and two system prompts. A *loop* is a program, too: one job after the other, 5 to 50 ms after
each answer, or 0.2 to 1 s; of one in three of them each goes on with the one before, three on average. Users' words
are drawn at random, so that they repeat nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from hostmesh.canaries.plan import CanaryPlan, job_seed
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape, Setting

KINDS = ("chat", "pipeline", "service", "loop")
RATE = 0.1
HOST = "host"
_WORDS = sorted({word for words in shipped_corpus().slots.values() for phrase in words for word in phrase.split()})


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
    parameters: tuple[Setting, ...]
    seed: int
    is_canary: bool


@dataclass(slots=True)
class _Talk:
    """A real conversation that goes on."""

    key: bytes
    messages: list[tuple[str, str]]
    turns_left: int
    parameters: tuple[Setting, ...]
    max_output_tokens: int
    system_prompt: str | None
    pause_median_s: float


class User:
    """One client's traffic to one host, until it has sent so many real jobs."""

    def __init__(self, kind: str, seed: int) -> None:
        self._kind = kind
        self._random = random.Random(seed)
        self._plan = CanaryPlan(shipped_corpus(), rate=RATE)
        self._events: list[tuple[float, int, str, object]] = []
        self._order = 0
        self._running = 0
        self._last_end_s = -math.inf
        self._pause_s = ((0.005, 0.05), (0.2, 1.0))[seed % 2]
        self._loop_turns = 1 if seed % 3 else 3
        self._waiting: list[tuple[float, _Talk]] = []
        self.waits_s: list[float] = []
        """Of each real job, for canaries."""

    def arrivals(self, real_jobs: int) -> Iterator[Arrival]:
        """Yield the jobs in the order in which they come."""
        self._push(0.0, "begin", None)
        left = real_jobs
        while left > 0:
            due = self._plan.next_due()
            if due is not None and (not self._events or due[0] <= self._events[0][0]):
                canary = self._plan.make(HOST, entropy=self._entropy())
                if canary is not None:
                    messages = canary.messages_for(HOST)
                    arrival = self._arrive(
                        due[0], messages, canary.shape.max_output_tokens, canary.shape.parameters, canary.seed, True
                    )
                    yield arrival
                    self._push(arrival.ends_s, "canary_end", canary)
                self._let_go(due[0])
                continue
            at, _, what, subject = heapq.heappop(self._events)
            match what:
                case "begin":
                    if self._kind != "loop":
                        self._push(at + self._until_next_beginning_s(), "begin", None)
                    self._push(at, "turn", self._new_talk())
                case "turn":
                    assert isinstance(subject, _Talk)
                    if self._plan.holds(HOST, now_s=at):
                        self._plan.job_waits(HOST)
                        self._waiting.append((at, subject))
                    else:
                        left -= 1
                        yield self._turn(at, subject, at)
                case "waited":
                    asked_s, talk = subject  # type: ignore[misc]
                    self._plan.job_waited(HOST)
                    left -= 1
                    yield self._turn(at, talk, asked_s)
                case "end":
                    assert isinstance(subject, _Talk)
                    self._ended(at)
                    self._plan.job_ended(HOST, subject.key, now_s=at, entropy=self._entropy())
                    subject.messages.append(("assistant", self._text(self._random.randint(50, 400))))
                    if subject.turns_left:
                        self._push(
                            at + self._random.lognormvariate(math.log(subject.pause_median_s), 0.8), "turn", subject
                        )
                    elif self._kind == "loop":
                        self._push(at + self._random.uniform(*self._pause_s), "begin", None)
                case "canary_end":
                    self._ended(at)
                    answer = self._text(self._random.randint(50, 400))
                    self._plan.answered(subject, answer, now_s=at, entropy=self._entropy())  # type: ignore[arg-type]
                    self._let_go(at)

    def _let_go(self, at: float) -> None:
        """Have the jobs that wait leave after a pause, if no canary holds them any more."""
        if self._plan.holds(HOST, now_s=at):
            return
        for job in self._waiting:
            self._push(at + self._plan.pause_after_canary_s(HOST, entropy=self._entropy()), "waited", job)
        self._waiting.clear()

    def _turn(self, at: float, talk: _Talk, asked_s: float) -> Arrival:
        self.waits_s.append(at - asked_s)
        median = {"chat": 60, "pipeline": 120, "service": 70, "loop": 120}[self._kind]
        text = self._text(max(8, round(self._random.lognormvariate(math.log(median), 0.7))))
        talk.messages.append(("user", text))
        talk.turns_left -= 1
        tokens = self._random.randint(64, 2048) if self._kind == "pipeline" else talk.max_output_tokens
        shape = JobShape(length_bytes=len(text.encode()), max_output_tokens=tokens, parameters=talk.parameters)
        arrival = self._arrive(at, tuple(talk.messages), tokens, talk.parameters, job_seed(self._entropy()), False)
        self._plan.job_started(
            HOST,
            talk.key,
            shape,
            now_s=at,
            entropy=self._entropy(),
            system_prompt=talk.system_prompt,
            waited_s=at - asked_s,
        )
        self._push(arrival.ends_s, "end", talk)
        return arrival

    def _arrive(
        self,
        at: float,
        messages: tuple[tuple[str, str], ...],
        tokens: int | None,
        parameters: tuple[Setting, ...],
        seed: int,
        is_canary: bool,
    ) -> Arrival:
        arrival = Arrival(
            at_s=at,
            ends_s=at + self._duration_s(),
            running=self._running,
            since_end_s=at - self._last_end_s,
            messages=messages,
            max_output_tokens=tokens,
            parameters=parameters,
            seed=seed,
            is_canary=is_canary,
        )
        self._running += 1
        return arrival

    def _ended(self, at: float) -> None:
        self._running -= 1
        self._last_end_s = at

    def _new_talk(self) -> _Talk:
        chance = self._random
        if self._kind == "chat":
            prompt, turns, tokens, parameters = "You are a kind assistant.", 4, 512, (("temperature", 0.7),)
        elif self._kind == "loop":
            prompt, turns, tokens, parameters = None, self._loop_turns, 256, (("temperature", 0.0),)
        elif self._kind == "pipeline":
            prompt, turns, tokens, parameters = None, 1, 0, (("temperature", 0.0),)
        elif chance.random() < 0.7:
            prompt, turns, tokens, parameters = "You answer questions about our shop.", 3, 256, (("temperature", 0.3),)
        else:
            prompt, turns, tokens = "You write short product texts.", 1, 800
            parameters = (("temperature", 1.0), ("top_p", 0.9))
        key = hashlib.sha256(chance.randbytes(16)).digest()
        count = 1 if turns == 1 else min(1 + int(chance.expovariate(1 / (turns - 1))), 12)
        return _Talk(
            key=key,
            messages=[] if prompt is None else [("system", prompt)],
            turns_left=count,
            parameters=parameters,
            max_output_tokens=tokens,
            system_prompt=prompt,
            pause_median_s=0.05 if self._kind == "loop" else chance.choice((8.0, 20.0, 40.0)),
        )

    def _until_next_beginning_s(self) -> float:
        chance = self._random
        if self._kind == "chat":
            return 900.0 + chance.lognormvariate(math.log(3600), 0.8)
        if self._kind == "pipeline":
            return chance.expovariate(1 / 0.8) if chance.random() < 0.95 else chance.lognormvariate(math.log(600), 1.0)
        return chance.expovariate(1 / 25.0)

    def _duration_s(self) -> float:
        return self._random.uniform(1.0, 5.0)

    def _text(self, size: int) -> str:
        words: list[str] = []
        while sum(map(len, words)) + len(words) < size:
            words.append(self._random.choice(_WORDS))
        return " ".join(words)[:size]

    def _entropy(self) -> bytes:
        return self._random.randbytes(32)

    def _push(self, at: float, what: str, subject: object) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, what, subject))
