"""A client's tokenizer, read from a GGUF file of the model: counts again what hosts claim.

Any file of the model will do, of whatever quantisation, also one without weights: hosts quote the digest of what the
file says of its tokenizer, which is the same in all of them (the SHA-256 over all entries whose key begins with
``tokenizer.ggml.``, each as it stands in the file, in the order of their keys).

Needs the package ``tokenizers``, which the extra ``hostmesh[engine]`` brings.

Source: ggml, docs/gguf.md, versions 2 and 3; llama.cpp, llama-vocab.cpp, for the ways to split a text.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hostmesh.errors import UsageError
from hostmesh.receipts.chain import JobInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_ENTRIES = 4096
MAX_ITEMS = 2**20
"""Of one array: tokens, merges."""
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_PREFIX = b"tokenizer.ggml."
_SPLITS = ("gpt-2", "smollm")
"""Known ways to split a text before its bytes are merged; both GPT-2's, the second one with each digit for itself."""


class GgufTokenizer:
    """A byte-pair tokenizer as a GGUF file describes it. Get one from :meth:`load`.

    Example::

        tokenizer = GgufTokenizer.load(Path("SmolLM2-135M-Instruct.Q4_1.gguf"))
        async with open_sdk(tokenizers=[tokenizer]) as sdk:
            ...
    """

    def __init__(self, tokenizer: Tokenizer, tokenizer_sha256: bytes) -> None:
        """Take a tokenizer and its digest; use :meth:`load`."""
        self._tokenizer = tokenizer
        self._sha256 = tokenizer_sha256

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the tokenizer in a GGUF file.

        Raises:
            UsageError: the file cannot be read, is no GGUF file, or has a tokenizer of a kind that is not known here;
                or the package ``tokenizers`` is not installed.

        Cost: half a second for a vocabulary of 50,000.
        """
        try:
            from tokenizers import Tokenizer, models, pre_tokenizers
        except ImportError as error:
            raise UsageError("tokenizers is not installed", remedy="install hostmesh[engine]") from error
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                entries = _entries(data)
            kind, split = (_text(entries, name) for name in ("model", "pre"))
            if kind != "gpt2" or split not in _SPLITS:
                raise _unusable(
                    path, f"its tokenizer is {kind}, {split}; known here are gpt2 with {', '.join(_SPLITS)}"
                )
            vocabulary = {token: number for number, token in enumerate(_texts(entries, "tokens"))}
            merges = [_pair(merge) for merge in _texts(entries, "merges")]
            tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        except (OSError, ValueError, struct.error) as error:
            raise _unusable(path, str(error)) from error
        by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = (
            pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_bytes])
            if split == "smollm"
            else by_bytes
        )
        digest = hashlib.sha256(b"".join(raw for _, (raw, _) in sorted(entries.items()))).digest()
        return cls(tokenizer, digest)

    @property
    def tokenizer_sha256(self) -> bytes:
        """As hosts quote it, 32 bytes."""
        return self._sha256

    def count_text(self, text: str) -> int:
        """Return the tokens of a text, without marks around it."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def count_prompt(self, job_input: JobInput) -> int | None:
        """Return None: chat templates are programs, which this client does not run."""
        del job_input
        return None


def _entries(data: mmap.mmap) -> dict[bytes, tuple[bytes, int]]:
    """Return each entry of the tokenizer as it stands in the file, and where in it the value's type begins, by key."""
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
        if key.startswith(_PREFIX):
            found[key] = (data[began:at], key_end - began)
    return found


def _string_end(data: bytes | mmap.mmap, at: int) -> int:
    (size,) = struct.unpack_from("<Q", data, at)
    end: int = at + 8 + size
    if end > len(data):
        raise ValueError("it ends in a text")
    return end


def _value_end(data: bytes | mmap.mmap, at: int, kind: int) -> int:
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


def _text(entries: dict[bytes, tuple[bytes, int]], name: str) -> str:
    raw, at = _entry(entries, name, _STRING)
    return raw[at + 8 : _string_end(raw, at)].decode()


def _texts(entries: dict[bytes, tuple[bytes, int]], name: str) -> list[str]:
    raw, at = _entry(entries, name, _ARRAY)
    inner, items = struct.unpack_from("<IQ", raw, at)
    if inner != _STRING:
        raise ValueError(f"{name} is no list of texts")
    at += 12
    texts = []
    for _ in range(items):
        end = _string_end(raw, at)
        texts.append(raw[at + 8 : end].decode())
        at = end
    return texts


def _entry(entries: dict[bytes, tuple[bytes, int]], name: str, kind: int) -> tuple[bytes, int]:
    raw, at = entries.get(_PREFIX + name.encode(), (b"", 0))
    if not raw or struct.unpack_from("<I", raw, at)[0] != kind:
        raise ValueError(f"it has no {name} of a tokenizer")
    return raw, at + 4


def _pair(merge: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not (left and space and right):
        raise ValueError("a merge that is no pair")
    return left, right


def _unusable(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} has no tokenizer that can be used: {why}", remedy="give a GGUF file of the model")
