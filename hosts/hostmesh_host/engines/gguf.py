"""What a GGUF file says of its tokenizer and its chat template, without loading the weights. Pure but for the file.

The digest of a tokenizer is the SHA-256 over its entries in the file (all whose key begins with ``tokenizer.ggml.``),
each as it stands there, in the order of their keys: two files of one model with other weights have the same one. That
of a template is the SHA-256 of its text.

Source: ggml, docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from hostmesh.errors import EngineError

MAX_ENTRIES = 4096
MAX_ITEMS = 2**22
"""Of one array."""
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TOKENIZER = b"tokenizer.ggml."
_TEMPLATE = b"tokenizer.chat_template"


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufDigests:
    """SHA-256 of what the file holds; None = it holds none."""

    tokenizer: bytes | None
    chat_template: bytes | None


def read_digests(path: Path) -> GgufDigests:
    """Read the file's metadata.

    Raises:
        EngineError: the file cannot be read, or is no GGUF file of a version that is known.

    Cost: O(metadata), about 0.1 s for a vocabulary of 50,000.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(data)
    except (OSError, ValueError, struct.error) as error:
        raise EngineError(f"{path} is no GGUF file: {error}", remedy="install the weights again") from error


def _read(data: mmap.mmap) -> GgufDigests:
    magic, version, _, count = struct.unpack_from("<4sIQQ", data, 0)
    if magic != b"GGUF" or version not in (2, 3) or count > MAX_ENTRIES:
        raise ValueError("another magic number, version or size")
    at = 24
    tokenizer: dict[bytes, bytes] = {}
    template = None
    for _ in range(count):
        began = at
        key, at = _string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        if key == _TEMPLATE and kind == _STRING:
            template, at = _string(data, at)
            continue
        at = _skip(data, at, kind)
        if key.startswith(_TOKENIZER):
            tokenizer[key] = data[began:at]
    return GgufDigests(
        tokenizer=hashlib.sha256(b"".join(tokenizer[key] for key in sorted(tokenizer))).digest() if tokenizer else None,
        chat_template=None if template is None else hashlib.sha256(template).digest(),
    )


def _string(data: mmap.mmap, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from("<Q", data, at)
    end = at + 8 + size
    if end > len(data):
        raise ValueError("it ends in a text")
    return data[at + 8 : end], end


def _skip(data: mmap.mmap, at: int, kind: int) -> int:
    """Return where a value ends."""
    if kind == _STRING:
        return _string(data, at)[1]
    if kind != _ARRAY:
        end = at + _SIZES.get(kind, len(data))
    else:
        inner, items = struct.unpack_from("<IQ", data, at)
        at += 12
        if inner == _ARRAY or items > MAX_ITEMS:
            raise ValueError("an array of arrays, or too long")
        if inner == _STRING:
            for _ in range(items):
                at = _string(data, at)[1]
            return at
        end = at + items * _SIZES.get(inner, len(data))
    if end > len(data):
        raise ValueError("it ends in a value, or has one of a type that is not known")
    return end
