"""What an engine answers, checked and read. Pure.

An engine is trusted with prompts, not with memory: whatever it sends, the outcome is an event, a number or an
:class:`~hostmesh.errors.EngineError`. Error texts never quote the engine's words, which may quote the prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hostmesh import FinishReason, ModelInfo, TextPiece
from hostmesh.errors import ContextExceededError, EngineError, ModelNotReadyError
from hostmesh.json_text import parse_json

MAX_PIECE_BYTES = 65_536
"""Of one :class:`TextPiece`."""
MAX_DIMENSIONS = 16_384
MAX_COUNT = 2**53
"""Greatest count of tokens that is believed; what JSON numbers carry exactly."""

_CONTEXT_WORDS = re.compile(
    r"context (length|size|window)|maximum context|max_model_len|longer than the maximum", re.IGNORECASE
)


def read_json(body: bytes | str) -> Mapping[str, object]:
    """Return the JSON object.

    Raises:
        EngineError: no JSON, no object, NaN or Infinity in it, or nested too deeply.
    """
    try:
        document = parse_json(body if isinstance(body, str) else body.decode())
    except ValueError as error:
        raise EngineError("the engine's answer is no JSON") from error
    if not isinstance(document, dict):
        raise EngineError("the engine's answer is no JSON object")
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """What an engine says that work took."""

    prompt_tokens: int
    completion_tokens: int


def read_usage(value: object) -> TokenUsage | None:
    """Return the usage; None = the engine gave none. Both numbers must be there (an embedding has no completion)."""
    if not isinstance(value, dict):
        return None
    prompt = _count(value.get("prompt_tokens"))
    completion = _count(value.get("completion_tokens", 0))
    if prompt is None or completion is None:
        return None
    return TokenUsage(prompt_tokens=prompt, completion_tokens=completion)


def _count(value: object) -> int | None:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        return None
    return value


class ChatReader:
    """Reads the events of one streamed chat.

    Args:
        model: the model asked.
        max_output_tokens: as asked for; an engine that counts more has not done what was asked.
    """

    def __init__(self, *, model: ModelInfo, max_output_tokens: int) -> None:
        self._model = model
        self._max_output_tokens = max_output_tokens
        self.usage: TokenUsage | None = None
        self.finish_reason: FinishReason | None = None
        self.is_done = False

    def feed(self, data: str) -> Iterator[TextPiece]:
        """Return the pieces of text in an event's data.

        Raises:
            EngineError: an error event, or an event that is none of the API's.
        """
        if data.strip() == "[DONE]":
            self.is_done = True
            return
        document = read_json(data)
        if "error" in document or document.get("object") == "error":
            raise error_of(500, document, model=self._model)
        usage = read_usage(document.get("usage"))
        if usage is not None:
            if usage.completion_tokens > self._max_output_tokens:
                raise EngineError("the engine generated more tokens than it was asked for")
            self.usage = usage
        choice = _first_choice(document)
        if choice is None:
            return
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(text, str) and text:
            yield from _pieces(text, _tokens_so_far(document, usage))
        elif text is not None and text != "":
            raise EngineError("the engine sent a piece of text that is no text")
        if choice.get("finish_reason") is not None:
            self.finish_reason = _finish_reason(choice["finish_reason"])


def _first_choice(document: Mapping[str, object]) -> Mapping[str, object] | None:
    choices = document.get("choices")
    if not isinstance(choices, list):
        raise EngineError("the engine sent an event without choices")
    if not choices:
        return None
    if not isinstance(choices[0], dict):
        raise EngineError("the engine sent a choice that is none")
    return choices[0]


def _tokens_so_far(document: Mapping[str, object], usage: TokenUsage | None) -> int | None:
    if usage is not None:
        return usage.completion_tokens
    timings = document.get("timings")
    return _count(timings.get("predicted_n")) if isinstance(timings, dict) else None


def _finish_reason(value: object) -> FinishReason:
    match value:
        case "stop":
            return FinishReason.STOP
        case "length":
            return FinishReason.LENGTH
        case _:
            raise EngineError("the engine ended the answer for a reason of its own")


def _pieces(text: str, completion_tokens: int | None) -> Iterator[TextPiece]:
    """Split a text at whole characters into pieces within their bound."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise EngineError("the engine sent half a character") from error
    if size <= MAX_PIECE_BYTES:
        yield TextPiece(text=text, completion_tokens=completion_tokens)
        return
    step = MAX_PIECE_BYTES // 4  # no character takes more than four bytes
    for start in range(0, len(text), step):
        yield TextPiece(text=text[start : start + step], completion_tokens=completion_tokens)


