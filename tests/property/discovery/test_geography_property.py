"""Distances between circles: symmetric, bounded by the triangle, and never more than between two points of theirs."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.geography import LEAST_EARTH_RADIUS_KM, LIGHT_KM_PER_MS, Circle, circles_of, refutes
from hostmesh.discovery.geography import min_distance_km as least
from hostmesh.discovery.terms import Place

CODES = ("AQ", "AU", "CL", "DE", "FJ", "FR", "GB", "IN", "KI", "NO", "NZ", "RU", "SG", "US", "VA")
HALF_ROUND_KM = math.pi * LEAST_EARTH_RADIUS_KM
TINY_KM = 1e-3

places = st.sampled_from(CODES).map(lambda code: Place(country_code=code))
circles = st.builds(
    Circle,
    latitude_deg=st.floats(-90, 90),
    longitude_deg=st.floats(-180, 180),
    radius_km=st.floats(0, 3000),
)
share = st.floats(0, 1)


def point_of(circle: Circle, bearing: float, part: float) -> Circle:
    """Return a point of the circle, from its centre so far in a direction: by vectors, as the code does not."""
    north, east = math.radians(circle.latitude_deg), math.radians(circle.longitude_deg)
    up = (math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north))
    to_north = (-math.sin(north) * math.cos(east), -math.sin(north) * math.sin(east), math.cos(north))
    to_east = (-math.sin(east), math.cos(east), 0.0)
    arc = part * circle.radius_km / LEAST_EARTH_RADIUS_KM
    turn = 2 * math.pi * bearing
    x, y, z = (
        math.cos(arc) * u + math.sin(arc) * (math.cos(turn) * n + math.sin(turn) * e)
        for u, n, e in zip(up, to_north, to_east, strict=True)
    )
    latitude = math.degrees(math.asin(max(-1.0, min(1.0, z))))
    return Circle(latitude_deg=latitude, longitude_deg=math.degrees(math.atan2(y, x)), radius_km=0.0)


@given(circles, circles, circles)
def test_distances_are_those_of_a_sphere(a: Circle, b: Circle, c: Circle) -> None:
    assert a.distance_km(a) <= TINY_KM
    assert math.isclose(a.distance_km(b), b.distance_km(a), abs_tol=TINY_KM)
    assert 0 <= a.distance_km(b) <= HALF_ROUND_KM + TINY_KM
    assert a.distance_km(c) <= a.distance_km(b) + b.distance_km(c) + TINY_KM
    assert a.gap_km(c) <= a.gap_km(b) + 2 * b.radius_km + b.gap_km(c) + TINY_KM


@given(circles, circles, share, share, share, share)
def test_no_two_points_are_nearer_than_their_circles(
    a: Circle, b: Circle, bearing_a: float, part_a: float, bearing_b: float, part_b: float
) -> None:
    here, there = point_of(a, bearing_a, part_a), point_of(b, bearing_b, part_b)
    assert a.gap_km(b) <= here.distance_km(there) + TINY_KM


@given(places, places, st.data(), share, share, share, share)
def test_no_two_points_are_nearer_than_their_countries(
    a: Place, b: Place, data: st.DataObject, bearing_a: float, part_a: float, bearing_b: float, part_b: float
) -> None:
    here = point_of(data.draw(st.sampled_from(circles_of(a))), bearing_a, part_a)
    there = point_of(data.draw(st.sampled_from(circles_of(b))), bearing_b, part_b)
    between_km = here.distance_km(there)
    assert least(a, b) == least(b, a) <= between_km + TINY_KM
    # A host that is where it claims is never refuted, however fast the line.
    assert refutes(2 * (between_km + TINY_KM) / LIGHT_KM_PER_MS, a, b) == ""


@given(places, places, st.floats(0, 500), st.floats(0, 500))
def test_a_slower_answer_is_never_refuted_where_a_faster_one_was_not(
    a: Place, b: Place, one_ms: float, other_ms: float
) -> None:
    fast_ms, slow_ms = sorted((one_ms, other_ms))
    if refutes(slow_ms, a, b):
        assert refutes(fast_ms, a, b)
