"""A test kit: whole hostmesh nodes on a simulated network, and stand-ins for what they need.

:func:`run_sim` runs a simulation: machines, links and faults of a :class:`SimNetwork`, under a virtual clock, the same
for the same seed. Every name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.testing.adversary_dht import (
        DhtLies,
        DhtManner,
        DhtResponder,
        flood_providers,
        near_key,
        run_dht_responder,
    )
    from hostmesh.testing.adversary_host import HostLies, JobLie, LyingHost, PingLie, run_lying_host
    from hostmesh.testing.adversary_node import AdversaryNode, open_adversary_node
    from hostmesh.testing.adversary_records import RecordPeer, by_asker, by_turns, run_record_peer
    from hostmesh.testing.adversary_slow import SlowKind, Slowness, SlowPeer, run_slow_peer
    from hostmesh.testing.broken_records import (
        BrokenHistory,
        BrokenRecord,
        HistoryFault,
        RecordFault,
        make_broken_history,
        make_broken_record,
    )
    from hostmesh.testing.clock import SimStuckError
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
    from hostmesh.testing.exploration import (
        Breach,
        Exploration,
        Invariant,
        Play,
        SimWorld,
        Violation,
        as_python,
        draw_times,
        explore,
        play_schedule,
    )
    from hostmesh.testing.faults import EventKind, FaultKind, NetworkEvent, StreamFault
    from hostmesh.testing.invariants import MESH_INVARIANTS
    from hostmesh.testing.link import Link, LinkProfile
    from hostmesh.testing.machine import SimMachine
    from hostmesh.testing.mesh_account import MeshAccount
    from hostmesh.testing.mesh_steps import Change, EngineDies, Find, Leave, Restart, RunJob, Watch, Withdraw
    from hostmesh.testing.mesh_world import MeshWorld
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
    from hostmesh.testing.scenario import Scenario, ScenarioReport, ScenarioRun, ScenarioSize
    from hostmesh.testing.scenario_play import play_scenario
    from hostmesh.testing.scenarios import load_scenario
    from hostmesh.testing.scenarios.mesh import Leaving, Mesh, MeshNode
    from hostmesh.testing.services import make_service
    from hostmesh.testing.shrinking import Schedule, Shrunk, shrink
    from hostmesh.testing.strategies import values_of
    from hostmesh.testing.strategies_faults import fault_schedules
    from hostmesh.testing.trace import Trace, TraceEvent
    from hostmesh.testing.wallets import PublicKeyWallet, make_peer_key, make_wallet

_HOMES = {
    "AdversaryNode": "adversary_node",
    "Breach": "exploration",
    "BrokenHistory": "broken_records",
    "BrokenRecord": "broken_records",
    "Change": "mesh_steps",
    "DhtLies": "adversary_dht",
    "DhtManner": "adversary_dht",
    "DhtResponder": "adversary_dht",
    "DiesAfter": "engine_faults",
    "EndsAfter": "engine_faults",
    "EngineCounts": "engine_account",
    "EngineDies": "mesh_steps",
    "EngineFault": "engine_faults",
    "EngineJob": "engine_account",
    "EventKind": "faults",
    "Exploration": "exploration",
    "FailsAfter": "engine_faults",
    "FailsToLoad": "engine_faults",
    "FakeEngine": "engine",
    "FaultKind": "faults",
    "Find": "mesh_steps",
    "HangsAfter": "engine_faults",
    "HistoryFault": "broken_records",
    "HostLies": "adversary_host",
    "Invariant": "exploration",
    "JobEnding": "engine_account",
    "JobLie": "adversary_host",
    "Leave": "mesh_steps",
    "Leaving": "scenarios.mesh",
    "LiesAboutUsage": "engine_faults",
    "Link": "link",
    "LinkProfile": "link",
    "LyingHost": "adversary_host",
    "MESH_INVARIANTS": "invariants",
    "Mesh": "scenarios.mesh",
    "MeshAccount": "mesh_account",
    "MeshNode": "scenarios.mesh",
    "MeshWorld": "mesh_world",
    "Nat": "nat",
    "NetworkEvent": "faults",
    "PingLie": "adversary_host",
    "Play": "exploration",
    "PublicKeyWallet": "wallets",
    "RecordFault": "broken_records",
    "RecordPeer": "adversary_records",
    "Restart": "mesh_steps",
    "RunJob": "mesh_steps",
    "Says": "engine_faults",
    "Scenario": "scenario",
    "ScenarioReport": "scenario",
    "ScenarioRun": "scenario",
    "ScenarioSize": "scenario",
    "Schedule": "shrinking",
    "Shrunk": "shrinking",
    "SimMachine": "machine",
    "SimNetwork": "network",
    "SimNode": "nodes",
    "SimOptions": "run",
    "SimRun": "run",
    "SimStuckError": "clock",
    "SimWorld": "exploration",
    "SlowKind": "adversary_slow",
    "SlowPeer": "adversary_slow",
    "Slowness": "adversary_slow",
    "StreamFault": "faults",
    "Trace": "trace",
    "TraceEvent": "trace",
    "Violation": "exploration",
    "Watch": "mesh_steps",
    "Withdraw": "mesh_steps",
    "as_python": "exploration",
    "by_asker": "adversary_records",
    "by_turns": "adversary_records",
    "chat_model": "engine",
    "draw_times": "exploration",
    "embedding_model": "engine",
    "explore": "exploration",
    "fault_schedules": "strategies_faults",
    "flood_providers": "adversary_dht",
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
    "near_key": "adversary_dht",
    "open_adversary_node": "adversary_node",
    "open_nodes": "nodes",
    "play_scenario": "scenario_play",
    "play_schedule": "exploration",
    "read_host_record": "records",
    "run_dht_responder": "adversary_dht",
    "run_lying_host": "adversary_host",
    "run_record_peer": "adversary_records",
    "run_sim": "run",
    "run_slow_peer": "adversary_slow",
    "shrink": "shrinking",
    "values_of": "strategies",
}

__all__ = [
    "MESH_INVARIANTS",
    "AdversaryNode",
    "Breach",
    "BrokenHistory",
    "BrokenRecord",
    "Change",
    "DhtLies",
    "DhtManner",
    "DhtResponder",
    "DiesAfter",
    "EndsAfter",
    "EngineCounts",
    "EngineDies",
    "EngineFault",
    "EngineJob",
    "EventKind",
    "Exploration",
    "FailsAfter",
    "FailsToLoad",
    "FakeEngine",
    "FaultKind",
    "Find",
    "HangsAfter",
    "HistoryFault",
    "HostLies",
    "Invariant",
    "JobEnding",
    "JobLie",
    "Leave",
    "Leaving",
    "LiesAboutUsage",
    "Link",
    "LinkProfile",
    "LyingHost",
    "Mesh",
    "MeshAccount",
    "MeshNode",
    "MeshWorld",
    "Nat",
    "NetworkEvent",
    "PingLie",
    "Play",
    "PublicKeyWallet",
    "RecordFault",
    "RecordPeer",
    "Restart",
    "RunJob",
    "Says",
    "Scenario",
    "ScenarioReport",
    "ScenarioRun",
    "ScenarioSize",
    "Schedule",
    "Shrunk",
    "SimMachine",
    "SimNetwork",
    "SimNode",
    "SimOptions",
    "SimRun",
    "SimStuckError",
    "SimWorld",
    "SlowKind",
    "SlowPeer",
    "Slowness",
    "StreamFault",
    "Trace",
    "TraceEvent",
    "Violation",
    "Watch",
    "Withdraw",
    "as_python",
    "by_asker",
    "by_turns",
    "chat_model",
    "draw_times",
    "embedding_model",
    "explore",
    "fault_schedules",
    "flood_providers",
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
    "near_key",
    "open_adversary_node",
    "open_nodes",
    "play_scenario",
    "play_schedule",
    "read_host_record",
    "run_dht_responder",
    "run_lying_host",
    "run_record_peer",
    "run_sim",
    "run_slow_peer",
    "shrink",
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
