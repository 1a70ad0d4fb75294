"""What a host quotes of a GGUF file: the digests of its tokenizer and of its chat template."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hostmesh.errors import EngineError
from hostmesh.gguf import read_entries, tokenizer_sha256

_TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufDigests:
    """SHA-256 of what the file holds; None = it holds none."""

    tokenizer: bytes | None
    chat_template: bytes | None


def read_digests(path: Path) -> GgufDigests:
    """Read the file's metadata; the digest of a template is the SHA-256 of its text.

    Raises:
        EngineError: the file cannot be read, or is no GGUF file of a version that is known.

    Cost: that of :func:`hostmesh.gguf.read_entries`.
    """
    try:
        entries = read_entries(path, "tokenizer.")
        template = entries[_TEMPLATE].text() if _TEMPLATE in entries else None
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} is no GGUF file: {error}", remedy="install the weights again") from error
    return GgufDigests(
        tokenizer=tokenizer_sha256(entries),
        chat_template=None if template is None else hashlib.sha256(template.encode()).digest(),
    )
