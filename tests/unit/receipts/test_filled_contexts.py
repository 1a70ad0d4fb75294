"""Whether an input can fill a model's context: what a host's CONTEXT_EXCEEDED is held against."""

from __future__ import annotations

import pytest

from hostmesh.receipts.chain import JobInput
from hostmesh.receipts.counting import may_fill
from hostmesh.v1 import job_pb2


class Words:
    """A tokenizer that makes a token of each word; a template of its own makes three more, where it has one."""

    tokenizer_sha256 = b"t" * 32

    def __init__(self, *, has_template: bool) -> None:
        self._has_template = has_template

    def count_text(self, text: str) -> int:
        return len(text.split())

    def count_prompt(self, job_input: JobInput) -> int | None:
        if not self._has_template or not isinstance(job_input, job_pb2.ChatInput):
            return None
        return 3 + sum(self.count_text(message.content) for message in job_input.messages)


def chat(words: int) -> job_pb2.ChatInput:
    return job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="user", content="word " * words)])


@pytest.mark.parametrize(
    ("counter", "most"),
    [
        (None, 5 * 100 + 64 + 1024),
        (Words(has_template=False), 100 + 64 + 1024),
        (Words(has_template=True), 100 + 3 + 8),
    ],
)
def test_a_chat_fills_a_context_that_leaves_no_room_for_an_answer(counter: Words | None, most: int) -> None:
    assert may_fill(most, chat(100), counter)
    assert not may_fill(most + 1, chat(100), counter)


@pytest.mark.parametrize(("counter", "most"), [(None, 5 * 100 + 64), (Words(has_template=True), 100 + 64)])
def test_each_text_has_the_whole_context(counter: Words | None, most: int) -> None:
    texts = job_pb2.EmbeddingInput(texts=["word"] * 50 + ["word " * 100])
    # A text needs no room beside it.
    assert not may_fill(most, texts, counter)
    assert may_fill(most - 1, texts, counter)
