"""What comes of finding a host in a topology, held against the truth that the topology is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hostmesh.discovery.choice import Explanation, HostChoice
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.funnel import Funnel
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.discovery.measurement import Origin
from hostmesh.discovery.view import HostView, ProbeResult
from hostmesh.errors import NoHostFoundError
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.testing.topologies import Lie, Topology, TopologyHost, broken_criteria
from hostmesh.testing.topology_world import TopologyWorld

FIND_S = 10.0
_CLAIMED = (
    "model",
    "models",
    "location",
    "capabilities",
    "hardware",
    "protocols",
    "claimed_uptime_s",
    "free_slots",
    "max_concurrent_jobs",
)


@dataclass(kw_only=True)
class TopologyVerdict:
    """What was wrong with the finds in one topology, or in several added up; all is well with nothing in it."""

    finds: int = 0
    answers: int = 0
    liars_chosen: Counter[str] = field(default_factory=Counter)
    """By lie: of those that a client can find out without a job, and of those whose job had failed before."""
    liars_listed: Counter[str] = field(default_factory=Counter)
    """By lie: among all hosts that were probed and said to meet the criteria."""
    criteria_broken: Counter[str] = field(default_factory=Counter)
    """By the chosen host, in truth."""
    funnels_wrong: int = 0
    """Funnels that do not add up."""
    claims_wrong: int = 0
    """Choices in which a claim was not marked so, or earned points."""
    honest_missed: int = 0
    """Finds without a host though an honest one fits."""
    first_jobs_lost: int = 0
    """Jobs that went badly at hosts of which nobody could know it. No mistake."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing was wrong."""
        return not (
            self.liars_chosen.total()
            + self.liars_listed.total()
            + self.criteria_broken.total()
            + self.funnels_wrong
            + self.claims_wrong
            + self.honest_missed
        )

    def add(self, other: TopologyVerdict) -> None:
        """Add what came of another topology."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def note_choice(self, choice: HostChoice, host: TopologyHost, topology: Topology) -> None:
        """Judge a choice by the truth of its host."""
        self.answers += 1
        if host.lie not in (None, Lie.JOBS):
            self.liars_chosen[host.lie.value] += 1
        self.criteria_broken.update(broken_criteria(host, topology.criteria))
        self.claims_wrong += not are_claims_only_shown(choice, topology)

    def note_miss(self, error: NoHostFoundError, topology: Topology) -> None:
        """Judge a find without a host."""
        self.honest_missed += bool(topology.fitting)
        self.funnels_wrong += error.seen != sum(error.rejected.values())

    def note_all(self, explained: Explanation, hosts: dict[PeerId, TopologyHost]) -> None:
        """Judge an explanation: its funnel, and who is said to meet the criteria."""
        self.funnels_wrong += not adds_up(explained.funnel, len(explained.choices))
        for choice in explained.choices:
            lie = hosts[choice.peer_id].lie
            # A search probes 32 hosts that answer; of more, the rest is listed last, and as not measured.
            if lie not in (None, Lie.JOBS) and choice.latency is not None:
                self.liars_listed[lie.value] += 1


def adds_up(funnel: Funnel, choices: int) -> bool:
    """Tell whether a funnel's numbers and its list of hosts are one account."""
    by_criterion = Counter(each.criterion for each in funnel.rejections)
    return (
        funnel.seen == funnel.matched + sum(funnel.rejected.values())
        and funnel.matched == choices
        and dict(by_criterion) == funnel.rejected
        and len({each.peer_id for each in funnel.rejections}) == len(funnel.rejections)
    )


def are_claims_only_shown(choice: HostChoice, topology: Topology) -> bool:
    """Tell whether what the host claims is marked so, and its score is that of a host that claims a price alone."""
    origins = choice.origins
    if any(origins.get(name, Origin.CLAIMED) is not Origin.CLAIMED for name in _CLAIMED):
        return False
    if choice.latency is None or choice.latency.origin is not Origin.MEASURED:
        return False
    record = choice.record
    bare = HostView(
        info=replace(
            record,
            models=tuple(replace(offer, output_millitokens_per_s=None) for offer in record.models),
            place=None,
            capabilities=(),
            hardware=None,
            started_at_unix_s=None,
            max_concurrent_jobs=1,
        ),
        uptime=choice.uptime,
        reputation=choice.reputation,
        probe=ProbeResult(latency=choice.latency, readiness=None, quote=choice.quote),
        sources=(),
    )
    unplaced = replace(topology.criteria, location=None)
    return topology.strategy.score(bare, unplaced) == choice.score


async def play_topology(topology: Topology, system: System, *, is_believing: bool = False) -> TopologyVerdict:
    """Find hosts in a topology with the real manager over simulated sources, and judge what comes of it.

    After a bad job the client looks again, until it has a host whose job went well or no host is left.

    Args:
        topology: who there is.
        system: clocks and random bytes; time passes through trio.
        is_believing: as a control: break the probe, so that it believes what hosts say of their latency.
    """
    verdict = TopologyVerdict()
    world = TopologyWorld(topology, system, is_believing=is_believing)
    async with world.client() as manager:
        await _play_finds(world, manager, verdict)
    # Another client, which knows nothing: what it lists it has just heard of.
    world = TopologyWorld(topology, system, is_believing=is_believing)
    async with world.client() as manager:
        explained = await manager.explain(topology.criteria, strategy=topology.strategy, timeout_s=FIND_S)
        verdict.note_all(explained, world.hosts)
    return verdict


async def _play_finds(world: TopologyWorld, manager: DiscoveryManager, verdict: TopologyVerdict) -> None:
    topology, failed = world.topology, set[PeerId]()
    for _ in topology.hosts:
        choice = await find(manager, topology, verdict)
        if choice is None:
            return
        verdict.note_choice(choice, world.hosts[choice.peer_id], topology)
        if world.run_job(choice.peer_id):
            return
        if choice.peer_id in failed:
            # Where nobody else is left it is tried again after its pause.
            verdict.liars_chosen[Lie.JOBS.value] += bool(topology.fitting)
            return
        failed.add(choice.peer_id)
        verdict.first_jobs_lost += 1


async def find(
    manager: DiscoveryManager, topology: Topology, verdict: TopologyVerdict, criteria: HostCriteria | None = None
) -> HostChoice | None:
    """Look for a host once; a miss is judged."""
    verdict.finds += 1
    try:
        return await manager.find_host(criteria or topology.criteria, strategy=topology.strategy, timeout_s=FIND_S)
    except NoHostFoundError as error:
        verdict.note_miss(error, topology)
        return None
