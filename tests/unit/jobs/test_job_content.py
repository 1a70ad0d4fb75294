"""The input of a job, both ways."""

from __future__ import annotations

import pytest
from tests.unit.jobs.kit import CHAT_MODEL, EMBED_MODEL

from hostmesh.errors import JobError, UsageError
from hostmesh.jobs.content import MAX_INPUT_BYTES, build_input, input_bytes, work_of
from hostmesh.jobs.engine import ChatMessage, ChatWork, EmbeddingWork, Role
from hostmesh.v1 import job_pb2
from hostmesh.wire.bounds import check_bounds


def reason_of(**arguments: object) -> str:
    with pytest.raises(JobError) as caught:
        build_input(**arguments)  # type: ignore[arg-type]
    return caught.value.reason


def test_a_prompt_becomes_a_users_message_behind_the_system_prompt() -> None:
    wire = build_input(prompt="Hé", system_prompt="Be brief.")
    assert isinstance(wire, job_pb2.ChatInput)
    assert [(m.role, m.content) for m in wire.messages] == [("system", "Be brief."), ("user", "Hé")]
    assert input_bytes(wire) == 9 + 3


def test_messages_come_as_values_or_mappings() -> None:
    wire = build_input(
        messages=[
            ChatMessage(role=Role.USER, content="a"),
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": ""},
        ]
    )
    work = work_of(
        job_pb2.RunRequest(quote_id=b"q" * 16, chat=wire), CHAT_MODEL, max_output_tokens=5, parameters={"seed": 1}
    )
    assert work == ChatWork(
        model_id=CHAT_MODEL.model_id,
        messages=(
            ChatMessage(role=Role.USER, content="a"),
            ChatMessage(role=Role.ASSISTANT, content="b"),
            ChatMessage(role=Role.USER, content=""),
        ),
        max_output_tokens=5,
        parameters={"seed": 1},
    )


def test_texts_become_work_in_their_order() -> None:
    wire = build_input(texts=["b", "a", "b"])
    work = work_of(job_pb2.RunRequest(embedding=wire), EMBED_MODEL, max_output_tokens=0, parameters={})
    assert work == EmbeddingWork(model_id=EMBED_MODEL.model_id, texts=("b", "a", "b"))
    assert input_bytes(wire) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"prompt": "a", "texts": ["b"]},
        {"prompt": "a", "messages": []},
        {"texts": ["a"], "system_prompt": "s"},
        {"texts": "one text"},
        {"texts": [1]},
        {"prompt": b"bytes"},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": [{"role": "user"}]},
        {"messages": "Hello"},
        {"messages": [None]},
        {"messages": [{"role": "user", "content": 1}]},
    ],
)
def test_calls_that_make_no_sense_are_the_callers_bug(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        build_input(**arguments)  # type: ignore[arg-type]


def test_input_over_a_bound_of_the_wire_is_refused_before_it_leaves() -> None:
    assert reason_of(prompt="x" * 262_145) == "TOO_LARGE"
    assert reason_of(prompt="é" * 131_073) == "TOO_LARGE"
    assert reason_of(messages=[{"role": "user", "content": "x"}] * 257) == "TOO_LARGE"
    assert reason_of(messages=[{"role": "user", "content": "x" * 262_144}] * 4) == "TOO_LARGE"
    assert reason_of(texts=["x"] * 257) == "TOO_LARGE"
    assert reason_of(texts=["x" * 65_537]) == "TOO_LARGE"
    assert reason_of(texts=["x" * 65_536] * 16) == "TOO_LARGE"
    assert reason_of(messages=[]) == "INVALID_INPUT"
    assert reason_of(texts=[]) == "INVALID_INPUT"
    assert reason_of(texts=["a", ""]) == "INVALID_INPUT"
    assert reason_of(prompt="half \ud800") == "INVALID_INPUT"


def test_the_largest_input_fits_a_request_beside_the_largest_parameters() -> None:
    item = MAX_INPUT_BYTES // 256 - 32
    parameter = job_pb2.Parameter(name="p" * 32, texts=job_pb2.TextList(values=["x" * 256] * 2))
    requests = [
        job_pb2.RunRequest(chat=build_input(messages=[{"role": "assistant", "content": "x" * item}] * 256)),
        job_pb2.RunRequest(embedding=build_input(texts=["x" * item] * 256)),
    ]
    for request in requests:
        request.quote_id = b"q" * 16
        request.parameters.extend([parameter] * 32)
        check_bounds(request)
        assert 1_000_000 < request.ByteSize() <= 1_048_576


@pytest.mark.parametrize(
    ("request_", "model", "reason"),
    [
        (job_pb2.RunRequest(), CHAT_MODEL, "INVALID_INPUT"),
        (job_pb2.RunRequest(chat=job_pb2.ChatInput()), CHAT_MODEL, "INVALID_INPUT"),
        (job_pb2.RunRequest(chat=build_input(prompt="a")), EMBED_MODEL, "UNSUPPORTED_INPUT"),
        (job_pb2.RunRequest(embedding=build_input(texts=["a"])), CHAT_MODEL, "UNSUPPORTED_INPUT"),
        (job_pb2.RunRequest(embedding=job_pb2.EmbeddingInput()), EMBED_MODEL, "INVALID_INPUT"),
        (job_pb2.RunRequest(embedding=job_pb2.EmbeddingInput(texts=["a", ""])), EMBED_MODEL, "INVALID_INPUT"),
        (
            job_pb2.RunRequest(chat=job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="tool", content="a")])),
            CHAT_MODEL,
            "INVALID_INPUT",
        ),
    ],
)
def test_a_host_refuses_input_that_its_model_does_not_take(request_: object, model: object, reason: str) -> None:
    with pytest.raises(JobError) as caught:
        work_of(request_, model, max_output_tokens=5, parameters={})  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_no_repr_shows_a_prompt() -> None:
    work = ChatWork(model_id="m", messages=(ChatMessage(role=Role.USER, content="secret"),), max_output_tokens=1)
    assert "secret" not in repr(work)
    assert "secret" not in repr(work.messages[0])
    assert "secret" not in repr(EmbeddingWork(model_id="m", texts=("secret",)))
