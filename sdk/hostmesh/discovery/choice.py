"""A host that meets the criteria, with every number and its origin. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import ModelOffer
from hostmesh.discovery.funnel import Funnel
from hostmesh.discovery.measurement import Measurement, Origin, QuotedPrice
from hostmesh.discovery.offers import chosen_offer
from hostmesh.discovery.ranking import Score
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.terms import Place, Price
from hostmesh.discovery.view import HostView, ReputationLike
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChoice:
    """One host for one set of criteria."""

    offer: ModelOffer
    """The model that a job under these criteria would use: the first required, or the cheapest that fits."""
    latency: Measurement | None
    """Round-trip time from this client; None = not measured."""
    uptime: Measurement | None
    """As observed from here: from the first to the last of an unbroken row of answers; None = not observed."""
    reputation: ReputationLike
    free_slots: int | None
    """Jobs that would start at once, as the host last said; None = not said."""
    score: Score
    sources: tuple[str, ...]
    """Who named the host: ``bootstrap``, ``dht``, ``mdns``, ``announce``."""
    record: HostInfo
    """The verified record. What stands in it is the host's claim."""
    claimed_uptime: Measurement | None = None
    """Since the start that the host states; None = it states none. It has no points in the ranking."""
    place_refuted: str = ""
    """Why the host cannot be at :attr:`place`; empty = nothing speaks against it, which proves nothing."""
    address: str = ""
    """The multiaddr that it was measured at; empty = not known."""
    quote: QuotedPrice | None = None
    """What a job would have cost when the host was probed, as it signed; None = it serves no jobs, or was not asked."""

    @property
    def peer_id(self) -> PeerId:
        """The host's peer id."""
        return self.record.peer_id

    @property
    def operator(self) -> bytes:
        """The wallet that answers for the host, 20 bytes; :attr:`operator_address` is its text."""
        return self.record.operator

    @property
    def operator_address(self) -> str:
        """The wallet as ``0x`` and 40 lower-case hexadecimal digits."""
        return self.record.operator_address

    @property
    def model_id(self) -> str:
        """The id of :attr:`offer`."""
        return self.offer.model_id

    @property
    def price(self) -> Price | None:
        """The price of :attr:`offer`, as quoted, else as the record says; None = unpriced."""
        return self.offer.price if self.quote is None else self.quote.price

    @property
    def models(self) -> tuple[ModelOffer, ...]:
        """Every model that the host offers."""
        return self.record.models

    @property
    def place(self) -> Place | None:
        """Where the host claims to be."""
        return self.record.place

    @property
    def origins(self) -> Mapping[str, Origin]:
        """Where each number and name of :meth:`to_dict` that is known comes from, by its key there."""
        record = self.record
        known: dict[str, Origin | None] = {
            "model": Origin.CLAIMED,
            "models": Origin.CLAIMED,
            "price": None if self.price is None else Origin.CLAIMED if self.quote is None else self.quote.origin,
            "latency_ms": None if self.latency is None else self.latency.origin,
            "uptime_s": None if self.uptime is None else self.uptime.origin,
            "claimed_uptime_s": None if self.claimed_uptime is None else self.claimed_uptime.origin,
            "reputation": Origin.OUTCOMES,
            "location": None if self.place is None else Origin.CLAIMED,
            "capabilities": Origin.CLAIMED,
            "hardware": None if record.hardware is None else Origin.CLAIMED,
            "protocols": Origin.CLAIMED,
            "free_slots": None if self.free_slots is None else Origin.CLAIMED,
            "max_concurrent_jobs": Origin.CLAIMED,
            "address": Origin.MEASURED if self.address else None,
        }
        return {name: origin for name, origin in known.items() if origin is not None}

    def to_dict(self) -> dict[str, object]:
        """Return what ``--json`` prints. Strings of the host's are raw."""
        return {
            "peer_id": self.peer_id,
            "operator": self.operator_address,
            "model": self.model_id,
            "models": [offer.to_dict() for offer in self.models],
            "price": None if self.price is None else self.price.to_dict(),
            "quote": None if self.quote is None else self.quote.to_dict(),
            "latency_ms": None if self.latency is None else round(self.latency.value, 3),
            "latency": None if self.latency is None else self.latency.to_dict(),
            "uptime_s": None if self.uptime is None else int(self.uptime.value),
            "uptime": None if self.uptime is None else self.uptime.to_dict(),
            "claimed_uptime_s": None if self.claimed_uptime is None else int(self.claimed_uptime.value),
            "claimed_uptime": None if self.claimed_uptime is None else self.claimed_uptime.to_dict(),
            "reputation": {"points": self.reputation.points, "n": self.reputation.n},
            "location": None if self.place is None else str(self.place),
            "location_refuted": self.place_refuted,
            "capabilities": list(self.record.capabilities),
            "protocols": list(self.record.protocols),
            "hardware": None if self.record.hardware is None else self.record.hardware.to_dict(),
            "free_slots": self.free_slots,
            "max_concurrent_jobs": self.record.max_concurrent_jobs,
            "address": self.address,
            "sources": list(self.sources),
            "score": self.score.to_dict(),
            "origins": {name: origin.value for name, origin in self.origins.items()},
            "record": {
                "sequence": self.record.sequence,
                "issued_at_unix_s": self.record.issued_at_unix_s,
                "expires_at_unix_s": self.record.expires_at_unix_s,
                "addresses": list(self.record.addresses),
                "software": self.record.software,
                "hardware": None if self.record.hardware is None else self.record.hardware.to_dict(),
                "reachability": None if self.record.reachability is None else self.record.reachability.value,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How the criteria fare, without an error when nobody meets them."""

    choices: tuple[HostChoice, ...]
    """The hosts that meet all, best first, with the parts of their scores."""
    funnel: Funnel
    """How many were seen and what turned each of the others away."""


def choice_of(view: HostView, points: Score, criteria: HostCriteria) -> HostChoice:
    """Return the choice that a matching view stands for."""
    offer = chosen_offer(view, criteria)
    assert offer is not None, "a host that meets the criteria has an offer in question"
    return HostChoice(
        offer=offer,
        latency=view.latency,
        uptime=view.uptime,
        reputation=view.reputation,
        free_slots=view.free_slots,
        score=points,
        sources=view.sources,
        record=view.info,
        claimed_uptime=view.claimed_uptime,
        place_refuted=view.refuted,
        address="" if view.probe is None else view.probe.address,
        quote=view.quote_of(offer.model_id),
    )
