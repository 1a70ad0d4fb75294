"""What a host saw of its clients: noted as jobs end, kept on disk, asked when a wallet wants a session."""

from __future__ import annotations

import logging
from pathlib import Path

from hostmesh.errors import StoreError
from hostmesh.sessions.admission.client_standing import ClientStanding, ClientStandings
from hostmesh.sessions.admission.client_standing_store import ClientStandingStore
from hostmesh.system import System

logger = logging.getLogger("hostmesh.sessions")


class ClientStandingBook:
    """The standings of one host, in memory and on disk.

    Args:
        path: the file; None = in memory.
        system: the clock.

    Raises:
        StoreError: the file cannot be opened or read.
    """

    def __init__(self, path: Path | None = None, *, system: System | None = None) -> None:
        self._system = system or System()
        self._store = ClientStandingStore(path)
        self._standings = ClientStandings(self._store.load())

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()

    def get(self, wallet: bytes) -> ClientStanding:
        """Return what is known of a wallet, 20 bytes."""
        return self._standings.get(wallet, self._system.unix_s())

    def reputation(self, wallet: bytes) -> int:
        """Return a wallet's reputation, 0 to 1000; 100 of one that was never seen."""
        return self.get(wallet).reputation

    def paid(self, wallet: bytes, *, cost_micros: int) -> None:
        """Note a job whose last receipt the client countersigned, over what was sent; if it cost nothing, nothing."""
        if cost_micros > 0:
            self._keep(self._standings.paid(wallet, self._system.unix_s(), cost_micros=cost_micros))

    def overdue(self, wallet: bytes) -> None:
        """Note a job that ended, or a session, because of what the client did not countersign in time."""
        self._keep(self._standings.overdue(wallet, self._system.unix_s()))

    def _keep(self, standing: ClientStanding) -> None:
        dropped = self._standings.make_room(self._system.unix_s())
        try:
            self._store.write(standing, dropped=dropped)
        except StoreError as error:
            # It is known until the host ends; a job that is over is not to fail for it.
            logger.warning("a client's standing is not kept: %s", error.message)

    def __len__(self) -> int:
        """How many wallets are known."""
        return len(self._standings)
