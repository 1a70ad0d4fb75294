"""Sessions of whole nodes that are killed and run again with their disks; session keys that are taken back."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from tests.simulated.world import join
from tests.support.simulated import eventually, simulated

from hostmesh import (
    SDK,
    HostChoice,
    HostCriteria,
    HostDescription,
    JobError,
    JobLimits,
    ModelOffer,
    Price,
    Session,
    SessionError,
)
from hostmesh.errors import HostmeshError
from hostmesh.identity.delegation import save_delegation, sign_delegation
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.client_record import ClientState
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, chat_model, make_wallet
from hostmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from trio_typing import TaskStatus

CHAT = "tiny-chat"
OFFER = HostDescription(models=[ModelOffer(model_id=CHAT, price=Price(micros_per_mtok=250_000, currency="USD"))])
LIMIT = 50_000
SETTINGS: dict[str, Any] = {"enable_dht": False}


async def run_host(machine: SimMachine, *, task_status: TaskStatus[tuple[str, str]]) -> None:
    engine = FakeEngine([chat_model(CHAT, context_tokens=256, max_output_tokens=64)], answer=lambda work: "Hello world")
    async with machine.open_sdk(**SETTINGS) as sdk:
        address = await join(sdk, machine)
        async with sdk.get_host_manager().serve(OFFER, engine, limits=JobLimits()):
            task_status.started((address, sdk.settings.network))
            await trio.sleep_forever()


@dataclass
class Pair:
    """A host whose process can be killed, and where its clients find it."""

    net: SimNetwork
    nursery: trio.Nursery
    host: SimMachine
    address: str
    network: str

    async def restart_host(self, *, forget: bool = False) -> None:
        """Kill the host's process, perhaps with its sessions lost, and run another with its disk."""
        await self.host.restart()
        # By then its clients know that their connections have ended.
        await trio.sleep(1)
        if forget:
            for path in self.host.folder.rglob("hosted_sessions.sqlite3*"):
                path.unlink()
        assert await self.nursery.start(run_host, self.host) == (self.address, self.network)

    @asynccontextmanager
    async def client(self, name: str = "client", **authentication: Any) -> AsyncIterator[tuple[SDK, HostChoice]]:
        machine = self.net.machines[name] if name in self.net.machines else self.net.machine(name)
        async with machine.open_sdk(**SETTINGS) as sdk:
            await sdk.authenticate(**({"wallet": make_wallet("client")} | authentication))
            discovery = sdk.get_discovery_manager()
            await discovery.create_node()
            await discovery.connect_to_peer(self.address)
            yield sdk, await discovery.find_host(HostCriteria(required_models=[CHAT]))

    def on_host(self, statement: str) -> list[Any]:
        (path,) = self.host.folder.rglob("hosted_sessions.sqlite3")
        with closing(sqlite3.connect(path)) as db:
            return db.execute(statement).fetchall()


@asynccontextmanager
async def pair_on(net: SimNetwork) -> AsyncIterator[Pair]:
    async with trio.open_nursery() as nursery:
        host = net.machine("host")
        address, network = await nursery.start(run_host, host)
        yield Pair(net, nursery, host, address, network)
        nursery.cancel_scope.cancel()


async def ask(sdk: SDK, session: Session) -> int:
    """Run a job; return what it cost."""
    async with sdk.get_job_manager().run(session, prompt="Hi", max_output_tokens=16) as job:
        assert await job.read_text() == "Hello world"
    return job.usage.cost_micros


@simulated(pair_on)
async def test_a_session_outlives_its_host(pair: Pair) -> None:
    async with pair.client() as (sdk, choice):
        session = await sdk.get_session_manager().start_session(choice, spending_limit_micros=LIMIT)
        cost = await ask(sdk, session)
        assert cost > 0
        assert pair.on_host("SELECT spent_micros FROM sessions") == [(str(cost),)]
        await pair.restart_host()
        again = await sdk.get_session_manager().resume(session.session_id)
        assert again.grant == session.grant
        total = cost + await ask(sdk, again)
        assert pair.on_host("SELECT spent_micros, count(*) FROM sessions") == [(str(total), 1)]


@simulated(pair_on)
async def test_a_session_outlives_its_client_and_a_new_connection(pair: Pair) -> None:
    async with pair.client() as (sdk, choice):
        session_id = (await sdk.get_session_manager().start_session(choice, spending_limit_micros=LIMIT)).session_id
    async with pair.client() as (sdk, _):
        manager = sdk.get_session_manager()
        (listed,) = manager.resumable()
        assert listed.session_id == session_id
        await ask(sdk, await manager.resume(session_id))
        assert pair.on_host("SELECT count(*) FROM sessions") == [(1,)]


