"""Strategies for what a node and its machine are told and tell: settings, usage, load, messages."""

from __future__ import annotations

import hashlib
import itertools
import pathlib
import string
from dataclasses import replace
from typing import TYPE_CHECKING

from hostmesh.errors import StatusCode
from hostmesh.messaging.direct import Ack, Message
from hostmesh.net.address import join_peer_address
from hostmesh.net.dht import DhtStatistics
from hostmesh.net.ledger import NodeUsage
from hostmesh.net.pool import ConnectionEvent
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.interceptors import IncomingCall, OutgoingCall
from hostmesh.rpc.limits import CallLimits
from hostmesh.rpc.method import AnyMethod, methods_of
from hostmesh.rpc.retry import RetryPolicy
from hostmesh.settings import LoadedSettings, Paths, Settings, default_of, setting_names
from hostmesh.status.snapshot import HostStatus, ModelStatus, ServingState
from hostmesh.system import System
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import (
    address_lists,
    counts,
    model_ids,
    multiaddrs,
    peer_ids,
    places,
    unix_times,
)
from hostmesh.v1.message_hostmesh import MESSAGE_SERVICE
from hostmesh.v1.status_hostmesh import STATUS_SERVICE

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_PROTOCOLS = ("/ipfs/id/1.0.0", "/hostmesh/status/1.0.0", "/hostmesh/job/1.0.0")


def settings() -> SearchStrategy[Settings]:
    """Draw settings that :class:`hostmesh.Settings` takes; a node may still refuse an address that is not its own."""
    words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
    files = words.map(lambda word: pathlib.Path("/nowhere") / word)
    bootstrap = st.lists(st.builds(join_peer_address, multiaddrs(), peer_ids()), max_size=2).map(tuple)
    return st.builds(
        Settings,
        listen_addresses=address_lists(),
        announce_addresses=address_lists(),
        bootstrap_nodes=bootstrap,
        enable_dht=st.booleans(),
        enable_mdns=st.booleans(),
        enable_gossip=st.booleans(),
        max_connections=st.integers(1, 100_000),
        max_streams=st.integers(1, 100_000),
        connection_timeout_ms=st.integers(1, 3_600_000),
        key_file=st.none() | files,
        wallet_file=st.none() | files,
        protocol_prefix=words.map("/{}".format),
        network=st.sampled_from(("testnet", "simnet")),
        mdns_interfaces=st.lists(words, max_size=2).map(tuple),
        location=st.none() | places().map(lambda place: place.country_code),
        log=st.sampled_from(("warning", "info", "net=debug,discovery=info")),
        log_json=st.booleans(),
    )


def rpc_methods() -> SearchStrategy[AnyMethod]:
    """Draw methods of hostmesh's own services."""
    services = (STATUS_SERVICE, MESSAGE_SERVICE)
    return st.sampled_from([method for service in services for method in methods_of(service).values()])


def retry_policies() -> SearchStrategy[RetryPolicy]:
    """Draw retry policies."""
    return st.builds(
        RetryPolicy,
        max_attempts=st.integers(1, 20),
        first_backoff_s=st.floats(0.001, 1.0),
        max_backoff_s=st.floats(1.0, 3600.0),
    )


def call_contexts() -> SearchStrategy[CallContext]:
    """Draw what a handler knows of a call."""
    words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
    return st.builds(
        CallContext,
        peer_id=peer_ids(),
        method=rpc_methods().map(lambda method: method.full_name),
        deadline=st.none() | st.floats(0, 1e6),
        version=st.sampled_from(("1.0.0", "1.1.0", "")),
        session_id=st.just(b"") | st.binary(min_size=16, max_size=16),
        idempotency_key=st.binary(max_size=32),
        metadata=st.dictionaries(words, words, max_size=2),
    )


def outgoing_calls() -> SearchStrategy[OutgoingCall]:
    """Draw calls that are about to be made; one in progress has no status."""
    words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
    return st.builds(
        OutgoingCall,
        peer_id=peer_ids(),
        method=rpc_methods(),
        timeout_s=st.none() | st.floats(0.001, 3600.0),
        session_id=st.just(b"") | st.binary(min_size=16, max_size=16),
        idempotency_key=st.binary(max_size=32),
        metadata=st.dictionaries(words, words, max_size=2),
        status=st.none() | st.sampled_from(StatusCode),
    )


def incoming_calls() -> SearchStrategy[IncomingCall]:
    """Draw calls that a handler is about to serve; one in progress has no status."""

    def incoming(context: CallContext, method: AnyMethod, status: StatusCode | None) -> IncomingCall:
        return IncomingCall(context=replace(context, method=method.full_name), method=method, status=status)

    return st.builds(incoming, call_contexts(), rpc_methods(), st.none() | st.sampled_from(StatusCode))


