"""A test kit: whole hostmesh nodes on a simulated network, and stand-ins for what they need.

:func:`run_sim` runs a simulation: machines, links and faults of a :class:`SimNetwork`, under a virtual clock, the same
for the same seed. Every name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.testing.broken_records import (
        BrokenHistory,
        BrokenRecord,
        HistoryFault,
        RecordFault,
        make_broken_history,
        make_broken_record,
    )
    from hostmesh.testing.engine import FakeEngine, chat_model, embedding_model
    from hostmesh.testing.engine_account import EngineCounts, EngineJob, JobEnding
    from hostmesh.testing.engine_faults import (
        DiesAfter,
        EndsAfter,
        EngineFault,
        FailsAfter,
        FailsToLoad,
        HangsAfter,
        LiesAboutUsage,
        Says,
    )
    from hostmesh.testing.faults import EventKind, FaultKind, NetworkEvent, StreamFault
    from hostmesh.testing.link import Link, LinkProfile
    from hostmesh.testing.machine import SimMachine
    from hostmesh.testing.nat import Nat
    from hostmesh.testing.network import SimNetwork
    from hostmesh.testing.nodes import SimNode, open_nodes
    from hostmesh.testing.records import (
        make_binding,
        make_description,
        make_host_info,
        make_host_record,
        read_host_record,
    )
    from hostmesh.testing.run import SimOptions, SimRun, run_sim
    from hostmesh.testing.scenario import Scenario, ScenarioReport, ScenarioRun, ScenarioSize, play_scenario
    from hostmesh.testing.scenarios import load_scenario
    from hostmesh.testing.scenarios.mesh import Leaving, Mesh, MeshNode
    from hostmesh.testing.services import make_service
    from hostmesh.testing.strategies import values_of
    from hostmesh.testing.trace import Trace, TraceEvent
    from hostmesh.testing.wallets import PublicKeyWallet, make_peer_key, make_wallet

_HOMES = {
    "BrokenHistory": "broken_records",
    "BrokenRecord": "broken_records",
    "DiesAfter": "engine_faults",
    "EndsAfter": "engine_faults",
    "EngineCounts": "engine_account",
    "EngineFault": "engine_faults",
    "EngineJob": "engine_account",
    "EventKind": "faults",
    "FailsAfter": "engine_faults",
    "FailsToLoad": "engine_faults",
    "FakeEngine": "engine",
    "FaultKind": "faults",
    "HangsAfter": "engine_faults",
    "HistoryFault": "broken_records",
    "JobEnding": "engine_account",
    "Leaving": "scenarios.mesh",
    "LiesAboutUsage": "engine_faults",
    "Link": "link",
    "LinkProfile": "link",
    "Mesh": "scenarios.mesh",
    "MeshNode": "scenarios.mesh",
    "Nat": "nat",
    "NetworkEvent": "faults",
    "PublicKeyWallet": "wallets",
    "RecordFault": "broken_records",
    "Says": "engine_faults",
    "Scenario": "scenario",
    "ScenarioReport": "scenario",
    "ScenarioRun": "scenario",
    "ScenarioSize": "scenario",
    "SimMachine": "machine",
    "SimNetwork": "network",
    "SimNode": "nodes",
    "SimOptions": "run",
    "SimRun": "run",
    "StreamFault": "faults",
    "Trace": "trace",
    "TraceEvent": "trace",
    "chat_model": "engine",
    "embedding_model": "engine",
    "load_scenario": "scenarios",
    "make_binding": "records",
    "make_broken_history": "broken_records",
    "make_broken_record": "broken_records",
    "make_description": "records",
    "make_host_info": "records",
    "make_host_record": "records",
    "make_peer_key": "wallets",
    "make_service": "services",
    "make_wallet": "wallets",
    "open_nodes": "nodes",
    "play_scenario": "scenario",
    "read_host_record": "records",
    "run_sim": "run",
    "values_of": "strategies",
}

__all__ = [
    "BrokenHistory",
    "BrokenRecord",
    "DiesAfter",
    "EndsAfter",
    "EngineCounts",
    "EngineFault",
    "EngineJob",
    "EventKind",
    "FailsAfter",
    "FailsToLoad",
    "FakeEngine",
    "FaultKind",
    "HangsAfter",
    "HistoryFault",
    "JobEnding",
    "Leaving",
    "LiesAboutUsage",
    "Link",
    "LinkProfile",
    "Mesh",
    "MeshNode",
    "Nat",
    "NetworkEvent",
    "PublicKeyWallet",
    "RecordFault",
    "Says",
    "Scenario",
    "ScenarioReport",
    "ScenarioRun",
    "ScenarioSize",
    "SimMachine",
    "SimNetwork",
    "SimNode",
    "SimOptions",
    "SimRun",
    "StreamFault",
    "Trace",
    "TraceEvent",
    "chat_model",
    "embedding_model",
    "load_scenario",
    "make_binding",
    "make_broken_history",
    "make_broken_record",
    "make_description",
    "make_host_info",
    "make_host_record",
    "make_peer_key",
    "make_service",
    "make_wallet",
    "open_nodes",
    "play_scenario",
    "read_host_record",
    "run_sim",
    "values_of",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value: object = getattr(import_module(f"hostmesh.testing.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