@simulated(pair_on)
async def test_a_host_that_lost_its_disk_says_so_and_gets_a_new_session(pair: Pair) -> None:
    async with pair.client() as (sdk, choice):
        manager = sdk.get_session_manager()
        session = await manager.start_session(choice, spending_limit_micros=LIMIT)
        await pair.restart_host(forget=True)
        await sdk.get_discovery_manager().connect_to_peer(pair.address)
        with pytest.raises(JobError) as caught:
            await ask(sdk, session)
        assert caught.value.reason == "UNAUTHORIZED"
        with pytest.raises(SessionError) as lost:
            await manager.resume(session.session_id)
        assert lost.value.reason == "UNKNOWN_SESSION"
        assert session.state is ClientState.CLOSED
        await ask(sdk, await manager.start_session(choice, spending_limit_micros=LIMIT))


def delegate(pair: Pair, folder: Path) -> tuple[pb.Delegation, dict[str, Any]]:
    """Return a delegation of the owner's wallet, and how a client authenticates with its session key."""
    key = make_wallet("session key")
    delegation = sign_delegation(
        make_wallet("client"),
        key.address_bytes,
        model_ids=[CHAT],
        host_caps={PeerId(pair.address.rpartition("/")[2]): LIMIT},
        currency="USD",
        network=pair.network,
        now=pair.host.system.unix_s(),
        nonce=bytes(32),
    )
    path = folder / "delegation.json"
    save_delegation(path, delegation)
    return delegation, {"wallet": key, "delegation_file": path}


@simulated(pair_on)
async def test_a_session_key_pays_with_its_owners_money_until_it_is_taken_back(pair: Pair, tmp_path: Path) -> None:
    delegation, authentication = delegate(pair, tmp_path)
    async with pair.client("key", **authentication) as (sdk, choice), pair.client("owner") as (owner, _):
        session = await sdk.get_session_manager().start_session(choice, spending_limit_micros=LIMIT)
        await ask(sdk, session)
        (outcome,) = await owner.get_session_manager().revoke(delegation)
        assert (outcome.is_delivered, outcome.ended_sessions) == (True, 1)
        with pytest.raises(JobError):
            await ask(sdk, session)
        with pytest.raises(SessionError) as caught:
            await sdk.get_session_manager().start_session(choice, spending_limit_micros=1_000)
        assert caught.value.reason == "DELEGATION_REVOKED"
        await pair.restart_host()
        await sdk.get_discovery_manager().connect_to_peer(pair.address)
        with pytest.raises(SessionError) as caught:
            await sdk.get_session_manager().start_session(choice, spending_limit_micros=1_000)
        assert caught.value.reason == "DELEGATION_REVOKED"


@simulated(pair_on)
async def test_a_host_that_was_away_hears_of_it_when_it_is_back(pair: Pair, tmp_path: Path) -> None:
    delegation, _ = delegate(pair, tmp_path)
    async with pair.client("owner") as (owner, _):
        await pair.host.restart()
        manager = owner.get_session_manager()
        (outcome,) = await manager.revoke(delegation)
        assert (outcome.is_delivered, outcome.is_pending) == (False, True)
    assert await pair.nursery.start(run_host, pair.host) == (pair.address, pair.network)
    # The next run of the owner's node tells it without being asked.
    async with pair.client("owner") as (owner, _):
        manager = owner.get_session_manager()
        await eventually(lambda: not manager.revocations.pending())
        assert len(pair.on_host("SELECT 1 FROM unseen_revocations")) == 1


@simulated(pair_on)
async def test_the_budget_of_a_client_outlives_it(pair: Pair) -> None:
    async with pair.client() as (sdk, choice):
        manager = sdk.get_session_manager()
        manager.set_budget("USD", LIMIT)
        await manager.start_session(choice, spending_limit_micros=LIMIT)
    async with pair.client() as (sdk, choice):
        with pytest.raises(HostmeshError) as caught:
            await sdk.get_session_manager().start_session(choice, spending_limit_micros=1)
        assert caught.value.code == "BUDGET_EXCEEDED"
        assert len(pair.on_host("SELECT 1 FROM sessions")) == 1
