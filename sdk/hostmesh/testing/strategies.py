"""Hypothesis strategies for every public value type of hostmesh.

Each draws values that the type and its validators accept, in their whole range, and shrinks towards the smallest: no
constraint, nothing seen, the number 0, the first word of an enumeration. Records, quotes and keys are real ones, of
:mod:`hostmesh.testing.records` and :mod:`hostmesh.testing.wallets`.

Hypothesis is imported when the first strategy is made. It is no dependency of hostmesh: install it beside.

>>> from hypothesis import find
>>> from hostmesh import Price
>>> find(values_of(Price), lambda price: price.micros_per_mtok >= 1000)
Price(micros_per_mtok=1000, currency='USD')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import hostmesh.testing.strategies_admission as admission
import hostmesh.testing.strategies_adversaries as adversaries
import hostmesh.testing.strategies_basic as basic
import hostmesh.testing.strategies_canaries as canaries
import hostmesh.testing.strategies_choices as choices
import hostmesh.testing.strategies_diagnosis as diagnosis
import hostmesh.testing.strategies_discovery as discovery
import hostmesh.testing.strategies_events as events
import hostmesh.testing.strategies_faults as faults
import hostmesh.testing.strategies_jobs as jobs
import hostmesh.testing.strategies_node as node
import hostmesh.testing.strategies_receipts as receipts
import hostmesh.testing.strategies_sessions as sessions
import hostmesh.testing.strategies_watch as watch
from hostmesh.canaries.asking import CanaryRequest
from hostmesh.canaries.canary import OptedInPrompt
from hostmesh.canaries.comparison import Agreement
from hostmesh.canaries.evidence import Calibration, CanaryEvidence, Warmth
from hostmesh.discovery.choice import Explanation, HostChoice
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import Gpu, Hardware, HostDescription, HostState, ModelOffer, Reachability
from hostmesh.discovery.diagnostics import Finding, Severity
from hostmesh.discovery.events import (
    HostProbed,
    HostRevoked,
    ListingChange,
    ListingChanged,
    OutcomeRecorded,
    RecordDecided,
    RecordDecision,
    SearchEnded,
    SearchStarted,
)
from hostmesh.discovery.funnel import Funnel, Rejection
from hostmesh.discovery.measurement import Measurement, Origin, Path, QuotedPrice, QuoteRefusal, Throttling
from hostmesh.discovery.metrics import ConnectionMetrics
from hostmesh.discovery.protocol_range import ProtocolRange
from hostmesh.discovery.ranking import Anchors, Score, ScorePart, WeightedStrategy, Weights
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.relaxation import Relaxation
from hostmesh.discovery.roster import HostChanged, HostJoined, HostLeft, LeaveReason
from hostmesh.discovery.selection import Diversity
from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.discovery.stats import DiscoveryStats, SourceStats
from hostmesh.discovery.terms import Place, Price
from hostmesh.discovery.topology import (
    NetworkTopology,
    PeerKind,
    Relation,
    RelationKind,
    TopologyHost,
    TopologyPeer,
)
from hostmesh.discovery.view import HostView, ProbeResult, Readiness
from hostmesh.errors import StatusCode, UsageError
from hostmesh.identity.structs import Receipt, SessionAuthorization
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.engine import (
    ChatMessage,
    ChatWork,
    EmbeddingWork,
    EngineEvent,
    Finished,
    FinishReason,
    ModelInfo,
    Role,
    TextPiece,
    Vector,
    Work,
)
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.jobs.stats import JobOutcome, JobStats
from hostmesh.jobs.transcript import TextDelta
from hostmesh.jobs.usage import Usage
from hostmesh.messaging.direct import Ack, Message
from hostmesh.model_kind import ModelKind
from hostmesh.net.address import AddressOrigin, AddressScope
from hostmesh.net.autonat_report import (
    AddressReach,
    DialBackAnswer,
    DialBackOutcome,
    ReachabilityReport,
    ReachState,
)
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.dht import DhtStatistics
from hostmesh.net.events import (
    CloseCause,
    ConnectionClosed,
    ConnectionOpened,
    DialEnded,
    DialStarted,
    NetworkChanged,
    RetryPlanned,
    RetryReason,
)
from hostmesh.net.ledger import NodeUsage
from hostmesh.net.peer_id import PeerId
from hostmesh.net.pool import ConnectionEvent
from hostmesh.receipt_exchange import AskedPeers, PeerAnswer, PointsChange
from hostmesh.receipt_reviews import ImportedReviews
from hostmesh.reputation.score import Reputation
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.interceptors import IncomingCall, OutgoingCall
from hostmesh.rpc.limits import CallLimits
from hostmesh.rpc.method import Cardinality, Method
from hostmesh.rpc.retry import RetryPolicy
from hostmesh.sessions.admission.attack import AttackLimits
from hostmesh.sessions.admission.deposits import DepositClaim, DepositVerdict
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.sessions.admission.rate import Rate
from hostmesh.sessions.admission.work import WorkLimit
from hostmesh.sessions.budget import Budget
from hostmesh.sessions.client_record import ClientState
from hostmesh.sessions.client_revocations import RevocationOutcome
from hostmesh.settings import LoadedSettings, Paths, Settings
from hostmesh.status.snapshot import HostStatus, ModelStatus, ServingState
from hostmesh.system import System
from hostmesh.testing.adversary_dht import DhtLies, DhtManner
from hostmesh.testing.adversary_host import HostLies, JobLie, PingLie
from hostmesh.testing.adversary_slow import SlowKind, Slowness
from hostmesh.testing.broken_records import BrokenRecord
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.link import LinkProfile

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

ValueT = TypeVar("ValueT")

_ENUMS: tuple[type[Enum], ...] = (
    AddressOrigin,
    AddressScope,
    Cardinality,
    ClientState,
    CloseCause,
    DhtManner,
    FinishReason,
    HostState,
    JobLie,
    JobOutcome,
    LeaveReason,
    ListingChange,
    ModelKind,
    Origin,
    Path,
    Reachability,
    DialBackOutcome,
    PeerKind,
    PingLie,
    ReachState,
    RelationKind,
    RecordDecision,
    RetryReason,
    Role,
    ServingState,
    Severity,
    SlowKind,
    StatusCode,
    Warmth,
)


def _members(kind: type[Enum]) -> SearchStrategy[Enum]:
    return st.sampled_from(kind)


STRATEGIES: Mapping[object, Callable[[], SearchStrategy[Any]]] = MappingProxyType(
    {
        Ack: node.acks,
        AdmissionPolicy: admission.admission_policies,
        Advert: discovery.adverts,
        Anchors: choices.anchors,
        AskedPeers: receipts.asked_peers,
        Agreement: canaries.agreements,
        AttackLimits: admission.attack_limits,
        Calibration: canaries.calibrations,
        CanaryEvidence: canaries.canary_evidence,
        CanaryRequest: canaries.canary_requests,
        OptedInPrompt: canaries.opted_in_prompts,
        BrokenRecord: discovery.broken_records,
        Budget: sessions.budgets,
        CallContext: node.call_contexts,
        CallLimits: node.call_limits,
        Candidate: discovery.candidates,
        ChatMessage: jobs.chat_messages,
        ChatWork: jobs.chat_works,
        ConnectionClosed: events.connections_closed,
        ConnectionMetrics: watch.connection_metrics,
        ConnectionEvent: node.connection_events,
        ConnectionOpened: events.connections_opened,
        DepositClaim: admission.deposit_claims,
        DepositVerdict: admission.deposit_verdicts,
        DialEnded: events.dials_ended,
        DialStarted: events.dials_started,
        NetworkChanged: events.network_changes,
        Rate: admission.rates,
        RetryPlanned: events.retries_planned,
        DhtLies: adversaries.dht_lies,
        DhtStatistics: node.dht_statistics,
        DiscoveryStats: discovery.discovery_stats,
        Diversity: choices.diversities,
        EmbeddingWork: jobs.embedding_works,
        EngineEvent: jobs.engine_events,
        Explanation: choices.explanations,
        AddressReach: diagnosis.address_reaches,
        DialBackAnswer: diagnosis.dial_back_answers,
        ReachabilityReport: diagnosis.reachability_reports,
        ConnectionView: diagnosis.connection_views,
        Finding: diagnosis.findings,
        NetworkTopology: diagnosis.network_topologies,
        Relation: diagnosis.relations,
        TopologyHost: diagnosis.topology_hosts,
        TopologyPeer: diagnosis.topology_peers,
        Finished: jobs.finishes,
        Funnel: choices.funnels,
        HostChanged: watch.hosts_changed,
        HostChoice: choices.host_choices,
        HostJoined: watch.hosts_joined,
        HostLeft: watch.hosts_left,
        HostProbed: watch.hosts_probed,
        HostRevoked: watch.hosts_revoked,
        ListingChanged: watch.listings_changed,
        OutcomeRecorded: watch.outcomes_recorded,
        RecordDecided: watch.records_decided,
        SearchEnded: watch.searches_ended,
        SearchStarted: watch.searches_started,
        HostCriteria: choices.host_criteria,
        Gpu: discovery.gpus,
        Hardware: discovery.hardware,
        HostDescription: discovery.host_descriptions,
        HostInfo: discovery.host_infos,
        IncomingCall: node.incoming_calls,
        OutgoingCall: node.outgoing_calls,
        HostLies: adversaries.host_lies,
        HostStatus: node.host_statuses,
        HostView: choices.host_views,
        JobLimits: jobs.job_limits,
        JobStats: jobs.job_stats,
        LinkProfile: faults.link_profiles,
        LoadedSettings: node.loaded_settings,
        Measurement: discovery.measurements,
        Message: node.messages,
        Method: node.rpc_methods,
        ModelInfo: jobs.model_infos,
        ModelOffer: discovery.model_offers,
        ModelStatus: node.model_statuses,
        NodeUsage: node.node_usages,
        Paths: node.paths,
        ImportedReviews: receipts.imported_reviews,
        PeerAnswer: receipts.peer_answers,
        PeerId: basic.peer_ids,
        Place: basic.places,
        PointsChange: receipts.points_changes,
        Price: basic.prices,
        ProbeResult: choices.probe_results,
        ProtocolRange: choices.protocol_ranges,
        QuoteOffer: jobs.quote_offers,
        QuoteRefusal: choices.quote_refusals,
        QuotedPrice: choices.quoted_prices,
        Throttling: choices.throttlings,
        Readiness: choices.readinesses,
        Receipt: sessions.receipts,
        Rejection: choices.rejections,
        Relaxation: choices.relaxations,
        Reputation: discovery.reputations,
        RetryPolicy: node.retry_policies,
        RevocationOutcome: sessions.revocation_outcomes,
        Score: choices.scores,
        ScorePart: choices.score_parts,
        SessionAuthorization: sessions.session_authorizations,
        Settings: node.settings,
        Slowness: adversaries.slownesses,
        SourceQuery: discovery.source_queries,
        SourceStats: discovery.source_stats,
        System: node.systems,
        TextDelta: jobs.text_deltas,
        TextPiece: jobs.text_pieces,
        Usage: jobs.usages,
        Vector: jobs.vectors,
        WeightedStrategy: choices.weighted_strategies,
        Weights: choices.weights,
        Work: jobs.works,
        WorkLimit: admission.work_limits,
        **{kind: partial(_members, kind) for kind in _ENUMS},
    }
)
"""By type, the function that makes its strategy. The types that ``hostmesh`` names, and those that they lead to."""


@overload
def values_of(kind: type[ValueT]) -> SearchStrategy[ValueT]: ...
@overload
def values_of(kind: object) -> SearchStrategy[Any]: ...
def values_of(kind: object) -> SearchStrategy[Any]:
    """Return the strategy for a type of :data:`STRATEGIES`: a class, ``PeerId``, ``Work`` or ``EngineEvent``.

    Raises:
        UsageError: there is none for it, or Hypothesis is not installed.
    """
    make = STRATEGIES.get(kind)
    if make is None:
        name = getattr(kind, "__name__", repr(kind))
        raise UsageError(
            f"there is no strategy for {name}", remedy="see hostmesh.testing.strategies.STRATEGIES for those there are"
        )
    return make()
