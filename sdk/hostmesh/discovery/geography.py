"""Where a host cannot be: the speed of light against the country that it claims. Pure.

A round trip takes at least twice the time that light takes for the way in vacuum. So a host that answers sooner than
light could come back from every point of its country is not there. The reverse proves nothing: whoever wants to look
far away waits.

Countries are unions of circles that cover them (:mod:`hostmesh.discovery.country_circles`), so that the distance
between two circles never is more than that between two points of theirs. Everything errs to the same side: the circles
are too large, the Earth is as small as it is anywhere, and light in glass takes half as long again as in vacuum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from hostmesh.discovery.country_circles import CIRCLES
from hostmesh.discovery.terms import Place

LIGHT_KM_PER_MS = 299.792458
"""In vacuum."""
LEAST_EARTH_RADIUS_KM = 6335.4
"""The least radius of curvature of WGS 84 (6,335.439 km, along the meridian at the equator): no way over the ellipsoid
is shorter than the arc of this radius between the same latitudes and longitudes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """Every point at most so far from a centre, on a sphere of :data:`LEAST_EARTH_RADIUS_KM`."""

    latitude_deg: float
    longitude_deg: float
    radius_km: float

    def distance_km(self, other: Circle) -> float:
        """Return the distance between the centres, along the surface."""
        here, there = math.radians(self.latitude_deg), math.radians(other.latitude_deg)
        half_north = (there - here) / 2
        half_east = math.radians(other.longitude_deg - self.longitude_deg) / 2
        chord = math.sin(half_north) ** 2 + math.cos(here) * math.cos(there) * math.sin(half_east) ** 2
        return 2 * LEAST_EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))

    def gap_km(self, other: Circle) -> float:
        """Return the least distance between a point of this circle and one of the other; 0 where they meet."""
        return max(0.0, self.distance_km(other) - self.radius_km - other.radius_km)


def circles_of(place: Place) -> Sequence[Circle]:
    """Return circles that cover the place's country; none where its code is no country's. Regions are not known."""
    return _circles().get(place.country_code, ())


def min_distance_km(place_a: Place, place_b: Place) -> float:
    """Return a lower bound of the distance between any point of one place and any point of the other.

    Returns:
        Kilometres along the surface, never too many; 0 where the countries may touch, or one of them is not known.

    Cost: circles of one times circles of the other, a few hundred at most.

    >>> min_distance_km(Place(country_code="DE"), Place(country_code="FR"))
    0.0
    >>> 3000 < min_distance_km(Place(country_code="DE"), Place(country_code="US")) < 6500
    True
    """
    gaps = [here.gap_km(there) for here in circles_of(place_a) for there in circles_of(place_b)]
    return min(gaps, default=0.0)


def refutes(rtt_ms: float, own_place: Place | None, claimed_place: Place) -> str:
    """Say why who answered in this time is not where it claims to be; empty = nothing speaks against it.

    Args:
        rtt_ms: a measured round trip; relays and queues only make it longer.
        own_place: where this node is; None = not known, and nothing is refuted.
        claimed_place: where the host claims to be.

    >>> refutes(20.0, Place(country_code="DE"), Place(country_code="AU"))[:47]
    'claims AU and answered in 20.0 ms; light to its'
    >>> refutes(20.0, Place(country_code="DE"), Place(country_code="FR"))
    ''
    """
    if own_place is None:
        return ""
    distance_km = min_distance_km(own_place, claimed_place)
    least_ms = 2 * distance_km / LIGHT_KM_PER_MS
    if rtt_ms >= least_ms:
        return ""
    return (
        f"claims {claimed_place} and answered in {rtt_ms:.1f} ms; light to its nearest point and back, "
        f"{distance_km:.0f} km from {own_place.country_code}, takes {least_ms:.1f} ms"
    )


@cache
def _circles() -> dict[str, tuple[Circle, ...]]:
    countries: dict[str, list[Circle]] = {}
    for line in CIRCLES.splitlines():
        code, *circles = line.split()
        for circle in circles:
            latitude, longitude, radius = map(float, circle.split(","))
            countries.setdefault(code, []).append(
                Circle(latitude_deg=latitude, longitude_deg=longitude, radius_km=radius)
            )
    return {code: tuple(circles) for code, circles in countries.items()}
