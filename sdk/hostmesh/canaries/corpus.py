"""Prompts to choose canaries from: sentences with slots, composed anew each time. Pure.

A line such as ``What is {topic}?`` has as many forms as its slots have words, so that a canary's exact text is hardly
ever composed twice. Long prompts are a reading: a request around passages, cut to the length that is wanted. Which
lines and passages a host has had is the caller's to remember: :meth:`Corpus.compose` is told which to prefer.

The corpus is public. Who knows it can hold it against each prompt; ``docs/canaries.md`` says what that means.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hostmesh.canaries.draws import Draws

CANDIDATES = 48
"""Lines that are filled in at a time, until one has about the length that is wanted."""
MAX_PROMPT_BYTES = 16_384
"""Longest prompt that is composed; a longer one is wanted in vain."""
_READING_BYTES = 80
"""From this length on a prompt may be a reading: few lines are that long."""
_NEAR = 0.05
"""Of lines whose length is off by this part at most any will do."""
_NEAR_ENOUGH = 0.15
"""A line that is shorter by more than this part gets a closing."""
_SLOT = re.compile(r"\{(\w+)\}")
_PASSAGE = "{passage}"
_WORD = re.compile(r"\S+")

Age = Callable[[str], int]
"""When a line or passage was last used, as a growing number; 0 = never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A composed prompt and the lines and passages that it was made of."""

    text: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Lines with slots, readings around passages, follow-ups of a conversation, and the words of each slot."""

    templates: tuple[str, ...]
    readings: tuple[str, ...]
    follow_ups: tuple[str, ...]
    passages: tuple[str, ...]
    closings: tuple[str, ...]
    """What may stand after a line, to bring it nearer to its length."""
    slots: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not (self.templates and self.readings and self.follow_ups and self.passages and self.closings):
            raise ValueError("a corpus has lines, readings, follow-ups, passages and closings")
        for line in (*self.templates, *self.readings, *self.follow_ups, *self.closings):
            for slot in _SLOT.findall(line):
                if slot != "passage" and not self.slots.get(slot):
                    raise ValueError(f"no words for the slot {slot!r}")
        if not all(_PASSAGE in line for line in self.readings):
            raise ValueError("a reading without a passage")

    def half(self, which: int) -> Corpus:
        """Return every second line, reading, follow-up, passage and closing: 0 = the even ones, 1 = the odd ones."""
        return Corpus(
            templates=self.templates[which::2],
            readings=self.readings[which::2],
            follow_ups=self.follow_ups[which::2],
            passages=self.passages[which::2],
            closings=self.closings[which::2],
            slots=self.slots,
        )

    def compose(self, draws: Draws, *, length_bytes: int, age: Age) -> Prompt:
        """Return a first prompt of a conversation, of about the length that is wanted.

        Args:
            draws: where the choices come from.
            length_bytes: of UTF-8, > 0. Short prompts come within the spacing of the lines (a few bytes), readings
                within a word; nothing is shorter than the shortest line or longer than :data:`MAX_PROMPT_BYTES`.
            age: lines and passages of the least age are preferred.

        Cost: O(lines + length).
        """
        length = min(length_bytes, MAX_PROMPT_BYTES)
        if length >= _READING_BYTES:
            return self._reading(draws, length, age)
        return self._nearest(self.templates, draws, length, age)

    def follow_up(self, draws: Draws, *, length_bytes: int, age: Age) -> Prompt:
        """Return a further prompt of a conversation, of about the length that is wanted."""
        if length_bytes >= _READING_BYTES:
            return self.compose(draws, length_bytes=length_bytes, age=age)
        return self._nearest((*self.follow_ups, *self.templates), draws, length_bytes, age)

    def _nearest(self, lines: Sequence[str], draws: Draws, length: int, age: Age) -> Prompt:
        # Stable: of lines with the same age the shuffled order stays.
        text, line = self._near(sorted(draws.shuffled(lines), key=age), "", draws, length, age)
        short_by = length - len(text.encode())
        if short_by <= _NEAR_ENOUGH * length:
            return Prompt(text=text, parts=(line,))
        closings = sorted(draws.shuffled(self.closings), key=age)
        text, closing = self._near(closings, f"{text} ", draws, length, age)
        return Prompt(text=text, parts=(line, closing))

    def _near(self, lines: Sequence[str], before: str, draws: Draws, length: int, age: Age) -> tuple[str, str]:
        """Return a text of about this length from one of the youngest lines that make one, else the nearest text."""
        filled: list[tuple[int, str, str]] = []
        for place, line in enumerate(lines, 1):
            text = before + self._fill(line, draws)
            filled.append((abs(len(text.encode()) - length), text, line))
            if place % CANDIDATES == 0 or place == len(lines):
                near = [(text, line) for off, text, line in filled if off <= _NEAR * length]
                if near:
                    return draws.choice([one for one in near if age(one[1]) == age(near[0][1])])
        _, text, line = min(filled, key=lambda one: one[0])  # of equals the youngest
        return text, line

    def _reading(self, draws: Draws, length: int, age: Age) -> Prompt:
        line = min(draws.shuffled(self.readings), key=age)
        frame = self._fill(line, draws)
        wanted = max(length - len(frame.encode()) + len(_PASSAGE), 1)
        taken: list[str] = []
        size = 0
        pool = sorted(draws.shuffled(self.passages), key=age)
        while size < wanted:
            passage = pool[len(taken) % len(pool)]
            taken.append(passage)
            size += len(passage.encode()) + 2
        body = _cut("\n\n".join(taken), wanted)
        return Prompt(text=frame.replace(_PASSAGE, body), parts=(line, *dict.fromkeys(taken)))

    def _fill(self, line: str, draws: Draws) -> str:
        used: set[str] = set()

        def word(match: re.Match[str]) -> str:
            slot = match.group(1)
            if slot == "passage":
                return match.group(0)
            fresh = [word for word in self.slots[slot] if word not in used] or list(self.slots[slot])
            chosen = draws.choice(fresh)
            used.add(chosen)
            return chosen

        return _SLOT.sub(word, line)


def _cut(text: str, size: int) -> str:
    """Return the text's beginning, of about ``size`` bytes, to the end of the word that is nearest to it."""
    head = text.encode()[:size].decode(errors="ignore")
    ends = [word.end() for word in _WORD.finditer(text)]
    after = bisect_left(ends, len(head))
    if after == 0:
        return head  # all of it is one word
    return min((text[:end] for end in ends[after - 1 : after + 1]), key=lambda part: abs(len(part.encode()) - size))
