"""Which jobs go on with an earlier one."""

from __future__ import annotations

import random

from hostmesh.canaries.conversations import MAX_CONVERSATIONS, Conversations

FIRST = [("system", "Be brief."), ("user", "Hi")]
SECOND = [*FIRST, ("assistant", "Hello"), ("user", "Why?")]
THIRD = [*SECOND, ("assistant", "So."), ("user", "Oh?")]


def conversations() -> Conversations:
    return Conversations(random.Random(1).randbytes)


def test_a_job_that_repeats_all_of_another_and_adds_to_it_goes_on_with_it() -> None:
    seen = conversations()
    assert len({seen.of("host", turns) for turns in (FIRST, SECOND, THIRD)}) == 1


def test_two_that_begin_alike_are_two() -> None:
    seen = conversations()
    one, two = seen.of("host", FIRST), seen.of("host", FIRST)
    assert one != two
    assert seen.of("host", SECOND) == two
    assert seen.of("host", SECOND) not in (one, two), "what was gone on with is not gone on with twice"


def test_another_host_or_other_words_begin_another() -> None:
    seen = conversations()
    first = seen.of("host", FIRST)
    assert seen.of("other", SECOND) != first
    assert seen.of("host", [("system", "Be long."), *SECOND[1:]]) != first
    # Where one text ends and the next begins counts.
    assert seen.of("host", [("system", "Be brief.us"), ("er", "Hi"), *SECOND[2:]]) != first
    assert seen.of("host", SECOND) == first


def test_the_oldest_go() -> None:
    seen = conversations()
    first = seen.of("host", FIRST)
    for number in range(MAX_CONVERSATIONS):
        seen.of("host", [("user", str(number))])
    assert seen.of("host", SECOND) != first
    assert len(seen._names) == MAX_CONVERSATIONS
