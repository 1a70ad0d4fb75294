"""What a job is charged for."""

from __future__ import annotations

import pytest

from hostmesh.errors import EngineError
from hostmesh.jobs.engine import ChatWork, EmbeddingWork, Finished, FinishReason, TextPiece
from hostmesh.jobs.usage import TokenMeter, most_tokens

CHAT = ChatWork(model_id="m", messages=(), max_output_tokens=10)
TEXTS = EmbeddingWork(model_id="m", texts=("a", "b", "c"))


def meter(*, reserved: int = 20, most: int = 10, prompt: int | None = 5) -> TokenMeter:
    return TokenMeter(reserved_tokens=reserved, max_output_tokens=most, prompt_tokens=prompt)


def finished(prompt: int, completion: int) -> Finished:
    return Finished(prompt_tokens=prompt, completion_tokens=completion, finish_reason=FinishReason.STOP)


@pytest.mark.parametrize(
    ("work", "prompt", "context", "most"),
    [
        (CHAT, 5, 100, 15),
        (CHAT, 95, 100, 100),
        (CHAT, None, 100, 100),
        (TEXTS, 7, 32, 7),
        (TEXTS, None, 32, 96),
    ],
)
def test_the_most_a_job_can_be_charged_for(work: ChatWork, prompt: int | None, context: int, most: int) -> None:
    assert most_tokens(work, prompt_tokens=prompt, context_tokens=context) == most


def test_pieces_count_one_token_each_unless_the_engine_counts() -> None:
    m = meter()
    assert m.piece(TextPiece(text="a"))
    assert m.piece(TextPiece(text=""))
    assert m.piece(TextPiece(text="b"))
    assert m.completion_tokens == 2
    assert m.piece(TextPiece(text="c", completion_tokens=6))
    assert m.completion_tokens == 6


def test_a_piece_over_the_limit_is_not_counted() -> None:
    m = meter(most=2)
    assert m.piece(TextPiece(text="a"))
    assert m.piece(TextPiece(text="b"))
    assert not m.piece(TextPiece(text="c"))
    assert m.completion_tokens == 2


def test_a_piece_over_what_was_reserved_is_not_counted() -> None:
    m = meter(reserved=7, most=10, prompt=5)
    assert m.piece(TextPiece(text="a", completion_tokens=2))
    assert not m.piece(TextPiece(text="b", completion_tokens=3))
    assert m.completion_tokens == 2


def test_a_count_that_goes_back_or_below_nothing_is_the_engines_failure() -> None:
    m = meter()
    m.piece(TextPiece(text="a", completion_tokens=3))
    with pytest.raises(EngineError):
        m.piece(TextPiece(text="b", completion_tokens=2))
    with pytest.raises(EngineError):
        m.billed_prompt_tokens(finished(-1, 0))


def test_a_prompt_that_was_counted_beforehand_stays_as_counted() -> None:
    assert meter(prompt=5).billed_prompt_tokens(finished(8, 10)) == 5
    assert meter(prompt=5).billed_prompt_tokens(finished(3, 10)) == 5


def test_what_an_engine_counts_beyond_the_reservation_is_the_hosts_loss() -> None:
    m = meter(reserved=15, most=10, prompt=None)
    m.piece(TextPiece(text="a", completion_tokens=9))
    assert m.billed_prompt_tokens(finished(4, 9)) == 4
    assert m.billed_prompt_tokens(finished(100, 9)) == 6
