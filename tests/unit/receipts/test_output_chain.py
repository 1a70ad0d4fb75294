"""The hash chain, against bytes that are put together here by hand from the specification."""

from __future__ import annotations

import hashlib
import struct

import pytest

from hostmesh.errors import ReceiptError, UsageError
from hostmesh.receipts.chain import OutputChain, input_sha256, vector_bytes
from hostmesh.v1 import job_pb2

SESSION, JOB, SALT = b"s" * 16, b"j" * 16, b"r" * 16


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def chat(*turns: tuple[str, str]) -> job_pb2.ChatInput:
    return job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role=role, content=content) for role, content in turns])


def start(salt: bytes = SALT, digest: bytes = bytes(32)) -> OutputChain:
    return OutputChain(salt=salt, session_id=SESSION, job_id=JOB, input_sha256=digest)


def test_the_digest_of_an_input() -> None:
    expected = sha256(
        b"hostmesh job input 1\0c\x00\x00\x00\x01" + b"\x00\x00\x00\x04user" + b"\x00\x00\x00\x05caf\xc3\xa9"
    )
    assert input_sha256(chat(("user", "café"))) == expected
    texts = sha256(b"hostmesh job input 1\0e\x00\x00\x00\x02" + b"\x00\x00\x00\x01a" + b"\x00\x00\x00\x01b")
    assert input_sha256(job_pb2.EmbeddingInput(texts=["a", "b"])) == texts


def test_no_two_inputs_share_a_digest_because_texts_run_together() -> None:
    inputs = [
        chat(("user", "ab")),
        chat(("usera", "b")),
        chat(("user", "a"), ("user", "b")),
        chat(("user", "a"), ("userb", "")),
        job_pb2.EmbeddingInput(texts=["user", "ab"]),
        job_pb2.EmbeddingInput(texts=["userab"]),
    ]
    assert len({input_sha256(each) for each in inputs}) == len(inputs)


def test_two_pieces_by_hand() -> None:
    digest = sha256(b"input")
    chain = start(digest=digest)
    head = sha256(b"hostmesh output chain 1\0" + b"\x10" + SALT + SESSION + JOB + digest)
    assert chain.head == chain.genesis == head
    chain.add_text("é", 1)
    head = sha256(head + bytes(8) + bytes(7) + b"\x01" + b"\x00\x00\x00\x02\xc3\xa9")
    assert chain.head == head
    chain.add_text("b", 3)
    head = sha256(head + bytes(7) + b"\x01" + bytes(7) + b"\x03" + b"\x00\x00\x00\x01b")
    assert (chain.head, chain.pieces, chain.completion_tokens) == (head, 2, 3)
    assert chain.genesis != head


def test_a_vector_by_hand() -> None:
    chain = start(salt=b"")
    head = sha256(b"hostmesh output chain 1\0" + b"\x00" + SESSION + JOB + bytes(32))
    assert chain.head == head
    chain.add_vector([1.0, 0.1])
    piece = struct.pack("<f", 1.0) + struct.pack("<f", 0.1)
    assert chain.head == sha256(head + bytes(16) + b"\x00\x00\x00\x08" + piece)


def test_a_vector_is_the_same_before_and_after_the_wire() -> None:
    values = [0.1, -1e-40, 3.0e38, 1 / 3]
    wire = job_pb2.EmbeddingVector(values=values)
    assert vector_bytes(values) == vector_bytes(wire.values)


def test_the_salt_counts() -> None:
    assert len({start(salt=salt).head for salt in (b"", bytes(16), SALT)}) == 3


def test_what_is_refused_adds_nothing() -> None:
    chain = start()
    chain.add_text("a", 5)
    before = chain.head
    for text, tokens, reason in (("b", 4, "TOKENS_WENT_BACK"), ("", 6, "EMPTY_PIECE")):
        with pytest.raises(ReceiptError) as raised:
            chain.add_text(text, tokens)
        assert raised.value.reason == reason
    with pytest.raises(ReceiptError):
        chain.add_vector([])
    assert (chain.head, chain.pieces, chain.completion_tokens) == (before, 1, 5)


@pytest.mark.parametrize("size", [1, 15, 17])
def test_a_salt_has_sixteen_bytes_or_none(size: int) -> None:
    with pytest.raises(UsageError):
        start(salt=bytes(size))
