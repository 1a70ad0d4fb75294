"""Tokens, transformer, pooling: a text to a vector of length one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hostmesh.errors import ContextExceededError, EngineError

MAX_TOKENS = 256
"""What the model was trained for; its card says longer texts are cut off. Here they are refused."""
_VOCABULARY = Path(__file__).with_name("vocab.txt")
_CLS = ("[CLS]", 101)
_SEP = ("[SEP]", 102)


class MiniLm:
    """The model, loaded.

    It takes one text at a time: the int8 kernels scale a whole batch by its greatest number, so that a text's vector
    would depend on its neighbours.

    Source: model card of sentence-transformers/all-MiniLM-L6-v2.
    """

    def __init__(self, session: Any, tokenizer: Any, *, runtime_version: str) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self.max_tokens = MAX_TOKENS
        self.runtime_version = runtime_version

    @classmethod
    def load(cls, weights: Path, *, threads: int) -> MiniLm:
        """Load the weights.

        Raises:
            EngineError: onnxruntime, numpy or tokenizers is not installed, or the file does not load.
        """
        try:
            import numpy  # noqa: F401 - embed() needs it
            import onnxruntime
            import tokenizers  # noqa: F401
        except ImportError as error:
            raise EngineError(f"{error.name} is not installed", remedy="install hostmesh[engine]") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        except RuntimeError as error:
            raise EngineError(f"onnxruntime does not load {weights.name}", remedy="see the engine's log: -v") from error
        return cls(session, build_tokenizer(), runtime_version=onnxruntime.__version__)

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Return the text's token ids, however many."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special).ids)

    def embed(self, text: str) -> tuple[Sequence[float], int]:
        """Return the text's vector and how many tokens it has.

        Raises:
            ContextExceededError: more than :data:`MAX_TOKENS`. Nothing was computed.

        Cost: 10 to 100 ms on one core.
        """
        import numpy as np

        ids = self.tokenize(text, add_special=True)
        if len(ids) > self.max_tokens:
            raise ContextExceededError(
                "the text is longer than the model's context", context_tokens=self.max_tokens, input_tokens=len(ids)
            )
        row = np.array([ids], dtype=np.int64)
        (states,) = self._session.run(
            None, {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        )
        pooled = states[0].mean(axis=0)
        vector = pooled / np.linalg.norm(pooled)
        return [float(value) for value in vector], len(ids)


def vocabulary_sha256() -> bytes:
    """Return the SHA-256 of the vocabulary's file, which makes the tokenizer."""
    return hashlib.sha256(_VOCABULARY.read_bytes()).digest()


def build_tokenizer() -> Any:
    """Return BERT's uncased tokenizer over the vocabulary beside this file.

    Source: Devlin et al., "BERT", 2018; google-research/bert, tokenization.py.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing

    words = _VOCABULARY.read_text(encoding="utf-8").splitlines()
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(_SEP, _CLS)
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer
