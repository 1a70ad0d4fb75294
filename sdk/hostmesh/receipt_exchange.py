"""Receipts that other clients share, asked of peers and taken into this client's reputations; and ours, shared.

Nobody is asked unless somebody here wants it: a question tells its peers in which hosts this user is interested.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import trio

from hostmesh.discovery.sources.exchange import draw_peers
from hostmesh.errors import (
    DeadlineExceededError,
    HostmeshError,
    NobodyAnsweredError,
    ReceiptError,
    RemoteProtocolError,
    UsageError,
)
from hostmesh.net.dial_policy import target_network
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.receipt_reviews import ImportedReviews, Meeting, import_reviews
from hostmesh.receipts.paper_store import CLIENT, KeptFilter
from hostmesh.receipts.shared_client import MAX_HOSTS, SharedReceipts
from hostmesh.receipts.store import ReceiptStore
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.names import HostName
from hostmesh.reputation.peer_score import PeerEvent
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.system import System

logger = logging.getLogger("hostmesh.receipts")

MAX_PEERS = 8
"""Asked at once, where none are named; most that may be named: four times as many."""
MAX_NAMED_PEERS = 32
_SEED_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAnswer:
    """What one peer said."""

    peer_id: PeerId
    pages: int
    """That came."""
    taken: ImportedReviews | None
    """What became of the receipts; None: there were none to take, ``error`` says why."""
    is_whole: bool
    """All that it shares was heard; else time, its line or the room for one peer's word ended first."""
    error: HostmeshError | None = None
    """Why it did not answer, or not to the end. ReceiptError, MalformedMessageError: it handed over what does not hold,
    nothing of which was taken in, and which counts against it as a neighbour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsChange:
    """A host that was asked about, under one operator."""

    name: HostName
    points_before: int
    """0 to 1000."""
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPeers:
    """What came of asking."""

    answers: tuple[PeerAnswer, ...] = field(repr=False)
    """One a peer."""
    changes: tuple[PointsChange, ...]
    """Of the hosts that were named, each under every operator of whom anything is known here now."""

    @property
    def reviews(self) -> int:
        """Reviewers' words on hosts that were taken in."""
        return sum(each.taken.reviews for each in self.answers if each.taken is not None)

    def require_answer(self) -> None:
        """Do nothing where a peer answered.

        Raises:
            ReceiptError: nobody else answered than a peer that handed over what does not hold.
            NobodyAnsweredError: nobody did; ``outcomes`` says why, by peer.
        """
        if any(each.taken is not None for each in self.answers):
            return
        for each in self.answers:
            if isinstance(each.error, ReceiptError):
                raise each.error
        outcomes = {str(each.peer_id): each.error.code for each in self.answers if each.error is not None}
        raise NobodyAnsweredError(
            f"none of {len(outcomes)} peers told of shared receipts" if outcomes else "there is no peer to ask",
            outcomes=outcomes,
            remedy="name a peer that shares its receipts, by its address, or import a file: hostmesh receipts import",
        )


