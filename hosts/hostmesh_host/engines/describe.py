"""Finds out what an engine is and what its models are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hostmesh import ModelInfo, ModelKind
from hostmesh.errors import ConfigError, EngineError, ModelNotReadyError
from hostmesh_host.engines.dialect import PARAMETERS, Dialect
from hostmesh_host.engines.endpoint import Endpoint, check_engine_url
from hostmesh_host.engines.http import EngineHttp, EngineTimeouts, open_http
from hostmesh_host.engines.listing import ListedModel, read_models, read_ollama_model, template_sha256
from hostmesh_host.engines.openai import OpenAIEngine

MAX_ENGINE_VERSION_BYTES = 32


@asynccontextmanager
async def open_engine(
    url: str,
    *,
    model_ids: Sequence[str],
    embedding_ids: Sequence[str] = (),
    context_tokens: int | None = None,
    api_key: str | None = None,
    allow_remote: bool = False,
    timeouts: EngineTimeouts | None = None,
) -> AsyncIterator[OpenAIEngine]:
    """Connect to an engine that runs already; yield it once it has said what its models are.

    Args:
        url: its root, such as ``http://127.0.0.1:11434``.
        model_ids: the models to serve; the engine must list each.
        embedding_ids: those of them that make vectors, where the engine does not say so itself.
        context_tokens: the models' context, where the engine does not say it.
        api_key: sent as a bearer token.
        allow_remote: let the engine be on another machine; prompts then leave this one.
        timeouts: None = the defaults.

    Raises:
        ConfigError: the URL is not allowed, or a fact is missing that only the operator knows.
        EngineError: the engine does not answer, or does not have a model.

    Cancellation: safe. Cost: two to four requests, and two more a model for Ollama.
    """
    endpoint = Endpoint(base_url=check_engine_url(url, allow_remote=allow_remote), api_key=api_key)
    async with open_http(lambda: endpoint, timeouts=timeouts) as http:
        dialect, models = await describe(
            http, model_ids=model_ids, embedding_ids=embedding_ids, context_tokens=context_tokens
        )
        yield OpenAIEngine(http=http, models=models, dialect=dialect)


async def describe(
    http: EngineHttp, *, model_ids: Sequence[str], embedding_ids: Sequence[str], context_tokens: int | None
) -> tuple[Dialect, tuple[ModelInfo, ...]]:
    """Return the engine's family and the wanted models as it describes them. Raises as :func:`open_engine`."""
    listed = {model.model_id: model for model in read_models(await http.ask("/v1/models"))}
    missing = [model_id for model_id in model_ids if model_id not in listed]
    if missing:
        raise ModelNotReadyError(
            f"the engine does not have {missing[0]!r}",
            remedy=f"load it in the engine, or serve one of: {', '.join(sorted(listed)[:8]) or 'none is loaded'}",
        )
    identity = await _identify(http, next(iter(listed.values())).dialect if listed else Dialect.OTHER)
    dialect = identity.dialect
    if dialect.has_health:
        await http.ask("/health")
    models = []
    for model_id in model_ids:
        model = listed[model_id]
        if dialect is Dialect.OLLAMA:
            shown = await http.ask("/api/show", {"model": model_id})
            model = read_ollama_model(shown, await http.ask("/api/ps"), model_id)
        models.append(_model_info(model, identity, len(listed) == 1, model_id in embedding_ids, context_tokens))
    return dialect, tuple(models)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What an engine says of itself."""

    dialect: Dialect
    version: str | None = None
    chat_template_sha256: bytes | None = None
    """Of the one model that it has loaded."""


async def _identify(http: EngineHttp, dialect: Dialect) -> _Identity:
    if dialect is Dialect.LLAMA_CPP:
        props = await _ask_if_there(http, "/props")
        return _Identity(
            dialect=dialect,
            version=_version(props.get("build_info")),
            chat_template_sha256=template_sha256(props.get("chat_template")),
        )
    if dialect is Dialect.VLLM:
        return _Identity(dialect=dialect, version=_version((await _ask_if_there(http, "/version")).get("version")))
    if dialect is Dialect.MINILM:
        return _Identity(dialect=dialect)
    version = (await _ask_if_there(http, "/api/version")).get("version")
    if version is not None:
        # Ollama names a model's owner, which is "library" for its own models only.
        return _Identity(dialect=Dialect.OLLAMA, version=_version(version))
    return _Identity(dialect=Dialect.OTHER)


async def _ask_if_there(http: EngineHttp, path: str) -> dict[str, object]:
    try:
        return dict(await http.ask(path))
    except EngineError:
        return {}


def _version(version: object) -> str | None:
    if not isinstance(version, str) or not version.isprintable():
        return None
    return version.strip().encode()[:MAX_ENGINE_VERSION_BYTES].decode(errors="ignore") or None


def _model_info(
    model: ListedModel, identity: _Identity, is_only: bool, makes_vectors: bool, context_tokens: int | None
) -> ModelInfo:
    kind = ModelKind.EMBEDDING if makes_vectors else model.kind or ModelKind.CHAT
    context = context_tokens or model.context_tokens
    if context is None:
        raise ConfigError(
            f"the engine does not say how many tokens {model.model_id!r} takes",
            name="context_tokens",
            source="argument",
            remedy="say what the engine runs it with: --context-tokens N",
        )
    # An engine with several models does not say whose template it shows.
    template = model.chat_template_sha256 or (identity.chat_template_sha256 if is_only else None)
    return ModelInfo(
        model_id=model.model_id,
        kind=kind,
        context_tokens=context,
        quantisation=model.quantisation,
        weights_sha256=model.weights_sha256,
        chat_template_sha256=template if kind is ModelKind.CHAT else None,
        engine=identity.dialect.value,
        engine_version=identity.version,
        parameters=PARAMETERS[identity.dialect] if kind is ModelKind.CHAT else frozenset(),
    )
