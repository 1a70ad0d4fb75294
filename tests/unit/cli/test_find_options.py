"""What the options of ``hostmesh find`` ask for."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.cli.client import host_criteria, strategy_called
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.measurement import Path
from hostmesh.discovery.ranking import AUTO, CHEAPEST, FASTEST, RELIABLE, SPECIFIC, Strategy
from hostmesh.discovery.terms import ModelKind, Price
from hostmesh.errors import ConfigError


def test_without_options_nothing_is_asked() -> None:
    assert host_criteria() == HostCriteria()


@pytest.mark.parametrize(
    ("options", "criteria"),
    [
        ({"models": ["a", "b"]}, {"required_models": ["a", "b"]}),
        ({"any_models": ["a"]}, {"any_models": ["a"]}),
        ({"kind": "embedding"}, {"kind": ModelKind.EMBEDDING}),
        ({"kind": ModelKind.CHAT}, {"kind": ModelKind.CHAT}),
        ({"max_price_micros": 5, "currency": "EUR"}, {"max_price": Price(micros_per_mtok=5, currency="EUR")}),
        ({"quantisation": ["Q4"]}, {"quantisation": ["Q4"]}),
        ({"min_context_tokens": 0}, {"min_context_tokens": 0}),
        ({"min_vram_mib": 1}, {"min_vram_mib": 1}),
        ({"max_latency_ms": 2.5}, {"max_latency_ms": 2.5}),
        ({"min_reputation": 3}, {"min_reputation": 3}),
        ({"min_uptime_s": 4, "strict_uptime": True}, {"min_uptime_s": 4, "strict_uptime": True}),
        ({"location": "us"}, {"location": "US"}),
        ({"capabilities": ["gpu"]}, {"capabilities": ["gpu"]}),
        ({"protocols": ["/a/1.0.0"]}, {"protocols": ["/a/1.0.0"]}),
        ({"min_free_slots": 0}, {"min_free_slots": 0}),
        ({"path": "direct"}, {"path": Path.DIRECT}),
        ({"path": "any"}, {}),
        ({"accept_unmeasured": True}, {"accept_unmeasured": True}),
        ({"include": ["x"]}, {"include": ["x"]}),
        ({"exclude": ["x"]}, {"exclude": ["x"]}),
        ({"preferred": ["x"]}, {"preferred": ["x"]}),
    ],
)
def test_each_option_is_its_criterion(options: dict[str, Any], criteria: dict[str, Any]) -> None:
    assert host_criteria(**options) == HostCriteria(**criteria)


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("auto", AUTO),
        ("cheapest", CHEAPEST),
        ("Fastest", FASTEST),
        ("RELIABLE", RELIABLE),
        ("specific", SPECIFIC),
    ],
)
def test_a_strategy_by_its_name(name: str, strategy: Strategy) -> None:
    assert strategy_called(name) is strategy


@pytest.mark.parametrize(
    ("call", "name", "remedy"),
    [
        (lambda: strategy_called("best"), "strategy", "auto, cheapest, fastest, reliable, specific"),
        (lambda: host_criteria(kind="vision"), "kind", "chat, embedding"),
        (lambda: host_criteria(path="relayed"), "path", "any, direct"),
    ],
)
def test_an_unknown_word_is_refused_with_those_there_are(call: Any, name: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.name == name
    assert caught.value.remedy == f"one of {remedy}"
