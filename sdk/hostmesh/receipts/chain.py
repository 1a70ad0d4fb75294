"""The hash chain over a job's input and every piece of its answer. Pure; both sides compute it.

::

    h(0) = sha256(tag | len(salt) u8 | salt | session_id | job_id | input_sha256)
    h(i) = sha256(h(i-1) | index u64 | completion tokens u64 | len u32 | piece)

Numbers are big-endian; the index is that of the piece, from 0, the completion tokens are those of the whole answer up
to the end of the piece. A piece is the text in UTF-8, or a vector's 32-bit floats, little-endian as on the wire.

Since the count is inside, a host that signs the head has signed how many tokens each piece was. Since the client's salt
is, a receipt does not tell a third party what a short prompt or answer was.

Spec: docs/protocols/receipt.md.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from hostmesh.errors import UsageError
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.v1 import job_pb2

SALT_BYTES = 16
_CHAIN_TAG = b"hostmesh output chain 1\0"
_INPUT_TAG = b"hostmesh job input 1\0"

JobInput: TypeAlias = job_pb2.ChatInput | job_pb2.EmbeddingInput
"""The input of a job as it stands in its request."""


def input_sha256(job_input: JobInput) -> bytes:
    """Return the digest of a job's input, 32 bytes.

    Its own encoding, not protobuf's, which two libraries may write differently: a tag, a byte that says which kind,
    the number of items, and every text behind its length, roles included (u32, big-endian).
    """
    if isinstance(job_input, job_pb2.ChatInput):
        kind = b"c"
        count = len(job_input.messages)
        texts: Iterable[str] = (text for each in job_input.messages for text in (each.role, each.content))
    else:
        kind, count, texts = b"e", len(job_input.texts), job_input.texts
    digest = hashlib.sha256(_INPUT_TAG + kind + count.to_bytes(4, "big"))
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.digest()


def vector_bytes(values: Sequence[float]) -> bytes:
    """Return a vector as the chain holds it: 32-bit floats, little-endian.

    >>> vector_bytes([1.0, -2.0]).hex()
    '0000803f000000c0'
    """
    return struct.pack(f"<{len(values)}f", *values)


class OutputChain:
    """The chain of one job.

    Args:
        salt: the request's, 16 bytes or none.
        session_id: 16 bytes.
        job_id: 16 bytes.
        input_sha256: of :func:`input_sha256`.

    Raises:
        UsageError: a part of another length.

    >>> chain = OutputChain(salt=bytes(16), session_id=bytes(16), job_id=bytes(16), input_sha256=bytes(32))
    >>> chain.add_text("Hi", 1)
    >>> chain.pieces, chain.completion_tokens, chain.head.hex()[:8]
    (1, 1, 'b8731815')
    """

    __slots__ = ("completion_tokens", "genesis", "head", "pieces")

    def __init__(self, *, salt: bytes, session_id: bytes, job_id: bytes, input_sha256: bytes) -> None:
        if len(salt) not in (0, SALT_BYTES) or (len(session_id), len(job_id), len(input_sha256)) != (16, 16, 32):
            raise UsageError("a chain begins with a salt of 16 bytes or none, two ids of 16 and a digest of 32")
        start = _CHAIN_TAG + bytes([len(salt)]) + salt + session_id + job_id + input_sha256
        self.genesis = hashlib.sha256(start).digest()
        """The head before the first piece."""
        self.head = self.genesis
        """32 bytes."""
        self.pieces = 0
        """In the chain."""
        self.completion_tokens = 0
        """Of the answer up to the last piece."""

    def add_text(self, text: str, completion_tokens: int) -> None:
        """Add a piece of an answer.

        Args:
            text: not empty.
            completion_tokens: of the whole answer up to the end of this piece.

        Raises:
            ReceiptError: EMPTY_PIECE, TOKENS_WENT_BACK; nothing was added.
        """
        self.add(text.encode(), completion_tokens)

    def add_vector(self, values: Sequence[float]) -> None:
        """Add the vector of the next text.

        Args:
            values: as they stand on the wire.

        Raises:
            ReceiptError: EMPTY_PIECE; nothing was added.
        """
        self.add(vector_bytes(values), 0)

    def add(self, piece: bytes, completion_tokens: int) -> None:
        """Add a piece in the form that the chain holds, as a transcript keeps it. See :meth:`add_text`."""
        if not piece:
            raise fault(ReceiptFault.EMPTY_PIECE, f"piece {self.pieces} of the answer is empty")
        if completion_tokens < self.completion_tokens:
            raise fault(
                ReceiptFault.TOKENS_WENT_BACK,
                f"the token count went back from {self.completion_tokens} to {completion_tokens}",
            )
        numbers = self.pieces.to_bytes(8, "big") + completion_tokens.to_bytes(8, "big")
        self.head = hashlib.sha256(self.head + numbers + len(piece).to_bytes(4, "big") + piece).digest()
        self.pieces += 1
        self.completion_tokens = completion_tokens
