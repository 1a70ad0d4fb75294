"""What a prompt takes of the slice, and what is claimed for one that was never counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import ReceiptError
from hostmesh.receipts.chain import JobInput
from hostmesh.receipts.counting import check_prompt, most_claimed_tokens
from hostmesh.receipts.prompt_room import PromptRoom, prompt_room
from hostmesh.v1 import job_pb2


def chat(*texts: str) -> job_pb2.ChatInput:
    return job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="user", content=text) for text in texts])


def room_of(job_input: JobInput, counted: int | None = None, *, context: int = 4096, most: int = 512) -> PromptRoom:
    return prompt_room(job_input, counted, context_tokens=context, max_output_tokens=most)


@pytest.mark.parametrize("counted", [0, 7])
def test_a_counted_prompt_takes_its_count(counted: int) -> None:
    room = room_of(chat("x" * 600), counted)
    assert (room.is_counted, room.tokens, room.answer_tokens) == (True, counted, 0)


@pytest.mark.parametrize(
    ("job_input", "context", "most", "held", "beside"),
    [
        (chat("é" * 300), 4096, 512, 600 + 64 + 1024, 16),
        (chat("x", "yz"), 4096, 5, 3 + 2 * 64 + 1024, 5),
        (chat("x" * 600), 256, 64, 240, 16),
        (chat("x" * 600), 10, 10, 0, 10),
        (job_pb2.EmbeddingInput(texts=["x", "yz"]), 4096, 0, 3 + 2 * 64 + 1024, 0),
        (job_pb2.EmbeddingInput(texts=["x", "yz"]), 32, 0, 64, 0),
    ],
)
def test_one_that_nobody_counted_takes_the_most_that_it_can_be(
    job_input: JobInput, context: int, most: int, held: int, beside: int
) -> None:
    room = room_of(job_input, context=context, most=most)
    assert (room.is_counted, room.tokens, room.answer_tokens) == (False, held, beside)


@pytest.mark.parametrize(
    ("text", "claimed"), [("", 0), ("x" * 5, 0), ("x" * 6, 1), ("é" * 300, 100), ("x" * 600_000, 4080)]
)
def test_the_estimate_is_a_token_for_six_bytes(text: str, claimed: int) -> None:
    assert room_of(chat(text)).claimed_tokens(0) == claimed


def test_estimate_and_answer_fit_the_context() -> None:
    room = room_of(chat("x" * 600), context=200)
    assert [room.claimed_tokens(tokens) for tokens in (100, 150, 200, 201)] == [100, 50, 0, 0]


@pytest.mark.parametrize(("slice_micros", "is_refused"), [(276, True), (277, False)])
def test_a_slice_holds_the_prompt_and_the_beginning_of_the_answer(slice_micros: int, is_refused: bool) -> None:
    room = room_of(chat("x"))  # 1,089 and 16
    if not is_refused:
        room.check_slice(slice_micros, 250_000)
        return
    with pytest.raises(ReceiptError) as caught:
        room.check_slice(slice_micros, 250_000)
    assert caught.value.reason == "SLICE_TOO_SMALL"
    assert "slice_micros of 277 or more" in caught.value.remedy


@pytest.mark.parametrize("slice_micros", [999, 1000])
def test_of_a_counted_prompt_its_cost_fits(slice_micros: int) -> None:
    room = room_of(chat("x"), 1000)
    if slice_micros == 1000:
        room.check_slice(slice_micros, 1_000_000)
        return
    with pytest.raises(ReceiptError, match="the prompt alone costs 1000"):
        room.check_slice(slice_micros, 1_000_000)


def test_a_slice_of_a_context_is_enough() -> None:
    for text in ("x", "x" * 100_000):
        room_of(chat(text)).check_slice(4096, 1_000_000)


class Few:
    """A tokenizer that makes fewer tokens of a text than anybody guesses."""

    tokenizer_sha256 = b"t" * 32

    def __init__(self, tokens: int, *, has_template: bool) -> None:
        self._tokens, self._has_template = tokens, has_template

    def count_text(self, text: str) -> int:
        return self._tokens

    def count_prompt(self, job_input: JobInput) -> int | None:
        return self._tokens if self._has_template else None


COUNTERS = st.none() | st.builds(Few, st.integers(0, 50), has_template=st.booleans())
INPUTS = st.builds(lambda texts: chat(*texts), st.lists(st.text(max_size=400), min_size=1, max_size=3)) | st.builds(
    lambda texts: job_pb2.EmbeddingInput(texts=texts), st.lists(st.text(max_size=400), min_size=1, max_size=3)
)


@given(job_input=INPUTS, counter=COUNTERS, context=st.integers(1, 2000), tokens=st.integers(0, 2000))
def test_every_client_takes_the_estimate(job_input: JobInput, counter: Few | None, context: int, tokens: int) -> None:
    room = room_of(job_input, context=context, most=context)
    claimed = room.claimed_tokens(tokens)
    check_prompt(claimed, job_input, counter)
    assert claimed <= most_claimed_tokens(job_input, counter)
    assert claimed <= room.tokens, "no more than was held"
    contexts = 1 if isinstance(job_input, job_pb2.ChatInput) else len(job_input.texts)
    assert claimed == 0 or claimed + tokens <= context * contexts
