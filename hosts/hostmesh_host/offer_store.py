"""Keeps what a host offers between its runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from hostmesh.errors import StoreError, StoreTooNewError

OFFER_FILE_NAME = "offer.json"
STORE_VERSION = 1
MAX_STORE_BYTES = 256 * 1024


class OfferStore:
    """The offer's file, ``offer.json``, mode 0600. Written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, object]:
        """Return what is kept; empty when nothing is.

        Raises:
            StoreError: the file cannot be read, or a newer hostmesh wrote it. It was left unchanged.
        """
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_STORE_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(
                f"cannot read {self.path}: {error.strerror}", path=str(self.path), remedy="check its owner and mode"
            ) from error
        try:
            document = json.loads(text)
            version = document["version"]
            offer = document["offer"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._unreadable() from error
        if not isinstance(version, int) or not isinstance(offer, dict) or len(text) > MAX_STORE_BYTES:
            raise self._unreadable()
        if version > STORE_VERSION:
            raise StoreTooNewError(
                f"a newer hostmesh wrote {self.path}", path=str(self.path), remedy="update hostmesh, or remove the file"
            )
        return offer

    def write(self, offer: Mapping[str, object]) -> None:
        """Keep the offer.

        Raises:
            StoreError: it cannot be written. What was kept before still is.
        """
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"version": STORE_VERSION, "offer": dict(offer)}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path}: {error.strerror}", path=str(self.path), remedy="check its owner and mode"
            ) from error

    def _unreadable(self) -> StoreError:
        return StoreError(f"{self.path} is no offer", path=str(self.path), remedy="remove it, and say the offer again")
