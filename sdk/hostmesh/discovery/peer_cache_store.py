"""The peer cache on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hostmesh.discovery.peer_cache import MAX_ADDRESSES, MAX_PEERS, CachedPeer, PeerUse
from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import keep_usable
from hostmesh.net.peer_id import PeerId, parse_peer_id
from hostmesh.store import FeatureStore

MAX_ROWS = 2 * MAX_PEERS
"""Of a network: several processes may share the file, each with its own view of it."""
_MIGRATIONS = (
    (
        """
        CREATE TABLE peers (
            network TEXT NOT NULL,
            peer_id TEXT NOT NULL,
            addresses TEXT NOT NULL,
            use INTEGER NOT NULL CHECK (use BETWEEN 0 AND 3),
            first_seen_unix_s REAL NOT NULL,
            last_seen_unix_s REAL NOT NULL,
            PRIMARY KEY (network, peer_id)
        ) STRICT
        """,
    ),
)


class PeerCacheStore(FeatureStore):
    """Keeps :class:`~hostmesh.discovery.peer_cache.CachedPeer`, each network's for itself.

    Several processes may share the file.

    Args:
        path: the database file; None = in memory.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, what="the peer cache", migrations=_MIGRATIONS)

    def load(self, network: str) -> list[CachedPeer]:
        """Return the peers of a network, the last seen first; a row that makes no sense is left out.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT peer_id, addresses, use, first_seen_unix_s, last_seen_unix_s FROM peers WHERE network = ? "
                "ORDER BY last_seen_unix_s DESC LIMIT ?",
                (network, MAX_ROWS),
            ).fetchall()
        peers = []
        for text, joined, use, first_seen, last_seen in rows:
            addresses = keep_usable(joined.split("\n"), limit=MAX_ADDRESSES)
            try:
                peer_id = parse_peer_id(text)
            except InvalidAddressError:
                continue
            if addresses:
                peers.append(
                    CachedPeer(
                        peer_id=peer_id,
                        addresses=addresses,
                        use=PeerUse(use),
                        first_seen_unix_s=min(first_seen, last_seen),
                        last_seen_unix_s=last_seen,
                    )
                )
        return peers

    def write(self, network: str, kept: Iterable[CachedPeer], gone: Iterable[PeerId] = ()) -> None:
        """Put peers in, or in place of what was there, and take others out; all of it or nothing.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.executemany("DELETE FROM peers WHERE network = ? AND peer_id = ?", [(network, each) for each in gone])
            db.executemany(
                "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        network,
                        peer.peer_id,
                        "\n".join(peer.addresses),
                        int(peer.use),
                        peer.first_seen_unix_s,
                        peer.last_seen_unix_s,
                    )
                    for peer in kept
                ],
            )
            db.execute(
                "DELETE FROM peers WHERE network = ? AND rowid IN (SELECT rowid FROM peers WHERE network = ? "
                "ORDER BY last_seen_unix_s DESC LIMIT -1 OFFSET ?)",
                (network, network, MAX_ROWS),
            )
