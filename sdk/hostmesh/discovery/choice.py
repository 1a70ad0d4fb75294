"""A host that meets the criteria, with every number and its origin. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import ModelOffer
from hostmesh.discovery.matching import HostView, ReputationLike, chosen_offer
from hostmesh.discovery.measurement import Measurement
from hostmesh.discovery.ranking import Score
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.terms import Place, Price
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChoice:
    """One host for one set of criteria."""

    offer: ModelOffer
    """The model that a job under these criteria would use: the first required, or the cheapest that fits."""
    latency: Measurement | None
    """Round-trip time from this client; None = not measured."""
    uptime: Measurement | None
    """None: the host says no start time."""
    reputation: ReputationLike
    free_slots: int | None
    """Jobs that would start at once, as the host last said; None = not said."""
    score: Score
    sources: tuple[str, ...]
    """Who named the host: ``bootstrap``, ``dht``, ``mdns``, ``announce``."""
    record: HostInfo
    """The verified record. What stands in it is the host's claim."""

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
        """The price of :attr:`offer`; None = unpriced."""
        return self.offer.price

    @property
    def models(self) -> tuple[ModelOffer, ...]:
        """Every model that the host offers."""
        return self.record.models

    @property
    def place(self) -> Place | None:
        """Where the host claims to be."""
        return self.record.place

    def to_dict(self) -> dict[str, object]:
        """Return what ``--json`` prints. Strings of the host's are raw."""
        return {
            "peer_id": self.peer_id,
            "operator": self.operator_address,
            "model": self.model_id,
            "models": [offer.to_dict() for offer in self.models],
            "price": None if self.price is None else self.price.to_dict(),
            "latency_ms": None if self.latency is None else round(self.latency.value, 3),
            "latency": None if self.latency is None else self.latency.to_dict(),
            "uptime_s": None if self.uptime is None else int(self.uptime.value),
            "uptime": None if self.uptime is None else self.uptime.to_dict(),
            "reputation": {"points": self.reputation.points, "n": self.reputation.n},
            "location": None if self.place is None else str(self.place),
            "capabilities": list(self.record.capabilities),
            "free_slots": self.free_slots,
            "sources": list(self.sources),
            "score": self.score.to_dict(),
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


def choice_of(view: HostView, points: Score, criteria: HostCriteria) -> HostChoice:
    """Return the choice that a matching view stands for."""
    offer = chosen_offer(view.info, criteria)
    assert offer is not None, "a host that meets the criteria has an offer in question"
    readiness = None if view.probe is None else view.probe.readiness
    return HostChoice(
        offer=offer,
        latency=view.latency,
        uptime=view.uptime,
        reputation=view.reputation,
        free_slots=None if readiness is None else readiness.free_slots,
        score=points,
        sources=view.sources,
        record=view.info,
    )
