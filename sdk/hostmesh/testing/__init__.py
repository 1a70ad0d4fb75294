"""A test kit: whole hostmesh nodes on a simulated network, and stand-ins for what they need.

:func:`run_sim` runs a simulation: machines, links and faults of a :class:`SimNetwork`, under a virtual clock, the same
for the same seed. Every name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.testing.faults import EventKind, FaultKind, NetworkEvent, StreamFault
    from hostmesh.testing.link import Link, LinkProfile
    from hostmesh.testing.machine import SimMachine
    from hostmesh.testing.nat import Nat
    from hostmesh.testing.network import SimNetwork
    from hostmesh.testing.run import SimOptions, SimRun, run_sim
    from hostmesh.testing.trace import Trace, TraceEvent

_HOMES = {
    "EventKind": "faults",
    "FaultKind": "faults",
    "Link": "link",
    "LinkProfile": "link",
    "Nat": "nat",
    "NetworkEvent": "faults",
    "SimMachine": "machine",
    "SimNetwork": "network",
    "SimOptions": "run",
    "SimRun": "run",
    "StreamFault": "faults",
    "Trace": "trace",
    "TraceEvent": "trace",
    "run_sim": "run",
}

__all__ = [
    "EventKind",
    "FaultKind",
    "Link",
    "LinkProfile",
    "Nat",
    "NetworkEvent",
    "SimMachine",
    "SimNetwork",
    "SimOptions",
    "SimRun",
    "StreamFault",
    "Trace",
    "TraceEvent",
    "run_sim",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value: object = getattr(import_module(f"hostmesh.testing.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
