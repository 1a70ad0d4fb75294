"""Which models an engine says it has. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hostmesh import ModelKind
from hostmesh.errors import EngineError
from hostmesh_host.engines.dialect import Dialect, dialect_of

MAX_MODELS = 1024
"""Most models of one engine that are looked at."""
_BLOB = re.compile(r"FROM\s+\S*sha256[-:]([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """One entry of ``/v1/models``; None = the engine does not say."""

    model_id: str
    dialect: Dialect
    context_tokens: int | None = None
    quantisation: str | None = None
    kind: ModelKind | None = None
    weights_sha256: bytes | None = None
    chat_template_sha256: bytes | None = None


def read_models(document: Mapping[str, object]) -> tuple[ListedModel, ...]:
    """Return the models of a ``/v1/models`` answer.

    Raises:
        EngineError: it is none, or lists too many.
    """
    data = document.get("data")
    if not isinstance(data, list) or len(data) > MAX_MODELS:
        raise EngineError("the engine's list of models is none", remedy="give the root of an OpenAI-compatible engine")
    return tuple(_read_model(item) for item in data if isinstance(item, dict) and isinstance(item.get("id"), str))


def _read_model(item: Mapping[str, object]) -> ListedModel:
    owner = item.get("owned_by")
    meta = item.get("meta")
    details = meta if isinstance(meta, dict) else {}
    context = item.get("max_model_len", details.get("n_ctx"))
    quantisation = details.get("ftype")
    return ListedModel(
        model_id=str(item["id"]),
        dialect=dialect_of(owner if isinstance(owner, str) else ""),
        context_tokens=_positive(context),
        quantisation=_short(quantisation),
        kind=_kind(details.get("kind")),
    )


def read_ollama_model(shown: Mapping[str, object], running: Mapping[str, object], model_id: str) -> ListedModel:
    """Return what Ollama's ``/api/show`` and ``/api/ps`` say of a model.

    The context is what the model runs with now, else what its Modelfile sets; what it was trained with says nothing
    about what Ollama gives it, and Ollama cuts a longer prompt off without a word.
    """
    context = None
    models = running.get("models")
    for entry in models if isinstance(models, list) else []:
        if isinstance(entry, dict) and model_id in (entry.get("name"), entry.get("model")):
            context = _positive(entry.get("context_length"))
    parameters = shown.get("parameters")
    if context is None and isinstance(parameters, str):
        for line in parameters.splitlines():
            name, _, value = line.strip().partition(" ")
            if name == "num_ctx" and value.strip().isdecimal():
                context = _positive(int(value.strip()[:10]))
    capabilities = shown.get("capabilities")
    kind = None
    if isinstance(capabilities, list):
        if "completion" in capabilities:
            kind = ModelKind.CHAT
        elif "embedding" in capabilities:
            kind = ModelKind.EMBEDDING
    details = shown.get("details")
    quantisation = details.get("quantization_level") if isinstance(details, dict) else None
    return ListedModel(
        model_id=model_id,
        dialect=Dialect.OLLAMA,
        context_tokens=context,
        quantisation=_short(quantisation),
        kind=kind,
        weights_sha256=_weights_of(shown.get("modelfile")),
        chat_template_sha256=template_sha256(shown.get("template")),
    )


def template_sha256(template: object) -> bytes | None:
    """Return the SHA-256 of a chat template's text, if there is one."""
    if not isinstance(template, str) or not template:
        return None
    return hashlib.sha256(template.encode(errors="replace")).digest()


def _weights_of(modelfile: object) -> bytes | None:
    """Return the SHA-256 by which Ollama names the weights file that a model is made from."""
    for line in modelfile.splitlines() if isinstance(modelfile, str) else ():
        found = _BLOB.fullmatch(line.strip())
        if found is not None:
            return bytes.fromhex(found[1])
    return None


def _positive(value: object) -> int | None:
    return value if type(value) is int and 0 < value < 2**32 else None


def _short(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value.encode(errors="replace")) <= 32 else None


def _kind(value: object) -> ModelKind | None:
    match value:
        case "chat":
            return ModelKind.CHAT
        case "embedding":
            return ModelKind.EMBEDDING
        case _:
            return None
