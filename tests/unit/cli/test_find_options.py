"""What the options of ``hostmesh find`` and ``hostmesh run`` ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from hostmesh.cli.call import call
from hostmesh.cli.doctor import doctor
from hostmesh.cli.find import find
from hostmesh.cli.groups import CriteriaOptions, NodeOptions, grouped
from hostmesh.cli.proto import describe
from hostmesh.cli.run import run
from hostmesh.cli.topology import topology
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.measurement import Path
from hostmesh.discovery.ranking import AUTO, CHEAPEST, FASTEST, RELIABLE, SPECIFIC, Strategy
from hostmesh.discovery.terms import ModelKind, Price
from hostmesh.errors import ConfigError


def test_without_options_nothing_is_asked() -> None:
    assert CriteriaOptions().criteria() == HostCriteria()


@pytest.mark.parametrize(
    ("options", "criteria"),
    [
        ({"model": ["a", "b"]}, {"required_models": ["a", "b"]}),
        ({"any_model": ["a"]}, {"any_models": ["a"]}),
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
        ({"capability": ["gpu"]}, {"capabilities": ["gpu"]}),
        ({"protocol": ["/a/1.0.0"]}, {"protocols": ["/a/1.0.0"]}),
        ({"min_free_slots": 0}, {"min_free_slots": 0}),
        ({"path": "direct"}, {"path": Path.DIRECT}),
        ({"path": "any"}, {}),
        ({"accept_unmeasured": True}, {"accept_unmeasured": True}),
        ({"include": ["x"]}, {"include": ["x"]}),
        ({"exclude": ["x"]}, {"exclude": ["x"]}),
        ({"prefer": ["x"]}, {"preferred": ["x"]}),
    ],
)
def test_each_option_is_its_criterion(options: dict[str, Any], criteria: dict[str, Any]) -> None:
    kind = options.pop("kind", None)
    assert CriteriaOptions(**options).criteria(kind) == HostCriteria(**criteria)


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
    assert CriteriaOptions(strategy=name).ranking() is strategy


@pytest.mark.parametrize(
    ("call", "name", "remedy"),
    [
        (lambda: CriteriaOptions(strategy="best").ranking(), "strategy", "auto, cheapest, fastest, reliable, specific"),
        (lambda: CriteriaOptions().criteria("vision"), "kind", "chat, embedding"),
        (lambda: CriteriaOptions(path="relayed").criteria(), "path", "any, direct"),
    ],
)
def test_an_unknown_word_is_refused_with_those_there_are(call: Any, name: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.name == name
    assert caught.value.remedy == f"one of {remedy}"


# --- groups of options ---


def options_of(command: Callable[..., None]) -> dict[str, set[str]]:
    app = typer.Typer()
    app.command()(command)
    return {parameter.name: set(parameter.opts) for parameter in typer.main.get_command(app).params if parameter.name}


def names_of(group: type) -> set[str]:
    return {field.name for field in fields(group)}


def test_find_and_run_take_the_same_criteria() -> None:
    finds, runs = options_of(find), options_of(run)
    criteria = names_of(CriteriaOptions)
    assert {name: finds[name] for name in criteria} == {name: runs[name] for name in criteria}
    assert finds["model"] == {"--model"}
    assert "kind" in finds
    assert "kind" not in runs


@pytest.mark.parametrize("command", [find, run, call, describe, doctor, topology])
def test_every_command_with_a_node_of_its_own_joins_by_the_same_options(command: Callable[..., None]) -> None:
    assert names_of(NodeOptions) <= set(options_of(command))


def test_every_criterion_has_an_option() -> None:
    """Two have another name, as one option names one of several; what a job asks for is the command's to say."""
    names = {
        "model": "required_models",
        "max_price_micros": "max_price",
        "currency": "max_price",
        "prefer": "preferred",
    }
    singular = {"any_model": "any_models", "capability": "capabilities", "protocol": "protocols"}
    covered = {names.get(name, singular.get(name, name)) for name in names_of(CriteriaOptions)} - {"strategy"}
    assert covered | {"kind"} == {field.name for field in fields(HostCriteria)}


def test_a_group_is_filled_from_the_command_line() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Fruit:
        apples: Annotated[int, typer.Option("--apples", min=0)] = 1
        pears: Annotated[list[str] | None, typer.Option("--pear")] = None

    seen: list[object] = []

    def shop(
        shop: Annotated[str, typer.Argument()], *, bag: Annotated[bool, typer.Option("--bag")] = False, fruit: Fruit
    ) -> None:
        """Buy."""
        seen.append((shop, bag, fruit))

    # The class is no global, which is where an annotation in text is looked for.
    shop.__annotations__["fruit"] = Fruit
    app = typer.Typer()
    command = grouped(shop)
    assert (command.__name__, command.__doc__) == ("shop", "Buy.")
    app.command()(command)
    for line in (["corner"], ["--pear", "a", "market", "--apples", "3", "--pear", "b", "--bag"]):
        assert CliRunner().invoke(app, line).exit_code == 0
    assert seen == [("corner", False, Fruit()), ("market", True, Fruit(apples=3, pears=["a", "b"]))]
    assert CliRunner().invoke(app, ["corner", "--apples", "-1"]).exit_code == 2
