"""What was agreed before a job began: every receipt of the job repeats it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostmesh.identity.structs import NO_DIGEST, SessionAuthorization
from hostmesh.identity.typed_data import typed_digest
from hostmesh.v1 import job_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTerms:
    """One open session, as its receipts name it.

    Args:
        network: the network's name, which every signature covers.
        session_id: of the host's grant, 16 bytes.
        authorization: what was signed to open it.
        signer: the address that signed the authorisation, 20 bytes: the client's wallet, or the session key of its
            delegation. The same key countersigns.
    """

    network: str
    session_id: bytes
    authorization: SessionAuthorization
    signer: bytes
    authorization_digest: bytes = field(init=False, repr=False)
    """EIP-712 digest of the authorisation, 32 bytes."""

    def __post_init__(self) -> None:
        # Hashed once: every receipt of the session repeats it.
        object.__setattr__(self, "authorization_digest", typed_digest(self.authorization, self.network))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTerms:
    """One job of a session, as it was quoted. Model and currency are the session's.

    Args:
        session: the job's.
        job_id: 16 bytes, the host's.
        price_micros_per_mtok: quoted.
        max_output_tokens: quoted; 0 for embeddings.
        context_tokens: quoted; of prompt and answer together, or of one text of an embedding job.
        weights_sha256: quoted, 32 bytes; zeros = not said, as in the next two.
    """

    session: SessionTerms
    job_id: bytes
    price_micros_per_mtok: int
    max_output_tokens: int
    context_tokens: int
    weights_sha256: bytes = NO_DIGEST
    tokenizer_sha256: bytes = NO_DIGEST
    chat_template_sha256: bytes = NO_DIGEST

    @classmethod
    def of_quote(cls, session: SessionTerms, job_id: bytes, quote: job_pb2.Quote) -> JobTerms:
        """Return the terms of a job that runs under a quote, which was verified for this session."""
        return cls(
            session=session,
            job_id=job_id,
            price_micros_per_mtok=quote.price_micros_per_mtok,
            max_output_tokens=quote.max_output_tokens,
            context_tokens=quote.context_tokens,
            weights_sha256=quote.weights_sha256 or NO_DIGEST,
            tokenizer_sha256=quote.tokenizer_sha256 or NO_DIGEST,
            chat_template_sha256=quote.chat_template_sha256 or NO_DIGEST,
        )
