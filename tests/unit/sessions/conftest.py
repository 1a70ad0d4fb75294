"""A host and clients in one process: calls are messages that are serialised, parsed by their bounds and dispatched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hostmesh.errors import HostmeshError, RpcError
from hostmesh.identity.binding import sign_binding
from hostmesh.identity.delegation import sign_delegation
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.rpc.method import AnyMethod, handler_name
from hostmesh.rpc.retry import RetryPolicy
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.sessions.client import SessionManager
from hostmesh.sessions.client_store import ClientStore
from hostmesh.sessions.client_terms import ChosenHost
from hostmesh.sessions.opening import BindingBook
from hostmesh.sessions.server import SessionServer
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.sessions.signatures import ContractVerifier
from hostmesh.sessions.store import SessionStore
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2, session_pb2
from hostmesh.wire.bounds import parse

NETWORK = "hostmesh-test"
NOW = 1_700_000_000.0
MODEL = "smollm2-135m-instruct"


def key_of(name: str) -> PeerKey:
    return PeerKey(hashlib.sha256(f"peer {name}".encode()).digest())


def wallet_of(name: str) -> Wallet:
    return Wallet.from_private_key(hashlib.sha256(f"wallet {name}".encode()).digest())


def counting_bytes() -> Callable[[int], bytes]:
    """Bytes that never repeat and are the same in each run."""

    def numbers() -> Iterator[int]:
        number = 0
        while True:
            number += 1
            yield number

    source = numbers()
    return lambda size: hashlib.sha256(str(next(source)).encode()).digest()[:size]


class Clock:
    """Unix and monotonic time, moved by hand."""

    def __init__(self) -> None:
        self.unix = NOW
        self.monotonic = 1000.0
        self._random_bytes = counting_bytes()

    def advance(self, seconds: float) -> None:
        self.unix += seconds
        self.monotonic += seconds

    def system(self, *, ahead_s: float = 0.0) -> System:
        return System(
            unix_s=lambda: self.unix + ahead_s, monotonic_s=lambda: self.monotonic, random_bytes=self._random_bytes
        )


@dataclass(frozen=True, slots=True)
class Call:
    """What the server sees of a call."""

    peer_id: PeerId
    session_id: bytes = b""


@dataclass
class World:
    """One host and the means to make clients of it."""

    clock: Clock = field(default_factory=Clock)
    host: PeerKey = field(default_factory=lambda: key_of("host"))
    operator: Wallet = field(default_factory=lambda: wallet_of("operator"))
    client: PeerKey = field(default_factory=lambda: key_of("client"))
    wallet: Wallet = field(default_factory=lambda: wallet_of("client"))
    limits: SessionServerLimits = field(default_factory=lambda: SessionServerLimits(min_slice_tokens=1))
    """Small sums will do, where they are no matter."""
    prices: dict[str, ModelPrice] = field(
        default_factory=lambda: {MODEL: ModelPrice(micros_per_mtok=150_000, currency="USD")}
    )
    networks: dict[PeerId, str] = field(default_factory=dict)
    path: Path | None = None
    """The host's file; None = its sessions are in memory."""
    contracts: ContractVerifier | None = None
    before: Callable[[AnyMethod, Any], None] = lambda method, request: None
    """Sees, and may change or fail, each request on its way to the host."""
    after: Callable[[AnyMethod, Any], Any] = lambda method, response: response
    """Sees, and may change or fail, each response on its way back."""

    def __post_init__(self) -> None:
        self.server = self.new_server()
        self.calls: list[str] = []

    def new_server(self, store: SessionStore | None = None) -> SessionServer:
        return SessionServer(
            key=self.host,
            binding=self.binding,
            network=NETWORK,
            price_of=lambda model_id, peer_id: self.prices.get(model_id),
            system=self.clock.system(),
            limits=self.limits,
            network_of=self.networks.get,
            store=store or SessionStore(self.path, host=peer_id_to_bytes(self.host.peer_id), network=NETWORK),
            contracts=self.contracts,
        )

    def restart(self) -> None:
        """Run the host again, with what is in its file."""
        self.server = self.new_server()

    def binding(self) -> discovery_pb2.PeerBinding:
        return sign_binding(self.operator, self.host.peer_id, network=NETWORK, now=self.clock.unix - 7200)

    @property
    def choice(self) -> ChosenHost:
        return ChosenHost(
            peer_id=self.host.peer_id,
            operator=self.operator.address_bytes,
            model_id=MODEL,
            price=self.prices.get(MODEL),
        )

    def manager(
        self,
        *,
        key: PeerKey | None = None,
        wallet: Wallet | None = None,
        network: str = NETWORK,
        ahead_s: float = 0.0,
        path: Path | None = None,
        delegation: session_pb2.Delegation | None = None,
        bindings: BindingBook | None = None,
    ) -> SessionManager:
        sender = (key or self.client).peer_id
        return SessionManager(
            caller=Wire(self, sender),
            wallet=wallet or self.wallet,
            peer_id=sender,
            network=network,
            system=self.clock.system(ahead_s=ahead_s),
            store=ClientStore(path, network=network),
            delegation=delegation,
            bindings=bindings,
        )

    async def nonce(self, key: PeerKey | None = None) -> bytes:
        """Ask for a challenge."""
        call = Call((key or self.client).peer_id)
        return (await self.server.get_challenge(session_pb2.GetChallengeRequest(), call)).nonce

    def terms(self, nonce: bytes, /, **changes: Any) -> SessionAuthorization:
        """Return terms that the host accepts, but for the changes."""
        fields: dict[str, Any] = {
            "client": self.wallet.address_bytes,
            "operator": self.operator.address_bytes,
            "client_peer_id": peer_id_to_bytes(self.client.peer_id),
            "host_peer_id": peer_id_to_bytes(self.host.peer_id),
            "nonce": nonce,
            "model_id": MODEL,
            "max_price_micros_per_mtok": 150_000,
            "currency": "USD",
            "spending_limit_micros": 10_000,
            "slice_micros": 1_000,
            "issued_at_unix_s": int(self.clock.unix),
            "expires_at_unix_s": int(self.clock.unix) + 3600,
        }
        return SessionAuthorization(**(fields | changes))

    def delegation(self, key: Wallet, **changes: Any) -> session_pb2.Delegation:
        """Return the client's delegation to a session key, good for this host, but for the changes."""
        fields: dict[str, Any] = {
            "model_ids": [MODEL],
            "host_caps": {self.host.peer_id: 50_000},
            "currency": "USD",
            "network": NETWORK,
            "now": self.clock.unix,
            "nonce": counting_bytes()(32),
            "owner": self.wallet,
        } | changes
        return sign_delegation(fields.pop("owner"), key.address_bytes, **fields)


class Wire:
    """Makes the calls of one client."""

    def __init__(self, world: World, sender: PeerId) -> None:
        self._world = world
        self._sender = sender

    async def unary(
        self,
        peer_id: PeerId,
        method: AnyMethod,
        request: Any,
        *,
        timeout_s: float,
        session_id: bytes = b"",
        idempotency_key: bytes = b"",
        metadata: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Any:
        world = self._world
        assert timeout_s > 0
        assert peer_id == world.host.peer_id
        world.calls.append(method.name)
        request = parse(method.request_type, request.SerializeToString(), method.max_request_bytes)
        world.before(method, request)
        handler = getattr(world.server, handler_name(method.name))
        response = await handler(request, Call(self._sender, session_id))
        response = world.after(method, response)
        return parse(method.response_type, response.SerializeToString(), method.max_response_bytes)


@pytest.fixture
def world() -> World:
    return World()


def cause_of(error: HostmeshError) -> str:
    """Return the word of a refusal, wherever it stands."""
    assert isinstance(error, RpcError)
    return error.details.get("cause", error.reason)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"
