"""Sessions and void bindings: none is opened under one, and those of before end, whenever the client hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hostmesh.errors import SessionError
from hostmesh.identity.binding import sign_binding
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NETWORK = "hostmesh-test"
OTHER_WALLET = Wallet.from_private_key("5d" * 32)


class Book:
    """What discovery knows of bindings."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.void: dict[tuple[bytes, PeerId], tuple[int, float]] = {}
        self.seen: list[tuple[bytes, PeerId, int]] = []

    def revoke(self, least_epoch: int, *, operator: bytes | None = None) -> None:
        place = (operator or self._world.operator.address_bytes, self._world.host.peer_id)
        self.void[place] = (least_epoch, self._world.clock.unix)

    def least_epoch(self, operator: bytes, peer_id: PeerId) -> int:
        return self.void.get((operator, peer_id), (0, 0.0))[0]

    def voided_at(self, operator: bytes, peer_id: PeerId) -> float:
        return self.void.get((operator, peer_id), (0, 0.0))[1]

    def saw_binding(self, operator: bytes, peer_id: PeerId, epoch: int) -> None:
        self.seen.append((operator, peer_id, epoch))


def bind_anew(world: World, epoch: int) -> None:
    """Have the host show a binding of this epoch from now on."""

    def after(method: Any, response: Any) -> Any:
        if method.name == "GetChallenge":
            response.binding.CopyFrom(
                sign_binding(
                    world.operator,
                    world.host.peer_id,
                    network=NETWORK,
                    now=world.clock.unix - 60,
                    revocation_epoch=epoch,
                )
            )
        return response

    world.after = after


async def test_no_session_is_opened_under_a_void_binding(world: World) -> None:
    book = Book(world)
    book.revoke(2)
    for epoch in (0, 1):
        bind_anew(world, epoch)
        with pytest.raises(SessionError) as refused:
            await world.manager(bindings=book).start_session(world.choice, spending_limit_micros=10)
        assert refused.value.reason == "BINDING_REVOKED"
    assert (world.calls, book.seen) == (["GetChallenge"] * 2, []), "nothing was signed"
    bind_anew(world, 2)
    await world.manager(bindings=book).start_session(world.choice, spending_limit_micros=10)
    assert book.seen == [(world.operator.address_bytes, world.host.peer_id, 2)]


async def test_another_wallets_revocation_of_the_host_changes_nothing(world: World) -> None:
    book = Book(world)
    manager = world.manager(bindings=book)
    session = await manager.start_session(world.choice, spending_limit_micros=10)
    world.clock.advance(10)
    book.revoke(2, operator=OTHER_WALLET.address_bytes)
    assert manager.end_sessions_of(world.host.peer_id, OTHER_WALLET.address_bytes) == 0
    assert not session.is_closed
    await manager.start_session(world.choice, spending_limit_micros=10)


async def test_open_sessions_end_at_once_and_for_good(world: World, tmp_path: Path) -> None:
    book, path = Book(world), tmp_path / "sessions.sqlite3"
    manager = world.manager(bindings=book, path=path)
    sessions = [await manager.start_session(world.choice, spending_limit_micros=10) for _ in range(2)]
    assert manager.end_sessions_of(world.host.peer_id, world.operator.address_bytes) == 2
    assert [(session.is_closed, session.end_reason) for session in sessions] == [(True, "BINDING_REVOKED")] * 2
    assert manager.end_sessions_of(world.host.peer_id, world.operator.address_bytes) == 0
    assert world.manager(path=path).resumable() == []


async def test_what_was_told_while_nobody_held_the_sessions_counts(world: World, tmp_path: Path) -> None:
    """The node runs and hears of it before the program takes its sessions up again."""
    book, path = Book(world), tmp_path / "sessions.sqlite3"
    await world.manager(bindings=book, path=path).start_session(world.choice, spending_limit_micros=10)
    world.clock.advance(10)
    book.revoke(2)
    bind_anew(world, 2)
    assert world.manager(bindings=book, path=path).resumable() == []
    # One that was opened since then, under the new binding, is taken up.
    world.clock.advance(10)
    kept = await world.manager(bindings=book, path=path).start_session(world.choice, spending_limit_micros=10)
    (again,) = world.manager(bindings=book, path=path).resumable()
    assert again.session_id == kept.session_id


async def test_a_session_that_is_revoked_while_it_is_opened_is_not_open(world: World) -> None:
    manager = world.manager()

    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize":
            assert manager.end_sessions_of(world.host.peer_id, world.operator.address_bytes) == 1
        return response

    world.after = after
    with pytest.raises(SessionError) as refused:
        await manager.start_session(world.choice, spending_limit_micros=10)
    assert refused.value.reason == "BINDING_REVOKED"
    assert manager.resumable() == []