def call_limits() -> SearchStrategy[CallLimits]:
    """Draw limits that let at least one call through."""
    return st.builds(
        CallLimits,
        max_concurrent=st.integers(1, 4096),
        calls_per_s=st.floats(0.01, 50_000.0),
        burst=st.integers(1, 50_000),
    )


def paths() -> SearchStrategy[Paths]:
    """Draw folders that do not exist."""
    folders = st.text(string.ascii_lowercase, min_size=1, max_size=8).map(lambda word: pathlib.Path("/nowhere") / word)
    return st.builds(Paths, config_dir=folders, data_dir=folders)


def loaded_settings() -> SearchStrategy[LoadedSettings]:
    """Draw settings whose origins say ``argument`` of all that is not the default."""

    def loaded(drawn: Settings, places_of_files: Paths) -> LoadedSettings:
        origins = {
            name: "default" if getattr(drawn, name) == default_of(name) else "argument" for name in setting_names()
        }
        return LoadedSettings(settings=drawn, origins=origins, paths=places_of_files)

    return st.builds(loaded, settings(), paths())


def systems() -> SearchStrategy[System]:
    """Draw a machine whose clocks stand still, and whose random bytes follow from a drawn seed."""

    def still(unix_s: float, monotonic_s: float, seed: int) -> System:
        calls = itertools.count()
        return System(
            unix_s=lambda: unix_s,
            monotonic_s=lambda: monotonic_s,
            random_bytes=lambda size: hashlib.shake_256(f"{seed} {next(calls)}".encode()).digest(size),
        )

    return st.builds(still, unix_times(), unix_times(), counts())


def node_usages() -> SearchStrategy[NodeUsage]:
    """Draw what a node uses; inbound connections are among its connections."""
    streams = st.dictionaries(st.sampled_from(_PROTOCOLS), st.integers(1, 256))

    def used(
        connections: tuple[int, int], inbound: dict[str, int], outbound: dict[str, int], numbers: list[int]
    ) -> NodeUsage:
        unread_bytes, unsent_bytes, refused_streams, overflowed_streams = numbers
        return NodeUsage(
            connections=max(connections),
            inbound_connections=min(connections),
            inbound_streams=inbound,
            outbound_streams=outbound,
            unread_bytes=unread_bytes,
            unsent_bytes=unsent_bytes,
            refused_streams=refused_streams,
            overflowed_streams=overflowed_streams,
        )

    numbers = st.lists(counts(), min_size=4, max_size=4)
    return st.builds(used, st.tuples(counts(1000), counts(1000)), streams, streams, numbers)


def model_statuses() -> SearchStrategy[ModelStatus]:
    """Draw one model of a host, and whether it answers."""
    return st.builds(ModelStatus, model_id=model_ids(), ready=st.booleans())


def host_statuses() -> SearchStrategy[HostStatus]:
    """Draw a host's word about its load, with times of whole milliseconds, as they travel. It need not be true."""
    models = st.lists(model_statuses(), max_size=3, unique_by=lambda model: model.model_id).map(tuple)
    return st.builds(
        HostStatus,
        state=st.sampled_from(ServingState),
        active_jobs=counts(),
        queued_jobs=counts(),
        max_concurrent_jobs=counts(),
        max_queued_jobs=counts(),
        models=models,
        uptime_s=unix_times(),
        time_unix_s=unix_times(),
    )


def connection_events() -> SearchStrategy[ConnectionEvent]:
    """Draw a peer that came or went."""
    return st.builds(ConnectionEvent, peer_id=peer_ids(), connected=st.booleans())


def dht_statistics() -> SearchStrategy[DhtStatistics]:
    """Draw the counts of a node's DHT."""
    return st.builds(
        DhtStatistics,
        servers=counts(1000),
        provider_records=counts(1000),
        requests=st.dictionaries(st.sampled_from(("find_node", "get_providers", "add_provider")), counts(1000)),
        refused=st.dictionaries(st.sampled_from(("rate", "malformed")), counts(1000)),
    )


def messages() -> SearchStrategy[Message]:
    """Draw a direct message as a handler gets it: of bytes or a JSON object."""
    scalars = (
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8)
    )
    values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2), max_leaves=4)
    bodies = st.binary(max_size=64) | st.dictionaries(st.text(string.ascii_lowercase, max_size=4), values, max_size=3)
    return st.builds(Message, sender=peer_ids(), message_id=st.binary(min_size=16, max_size=16), body=bodies)


def acks() -> SearchStrategy[Ack]:
    """Draw a receiver's acknowledgement."""
    return st.builds(Ack, message_id=st.binary(min_size=16, max_size=16), attempts=st.integers(1, 10))
