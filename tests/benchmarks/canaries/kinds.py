"""What simulated users ask a host, and when. Six kinds; users' words are drawn at random, so that they repeat nothing.

- A *chat* is one person: sittings hours apart, each a conversation of some turns with pauses to read and think, a fixed
  system prompt, the engine's usual settings.
- A *pipeline* is a program: bursts of single jobs that overlap, greedy, each with its own token limit, and 120 s for
  each.
- A *service* has many people behind it, whose conversations overlap, with two sets of settings and two system prompts.
- A *loop* is a program that asks one thing after the other, 5 to 50 ms after each answer, or 0.2 to 1 s; of one in
  three of them each goes on with the one before, three on average.
- *Workers* are a program with 2, 4, 8 or 16 places, each of which is a loop, with 60 s for each job. After 100 to 300
  jobs it pauses for some minutes, and all places begin anew.
- A *batch* is a program that sends 5 to 30 single jobs at once, and the next ones 0.5 to 3 s after the last answer;
  after one group in ten it pauses for some minutes.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from typing import Literal, get_args

from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import Setting

Kind = Literal["chat", "pipeline", "service", "loop", "workers", "batch"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_WORDS = sorted({word for words in shipped_corpus().slots.values() for phrase in words for word in phrase.split()})
_MEDIAN_BYTES: dict[Kind, int] = {"chat": 60, "service": 70}
_OTHER_MEDIAN_BYTES = 120
_TIMEOUT_S: dict[Kind, float] = {"pipeline": 120.0, "workers": 60.0}
_GREEDY: tuple[Setting, ...] = (("temperature", 0.0),)


@dataclass(slots=True)
class Talk:
    """A real conversation that goes on."""

    key: bytes
    messages: list[tuple[str, str]]
    turns_left: int
    parameters: tuple[Setting, ...]
    max_output_tokens: int
    system_prompt: str | None
    pause_median_s: float
    timeout_s: float | None


class Habits:
    """When one user begins conversations, and what they are.

    Args:
        kind: of the user.
        seed: chooses among the users of a kind.
        chance: what is random.
    """

    def __init__(self, kind: Kind, seed: int, chance: random.Random) -> None:
        self._kind = kind
        self._random = chance
        self._pause_s = ((0.005, 0.05), (0.2, 1.0))[seed % 2]
        self._turns = 1 if seed % 3 else 3
        self._places = (2, 4, 8, 16)[seed // 2 % 4]
        self._open = 0
        """Conversations of a batch that have begun or are to begin, or places of workers at work."""
        self._until_pause = 0
        """Conversations that workers begin yet before they pause."""

    def first(self) -> list[float]:
        """Return when conversations begin at first."""
        if self._kind == "workers":
            return self._all_places(0.0)
        return self._group(0.0) if self._kind == "batch" else [0.0]

    def after_beginning(self, at: float) -> list[float]:
        """Return when further ones begin, whatever becomes of the one that begins now."""
        chance = self._random
        match self._kind:
            case "chat":
                return [at + 900.0 + chance.lognormvariate(math.log(3600), 0.8)]
            case "pipeline":
                is_burst = chance.random() < 0.95
                return [at + (chance.expovariate(1 / 0.8) if is_burst else chance.lognormvariate(math.log(600), 1.0))]
            case "service":
                return [at + chance.expovariate(1 / 25.0)]
            case _:
                return []

    def after_end(self, at: float) -> list[float]:
        """Return when further ones begin because one is over."""
        match self._kind:
            case "loop":
                return [at + self._random.uniform(*self._pause_s)]
            case "workers":
                return self._next_of_place(at)
            case "batch":
                self._open -= 1
                if self._open:
                    return []
                pauses = self._random.random() < 0.1
                return self._group(at + (self._minutes_s() if pauses else self._random.uniform(0.5, 3.0)))
            case _:
                return []

    def new_talk(self) -> Talk:
        """Return a conversation that begins."""
        chance = self._random
        prompt, turns, tokens, parameters = None, 1, 256, _GREEDY
        if self._kind == "chat":
            prompt, turns, tokens, parameters = "You are a kind assistant.", 4, 512, (("temperature", 0.7),)
        elif self._kind in ("loop", "workers"):
            turns = self._turns
        elif self._kind == "service" and chance.random() < 0.7:
            prompt, turns, parameters = "You answer questions about our shop.", 3, (("temperature", 0.3),)
        elif self._kind == "service":
            prompt, tokens = "You write short product texts.", 800
            parameters = (("temperature", 1.0), ("top_p", 0.9))
        key = hashlib.sha256(chance.randbytes(16)).digest()
        return Talk(
            key=key,
            messages=[] if prompt is None else [("system", prompt)],
            turns_left=1 if turns == 1 else min(1 + int(chance.expovariate(1 / (turns - 1))), 12),
            parameters=parameters,
            max_output_tokens=tokens,
            system_prompt=prompt,
            pause_median_s=0.05 if self._kind in ("loop", "workers") else chance.choice((8.0, 20.0, 40.0)),
            timeout_s=_TIMEOUT_S.get(self._kind),
        )

    def next_turn(self, talk: Talk) -> tuple[str, int]:
        """Add the user's next message to a conversation; return it and the job's token limit."""
        median = _MEDIAN_BYTES.get(self._kind, _OTHER_MEDIAN_BYTES)
        text = self.text(max(8, round(self._random.lognormvariate(math.log(median), 0.7))))
        talk.messages.append(("user", text))
        talk.turns_left -= 1
        return text, self._random.randint(64, 2048) if self._kind == "pipeline" else talk.max_output_tokens

    def until_next_turn_s(self, talk: Talk) -> float:
        """Return how long the user reads and thinks."""
        return self._random.lognormvariate(math.log(talk.pause_median_s), 0.8)

    def text(self, size: int) -> str:
        """Return so many random characters of words."""
        words: list[str] = []
        while sum(map(len, words)) + len(words) < size:
            words.append(self._random.choice(_WORDS))
        return " ".join(words)[:size]

    def _next_of_place(self, at: float) -> list[float]:
        if self._until_pause:
            self._until_pause -= 1
            return [at + self._random.uniform(*self._pause_s)]
        self._open -= 1
        return [] if self._open else self._all_places(at + self._minutes_s())

    def _all_places(self, at: float) -> list[float]:
        self._open = self._places
        self._until_pause = self._random.randint(100, 300) // self._turns
        return [at + self._random.uniform(*self._pause_s) for _ in range(self._places)]

    def _group(self, at: float) -> list[float]:
        self._open = self._random.randint(5, 30)
        times = [at]
        while len(times) < self._open:
            times.append(times[-1] + self._random.uniform(0.0, 0.002))
        return times

    def _minutes_s(self) -> float:
        return self._random.uniform(60.0, 600.0)
