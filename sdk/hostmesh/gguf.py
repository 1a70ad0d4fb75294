"""What stands in a GGUF file before its weights: its entries, read without loading anything else.

Source: ggml, docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOKENIZER_PREFIX = "tokenizer.ggml."
MAX_ENTRIES = 4096
MAX_ITEMS = 2**22
"""Of one array: tokens, merges."""
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@dataclass(frozen=True, slots=True)
class GgufEntry:
    """An entry as it stands in the file: key, type and value."""

    raw: bytes
    type_at: int
    """Where in it the type begins: its key ends there."""

    def text(self) -> str | None:
        """Return the value where it is a text, else None.

        Raises:
            ValueError: it is not UTF-8.
        """
        if self._type() != _STRING:
            return None
        return self.raw[self.type_at + 12 :].decode()

    def texts(self) -> list[str] | None:
        """Return the value where it is a list of texts, else None.

        Raises:
            ValueError: one of them is not UTF-8.
        """
        if self._type() != _ARRAY:
            return None
        inner, items = struct.unpack_from("<IQ", self.raw, self.type_at + 4)
        if inner != _STRING:
            return None
        found, at = [], self.type_at + 16
        for _ in range(items):
            end = _string_end(self.raw, at)
            found.append(self.raw[at + 8 : end].decode())
            at = end
        return found

    def _type(self) -> int:
        found: int = struct.unpack_from("<I", self.raw, self.type_at)[0]
        return found


def read_entries(path: Path, prefix: str) -> dict[str, GgufEntry]:
    """Return the entries whose key begins with a prefix, by key.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no GGUF file of a version that is known, or ends too early.

    Cost: O(all entries), about 0.1 s for a vocabulary of 50,000.

    Example::

        model = read_entries(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), "general.")["general.name"].text()
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _entries(data, prefix.encode())
    except struct.error as error:
        raise ValueError(str(error)) from error


def tokenizer_sha256(entries: Mapping[str, GgufEntry]) -> bytes | None:
    """Return the digest of a file's tokenizer; None where it has none.

    It is over the entries whose key begins with :data:`TOKENIZER_PREFIX`, each as it stands in the file, in the order
    of their keys: files of one model with other weights have the same one.
    """
    raw = [entries[key].raw for key in sorted(entries) if key.startswith(TOKENIZER_PREFIX)]
    return hashlib.sha256(b"".join(raw)).digest() if raw else None


def _entries(data: mmap.mmap, prefix: bytes) -> dict[str, GgufEntry]:
    magic, version, _, count = struct.unpack_from("<4sIQQ", data, 0)
    if magic != b"GGUF" or version not in (2, 3) or count > MAX_ENTRIES:
        raise ValueError("another magic number, version or size")
    at, found = 24, {}
    for _ in range(count):
        began = at
        key_end = _string_end(data, at)
        key = data[at + 8 : key_end]
        (kind,) = struct.unpack_from("<I", data, key_end)
        at = _value_end(data, key_end + 4, kind)
        if key.startswith(prefix):
            found[key.decode()] = GgufEntry(data[began:at], key_end - began)
    return found


def _string_end(data: bytes | mmap.mmap, at: int) -> int:
    (size,) = struct.unpack_from("<Q", data, at)
    end: int = at + 8 + size
    if end > len(data):
        raise ValueError("it ends in a text")
    return end


def _value_end(data: mmap.mmap, at: int, kind: int) -> int:
    if kind == _STRING:
        return _string_end(data, at)
    if kind != _ARRAY:
        end = at + _SIZES.get(kind, len(data))
    else:
        inner, items = struct.unpack_from("<IQ", data, at)
        at += 12
        if inner == _ARRAY or items > MAX_ITEMS:
            raise ValueError("an array of arrays, or too long")
        if inner == _STRING:
            for _ in range(items):
                at = _string_end(data, at)
            return at
        end = at + items * _SIZES.get(inner, len(data))
    if end > len(data):
        raise ValueError("it ends in a value, or has one of a type that is not known")
    return end
