"""A client's tokenizer: from a file written by hand, and beside what the real engine counted."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from hostmesh.errors import UsageError
from hostmesh.receipts.counting import TokenCounter, check_completion
from hostmesh.receipts.gguf_tokenizer import GgufTokenizer
from hostmesh.v1 import job_pb2
from hostmesh_host.engines.gguf import read_digests
from hostmesh_host.engines.weights import SMOLLM2, find_weights

RECORDED = Path(__file__).resolve().parents[2] / "engines" / "recorded.json"


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def texts(key: str, *values: str) -> bytes:
    return entry(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(text, values)))


MODEL = entry("tokenizer.ggml.model", 8, text("gpt2"))
SPLIT = entry("tokenizer.ggml.pre", 8, text("smollm"))
# "Ġ" stands for a space in the byte-level alphabet.
TOKENS = texts("tokenizer.ggml.tokens", "a", "b", "ab", "Ġ", "Ġab", "1")
MERGES = texts("tokenizer.ggml.merges", "a b", "Ġ ab")
OTHER = entry("general.name", 8, text("m"))
TYPES = entry("tokenizer.ggml.token_type", 9, struct.pack("<IQ", 5, 1) + bytes(4))


def write(path: Path, *entries: bytes, magic: bytes = b"GGUF", count: int | None = None) -> Path:
    head = struct.pack("<4sIQQ", magic, 3, 0, len(entries) if count is None else count)
    path.write_bytes(head + b"".join(entries) + b"weights")
    return path


def test_it_counts_as_its_merges_say(tmp_path: Path) -> None:
    counter: TokenCounter = GgufTokenizer.load(write(tmp_path / "a", OTHER, MODEL, SPLIT, TOKENS, TYPES, MERGES))
    assert [counter.count_text(each) for each in ("", "a", "ab", "ab ab", "aba", "a b", "111")] == [0, 1, 1, 2, 2, 3, 3]
    assert counter.count_prompt(job_pb2.ChatInput()) is None


def test_its_digest_is_the_one_that_hosts_quote(tmp_path: Path) -> None:
    one = write(tmp_path / "a", OTHER, MODEL, SPLIT, TOKENS, TYPES, MERGES)
    other = write(tmp_path / "b", MERGES, TYPES, SPLIT, MODEL, TOKENS)
    digests = {GgufTokenizer.load(each).tokenizer_sha256 for each in (one, other)}
    assert digests == {read_digests(one).tokenizer}
    changed = write(tmp_path / "c", MODEL, entry("tokenizer.ggml.pre", 8, text("gpt-2")), TOKENS, TYPES, MERGES)
    assert GgufTokenizer.load(changed).tokenizer_sha256 not in digests


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    good = (MODEL, SPLIT, TOKENS, MERGES)
    for number, (entries, how) in enumerate(
        (
            (good, {"magic": b"GGML"}),
            (good, {"count": 2**40}),
            (good, {"count": 40}),
            (good[1:], {}),
            (good[:3], {}),
            ((entry("tokenizer.ggml.model", 8, text("llama")), *good[1:]), {}),
            ((MODEL, entry("tokenizer.ggml.pre", 8, text("other")), *good[2:]), {}),
            ((MODEL, entry("tokenizer.ggml.pre", 4, bytes(4)), *good[2:]), {}),
            ((*good[:3], texts("tokenizer.ggml.merges", "ab")), {}),
            ((*good[:2], entry("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 4, 0)), MERGES), {}),
            ((*good, entry("x", 9, struct.pack("<IQ", 8, 2**60))), {}),
            ((*good, entry("x", 9, struct.pack("<IQ", 9, 1))), {}),
            ((*good, entry("x", 77, b"x")), {}),
            ((*good, entry("x", 8, struct.pack("<Q", 2**63))), {}),
        )
    ):
        path = write(tmp_path / str(number), *entries, **how)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="no tokenizer that can be used"):
            GgufTokenizer.load(path)
    with pytest.raises(UsageError):
        GgufTokenizer.load(tmp_path / "missing")


def test_it_counts_what_the_engine_counted() -> None:
    """The recorded answers of llama.cpp, with its own count of each."""
    weights = find_weights(SMOLLM2, None)
    counter = GgufTokenizer.load(weights)
    assert counter.tokenizer_sha256 == read_digests(weights).tokenizer
    chats = [chat["answer"] for chat in json.loads(RECORDED.read_text())["chats"]]
    for answer in chats:
        (choice,) = answer["choices"]
        content, claimed = choice["message"]["content"], answer["usage"]["completion_tokens"]
        # The mark of the end is a token without text.
        assert 0 <= claimed - counter.count_text(content) <= 1
        check_completion(claimed, content.encode(), counter)
    assert len(chats) >= 7
