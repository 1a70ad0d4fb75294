"""Takes delegations back: pushes their revocation to every host that they name, until each has it or they end."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import DeadlineExceededError, HostmeshError, RpcError, StoreError
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.sessions.client_store import ClientStore, PendingRevocation
from hostmesh.sessions.reasons import Reason
from hostmesh.system import System
from hostmesh.v1 import session_pb2 as pb
from hostmesh.v1.session_hostmesh import SessionServiceClient

if TYPE_CHECKING:
    from trio_typing import TaskStatus

logger = logging.getLogger("hostmesh.sessions")

RETRY_S = 30.0
PUSH_TIMEOUT_S = 10.0
"""For one host, the dial included."""
_FINAL = frozenset(
    {
        Reason.REVOCATION_EXPIRED,
        Reason.REVOCATION_WRONG_OWNER,
        Reason.REVOCATION_BAD_SIGNATURE,
        Reason.CONTRACT_WALLET,
    }
)
"""Told again, the host would answer the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationOutcome:
    """What became of a revocation at one host."""

    peer_id: PeerId
    """The host."""
    is_delivered: bool
    """The host has it on disk, and ended the delegation's sessions."""
    is_pending: bool
    """It is told again while the node runs, and by its next run, until the delegation has ended."""
    ended_sessions: int = 0
    detail: str = ""
    """Why it was not delivered: the error's code or the host's reason."""


class RevocationPusher:
    """Pushes revocations to hosts.

    Args:
        caller: makes the calls.
        store: where those are kept that hosts have not taken.
        system: the clock.
    """

    def __init__(self, caller: RpcCaller, store: ClientStore, system: System) -> None:
        self._caller = caller
        self._store = store
        self._system = system

    async def push(
        self, revocation: pb.DelegationRevocation, hosts: Iterable[bytes], *, expires_at_unix_s: int
    ) -> list[RevocationOutcome]:
        """Tell hosts, all at once, what is on disk before the first hears of it.

        Args:
            revocation: signed by the delegation's owner.
            hosts: whom the delegation names, raw multihashes.
            expires_at_unix_s: when the delegation ends, and with it the need to tell anybody.

        Returns:
            One outcome a host, in their order.

        Raises:
            StoreError: it could not be written; nobody was told.
        """
        named = list(hosts)
        now = self._system.unix_s()
        self._store.add_revocations(revocation, named, expires_at_unix_s, now)
        mine = [one for one in self._store.pending_revocations(now) if one.digest == revocation.delegation_digest]
        return await self._push_all([one for one in mine if peer_id_to_bytes(one.peer_id) in named])

    async def retry(self) -> list[RevocationOutcome]:
        """Tell the hosts once more that have not taken a revocation.

        Raises:
            StoreError: the store cannot be read.
        """
        return await self._push_all(self.pending())

    def pending(self) -> list[PendingRevocation]:
        """Return what hosts have not taken yet.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._store.pending_revocations(self._system.unix_s())

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell such hosts every half minute, until cancelled.

        Raises:
            StoreError: the store cannot be read.
        """
        task_status.started()
        while True:
            if self.pending():
                await self.retry()
            await trio.sleep(RETRY_S)

    async def _push_all(self, pending: list[PendingRevocation]) -> list[RevocationOutcome]:
        outcomes: list[RevocationOutcome | None] = [None] * len(pending)

        async def tell(index: int, one: PendingRevocation) -> None:
            outcomes[index] = await self._tell(one)

        async with trio.open_nursery() as nursery:
            for index, one in enumerate(pending):
                nursery.start_soon(tell, index, one)
        return [outcome for outcome in outcomes if outcome is not None]

    async def _tell(self, one: PendingRevocation) -> RevocationOutcome:
        request = pb.RevokeDelegationRequest(revocation=one.revocation)
        try:
            with trio.fail_after(PUSH_TIMEOUT_S):
                response = await SessionServiceClient(self._caller, one.peer_id).revoke_delegation(
                    request, timeout_s=PUSH_TIMEOUT_S
                )
        except trio.TooSlowError:
            return _undelivered(one, DeadlineExceededError.code)
        except RpcError as error:
            if error.reason in _FINAL:
                self._done(one)
                return _undelivered(one, error.reason, is_pending=False)
            return _undelivered(one, error.reason or error.status.name)
        except HostmeshError as error:
            return _undelivered(one, error.code)
        self._done(one)
        return RevocationOutcome(
            peer_id=one.peer_id, is_delivered=True, is_pending=False, ended_sessions=response.ended_sessions
        )

    def _done(self, one: PendingRevocation) -> None:
        try:
            self._store.revocation_done(one.digest, peer_id_to_bytes(one.peer_id))
        except StoreError as error:
            # The host has it; it is told once more, which changes nothing.
            logger.warning("a delivered revocation stays on the list: %s", error.message)


def _undelivered(one: PendingRevocation, detail: str, *, is_pending: bool = True) -> RevocationOutcome:
    logger.info("revocation not delivered", extra={"peer_id": one.peer_id, "error": detail})
    return RevocationOutcome(peer_id=one.peer_id, is_delivered=False, is_pending=is_pending, detail=detail)
