"""The input of a job: from the caller's arguments to the wire, and from the wire to work for an engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from hostmesh.errors import ContextExceededError, JobError, UsageError
from hostmesh.jobs.engine import ChatMessage, ChatWork, EmbeddingWork, ModelInfo, ParameterValue, Role, Work
from hostmesh.jobs.parameters import encode_parameters
from hostmesh.jobs.reasons import job_refused
from hostmesh.model_kind import ModelKind
from hostmesh.v1 import job_pb2

MAX_MESSAGES = 256
MAX_MESSAGE_BYTES = 262_144
MAX_TEXTS = 256
MAX_TEXT_BYTES = 65_536
MAX_INPUT_BYTES = 1_048_576 - 32_768
"""Most bytes of the whole input, so that quote id and parameters fit the request beside it."""

MessageLike: TypeAlias = ChatMessage | Mapping[str, str]
"""A message, or a mapping of ``role`` and ``content`` as in the OpenAI API."""

WireInput: TypeAlias = job_pb2.ChatInput | job_pb2.EmbeddingInput


def build_input(
    *,
    prompt: str | None = None,
    messages: Sequence[MessageLike] | None = None,
    texts: Sequence[str] | None = None,
    system_prompt: str | None = None,
) -> WireInput:
    """Return the wire form of what a caller wants worked on.

    Args:
        prompt: one message of the user.
        messages: a conversation.
        texts: texts to embed. Exactly one of the three is given.
        system_prompt: goes before the prompt or the conversation.

    Raises:
        UsageError: none or several of the three, a system prompt with texts, or a message that is none.
        JobError: ``TOO_LARGE`` or ``INVALID_INPUT``; nothing was sent.
    """
    if sum(given is not None for given in (prompt, messages, texts)) != 1:
        raise UsageError("a job takes exactly one of prompt, messages and texts")
    if texts is not None:
        if system_prompt is not None:
            raise UsageError("texts to embed take no system prompt")
        return _embedding_input(texts)
    turns = [ChatMessage(role=Role.USER, content=prompt)] if prompt is not None else [_turn(m) for m in messages or ()]
    if system_prompt is not None:
        turns.insert(0, ChatMessage(role=Role.SYSTEM, content=system_prompt))
    return _chat_input(turns)


def input_bytes(wire: WireInput) -> int:
    """Return the bytes of text in an input."""
    if isinstance(wire, job_pb2.ChatInput):
        return sum(len(message.content.encode()) for message in wire.messages)
    return sum(len(text.encode()) for text in wire.texts)


def work_of(
    request: job_pb2.RunRequest,
    model: ModelInfo,
    *,
    max_output_tokens: int,
    parameters: Mapping[str, ParameterValue],
) -> Work:
    """Return the work that a request asks of a model.

    Args:
        request: within the bounds of the wire.
        model: the quoted one.
        max_output_tokens: the quoted limit; unused for embeddings.
        parameters: the request's, checked.

    Raises:
        JobError: ``UNSUPPORTED_INPUT`` (the model takes another kind) or ``INVALID_INPUT``.
    """
    kind = request.WhichOneof("input")
    if kind is None:
        raise job_refused("INVALID_INPUT", "the request has no input")
    if (kind == "chat") is not (model.kind is ModelKind.CHAT):
        raise job_refused("UNSUPPORTED_INPUT", f"{model.model_id} is a model for {model.kind.value}")
    if kind == "embedding":
        texts = tuple(request.embedding.texts)
        if not texts or not all(texts):
            raise job_refused("INVALID_INPUT", "an embedding job needs texts, none of them empty")
        return EmbeddingWork(model_id=model.model_id, texts=texts)
    if not request.chat.messages:
        raise job_refused("INVALID_INPUT", "a chat job needs a message")
    return ChatWork(
        model_id=model.model_id,
        messages=tuple(_message(message) for message in request.chat.messages),
        max_output_tokens=max_output_tokens,
        parameters=parameters,
    )


def _message(message: job_pb2.ChatMessage) -> ChatMessage:
    try:
        role = Role(message.role)
    except ValueError as error:
        raise job_refused("INVALID_INPUT", "a message's role is system, user or assistant") from error
    return ChatMessage(role=role, content=message.content)


def _turn(message: MessageLike) -> ChatMessage:
    if isinstance(message, ChatMessage):
        return message
    try:
        return ChatMessage(role=Role(message["role"]), content=message["content"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            "a message has a role (system, user or assistant) and a content", remedy="Correct the messages."
        ) from error


def _chat_input(turns: Sequence[ChatMessage]) -> job_pb2.ChatInput:
    if not turns:
        raise job_refused("INVALID_INPUT", "a chat job needs a message")
    _check_sizes([turn.content for turn in turns], "messages", MAX_MESSAGES, MAX_MESSAGE_BYTES)
    return job_pb2.ChatInput(
        messages=[job_pb2.ChatMessage(role=turn.role.value, content=turn.content) for turn in turns]
    )


def _embedding_input(texts: Sequence[str]) -> job_pb2.EmbeddingInput:
    if isinstance(texts, str):
        raise UsageError("texts is one text", remedy="Give a list of texts.")
    if not texts or not all(texts):
        raise job_refused("INVALID_INPUT", "an embedding job needs texts, none of them empty")
    _check_sizes(texts, "texts", MAX_TEXTS, MAX_TEXT_BYTES)
    return job_pb2.EmbeddingInput(texts=texts)


def within_context(work: Work, *, prompt_tokens: int | None, context_tokens: int) -> Work:
    """Return the work with an answer that is no longer than what its prompt leaves of the model's context.

    Args:
        work: what was asked for.
        prompt_tokens: counted beforehand; None = the engine cannot, and bounds the answer itself.
        context_tokens: of the model.

    Raises:
        ContextExceededError: the prompt leaves nothing.
    """
    if prompt_tokens is None or not isinstance(work, ChatWork):
        return work
    room = context_tokens - prompt_tokens
    if room < 1:
        raise ContextExceededError(
            "the prompt fills the context", context_tokens=context_tokens, input_tokens=prompt_tokens
        )
    return replace(work, max_output_tokens=min(work.max_output_tokens, room))


def _check_sizes(texts: Sequence[str], what: str, max_items: int, max_bytes: int) -> None:
    if len(texts) > max_items:
        raise job_refused("TOO_LARGE", f"{len(texts)} {what}, at most {max_items} are allowed")
    total = 0
    for index, text in enumerate(texts):
        size = _size(text, f"{what}[{index}]")
        if size > max_bytes:
            raise job_refused("TOO_LARGE", f"{what}[{index}] has {size} bytes, at most {max_bytes} are allowed")
        # Tags and lengths of an item take less than 32 bytes.
        total += size + 32
    if total > MAX_INPUT_BYTES:
        raise job_refused("TOO_LARGE", f"the input has {total} bytes, at most {MAX_INPUT_BYTES} are allowed")


def _size(text: object, where: str) -> int:
    if not isinstance(text, str):
        raise UsageError(f"{where} is {type(text).__name__}, not text")
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise _not_unicode(where) from error


def _not_unicode(where: str) -> JobError:
    return job_refused("INVALID_INPUT", f"{where} has half of a surrogate pair, which is no text")


def run_request(
    quote_id: bytes, wire: WireInput, parameters: Mapping[str, ParameterValue], *, salt: bytes
) -> job_pb2.RunRequest:
    """Return what asks a host for a job.

    Args:
        quote_id: of the quote that it runs under, 16 bytes.
        wire: its input.
        parameters: checked settings.
        salt: of its output chain, 16 bytes.
    """
    request = job_pb2.RunRequest(quote_id=quote_id, parameters=encode_parameters(parameters), salt=salt)
    if isinstance(wire, job_pb2.ChatInput):
        request.chat.CopyFrom(wire)
    else:
        request.embedding.CopyFrom(wire)
    return request
