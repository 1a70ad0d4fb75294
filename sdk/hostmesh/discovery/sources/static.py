"""Hosts that the settings name: every find asks them, whatever else it hears of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import AddressOrigin, split_peer_address
from hostmesh.net.peer_id import PeerId

if TYPE_CHECKING:
    from trio_typing import TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticStatistics:
    """What this source has, and did so far."""

    hosts: int
    """Peers in the list; one may have several addresses."""
    finds: int
    named: int
    """Candidates reported in all."""


class StaticSource:
    """Names the hosts of a list. Their addresses are the user's own word, so that they may be of any scope.

    Args:
        addresses: multiaddrs, each with ``/p2p/<peer id>``.

    Raises:
        InvalidAddressError: an address is malformed, or names no peer.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._hosts: dict[PeerId, tuple[str, ...]] = {}
        self._finds = 0
        self._named = 0
        for text in addresses:
            address, peer_id = split_peer_address(text)
            if peer_id is None:
                raise InvalidAddressError(
                    f"the static host {text} names no peer", remedy="append /p2p/<peer id> of the host"
                )
            self._hosts[peer_id] = (*self._hosts.get(peer_id, ()), address)

    @property
    def name(self) -> str:
        """``static``."""
        return "static"

    @property
    def statistics(self) -> StaticStatistics:
        """What this source has, and did so far."""
        return StaticStatistics(hosts=len(self._hosts), finds=self._finds, named=self._named)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do nothing until cancelled: the list does not change."""
        task_status.started()
        await trio.sleep_forever()

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Report the list, at once and whatever is asked: only a host itself knows what it offers today."""
        await trio.lowlevel.checkpoint()
        self._finds += 1
        for peer_id, addresses in list(self._hosts.items())[: query.limit]:
            self._named += 1
            found(Candidate(peer_id=peer_id, addresses=addresses, source=self.name, origin=AddressOrigin.CONFIGURED))

    async def advertise(self, advert: Advert | None) -> None:
        """Do nothing: nobody asks us by this way."""
