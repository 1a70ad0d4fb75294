"""What engines answer, of every family, and what they must not make a host do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh import ContextExceededError, EngineError, FinishReason, ModelInfo, ModelKind, ModelNotReadyError
from hostmesh_host.engines.answers import ChatReader, error_of, read_json, read_token_count, read_usage, read_vectors

MODEL = ModelInfo(model_id="m", kind=ModelKind.CHAT, context_tokens=4096, engine="test")


def reader(most: int = 100) -> ChatReader:
    return ChatReader(model=MODEL, max_output_tokens=most)


def chunk(content: object = None, *, reason: object = None, **more: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}], **more})


VLLM = [
    (
        '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
        '{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
        '"usage":{"prompt_tokens":5,"total_tokens":5,"completion_tokens":0}}'
    ),
    (
        '{"id":"c","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],'
        '"usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1}}'
    ),
    (
        '{"id":"c","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop","stop_reason":null}],'
        '"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}'
    ),
    '{"id":"c","choices":[],"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}',
    "[DONE]",
]
OLLAMA = [
    (
        '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp_ollama",'
        '"choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}]}'
    ),
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":"lo"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}',
    '{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}',
    "[DONE]",
]
LLAMA_PROGRESS = [
    (
        '{"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}],'
        '"prompt_progress":{"total":5,"cache":0,"processed":3,"time_ms":9}}'
    ),
    '{"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"timings":{"predicted_n":1}}',
    '{"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}],"timings":{"predicted_n":2}}',
    '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    '{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}',
    "[DONE]",
]


@pytest.mark.parametrize(
    ("events", "counts"),
    [(VLLM, [1, 2]), (OLLAMA, [None, None]), (LLAMA_PROGRESS, [1, 2])],
    ids=["vLLM", "Ollama", "llama.cpp"],
)
def test_each_familys_stream_is_read(events: list[str], counts: list[int | None]) -> None:
    chat = reader()
    pieces = [piece for data in events for piece in chat.feed(data)]
    assert [piece.text for piece in pieces] == ["Hel", "lo"]
    assert [piece.completion_tokens for piece in pieces] == counts
    assert chat.is_done
    assert chat.finish_reason is FinishReason.STOP
    assert chat.usage is not None
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (5, 2)


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        "[]",
        "nonsense",
        '{"choices": {}}',
        '{"choices": [1]}',
        chunk(7),
        chunk(["text"]),
        chunk("x", reason="content_filter"),
        chunk("x", reason=1),
        '{"choices": [{"delta": {"content": "\\ud800"}}]}',
        '{"choices": NaN}',
        "[" * 100_000,
        '{"error": {"code": 500, "message": "x"}}',
        '{"object": "error", "message": "x", "code": 400}',
        '{"error": "a word"}',
    ],
)
def test_what_is_no_event_of_the_api_is_an_engine_error(data: str) -> None:
    with pytest.raises(EngineError):
        list(reader().feed(data))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["choices", "delta", "content", "usage", "error"]), inner)
        ),
    )
)
def test_no_json_makes_another_error_than_ours(document: object) -> None:
    chat = reader()
    try:
        pieces = list(chat.feed(json.dumps(document)))
    except EngineError:
        return
    assert all(piece.text for piece in pieces)


def test_a_long_text_is_split_at_whole_characters() -> None:
    text = "ab😀" * 40_000
    pieces = [piece.text for piece in reader().feed(chunk(text))]
    assert "".join(pieces) == text
    assert len(pieces) > 1
    assert all(len(piece.encode()) <= 65_536 for piece in pieces)


def test_more_tokens_than_asked_for_are_refused() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 101}
    with pytest.raises(EngineError, match="more tokens"):
        list(reader(most=100).feed(json.dumps({"choices": [], "usage": usage})))


@pytest.mark.parametrize(
    "usage",
    [None, 7, {}, {"prompt_tokens": -1, "completion_tokens": 1}, {"prompt_tokens": 1.5}, {"prompt_tokens": True},
     {"prompt_tokens": 2**60}, {"completion_tokens": 3}],
)  # fmt: skip
def test_usage_that_is_none_is_not_believed(usage: object) -> None:
    assert read_usage(usage) is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "numbers"),
    [
        (
            400,
            {
                "error": {
                    "code": 400,
                    "type": "exceed_context_size_error",
                    "message": "m",
                    "n_prompt_tokens": 9,
                    "n_ctx": 8,
                }
            },
            ContextExceededError,
            (8, 9),
        ),
        (
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
                "type": "BadRequestError",
                "code": 400,
            },
            ContextExceededError,
            (4096, None),
        ),
        (
            400,
            {"error": {"code": "context_length_exceeded", "message": "too long"}},
            ContextExceededError,
            (4096, None),
        ),
        (500, {"error": {"code": 400, "type": "exceed_context_size_error"}}, ContextExceededError, (4096, None)),
        (404, {"error": {"message": "model 'm' not found"}}, ModelNotReadyError, None),
        (503, {"error": {"message": "Loading model"}}, ModelNotReadyError, None),
        (429, None, EngineError, None),
        (401, None, EngineError, None),
        (307, None, EngineError, None),
        (400, {"error": {"message": "bad"}}, EngineError, None),
        (500, None, EngineError, None),
        (500, {"error": {"code": True}}, EngineError, None),
    ],
)
def test_each_refusal_is_told_apart(
    status: int, body: dict[str, object] | None, kind: type[EngineError], numbers: tuple[int, int | None] | None
) -> None:
    error = error_of(status, body, model=MODEL)
    assert type(error) is kind
    assert error.remedy
    if numbers is not None:
        assert isinstance(error, ContextExceededError)
        assert (error.context_tokens, error.input_tokens) == numbers


def test_an_engines_words_do_not_reach_our_message() -> None:
    error = error_of(400, {"error": {"message": "cannot parse: my secret prompt"}}, model=MODEL)
    assert "secret" not in f"{error.message}{error.remedy}"


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": ["1"]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [10**400]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [float("inf")]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0] * 16_385}],
        [{"index": True, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
    ],
)
def test_bad_vectors_are_refused(data: object) -> None:
    with pytest.raises(EngineError):
        read_vectors({"data": data}, expected=2)


def test_vectors_come_in_the_order_of_the_texts() -> None:
    data = [{"index": 1, "embedding": [2, 0.5]}, {"index": 0, "embedding": [1, 0]}]
    assert read_vectors({"data": data}, expected=2) == [(1.0, 0.0), (2.0, 0.5)]


def test_token_counts_of_both_shapes() -> None:
    assert read_token_count({"tokens": [1, 2, 3]}) == 3
    assert read_token_count({"count": 4, "max_model_len": 8, "tokens": [1, 2, 3, 4]}) == 4
    with pytest.raises(EngineError):
        read_token_count({"error": "no"})


@pytest.mark.parametrize("body", [b"", b"\xff", b"1", b'"x"', b'{"a": Infinity}', b"{" * 50_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(EngineError):
        read_json(body)
