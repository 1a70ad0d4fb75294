"""What a client accepts as the course of a job."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.jobs.kit import HOST_KEY

from hostmesh.errors import RemoteProtocolError
from hostmesh.jobs.content import WireInput, build_input
from hostmesh.jobs.engine import FinishReason
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.jobs.transcript import Accepted, Completed, TextDelta, Transcript
from hostmesh.v1 import job_pb2

OFFER = QuoteOffer(
    quote_id=b"q" * 16,
    peer_id=HOST_KEY.peer_id,
    model_id="m",
    price_micros_per_mtok=250_000,
    currency="USD",
    max_output_tokens=10,
    context_tokens=100,
    issued_at_unix_s=0,
    expires_at_unix_s=60,
    queue_position=0,
    envelope=b"",
)
CHAT = build_input(prompt="abcdefgh")
TEXTS = build_input(texts=["abcd", "ef"])


def accepted() -> job_pb2.RunResponse:
    return job_pb2.RunResponse(accepted=job_pb2.JobAccepted(job_id=b"q" * 16, queue_position=2))


def text(index: int, value: str = "x") -> job_pb2.RunResponse:
    return job_pb2.RunResponse(text=job_pb2.TextDelta(index=index, text=value, completion_tokens=index + 1))


def vector(index: int, *values: float) -> job_pb2.RunResponse:
    return job_pb2.RunResponse(vector=job_pb2.EmbeddingVector(index=index, values=values))


def completed(prompt: int = 4, completion: int = 4, cost: int = 2, reason: str = "stop") -> job_pb2.RunResponse:
    usage = job_pb2.Usage(prompt_tokens=prompt, completion_tokens=completion, cost_micros=cost)
    return job_pb2.RunResponse(completed=job_pb2.JobCompleted(usage=usage, finish_reason=reason))


def play(*responses: job_pb2.RunResponse, wire: WireInput = CHAT, end: bool = True) -> list[Any]:
    transcript = Transcript(OFFER, wire)
    events: list[Any] = [transcript.event(response) for response in responses]
    if end:
        transcript.end()
    return events


def test_a_chat_job_is_read_in_order() -> None:
    events = play(accepted(), text(0, "Hel"), text(1, "lo"), completed(reason="length"))
    assert events[0] == Accepted(job_id=b"q" * 16, queue_position=2)
    assert events[1:3] == [
        TextDelta(index=0, text="Hel", completion_tokens=1),
        TextDelta(index=1, text="lo", completion_tokens=2),
    ]
    assert isinstance(events[3], Completed)
    assert events[3].finish_reason is FinishReason.LENGTH
    assert (events[3].usage.prompt_tokens, events[3].usage.completion_tokens) == (4, 4)
    assert (events[3].usage.cost_micros, events[3].usage.currency) == (2, "USD")


def test_an_embedding_job_has_a_vector_for_each_text() -> None:
    free_of_tokens = completed(prompt=2, completion=0, cost=1)
    events = play(accepted(), vector(0, 1.5, 2.0), vector(1, 0.5, -1.0), free_of_tokens, wire=TEXTS)
    assert [event.values for event in events[1:3]] == [(1.5, 2.0), (0.5, -1.0)]


@pytest.mark.parametrize(
    "responses",
    [
        [text(0)],
        [completed()],
        [job_pb2.RunResponse()],
        [accepted(), accepted()],
        [accepted(), job_pb2.RunResponse()],
        [accepted(), text(1)],
        [accepted(), text(0), text(0)],
        [accepted(), text(0), text(2)],
        [accepted(), text(1), text(0)],
        [accepted(), vector(0, 1.0)],
        [accepted(), completed(), text(0)],
        [accepted(), completed(), completed()],
        [accepted(), completed(reason="because")],
        [accepted(), completed(cost=1)],
        [accepted(), completed(cost=3)],
        [accepted(), completed(completion=11, cost=4)],
        [accepted(), completed(prompt=91, completion=10, cost=26)],
        [accepted(), completed(prompt=97, completion=4, cost=26)],
    ],
)
def test_what_may_not_come_in_a_chat_job_is_refused(responses: list[job_pb2.RunResponse]) -> None:
    with pytest.raises(RemoteProtocolError):
        play(*responses, end=False)


@pytest.mark.parametrize(
    "responses",
    [
        [accepted(), text(0)],
        [accepted(), vector(1, 1.0)],
        [accepted(), vector(0)],
        [accepted(), vector(0, float("nan"))],
        [accepted(), vector(0, float("inf"))],
        [accepted(), vector(0, 1.0), vector(1, 1.0, 2.0)],
        [accepted(), vector(0, 1.0), vector(1, 1.0), vector(2, 1.0)],
        [accepted(), vector(0, 1.0), completed(prompt=2, completion=0, cost=1)],
    ],
)
def test_what_may_not_come_in_an_embedding_job_is_refused(responses: list[job_pb2.RunResponse]) -> None:
    with pytest.raises(RemoteProtocolError):
        play(*responses, wire=TEXTS, end=False)


def test_tokens_that_the_prompt_cannot_have_are_refused() -> None:
    big_context = QuoteOffer(
        **{name: getattr(OFFER, name) for name in OFFER.__slots__ if name not in ("context_tokens", "envelope")},
        context_tokens=10**6,
        envelope=b"",
    )
    for tokens, believed in ((8 + 64 + 1024, True), (8 + 64 + 1024 + 1, False)):
        transcript = Transcript(big_context, CHAT)
        transcript.event(accepted())
        response = completed(prompt=tokens, completion=0, cost=-(-tokens // 4))
        if believed:
            transcript.event(response)
        else:
            with pytest.raises(RemoteProtocolError):
                transcript.event(response)


def test_an_ok_without_usage_is_no_end() -> None:
    for responses in ([], [accepted()], [accepted(), text(0)]):
        with pytest.raises(RemoteProtocolError):
            play(*responses)
