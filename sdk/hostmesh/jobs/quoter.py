"""Decides which quote a host gives. Pure; ``now`` is monotonic seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostmesh.errors import ParameterError
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.engine import ModelInfo
from hostmesh.jobs.parameters import decode_parameters
from hostmesh.jobs.quotes import QuoteBook, QuotedTerms
from hostmesh.jobs.reasons import job_refused
from hostmesh.model_kind import ModelKind
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import job_pb2


class Quoter:
    """Models, prices and the book of open quotes.

    Args:
        models: of the engine.
        prices: by model id; a model without one is quoted to nobody.
        limits: of the host.
    """

    def __init__(self, models: Iterable[ModelInfo], prices: Mapping[str, ModelPrice], limits: JobLimits) -> None:
        self._models = {model.model_id: model for model in models}
        self._prices = dict(prices)
        self._limits = limits
        self.book = QuoteBook()

    def model(self, model_id: str) -> ModelInfo:
        """Return a model of the engine.

        Raises:
            JobError: ``UNSUPPORTED_MODEL``.
        """
        model = self._models.get(model_id)
        if model is None:
            raise job_refused("UNSUPPORTED_MODEL", "this host does not serve the model")
        return model

    def set_prices(self, prices: Mapping[str, ModelPrice]) -> None:
        """Quote these prices from now on."""
        self._prices = dict(prices)

    def price_of(self, model_id: str, peer_id: PeerId, now: float) -> ModelPrice | None:
        """Return the least that a peer pays for a model: today's price, or that of a quote it holds.

        Returns:
            None = not offered at a price. Prices in another currency than today's do not count.
        """
        today = self._prices.get(model_id) if model_id in self._models else None
        prices = [ModelPrice(micros_per_mtok=m, currency=c) for m, c in self.book.prices(peer_id, model_id, now)]
        if today is not None:
            prices = [today, *(price for price in prices if price.currency == today.currency)]
        return min(prices, key=lambda price: price.micros_per_mtok, default=None)

    def issue(self, request: job_pb2.QuoteRequest, peer_id: PeerId, *, quote_id: bytes, now: float) -> QuotedTerms:
        """Check what is asked for and note the quote.

        Args:
            request: within the bounds of the wire.
            peer_id: who asks; the quote is good for it alone.
            quote_id: 16 fresh random bytes.
            now: monotonic seconds.

        Raises:
            JobError: ``UNSUPPORTED_MODEL``, ``UNPRICED``, a parameter by its name, or ``CONTEXT_EXCEEDED``. No
                quote was made.
        """
        model = self.model(request.model_id)
        price = self._prices.get(model.model_id)
        if price is None:
            raise job_refused("UNPRICED", "this host names no price for the model")
        decode_parameters(request.parameters, supported=model.parameters)
        limit = self._output_limit(model, request.max_output_tokens if request.HasField("max_output_tokens") else None)
        # One text of an embedding job has the whole context, so an estimate of all of them says nothing.
        if model.kind is ModelKind.CHAT and request.prompt_tokens_estimate >= model.context_tokens:
            raise job_refused("CONTEXT_EXCEEDED", f"the model's context has {model.context_tokens} tokens")
        terms = QuotedTerms(
            quote_id=quote_id,
            peer_id=peer_id,
            model_id=model.model_id,
            price_micros_per_mtok=price.micros_per_mtok,
            currency=price.currency,
            max_output_tokens=limit,
            context_tokens=model.context_tokens,
            expires_at_s=now + self._limits.quote_lifetime_s,
            weights_sha256=model.weights_sha256 or b"",
            tokenizer_sha256=model.tokenizer_sha256 or b"",
            chat_template_sha256=model.chat_template_sha256 or b"",
        )
        self.book.issue(terms, now)
        return terms

    def _output_limit(self, model: ModelInfo, asked: int | None) -> int:
        if model.kind is ModelKind.EMBEDDING:
            if asked is not None:
                raise ParameterError(
                    "an embedding model makes no tokens", parameter="max_output_tokens", reason="UNSUPPORTED_PARAMETER"
                )
            return 0
        limits = (model.context_tokens, model.max_output_tokens, self._limits.max_output_tokens)
        most = min(limit for limit in limits if limit is not None)
        if asked is not None and not 1 <= asked <= most:
            raise ParameterError(
                f"max_output_tokens must be in [1, {most}] for this model",
                parameter="max_output_tokens",
                reason="INVALID_PARAMETER",
            )
        return most if asked is None else asked