class ReceiptExchange:
    """Shares receipts with peers, and asks them for theirs. :meth:`hostmesh.SDK.get_receipt_exchange` gives it.

    Args:
        node: knows the connections.
        caller: makes the calls.
        receipts: ours.
        reputation: takes the word of others.
        network: our network's name.
        own_wallets: 20 bytes each, besides those of receipts that are kept.
        serve: answers peers that ask; called when there is something to share, any number of times.
        note_neighbour: is told who handed over what does not hold.
        system: random bytes, by which peers are drawn.
    """

    def __init__(
        self,
        *,
        node: Node,
        caller: RpcCaller,
        receipts: ReceiptStore,
        reputation: ReputationBook,
        network: str,
        own_wallets: Collection[bytes],
        serve: Callable[[], None],
        note_neighbour: Callable[[PeerId, PeerEvent], object],
        system: System,
    ) -> None:
        self._node = node
        self._caller = caller
        self._receipts = receipts
        self._reputation = reputation
        self._network = network
        self._own_wallets = frozenset(own_wallets)
        self._serve = serve
        self._note_neighbour = note_neighbour
        self._system = system

    # --- ours ---

    def share(
        self, host: PeerId | None = None, *, session_id: bytes | None = None, is_shared: bool = True
    ) -> tuple[bytes, ...]:
        """Agree that peers may be told receipts of sessions that this user paid for, or agree no longer.

        They tell who used which host for which model, when and for how much. Sessions to come are not meant. What was
        told stays told.

        Args:
            host: sessions with this host; None = with any.
            session_id: this session only.
            is_shared: whether they may be told from now on.

        Returns:
            The ids of the sessions that are meant, of those that are kept here.

        Raises:
            StoreError: it could not be written.
        """
        papers = self._receipts.papers
        wanted = KeptFilter(
            side=CLIENT,
            network=self._network,
            host_peer_id=None if host is None else peer_id_to_bytes(host),
            session_id=session_id,
        )
        changed = tuple(
            each.session_id
            for each in list(papers.sessions(wanted))
            if papers.set_shared(each.host_peer_id, each.session_id, is_shared, network=each.network)
        )
        if changed and is_shared:
            self._serve()
        return changed

    # --- theirs ---

    def peers_to_ask(self, hosts: Collection[PeerId] = ()) -> tuple[PeerId, ...]:
        """Return connected peers by lot, at most eight, one of each network in turn.

        Of those that say that they share receipts, where there are such; none of ``hosts``, about which they are asked.
        """
        connected = [each for each in self._node.connected_peers() if each not in hosts]
        prefix = f"{self._node.config.protocol_prefix}/receipt/"
        speaking = [
            each for each in connected if any(spoken.startswith(prefix) for spoken in self._node.protocols_of(each))
        ]
        seed = self._system.random_bytes(_SEED_BYTES)
        return tuple(draw_peers(speaking or connected, self._node.remote_ip, MAX_PEERS, seed=seed))

    async def ask(
        self,
        hosts: Sequence[PeerId] = (),
        *,
        peers: Sequence[PeerId] | None = None,
        timeout_s: float = 30.0,
    ) -> AskedPeers:
        """Ask peers for receipts that they share, and take what they tell of hosts into this client's reputations.

        The peers learn which hosts are named here. A peer that knows of them is asked once more, for what it shares of
        any host: whether its word agrees with our own experience decides what it weighs.

        Args:
            hosts: whom to ask about, at most 16; none = any, so that the peers learn of no interest.
            peers: whom to ask, at most 32; None = those of :meth:`peers_to_ask`.
            timeout_s: seconds for everything, > 0; what came until then counts.

        Returns:
            What each peer said. Nobody's failing raises: see :meth:`AskedPeers.require_answer`.

        Raises:
            UsageError: too many hosts or peers, or no time.
            StoreError: what came could not be written.

        Cancellation: safe; nothing was taken in.

        Cost: at most eight calls to each peer, 200 KiB each; under a millisecond for each of at most 1,024 jobs a peer.
        """
        asked = tuple(dict.fromkeys(self.peers_to_ask(hosts) if peers is None else peers))
        if len(hosts) > MAX_HOSTS or len(asked) > MAX_NAMED_PEERS or timeout_s <= 0:
            raise UsageError(
                f"ask about at most {MAX_HOSTS} hosts, at most {MAX_NAMED_PEERS} peers, and take some time for it",
                remedy="ask in several turns",
            )
        told = [SharedReceipts(self._caller, peer_id, network=self._network) for peer_id in asked]
        errors: dict[PeerId, HostmeshError] = {}
        async with trio.open_nursery() as nursery:
            for peer_id, receipts in zip(asked, told, strict=True):
                nursery.start_soon(self._hear, peer_id, receipts, tuple(hosts), timeout_s, errors)
        before = self._reputation.snapshot()
        own_wallets = self._own_wallets | self._receipts.papers.clients()
        answers = tuple(
            self._answer(peer_id, receipts, errors.get(peer_id), own_wallets)
            for peer_id, receipts in zip(asked, told, strict=True)
        )
        after = self._reputation.snapshot()
        changes = tuple(
            PointsChange(
                name=name,
                points_before=before.of(name.peer_id, name.operator).points,
                points=after.of(name.peer_id, name.operator).points,
            )
            for host in dict.fromkeys(hosts)
            for name in self._reputation.names(host)
        )
        return AskedPeers(answers=answers, changes=changes)

    # --- inside ---

    async def _hear(
        self,
        peer_id: PeerId,
        receipts: SharedReceipts,
        hosts: Sequence[PeerId],
        timeout_s: float,
        errors: dict[PeerId, HostmeshError],
    ) -> None:
        try:
            with trio.move_on_after(timeout_s) as scope:
                await receipts.ask(hosts)
                if hosts and receipts.bundles:
                    await receipts.ask()
            if scope.cancelled_caught:
                errors[peer_id] = DeadlineExceededError(f"{peer_id} did not tell all within {timeout_s:g} s")
        except HostmeshError as error:
            errors[peer_id] = error
            logger.info("shared receipts not heard", extra={"peer_id": peer_id, "error": error.code})

    def _answer(
        self,
        peer_id: PeerId,
        receipts: SharedReceipts,
        error: HostmeshError | None,
        own_wallets: Collection[bytes],
    ) -> PeerAnswer:
        taken = None
        if isinstance(error, RemoteProtocolError):
            # Of an answer that is no message of the protocol, the call itself has told.
            if receipts.has_lied:
                self._note_neighbour(
                    peer_id, PeerEvent.FORGED if isinstance(error, ReceiptError) else PeerEvent.CORRUPT
                )
        elif error is None or receipts.pages:
            taken = import_reviews(
                self._reputation,
                receipts.bundles,
                network=self._network,
                own_wallets=own_wallets,
                meeting=self._meeting(peer_id),
            )
        return PeerAnswer(
            peer_id=peer_id,
            pages=receipts.pages,
            taken=taken,
            is_whole=error is None and receipts.is_whole,
            error=error,
        )

    def _meeting(self, peer_id: PeerId) -> Meeting | None:
        ip = self._node.remote_ip(peer_id)
        if ip is None:
            return None
        return Meeting(client_peer_id=peer_id_to_bytes(peer_id), network=target_network(ip.partition("%")[0]))
