"""The one way into the host table: verify, merge, count. Who named which host, and who is banned by which proof."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import Enum

import trio

from hostmesh.discovery.bans import Ban, Familiarity
from hostmesh.discovery.description import HostState
from hostmesh.discovery.equivocation import make_proof, read_proof
from hostmesh.discovery.events import DiscoveryEvent, RecordDecided, RecordDecision
from hostmesh.discovery.forgeries import Forgeries
from hostmesh.discovery.lies import LieWatch, NobodyWatches
from hostmesh.discovery.news import News, NewsQueue
from hostmesh.discovery.record import GRACE_S, MAX_SKEW_S, HostInfo, VerifyBinding, open_body, verify_record
from hostmesh.discovery.revoking import RevocationTaken, Revoking, VerifyRevocation
from hostmesh.discovery.store import BanStore
from hostmesh.discovery.subnet import NOWHERE
from hostmesh.discovery.table import HostTable, KnownHost, Merge
from hostmesh.errors import RecordExpiredError, RecordInvalidError, RemoteProtocolError, StoreError
from hostmesh.net.dial_policy import target_network
from hostmesh.net.event_feed import EventFeed
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

_log = logging.getLogger("hostmesh.discovery")

MAX_NAMED = 2048
"""Peers remembered of each source; the one that it named longest ago goes first, whatever others name."""
MAX_UNTIMELY = 256
"""Hosts remembered whose records were refused for their times; the one refused longest ago goes first."""

_DECISIONS = {
    Merge.ADDED: RecordDecision.ADDED,
    Merge.REPLACED: RecordDecision.REPLACED,
    Merge.KNOWN: RecordDecision.KNOWN,
    Merge.OLDER: RecordDecision.OLDER,
    Merge.EXPIRED: RecordDecision.EXPIRED,
    Merge.EQUIVOCATION: RecordDecision.BANNED,
    Merge.BANNED: RecordDecision.BANNED,
    Merge.REVOKED: RecordDecision.REVOKED,
    Merge.REFUSED: RecordDecision.REFUSED,
}
_TIMES = ("issued_at_unix_s", "expires_at_unix_s")


class ProofTaken(Enum):
    """What became of a proof."""

    BANNED = "banned"
    KNOWN = "known"
    """Its key was banned before."""
    REFUSED = "refused"
    """It holds, but nobody here knew the key, and its introducer has told of too many such."""


class RecordBook:
    """Verified records and where they came from.

    Args:
        network: the network's name; records of others are refused.
        verify_binding: checks the wallet's half of a record.
        verify_revocation: checks what a wallet takes back; None = no revocation is taken in.
        system: the clock.
        table: where the records are kept; None = a new one.
    """

    def __init__(
        self,
        *,
        network: str,
        verify_binding: VerifyBinding,
        verify_revocation: VerifyRevocation | None = None,
        system: System | None = None,
        table: HostTable | None = None,
    ) -> None:
        self._network = network
        self._verify_binding = verify_binding
        self._system = system or System()
        self._table = HostTable() if table is None else table
        self._named: dict[str, OrderedDict[PeerId, PeerId | None]] = {}
        self._untimely: OrderedDict[PeerId, tuple[float, str]] = OrderedDict()
        self._store: BanStore | None = None
        self._news = NewsQueue()
        self._counts: Counter[str] = Counter()
        self._remote_ip: Callable[[PeerId], str | None] = lambda peer_id: None
        self.forgeries = Forgeries(network)
        """Who hands over what nobody signed."""
        self.lie_watch: LieWatch = NobodyWatches()
        """Is told what hosts are caught in, here and by those who measure them."""
        self.events: EventFeed[DiscoveryEvent] = EventFeed()
        """Is told what becomes of each record; the rest of discovery tells its events here, too."""
        self.revoking = Revoking(
            self._table,
            network=network,
            verify=verify_revocation or _verify_none,
            system=self._system,
            news=self._news,
            events=self.events,
            counts=self._counts,
        )
        """What operators took back."""

    @property
    def network(self) -> str:
        """The network's name."""
        return self._network

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each thing happened: ``added``, ``replaced``, ``equivocation``, ``refused:<field or code>``, ...

        Of proofs: ``proof:made``, ``proof:banned``, ``proof:known``, ``proof:refused``, ``proof:invalid``. And how many
        keys are ``banned_keys`` now.
        """
        return {**self._counts, "evicted": self._table.evicted, "banned_keys": len(self._table.bans)}

    def accept(
        self, signed: pb.SignedHostRecord, *, expected_peer_id: PeerId | None = None, introducer: PeerId | None = None
    ) -> tuple[HostInfo, Merge]:
        """Verify a record and put it into the table.

        Args:
            signed: as it came.
            expected_peer_id: the host that was asked for it; None = it was pushed.
            introducer: the peer that pushed it, if that was not the host itself.

        Returns:
            What it says, and what became of it.

        Raises:
            RemoteProtocolError: it does not hold; counted, and nothing else happened.
        """
        now = self._system.unix_s()
        try:
            info = verify_record(
                signed,
                expected_peer_id=expected_peer_id,
                network=self._network,
                now=now,
                verify_binding=self._verify_binding,
            )
        except RemoteProtocolError as error:
            field = getattr(error, "field", "")
            # Counters are bounded: a field's index is left out, and fields are those of the schema.
            why = field.split("[")[0] or error.code
            self._counts[f"refused:{why}"] += 1
            if why in _TIMES:
                self._note_untimely(signed, now)
            # What gossip brings, its author wrote; its forwarder need not have understood it, and vouches for nothing.
            carrier = introducer if expected_peer_id is None else None if introducer else expected_peer_id
            self.forgeries.note(error, carrier, signed.envelope)
            is_late = isinstance(error, RecordExpiredError)
            decision = RecordDecision.EXPIRED if is_late else RecordDecision.REFUSED
            self._tell(decision, expected_peer_id, introducer=introducer, reason=why)
            raise
        self._untimely.pop(info.peer_id, None)
        if introducer == info.peer_id:
            introducer = None
        other = self._table.seen(info)
        least_epoch = self.revoking.least_epoch(info.operator, info.peer_id)
        subnet = self._subnet_of(introducer or info.peer_id)
        merge = self._table.merge(info, now=now, introducer=introducer, subnet=subnet)
        self._counts[merge.value] += 1
        self.revoking.noted(info, least_epoch)
        ban = self._table.bans.get(info.peer_id) if merge is Merge.EQUIVOCATION else None
        if ban is not None and ban.epoch >= info.binding_epoch:
            _log.warning("host %s signed two records of sequence %d; banned", info.peer_id, info.sequence)
            self._keep_ban(ban, info, other)
        decision = _DECISIONS[merge]
        if info.state is HostState.WITHDRAWN and merge in (Merge.ADDED, Merge.REPLACED):
            decision = RecordDecision.WITHDRAWN
        self._tell(decision, info.peer_id, sequence=info.sequence, introducer=introducer)
        return info, merge

    def accept_proof(self, proof: pb.EquivocationProof, *, introducer: PeerId) -> ProofTaken:
        """Ban the key that a proof convicts, and hand the proof on if its host was known here.

        Args:
            proof: as a peer handed it over.
            introducer: that peer.

        Raises:
            BadSignatureError, RecordInvalidError: it proves nothing; counted, and nothing else happened.

        Cost: two Ed25519 verifications.
        """
        try:
            read = read_proof(proof.SerializeToString(), network=self._network)
        except RemoteProtocolError as error:
            self._counts["proof:invalid"] += 1
            self.forgeries.note(error, introducer, proof.first_envelope, proof.second_envelope)
            raise
        now = self._system.unix_s()
        is_known = self._table.bans.covers(read.peer_id, read.epoch)
        ban = None
        if read.can_be(now):
            ban = self._table.ban(
                read.peer_id,
                epoch=read.epoch,
                now=now,
                introducer=introducer,
                subnet=self._subnet_of(introducer),
                proof=read.to_bytes(),
            )
        if ban is not None:
            self._save(ban)
            self._news.put(ban)
            if not is_known:
                self._tell_lie(ban, read.sequence, read.operators)
        taken = ProofTaken.KNOWN if is_known else ProofTaken.REFUSED if ban is None else ProofTaken.BANNED
        self._counts[f"proof:{taken.value}"] += 1
        if taken is ProofTaken.REFUSED:
            self._tell(RecordDecision.REFUSED, read.peer_id, introducer=introducer, reason="proof")
        elif taken is ProofTaken.BANNED:
            self._tell(RecordDecision.BANNED, read.peer_id, introducer=introducer, reason="proof")
        if taken is ProofTaken.BANNED:
            _log.warning("%s proved that host %s signed two records of one sequence; banned", introducer, read.peer_id)
        return taken

    def accept_revocation(
        self, revocation: pb.BindingRevocation, *, introducer: PeerId | None = None
    ) -> RevocationTaken:
        """Take in a wallet's word that bindings of a key are void, and hand it on if the host was known here.

        Args:
            revocation: as it came.
            introducer: the peer that handed it over; None = the user of this node.

        Raises:
            RecordInvalidError, RecordExpiredError, BadSignatureError: it does not hold; nothing happened.

        Cost: one secp256k1 recovery.
        """
        subnet = NOWHERE if introducer is None else self._subnet_of(introducer)
        return self.revoking.accept(revocation, subnet=subnet, is_ours=introducer is None)

    def learn_revocations(self, revocations: Iterable[pb.BindingRevocation], *, introducer: PeerId) -> None:
        """Take in what a peer told along with an answer; what does not hold ends it, and is no reason to complain."""
        self.revoking.learn(revocations, subnet=self._subnet_of(introducer))

    async def next_news(self) -> News:
        """Wait for a proof or a revocation to hand on. Cancellation: safe."""
        return await self._news.next()

    def remember_bans(self, store: BanStore) -> None:
        """Take up the bans of earlier runs, and keep those to come in the same place. Idempotent.

        Raises:
            StoreError: they cannot be read.
        """
        if self._store is store:
            return
        noticed_before = self.bans
        self._table.bans.restore(store.load(self._network))
        self._store = store
        for ban in noticed_before:
            self._save(ban)

    def see_peers_at(self, remote_ip: Callable[[PeerId], str | None]) -> None:
        """Count what is told against keys by the network that it comes from.

        Args:
            remote_ip: the address at the other end of a peer's connection; None = there is none.
        """
        self._remote_ip = remote_ip

    @property
    def bans(self) -> tuple[Ban, ...]:
        """The keys that are banned, with their proofs."""
        return tuple(self._table.bans)

    def known(self, peer_id: PeerId) -> KnownHost | None:
        """Return the newest usable record of a peer, or None."""
        return self._table.known(peer_id, self._system.unix_s())

    def live(self) -> list[KnownHost]:
        """Return every host whose record may be used now."""
        return self._table.live(self._system.unix_s())

    def untimely(self, since_s: float) -> dict[PeerId, str]:
        """Return the hosts of which records came since then, all refused for their times, and how far those are off.

        Args:
            since_s: by the monotonic clock.
        """
        return {
            peer_id: detail
            for peer_id, (at_s, detail) in self._untimely.items()
            if at_s >= since_s and peer_id not in self._table.bans and self.known(peer_id) is None
        }

    def name(self, peer_id: PeerId, source: str, *, named_by: PeerId | None = None) -> None:
        """Note that a source named this peer, and of whom it heard that last; None: it saw the peer itself."""
        named = self._named.setdefault(source, OrderedDict())
        named[peer_id] = named_by
        named.move_to_end(peer_id)
        if len(named) > MAX_NAMED:
            named.popitem(last=False)

    def sources_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return the sources that named this peer, in alphabetical order."""
        return tuple(sorted(source for source, named in self._named.items() if peer_id in named))

    def named(self) -> list[tuple[str, PeerId, PeerId | None]]:
        """Return who was named: the source, the peer, and of whom the source heard it last.

        Cost: linear in what is remembered, 2,048 peers of each source at most.
        """
        return [
            (source, peer_id, named_by)
            for source, named in sorted(self._named.items())
            for peer_id, named_by in named.items()
        ]

    def mark_useful(self, peer_ids: Iterable[PeerId]) -> None:
        """Note that these hosts answered; they are evicted last."""
        for peer_id in peer_ids:
            self._table.mark_useful(peer_id)

    def purge(self) -> None:
        """Free what can no longer matter."""
        self._table.purge(self._system.unix_s())

    def _tell(
        self,
        decision: RecordDecision,
        peer_id: PeerId | None,
        *,
        sequence: int | None = None,
        introducer: PeerId | None = None,
        reason: str = "",
    ) -> None:
        if self.events:
            self.events.tell(
                RecordDecided(
                    at_s=trio.current_time(),
                    decision=decision,
                    peer_id=peer_id,
                    sequence=sequence,
                    introducer=introducer,
                    reason=reason,
                )
            )

    def _note_untimely(self, signed: pb.SignedHostRecord, now: float) -> None:
        # Verified once more: it is refused so seldom, and spares the binding's verification, which costs more.
        body = open_body(signed.envelope, network=self._network)
        early_s, late_s = body.record.issued_at_unix_s - now, now - body.record.expires_at_unix_s
        if early_s > MAX_SKEW_S:
            detail = f"issued {early_s:.0f} s after the time of this machine's clock"
        elif late_s > GRACE_S:
            detail = f"expired {late_s:.0f} s before the time of this machine's clock"
        else:
            return  # it lives too long, whatever the time
        self._untimely[body.peer_id] = (self._system.monotonic_s(), detail)
        self._untimely.move_to_end(body.peer_id)
        if len(self._untimely) > MAX_UNTIMELY:
            self._untimely.popitem(last=False)

    def _keep_ban(self, ban: Ban, info: HostInfo, other: bytes | None) -> None:
        """Make the proof of a contradiction that was noticed here, keep it and hand it on."""
        operators: tuple[str, ...] = (info.operator_address,)
        if other is not None:
            proof = make_proof(*map(pb.SignedHostRecord.FromString, (other, info.signed)), network=self._network)
            self._counts["proof:made"] += 1
            ban, operators = replace(ban, proof=proof.to_bytes()), proof.operators
            self._table.bans.add(ban)
        self._save(ban)
        self._news.put(ban)
        self._tell_lie(ban, info.sequence, operators)

    def _tell_lie(self, ban: Ban, sequence: int, operators: tuple[str, ...]) -> None:
        # Keys cost nothing: those that nobody here knew would fill a book of histories.
        for operator in () if ban.familiarity is Familiarity.STRANGER else operators:
            self.lie_watch.note_equivocation(ban.peer_id, operator, sequence)

    def _subnet_of(self, peer_id: PeerId) -> str:
        ip = self._remote_ip(peer_id)
        return NOWHERE if ip is None else target_network(ip)

    def _save(self, ban: Ban) -> None:
        if self._store is None:
            return
        try:
            self._store.put(self._network, ban)
        except StoreError as error:
            # It holds while this process runs.
            self._counts["ban_not_kept"] += 1
            _log.error("the ban of %s is not kept: %s", ban.peer_id, error.message)


def _verify_none(revocation: pb.BindingRevocation, *, network: str, now: float) -> PeerId:
    raise RecordInvalidError("this node takes no revocations", field="revocation")
