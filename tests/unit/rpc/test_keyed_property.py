"""Any order of calls, ends, crashes and days: what the store says is what a table in memory says.

The truth is how often a handler was started, and what it gave, which the test itself writes down.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hostmesh.rpc.key_store import KeyStore
from hostmesh.rpc.keys import (
    BUSY,
    FULL,
    KEPT_S,
    KEY_REUSED,
    MAX_STATUS_BYTES,
    OUTCOME_UNKNOWN,
    ROW_BYTES,
    CallName,
    KeptCall,
    KeyLimits,
    KeyState,
)

LIMITS = KeyLimits(max_keys_per_peer=3, max_keys=5, max_running_per_peer=2, max_running=3, max_bytes_per_peer=90_000)
RESERVED = ROW_BYTES + MAX_STATUS_BYTES
NAMES = st.builds(
    CallName, st.sampled_from(["alice", "bob"]), st.sampled_from(["a/A.X", "a/A.Y"]), st.sampled_from([b"1", b"2"])
)
DIGESTS = st.sampled_from([bytes(32), bytes([1]) * 32])


@dataclass
class Known:
    """What the test knows of one key."""

    digest: bytes
    starts: int = 1
    answer: bytes | None = None
    is_running: bool = True
    ends_at: float | None = None

    @property
    def size(self) -> int:
        return RESERVED if self.is_running else ROW_BYTES + len(self.answer or b"")


class KeysMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1_700_000_000.0
        self.known: dict[CallName, Known] = {}
        self.opened: list[KeyStore] = []
        self.open()

    def open(self) -> None:
        self.store = KeyStore(self.folder / "calls.sqlite3", server="us", now=self.now, limits=LIMITS)
        self.opened.append(self.store)

    def forget(self) -> None:
        self.known = {
            name: known for name, known in self.known.items() if known.ends_at is None or self.now < known.ends_at
        }

    def is_full(self, name: CallName) -> bool:
        """Whether one more key is too much."""
        of_peer = [known for each, known in self.known.items() if each.caller == name.caller]
        others = [known for each, known in self.known.items() if each != name]
        mine = [known for each, known in self.known.items() if each.caller == name.caller and each != name]
        return (
            sum(known.is_running for known in of_peer) >= 2
            or sum(known.is_running for known in self.known.values()) >= 3
            or len(mine) >= 3
            or len(others) >= 5
            or sum(known.size for known in mine) + RESERVED > LIMITS.max_bytes_per_peer
        )

    @rule(name=NAMES, digest=DIGESTS, is_idempotent=st.booleans())
    def call(self, name: CallName, digest: bytes, is_idempotent: bool) -> None:
        known = self.known.get(name)
        if known is not None and known.is_running:
            return  # a live run is waited for, and the store is not asked
        self.forget()
        known = self.known.get(name)
        begun = self.store.begin(name, digest, is_idempotent=is_idempotent, max_response_bytes=0, now=self.now)
        if known is not None and known.digest != digest:
            assert begun is KEY_REUSED
        elif known is not None and known.answer is not None:
            assert begun == KeptCall(digest, KeyState.DONE, b"status", known.answer[len(b"status") :])
        elif known is not None and not is_idempotent:
            assert begun is OUTCOME_UNKNOWN
        elif self.is_full(name):
            assert begun in (BUSY, FULL)
        else:
            assert begun is None
            starts = 0 if known is None else known.starts
            self.known[name] = Known(digest, starts + 1)
            assert starts == 0 or is_idempotent, "a method that is not idempotent runs once"

    @rule(name=NAMES, response=st.binary(max_size=10_000))
    def done(self, name: CallName, response: bytes) -> None:
        known = self.known.get(name)
        if known is not None and known.is_running:
            self.store.done(name, b"status", response, now=self.now)
            known.is_running, known.answer, known.ends_at = False, b"status" + response, self.now + KEPT_S

    @rule(name=NAMES)
    def cut_off(self, name: CallName) -> None:
        known = self.known.get(name)
        if known is not None and known.is_running:
            self.store.cut_off(name, now=self.now)
            known.is_running, known.ends_at = False, self.now + KEPT_S

    @rule(name=NAMES)
    def free(self, name: CallName) -> None:
        known = self.known.get(name)
        if known is not None and known.is_running:
            self.store.free(name)
            del self.known[name]

    @rule()
    def crash(self) -> None:
        self.forget()
        self.open()
        for known in self.known.values():
            if known.is_running:
                known.is_running, known.ends_at = False, self.now + KEPT_S

    @rule(passed_s=st.sampled_from([1.0, KEPT_S / 2, KEPT_S]))
    def wait(self, passed_s: float) -> None:
        self.now += passed_s

    @invariant()
    def is_counted(self) -> None:
        assert self.store.keys == len(self.known) or any(
            known.ends_at is not None and known.ends_at <= self.now for known in self.known.values()
        )
        if self.store.keys == len(self.known):
            assert self.store.kept_bytes == sum(known.size for known in self.known.values())

    def teardown(self) -> None:
        for store in self.opened:
            store.close()
        shutil.rmtree(self.folder)


TestKeys = KeysMachine.TestCase
TestKeys.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
