"""The host's book of open quotes. Pure.

A quote is bound to one peer, good for one job, and dies by its time. Quotes cost nothing to ask for, so the book
defends itself: a peer's newest quotes push out its own oldest, and a full book takes from the peer that holds most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hostmesh.jobs.reasons import job_refused
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedTerms:
    """What a quote locks for one job."""

    quote_id: bytes
    """16 random bytes."""
    peer_id: PeerId
    """The client."""
    model_id: str
    price_micros_per_mtok: int
    currency: str
    max_output_tokens: int
    """0 for embeddings."""
    context_tokens: int
    expires_at_s: float
    """Monotonic seconds, the host's."""
    weights_sha256: bytes = b""
    """32 bytes, as in the next two; empty = not known."""
    tokenizer_sha256: bytes = b""
    chat_template_sha256: bytes = b""
    envelope: bytes = b""
    """As it was signed; empty until then."""


class QuoteBook:
    """Open quotes, at most ``max_per_peer`` of a peer and ``max_quotes`` in all.

    Every method takes ``now``, monotonic seconds that never go back.
    """

    def __init__(self, *, max_quotes: int = 4096, max_per_peer: int = 64) -> None:
        self._max_quotes = max_quotes
        self._max_per_peer = max_per_peer
        self._quotes: dict[bytes, QuotedTerms] = {}
        # Ids in the order of issue; dict as an ordered set.
        self._by_peer: dict[PeerId, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._quotes)

    def issue(self, terms: QuotedTerms, now: float) -> None:
        """Keep a quote.

        Cost: O(1); O(open quotes) when the book is full.
        """
        # The peer's own bound first: a peer at its bound pays for its new quote itself, in a full book as well.
        if len(self._by_peer.get(terms.peer_id, ())) >= self._max_per_peer:
            self._drop_oldest(terms.peer_id)
        if len(self._quotes) >= self._max_quotes:
            self._drop_expired(now)
        if len(self._quotes) >= self._max_quotes:
            greediest = max(self._by_peer, key=lambda peer: len(self._by_peer[peer]))
            self._drop_oldest(greediest)
        self._quotes[terms.quote_id] = terms
        self._by_peer.setdefault(terms.peer_id, {})[terms.quote_id] = None

    def keep_envelope(self, quote_id: bytes, envelope: bytes) -> None:
        """Note a quote as it was signed; goes with it."""
        self._quotes[quote_id] = replace(self._quotes[quote_id], envelope=envelope)

    def look_up(self, quote_id: bytes, peer_id: PeerId, now: float) -> QuotedTerms:
        """Return the terms of this peer's open quote, which stays open.

        Raises:
            JobError: ``QUOTE_EXPIRED``: used, expired, pushed out, another peer's or never issued; which one is not
                told.
        """
        terms = self._quotes.get(quote_id)
        if terms is not None and terms.expires_at_s <= now:
            self._drop(terms)
            terms = None
        if terms is None or terms.peer_id != peer_id:
            raise job_refused("QUOTE_EXPIRED", "no open quote of this peer has that id")
        return terms

    def consume(self, quote_id: bytes, peer_id: PeerId, now: float) -> QuotedTerms:
        """Return the terms like :meth:`look_up`, and close the quote: no second job runs under it."""
        terms = self.look_up(quote_id, peer_id, now)
        self._drop(terms)
        return terms

    def prices(self, peer_id: PeerId, model_id: str, now: float) -> list[tuple[int, str]]:
        """Return price and currency of each open quote of the peer for the model.

        Cost: O(open quotes of the peer).
        """
        own = (self._quotes[quote_id] for quote_id in self._by_peer.get(peer_id, ()))
        return [
            (terms.price_micros_per_mtok, terms.currency)
            for terms in own
            if terms.model_id == model_id and terms.expires_at_s > now
        ]

    def _drop(self, terms: QuotedTerms) -> None:
        del self._quotes[terms.quote_id]
        own = self._by_peer[terms.peer_id]
        del own[terms.quote_id]
        if not own:
            del self._by_peer[terms.peer_id]

    def _drop_oldest(self, peer_id: PeerId) -> None:
        self._drop(self._quotes[next(iter(self._by_peer[peer_id]))])

    def _drop_expired(self, now: float) -> None:
        for terms in [terms for terms in self._quotes.values() if terms.expires_at_s <= now]:
            self._drop(terms)
