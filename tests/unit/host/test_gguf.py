"""GGUF metadata: digests of tokenizer and template, from files written here by hand."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from hostmesh.errors import EngineError
from hostmesh_host.engines.gguf import read_digests

TEMPLATE = "{{ messages }} ü"


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


MODEL = entry("tokenizer.ggml.model", 8, text("gpt2"))
TOKENS = entry("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("b"))
TYPES = entry("tokenizer.ggml.token_type", 9, struct.pack("<IQ", 5, 2) + struct.pack("<ii", 1, 3))
OTHERS = [
    entry("general.name", 8, text("m")),
    entry("general.file_type", 4, struct.pack("<I", 3)),
    entry("m.flag", 7, b"\x01"),
    entry("m.big", 10, bytes(8)),
]


def write(path: Path, *entries: bytes, magic: bytes = b"GGUF", version: int = 3, count: int | None = None) -> Path:
    head = struct.pack("<4sIQQ", magic, version, 1, len(entries) if count is None else count)
    path.write_bytes(head + b"".join(entries) + b"weights")
    return path


def test_the_digests_are_those_of_what_the_file_holds(tmp_path: Path) -> None:
    template = entry("tokenizer.chat_template", 8, text(TEMPLATE))
    found = read_digests(write(tmp_path / "a", *OTHERS, MODEL, TOKENS, template, TYPES))
    assert found.chat_template == hashlib.sha256(TEMPLATE.encode()).digest()
    assert found.tokenizer == hashlib.sha256(MODEL + TYPES + TOKENS).digest(), "in the order of the keys"
    # The rest of the file, and the order of its entries, do not matter.
    assert read_digests(write(tmp_path / "b", TYPES, template, MODEL, TOKENS, version=2)) == found


def test_what_the_file_does_not_hold_is_none(tmp_path: Path) -> None:
    found = read_digests(write(tmp_path / "a", *OTHERS))
    assert (found.tokenizer, found.chat_template) == (None, None)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    nested = entry("a", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 0, 1) + b"x")
    bad = [
        write(tmp_path / "magic", *OTHERS, magic=b"GGML"),
        write(tmp_path / "version", *OTHERS, version=4),
        write(tmp_path / "count", *OTHERS, count=2**40),
        write(tmp_path / "missing entries", *OTHERS, count=40),
        write(tmp_path / "type", entry("a", 77, b"x")),
        write(tmp_path / "item type", entry("a", 9, struct.pack("<IQ", 77, 1) + b"x")),
        write(tmp_path / "long text", entry("a", 8, struct.pack("<Q", 2**63) + b"x")),
        write(tmp_path / "long array", entry("a", 9, struct.pack("<IQ", 4, 2**60))),
        write(tmp_path / "nested", nested),
        tmp_path / "missing",
    ]
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_bytes(b"GGUF")
    for path in (*bad, tmp_path / "empty", tmp_path / "short"):
        with pytest.raises(EngineError) as caught:
            read_digests(path)
        assert caught.value.remedy, path.name