def read_vectors(document: Mapping[str, object], *, expected: int) -> list[tuple[float, ...]]:
    """Return the vectors of an embeddings answer in the order of the texts.

    Raises:
        EngineError: one is missing, doubled, of another length than the rest, or holds what is no finite number.
    """
    data = document.get("data")
    if not isinstance(data, list) or len(data) != expected:
        raise EngineError("the engine did not give one vector for each text")
    by_index: dict[int, tuple[float, ...]] = {}
    for item in data:
        index = item.get("index") if isinstance(item, dict) else None
        values = item.get("embedding") if isinstance(item, dict) else None
        if type(index) is not int or not 0 <= index < expected or index in by_index or not isinstance(values, list):
            raise EngineError("the engine did not give one vector for each text")
        by_index[index] = _vector(values)
    vectors = [by_index[index] for index in range(expected)]
    if len({len(vector) for vector in vectors}) > 1:
        raise EngineError("the engine's vectors differ in length")
    return vectors


def _vector(values: Sequence[object]) -> tuple[float, ...]:
    if not 1 <= len(values) <= MAX_DIMENSIONS:
        raise EngineError(f"the engine's vector has {len(values)} numbers")
    numbers = []
    for value in values:
        if type(value) not in (int, float):
            raise EngineError("the engine's vector holds what is no number")
        assert isinstance(value, (int, float))
        try:
            number = float(value)
        except OverflowError as error:
            raise EngineError("the engine's vector holds what is no finite number") from error
        if not math.isfinite(number):
            raise EngineError("the engine's vector holds what is no finite number")
        numbers.append(number)
    return tuple(numbers)


def read_token_count(document: Mapping[str, object]) -> int:
    """Return how many tokens a ``/tokenize`` answer counts: vLLM's ``count``, else the length of ``tokens``.

    Raises:
        EngineError: neither is there.
    """
    count = _count(document.get("count"))
    if count is not None:
        return count
    tokens = document.get("tokens")
    if not isinstance(tokens, list):
        raise EngineError("the engine's tokenizer gave no tokens")
    return len(tokens)


def error_of(status: int, document: Mapping[str, object] | None, *, model: ModelInfo | None) -> EngineError:
    """Return the error that an answer with an HTTP status other than 200, or an error event, stands for.

    Args:
        status: of the HTTP answer; 500 for an error inside a stream.
        document: the body, if it was a JSON object.
        model: the model asked, if any.
    """
    details = document.get("error", document) if document is not None else {}
    if not isinstance(details, dict):
        details = {"message": details}
    inner = details.get("code")
    if status == 500 and type(inner) is int and 400 <= inner < 600:
        status = inner
    if status in (400, 413, 422, 500) and _tells_of_context(details):
        return ContextExceededError(
            "the input is longer than the model's context",
            context_tokens=_count(details.get("n_ctx")) or (model.context_tokens if model is not None else 0),
            input_tokens=_count(details.get("n_prompt_tokens")),
            remedy="shorten the prompt or ask for fewer tokens",
        )
    if 300 <= status < 400:
        return EngineError(
            "the engine redirects elsewhere, which is refused", remedy="give the engine's own address: --engine URL"
        )
    match status:
        case 401 | 403:
            return EngineError("the engine refuses the key", remedy="give its key in a file: --engine-key-file FILE")
        case 404:
            return ModelNotReadyError("the engine does not know the model", remedy="load the model in the engine")
        case 503:
            return ModelNotReadyError("the engine is loading its model", remedy="wait until it has loaded")
        case 429:
            busy = EngineError("the engine is busy", remedy="lower --max-concurrent to what the engine takes")
            busy.retry_safe = True
            return busy
        case _:
            return EngineError(f"the engine answered with the HTTP status {status}", remedy="see the engine's own log")


def _tells_of_context(details: Mapping[str, object]) -> bool:
    if details.get("type") == "exceed_context_size_error" or details.get("code") == "context_length_exceeded":
        return True
    message = details.get("message")
    return isinstance(message, str) and _CONTEXT_WORDS.search(message[:4096]) is not None
