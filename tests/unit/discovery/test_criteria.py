"""Criteria and the values in them: what is accepted, what is refused and under which name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostDescription, ModelOffer
from hostmesh.discovery.measurement import Path
from hostmesh.discovery.terms import ModelKind, Place, Price
from hostmesh.errors import ConfigError


def test_defaults_constrain_nothing() -> None:
    criteria = HostCriteria()
    assert criteria.required_models == ()
    assert criteria.min_reputation is None
    assert criteria.max_latency_ms is None
    assert criteria.max_price is None
    assert criteria.accept_unmeasured is False
    for field in dataclasses.fields(criteria):
        assert getattr(criteria, field.name) in (None, (), False), field.name


def test_lists_become_tuples_without_duplicates() -> None:
    criteria = HostCriteria(required_models=["b", "a", "b"], capabilities=["gpu"])
    assert criteria.required_models == ("b", "a")
    assert criteria.capabilities == ("gpu",)


def test_zero_is_a_value() -> None:
    criteria = HostCriteria(
        min_reputation=0, max_latency_ms=0, min_uptime_s=0, max_price=Price(micros_per_mtok=0, currency="USD")
    )
    assert (criteria.min_reputation, criteria.max_latency_ms, criteria.min_uptime_s) == (0, 0, 0)
    assert criteria.max_price is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("required_models", "llama"),
        ("required_models", [""]),
        ("required_models", ["x" * 129]),
        ("required_models", ["\ud800"]),
        ("required_models", [b"bytes"]),
        ("required_models", [f"m{i}" for i in range(65)]),
        ("required_models", 7),
        ("capabilities", ["y" * 65]),
        ("include", "12D3KooW"),
        ("min_reputation", -1),
        ("min_reputation", 1001),
        ("min_reputation", 99.5),
        ("min_reputation", True),
        ("max_latency_ms", -0.1),
        ("max_latency_ms", math.nan),
        ("max_latency_ms", math.inf),
        ("max_latency_ms", "500"),
        ("min_uptime_s", -1),
        ("min_uptime_s", 1.5),
        ("location", "USA"),
        ("location", "U"),
        ("location", ""),
        ("location", "US/"),
        ("location", "US/" + "x" * 65),
        ("location", 5),
        ("max_price", 100),
        ("kind", "chat"),
        ("accept_unmeasured", 1),
        ("strict_uptime", None),
        ("any_models", [""]),
        ("any_models", ["x" * 129]),
        ("quantisation", "Q4_K_M"),
        ("quantisation", ["x" * 33]),
        ("min_context_tokens", -1),
        ("min_context_tokens", 2**32),
        ("min_vram_mib", 1.5),
        ("min_vram_mib", 2**40 + 1),
        ("min_free_slots", True),
        ("min_free_slots", -1),
        ("min_free_slots", 2**32),
        ("min_uptime_s", 10 * 366 * 86_400 + 1),
        ("path", "direct"),
        ("path", Path.RELAYED),
        ("preferred", "12D3KooW"),
        ("exclude", ["x" * 65]),
        ("protocols", ["/x" + "y" * 127]),
    ],
)
def test_a_wrong_value_is_refused_under_its_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        HostCriteria(**{field: value})
    assert caught.value.name == field
    assert caught.value.source == "argument"
    assert caught.value.code == "CONFIG_INVALID"


@pytest.mark.parametrize("amount", [-1, 0.5, True, "1", 2**64])
def test_a_price_is_an_integer(amount: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Price(micros_per_mtok=amount, currency="USD")
    assert caught.value.name == "price"


@pytest.mark.parametrize("currency", ["", "x" * 17, "U D", "\x1b[31m", "€"])
def test_a_currency_is_a_short_word(currency: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Price(micros_per_mtok=1, currency=currency)
    assert caught.value.name == "currency"


@pytest.mark.parametrize(
    ("place", "wanted", "expected"),
    [
        ("US", "us", True),
        ("US/California", "US", True),
        ("US/California", "US/ california ", True),
        ("US/Nevada", "US/california", False),
        ("US", "US/california", False),
        ("CA", "US", False),
    ],
)
def test_a_place_lies_in_its_country_and_region(place: str, wanted: str, expected: bool) -> None:
    assert Place.parse(place).lies_in(Place.parse(wanted)) is expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("required_models", ["x" * 128]),
        ("any_models", ["x" * 128]),
        ("quantisation", ["x" * 32]),
        ("capabilities", ["x" * 64]),
        ("include", ["x" * 64]),
        ("exclude", ["x" * 64]),
        ("preferred", ["x" * 64]),
        ("protocols", ["/" + "x" * 127]),
        ("required_models", [f"m{index}" for index in range(64)]),
        ("min_context_tokens", 2**32 - 1),
        ("min_vram_mib", 2**40),
        ("min_free_slots", 2**32 - 1),
        ("min_free_slots", 0),
        ("min_reputation", 1000),
        ("min_uptime_s", 10 * 366 * 86_400),
        ("max_latency_ms", 1),
        ("path", Path.DIRECT),
        ("strict_uptime", True),
        ("accept_unmeasured", True),
    ],
)
def test_the_last_value_of_its_range_is_taken(field: str, value: Any) -> None:
    taken = getattr(HostCriteria(**{field: value}), field)
    assert taken == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("fields", "name", "says", "remedy"),
    [
        (
            {"required_models": ["a"], "any_models": ["b"]},
            "any_models",
            "any_models stands beside required_models",
            "say either which models the host must all serve, or of which it must serve one",
        ),
        ({"kind": "chat"}, "kind", "kind is not a ModelKind", ""),
        (
            {"max_price": 5},
            "max_price",
            "max_price is not a Price",
            'Price(micros_per_mtok=150_000, currency="USD")',
        ),
        ({"max_latency_ms": -1}, "max_latency_ms", "max_latency_ms is -1", "give milliseconds, 0 or more"),
        ({"path": "any"}, "path", "path is 'any'", "Path.DIRECT, or None for any"),
        ({"strict_uptime": 1}, "strict_uptime", "strict_uptime is not a bool", ""),
    ],
)
def test_a_wrong_value_is_refused_with_what_to_do(fields: dict[str, Any], name: str, says: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HostCriteria(**fields)
    error = caught.value
    assert (error.message, error.name, error.source, error.remedy) == (says, name, "argument", remedy)


def test_the_place_and_the_ranges_are_read_once_for_all() -> None:
    criteria = HostCriteria(location="us/ Texas", protocols=["/a/1.0.0", "/a/1.0.0"])
    assert criteria.location == "US/Texas"
    assert criteria.place == Place(country_code="US", region="Texas")
    assert criteria.protocols == ("/a/1.0.0",)
    assert [each.name for each in criteria.protocol_ranges] == ["/a"]
    assert HostCriteria().place is None
    assert HostCriteria().protocol_ranges == ()


def test_wallets_are_compared_without_case_and_peer_ids_with() -> None:
    criteria = HostCriteria(include=["0xABCDEF0000000000000000000000000000000001", "12D3KooWAbC"])
    assert criteria.include == ("0xabcdef0000000000000000000000000000000001", "12D3KooWAbC")
    upper = "0XABCDEF0000000000000000000000000000000001"
    assert HostCriteria(exclude=[upper]).exclude == (upper.lower(),)
    assert HostCriteria(preferred=[upper]).preferred == (upper.lower(),)


def test_criteria_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        HostCriteria().min_reputation = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("models", []),
        ("models", [ModelOffer(model_id="a"), ModelOffer(model_id="a")]),
        ("models", [ModelOffer(model_id=f"m{i}") for i in range(65)]),
        ("location", "nowhere"),
        ("max_concurrent_jobs", 0),
        ("max_queued_jobs", -1),
        ("capabilities", [f"c{i}" for i in range(33)]),
        ("software", "x" * 65),
    ],
)
def test_a_wrong_description_is_refused_under_its_name(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"models": [ModelOffer(model_id="a", kind=ModelKind.CHAT)], field: value}
    with pytest.raises(ConfigError) as caught:
        HostDescription(**fields)
    assert caught.value.name == field


@pytest.mark.parametrize(
    ("field", "value"), [("model_id", ""), ("context_tokens", 0), ("weights_sha256", b"short"), ("engine", "")]
)
def test_a_wrong_offer_is_refused_under_its_name(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"model_id": "a", field: value}
    with pytest.raises(ConfigError) as caught:
        ModelOffer(**fields)
    assert caught.value.name == field
