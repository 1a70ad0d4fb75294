"""Asks a peer for the receipts that it shares, and verifies each, within bounds that the peer cannot stretch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import trio

from hostmesh.errors import MalformedMessageError, RemoteProtocolError
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.receipts.bundle import BundleVerifier, SessionBundle
from hostmesh.receipts.sharing import bundle_of, check_page
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.v1.receipt_hostmesh import ReceiptServiceClient

MAX_HOSTS = 16
"""Named in one question."""
MAX_PAGES = 4
"""Of one question; a page has at most 32 sessions, 200 KiB."""
MAX_SESSIONS = 128
"""Of one peer, in both questions together."""
MAX_JOBS = 1_024
"""The same of jobs; each costs three verifications, under a millisecond."""
MAX_REVIEWERS = 8
"""Wallets of one peer that are heard about one host: it tells of its own user's sessions."""
PAGE_TIMEOUT_S = 10.0


class SharedReceipts:
    """What one peer tells, as it comes.

    Args:
        caller: makes the calls.
        peer_id: whom to ask.
        network: our network's name.
    """

    def __init__(self, caller: RpcCaller, peer_id: PeerId, *, network: str) -> None:
        self._client = ReceiptServiceClient(caller, peer_id)
        self._network = network
        self._verifier = BundleVerifier()
        self._known: set[bytes] = set()
        """Authorisations of sessions that were taken: both questions may bring the same."""
        self._reviewers: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._jobs = 0
        self.bundles: list[SessionBundle] = []
        """Sessions that verified, each with jobs by their last receipts."""
        self.pages = 0
        """That came."""
        self.has_lied = False
        """Whether a page held what does not hold."""
        self.is_whole = True
        """Whether nothing was left for which there was no room here."""

    async def ask(self, hosts: Sequence[PeerId] = ()) -> None:
        """Read what the peer shares of some hosts, or of any.

        Args:
            hosts: at most 16, whose names the peer learns; none = of any.

        Raises:
            ReceiptError: something is not signed as it must be. What the peer tells is not to be used at all.
            MalformedMessageError: no page of the protocol; the same.
            As :meth:`hostmesh.RpcClient.unary`; what came before may be used.

        Cancellation: safe; what came before may be used.
        """
        named = [peer_id_to_bytes(host) for host in hosts]
        request = pb.ListSharedRequest(host_peer_ids=named)
        for _ in range(MAX_PAGES):
            page = await self._client.list_shared(request, timeout_s=PAGE_TIMEOUT_S)
            self.pages += 1
            try:
                check_page(page, request)
                for session in page.sessions:
                    if len(self.bundles) >= MAX_SESSIONS or self._jobs >= MAX_JOBS:
                        self.is_whole = False
                        return
                    self._take(session, named)
                    # Between two sessions: one is up to some 20 ms of work.
                    await trio.lowlevel.checkpoint()
            except RemoteProtocolError:
                self.has_lied = True
                raise
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
        self.is_whole = False

    def _take(self, message: pb.SharedSession, named: Sequence[bytes]) -> None:
        if message.authorization in self._known:
            return
        bundle = bundle_of(message, network=self._network)
        # Counted before the work is done, whatever comes of it.
        self._jobs += len(bundle.jobs)
        terms = self._verifier.open(bundle.session).authorization
        for job in bundle.jobs:
            self._verifier.job(job.job_id, job.quote)
            for receipt in job.receipts:
                self._verifier.receipt(job.job_id, receipt)
        self._known.add(message.authorization)
        if named and terms.host_peer_id not in named:
            raise MalformedMessageError("a session with a host that was not asked about", field="sessions")
        reviewers = self._reviewers[terms.host_peer_id]
        if terms.client not in reviewers and len(reviewers) >= MAX_REVIEWERS:
            self.is_whole = False
            return
        reviewers.add(terms.client)
        self.bundles.append(bundle)
