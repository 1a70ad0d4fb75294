"""The scenarios that come with the kit, by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from hostmesh.errors import UsageError
from hostmesh.testing.scenario import Scenario, read_scenario

NAMES = ("churn", "partition", "wan-find", "eclipse", "liars", "scale")
"""Each is ``SCENARIO`` of the module of its name here, with _ for -."""


def load_scenario(name: str) -> Scenario:
    """Return a scenario by its name, or of a user's Python file.

    Raises:
        UsageError: there is no such scenario, or the file does not define one.
    """
    if name in NAMES:
        scenario = import_module(f"{__name__}.{name.replace('-', '_')}").SCENARIO
        assert isinstance(scenario, Scenario)
        return scenario
    if name.endswith(".py"):
        return read_scenario(Path(name))
    raise UsageError(f"there is no scenario {name!r}", remedy=f"choose {', '.join(NAMES)}, or a file that ends in .py")
