"""The files of one SDK in its data directory: its peer key, and what its features keep.

``peer.key``; ``reputation.sqlite3`` and ``standings.sqlite3``, what hosts were worth; ``neighbours.sqlite3``, what
peers were like to be connected with; ``sequence.sqlite3``, the numbers of our own records; ``bans.sqlite3`` and
``revocations.sqlite3``, what proofs and operators void; ``peers.sqlite3``, the peer cache; ``calls.sqlite3``, calls
with idempotency keys; ``sessions.sqlite3``, the sessions and budgets of this client; ``hosted_sessions.sqlite3``, those
of others on this host; ``clients.sqlite3``, what this host saw of their wallets; ``canaries.sqlite3``, what canaries
copied, and which were sent.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.discovery.peer_cache import PeerCache
from hostmesh.discovery.peer_cache_store import PeerCacheStore
from hostmesh.discovery.revocation_store import RevocationStore
from hostmesh.discovery.store import BanStore, SequenceStore
from hostmesh.net.fallback import MAX_PEERS as MAX_FALLBACK_ADDRESSES
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey, open_peer_key
from hostmesh.receipts.store import FILE_NAME as RECEIPTS_FILE
from hostmesh.receipts.store import ReceiptStore
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.peer_score_book import PeerScoreBook
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.rpc.key_store import KeyStore
from hostmesh.sessions.admission.client_standing_book import ClientStandingBook
from hostmesh.sessions.client_store import ClientStore
from hostmesh.sessions.store import SessionStore
from hostmesh.settings import LoadedSettings
from hostmesh.system import System


class _Closing(Protocol):
    def close(self) -> None: ...


StoreT = TypeVar("StoreT", bound=_Closing)


class DataFiles:
    """Each file is opened when it is first used; the stores are closed with ``stores``.

    Args:
        loaded: where the files are, and whose network.
        stores: closes them.
        ephemeral_key: the peer key is made anew and kept nowhere, nor is what only its next run would read.
        in_memory: nothing but the peer key is on disk.
        system: clocks and random bytes.
    """

    def __init__(
        self,
        loaded: LoadedSettings,
        stores: ExitStack,
        *,
        ephemeral_key: bool,
        in_memory: bool = False,
        system: System,
    ) -> None:
        self._settings = loaded.settings
        self._dir = loaded.paths.data_dir
        self._stores = stores
        self._ephemeral_key = ephemeral_key
        self._in_memory = in_memory
        self._system = system
        self._hosted: dict[PeerId, SessionStore] = {}

    @cached_property
    def reputation(self) -> ReputationBook:
        """The outcomes of this client's jobs."""
        return self._closed_later(ReputationBook(self._path("reputation.sqlite3"), system=self._system))

    @cached_property
    def standings(self) -> StandingBook:
        """Who is blacklisted, preferred or paused."""
        return self._closed_later(StandingBook(self._path("standings.sqlite3"), system=self._system))

    @cached_property
    def neighbours(self) -> PeerScoreBook:
        """What peers were like as neighbours."""
        return self._closed_later(PeerScoreBook(self._path("neighbours.sqlite3"), system=self._system))

    @cached_property
    def canaries(self) -> CanaryStore:
        """The shapes of jobs that canaries copy, and which canaries were sent."""
        return self._closed_later(CanaryStore(self._path("canaries.sqlite3")))

    @cached_property
    def clients(self) -> ClientStandingBook:
        """What this host saw of its clients' wallets; of a key that does not last, in memory."""
        path = self._path_of_key("clients.sqlite3")
        return self._closed_later(ClientStandingBook(path, system=self._system))

    @cached_property
    def sequences(self) -> SequenceStore:
        """The numbers of our own records; of a key that does not last, in memory."""
        return self._closed_later(SequenceStore(self._path_of_key("sequence.sqlite3")))

    @cached_property
    def bans(self) -> BanStore:
        """The keys that are banned."""
        return self._closed_later(BanStore(self._path("bans.sqlite3")))

    @cached_property
    def revocations(self) -> RevocationStore:
        """The bindings that operators took back."""
        return self._closed_later(RevocationStore(self._path("revocations.sqlite3")))

    @cached_property
    def sessions(self) -> ClientStore:
        """The sessions of this client, what it may spend, and what it revoked."""
        return self._closed_later(ClientStore(self._path("sessions.sqlite3"), network=self._settings.network))

    @cached_property
    def receipts(self) -> ReceiptStore:
        """Receipts of both sides."""
        return self._closed_later(ReceiptStore(self._path(RECEIPTS_FILE)))

    def shares_receipts(self) -> bool:
        """Tell whether this user agreed to share receipts of this network; makes no file.

        Raises:
            StoreError: the file cannot be read.
        """
        path = self._path(RECEIPTS_FILE)
        return (path is None or path.exists()) and self.receipts.shared.is_any(self._settings.network)

    def hosted_sessions(self, peer_id: PeerId) -> SessionStore:
        """Return the sessions of others on this host; of a key that does not last, in memory."""
        if peer_id not in self._hosted:
            path = self._path_of_key("hosted_sessions.sqlite3")
            store = SessionStore(path, host=peer_id_to_bytes(peer_id), network=self._settings.network)
            self._hosted[peer_id] = self._closed_later(store)
        return self._hosted[peer_id]

    @cached_property
    def cache(self) -> tuple[PeerCache, PeerCacheStore]:
        """The peers of before, and where they are kept."""
        store = self._closed_later(PeerCacheStore(self._path("peers.sqlite3")))
        return PeerCache(store.load(self._settings.network), now=self._system.unix_s()), store

    def fallback_peers(self) -> list[str]:
        """Return whom to dial where no bootstrap node answers."""
        static = self._settings.static_hosts[: MAX_FALLBACK_ADDRESSES // 2]
        cache, _ = self.cache
        return [*static, *cache.next_to_dial(MAX_FALLBACK_ADDRESSES - len(static))]

    def open_peer_key(self, held: ExitStack) -> PeerKey:
        """Return the peer key; its file is locked as long as ``held`` holds it."""
        if self._ephemeral_key:
            return PeerKey.generate(self._system.random_bytes)
        path = self._settings.key_file or self._dir / "peer.key"
        return held.enter_context(open_peer_key(path, self._system.random_bytes))

    def open_call_keys(self, held: ExitStack, peer_id: PeerId) -> KeyStore | None:
        """Return what keeps the calls with idempotency keys; None: nothing does, for a key that does not last."""
        if self._ephemeral_key:
            return None
        # Only who holds the key may: what says there that it runs is then of a process that has ended.
        path = self._path("calls.sqlite3")
        return held.enter_context(closing(KeyStore(path, server=peer_id, now=self._system.unix_s())))

    def _path(self, name: str) -> Path | None:
        return None if self._in_memory else self._dir / name

    def _path_of_key(self, name: str) -> Path | None:
        """Return where something is that only the next run with this key would read."""
        return None if self._ephemeral_key else self._path(name)

    def _closed_later(self, store: StoreT) -> StoreT:
        self._stores.callback(store.close)
        return store
