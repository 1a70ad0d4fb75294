"""What a job's client holds of it: enough to compute the hash chain again, and to show it to a third party. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostmesh.receipts.chain import JobInput, OutputChain


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredPiece:
    """One piece of an answer."""

    completion_tokens: int
    """Of the whole answer up to its end."""
    data: bytes = field(repr=False)
    """As the chain holds it: text in UTF-8, or a vector's floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTranscript:
    """The input's digest, the salt and the answer up to a receipt.

    Whoever holds it can read the answer, and the prompt where ``job_input`` is there: showing it discloses them.
    """

    salt: bytes = field(repr=False)
    input_sha256: bytes
    pieces: tuple[DeliveredPiece, ...]
    job_input: JobInput | None = field(default=None, repr=False)
    """Needed for a lie about the prompt only."""

    @property
    def answer(self) -> bytes:
        """All pieces together."""
        return b"".join(piece.data for piece in self.pieces)

    def chain(self, *, session_id: bytes, job_id: bytes) -> OutputChain:
        """Return the chain over it.

        Raises:
            ReceiptError: EMPTY_PIECE or TOKENS_WENT_BACK: no host that keeps to the protocol signs such a chain.
            UsageError: a salt or a digest of a wrong length.
        """
        chain = OutputChain(salt=self.salt, session_id=session_id, job_id=job_id, input_sha256=self.input_sha256)
        for piece in self.pieces:
            chain.add(piece.data, piece.completion_tokens)
        return chain
