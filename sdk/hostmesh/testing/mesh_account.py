"""What truly happened in a :class:`MeshWorld`: what was asked for and how it ended, what hosts announced, what is left.

Its sources are the callers' side of the public API, the engines, and the simulated network; never what the code under
test says of itself, but where that is what is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

import trio

from hostmesh.discovery.choice import HostChoice
from hostmesh.errors import HostmeshError
from hostmesh.jobs.engine import ChatWork, Work
from hostmesh.jobs.usage import Usage
from hostmesh.status.snapshot import HostStatus
from hostmesh.testing.engine import FakeEngine


class Ending(Enum):
    """How a call of the public API ended."""

    RUNNING = "running"
    """It has not."""
    DONE = "done"
    FAILED = "failed"
    """With an error of hostmesh."""
    STOPPED = "stopped"
    """Its caller stopped: the program ended or was killed."""
    CRASHED = "crashed"
    """With an error that is none of hostmesh."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One call of the public API."""

    what: str
    machine: str
    began_s: float
    due_s: float | None
    """By then it must have ended; None = by the end of the play."""
    is_overdue: bool = False
    """It had not ended when all was over, and should have."""
    is_final: bool = False
    """Made after everything was healed: it must succeed."""
    ended_s: float | None = None
    ending: Ending = Ending.RUNNING
    error: BaseException | None = None
    choice: HostChoice | None = None
    """What a search found."""
    number: int | None = None
    """Of the submission that a job belongs to."""
    text: str = ""
    """What of a job's answer came."""
    usage: Usage | None = None
    """Of a job that ended well."""
    host: str | None = None
    """Whom a watch is about."""
    status: HostStatus | None = None
    """What a watch showed last."""
    lag: str | None = None
    """What a watch still showed when it had been otherwise for seconds."""

    def __str__(self) -> str:
        return f"{self.what} on {self.machine} at {self.began_s:.3f} s"


@dataclass(slots=True, kw_only=True)
class Submission:
    """A job that a client asked for, perhaps several times under one quote."""

    number: int
    machine: str
    prompt: str
    ended_s: float | None = None
    """When the client had done with it."""


@dataclass(slots=True, kw_only=True)
class Listing:
    """An announcement of a host, told by its price from all others."""

    host: str
    price: int
    from_s: float
    """It may have been seen from then on."""
    until_s: float | None = None
    """From then on it was not true any more; None = it is."""
    heard_by: frozenset[str] = frozenset()
    """Clients that were told then: connected to the host over an undisturbed link."""


@dataclass(slots=True, kw_only=True)
class MeshAccount:
    """All of it."""

    calls: list[Call] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    engines: dict[str, FakeEngine] = field(default_factory=dict)
    """By machine; an engine outlives its host's process."""
    left_over: list[str] = field(default_factory=list)
    """What was still in use when all was quiet, a line each."""
    sums: list[tuple[str, int, int]] = field(default_factory=list)
    """Counts of the code under test, and what they must add up to: of what, the count, the sum."""
    max_skew_s: float = 0.0
    """Most that any machine's clock was ever off."""

    @contextmanager
    def call(self, what: str, machine: str, *, within_s: float | None = None, is_final: bool = False) -> Iterator[Call]:
        """Note a call: the block makes it. Errors end here, noted; being cancelled goes on."""
        now = trio.current_time()
        call = Call(
            what=what,
            machine=machine,
            began_s=now,
            due_s=None if within_s is None else now + within_s,
            is_final=is_final,
        )
        self.calls.append(call)
        try:
            yield call
            call.ending = Ending.DONE
        except HostmeshError as error:
            call.ending, call.error = Ending.FAILED, error
        except Exception as error:  # noqa: BLE001 - the account says what it was
            call.ending, call.error = Ending.CRASHED, error
        except BaseException:
            call.ending = Ending.STOPPED
            raise
        finally:
            call.ended_s = trio.current_time()


# --- what engines are asked, and what they say ---

_PROMPT = re.compile(r"job (\d+): (\d+) words of (\d+) bytes")


def prompt_of(number: int, *, words: int, word_bytes: int) -> str:
    """Return a prompt that asks for an answer of this size, and that no other submission has."""
    return f"job {number}: {words} words of {word_bytes} bytes"


def answer_to(prompt: str) -> str:
    """Return what an engine says to a prompt.

    >>> answer_to(prompt_of(7, words=3, word_bytes=6))
    '7-0... 7-1... 7-2...'
    """
    asked = _PROMPT.match(prompt)
    assert asked is not None, prompt
    number, words, word_bytes = map(int, asked.groups())
    return " ".join(f"{number}-{index}".ljust(word_bytes, ".") for index in range(words))


def answer(work: ChatWork) -> str:
    """Return what an engine says to a chat; see :class:`FakeEngine`."""
    return answer_to(work.messages[-1].content)


def number_of(work: Work) -> int:
    """Return the number of the submission that an engine works on."""
    assert isinstance(work, ChatWork)
    asked = _PROMPT.match(work.messages[-1].content)
    assert asked is not None
    return int(asked[1])
