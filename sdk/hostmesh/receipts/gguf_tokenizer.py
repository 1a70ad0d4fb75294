"""A client's tokenizer, read from a GGUF file of the model: counts again what hosts claim.

Any file of the model will do, of whatever quantisation, also one without weights: hosts quote the digest of what the
file says of its tokenizer, which is the same in all of them (:func:`hostmesh.gguf.tokenizer_sha256`).

Needs the package ``tokenizers``, which the extra ``hostmesh[engine]`` brings.

Source: llama.cpp, llama-vocab.cpp, for the ways to split a text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from hostmesh.errors import UsageError
from hostmesh.gguf import TOKENIZER_PREFIX, GgufEntry, read_entries, tokenizer_sha256
from hostmesh.receipts.chain import JobInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
            entries = read_entries(path, TOKENIZER_PREFIX)
            kind, split = (_text(entries, name) for name in ("model", "pre"))
            if kind != "gpt2" or split not in _SPLITS:
                raise _unusable(
                    path, f"its tokenizer is {kind}, {split}; known here are gpt2 with {', '.join(_SPLITS)}"
                )
            vocabulary = {token: number for number, token in enumerate(_texts(entries, "tokens"))}
            merges = [_pair(merge) for merge in _texts(entries, "merges")]
            tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        except (OSError, ValueError) as error:
            raise _unusable(path, str(error)) from error
        by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = (
            pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_bytes])
            if split == "smollm"
            else by_bytes
        )
        digest = tokenizer_sha256(entries)
        assert digest is not None, "it has a vocabulary"
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


def _text(entries: dict[str, GgufEntry], name: str) -> str:
    entry = entries.get(TOKENIZER_PREFIX + name)
    if entry is None or (text := entry.text()) is None:
        raise ValueError(f"it has no {name} of a tokenizer")
    return text


def _texts(entries: dict[str, GgufEntry], name: str) -> list[str]:
    entry = entries.get(TOKENIZER_PREFIX + name)
    if entry is None or (texts := entry.texts()) is None:
        raise ValueError(f"it has no {name} of a tokenizer")
    return texts


def _pair(merge: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not (left and space and right):
        raise ValueError("a merge that is no pair")
    return left, right


def _unusable(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} has no tokenizer that can be used: {why}", remedy="give a GGUF file of the model")
