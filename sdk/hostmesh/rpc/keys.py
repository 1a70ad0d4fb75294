"""What is kept of a call with an idempotency key, for how long, how much of it, and what a second call gets. Pure.

::

    no row --the handler starts--> RUNNING --an answer--> DONE ----24 h----> no row
                                      |  '--nothing was done--> no row
                                      '--cut off--> CUT_OFF ------24 h-----> no row

A key belongs to a caller and a method: that of another peer, or of another method, is another key. What is alive is
never forgotten to make room: what would be over a bound is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from hostmesh.errors import StatusCode
from hostmesh.rpc.limits import BUSY_RETRY_MS
from hostmesh.rpc.method import AnyMethod
from hostmesh.rpc.outcome import Outcome

KEPT_S = 24 * 3600.0
"""How long the end of a call is known. Chosen here, as Stripe does: far beyond what a program tries again."""
MAX_STATUS_BYTES = 20 * 1024
"""Above the longest serialised ``Status``: a message, a reason, and 16 details of 64 + 1024 bytes."""
ROW_BYTES = 256
"""What a call is counted with besides its status and response: peer ids, names, digest and index."""

_NOTHING_DONE = frozenset(
    {
        StatusCode.UNAVAILABLE,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.UNAUTHENTICATED,
    }
)
"""What a handler says that has done nothing: the same call may come again under its key, and be served."""

KEY_REUSED = Outcome(
    status=StatusCode.INVALID_ARGUMENT,
    message="the idempotency key belongs to another request",
    reason="KEY_REUSED",
)
OUTCOME_UNKNOWN = Outcome(
    status=StatusCode.ABORTED,
    message="an earlier call with this key was cut off: it may have been executed, and is not made again",
    reason="OUTCOME_UNKNOWN",
)
NOT_KEPT = Outcome(
    status=StatusCode.ABORTED,
    message="the call was executed, and its outcome could not be kept",
    reason="OUTCOME_UNKNOWN",
)
NOT_UNARY = Outcome(
    status=StatusCode.INVALID_ARGUMENT,
    message="only a call with one request and one response has an idempotency key",
    reason="KEY_NOT_TAKEN",
)
BUSY = Outcome(
    status=StatusCode.RESOURCE_EXHAUSTED,
    message="too many calls with keys at once",
    reason="BUSY",
    retry_after_ms=BUSY_RETRY_MS,
)
FULL = Outcome(
    status=StatusCode.RESOURCE_EXHAUSTED,
    message="too many idempotency keys are kept",
    reason="KEYS_FULL",
    retry_after_ms=60_000,
)
"""The time is a guess: room comes with the oldest key's end, which may be a day away."""
STOPPING = Outcome(status=StatusCode.UNAVAILABLE, message="the node is stopping", reason="STOPPING")
STORE_FAILED = Outcome(
    status=StatusCode.UNAVAILABLE, message="the host cannot keep idempotency keys now", reason="KEYS_UNAVAILABLE"
)


class CallName(NamedTuple):
    """Which call a key stands for."""

    caller: str
    """Peer id, as the handshake proved it."""
    method: str
    """``job/JobService.Quote``. Without a version: a call that is made again after an update is still the same one."""
    key: bytes
    """1 to 32 bytes."""


def call_name(caller: str, method: AnyMethod, key: bytes) -> CallName:
    """Return the name of a call with a key."""
    return CallName(caller, f"{method.protocol}/{method.full_name}", key)


class KeyState(IntEnum):
    """What is known of a call; the numbers stand in the file."""

    RUNNING = 1
    DONE = 2
    CUT_OFF = 3
    """It may have been executed, in part or wholly."""


class KeptCall(NamedTuple):
    """What the store knows of a call."""

    digest: bytes
    """SHA-256 of the request."""
    state: KeyState
    status: bytes
    """Serialised ``Status``; of a call that is DONE."""
    response: bytes | None
    """Serialised; of a call that is DONE and OK."""


def answer_at_once(kept: KeptCall | None, digest: bytes, *, is_idempotent: bool) -> KeptCall | Outcome | None:
    """Return what a call gets of which no run is alive: what is kept, or a refusal; None where its handler is to run.

    Args:
        kept: of an earlier call of the same name; None where there is none, or its time is over.
        digest: SHA-256 of the request.
        is_idempotent: the method may be run again after it was cut off.
    """
    if kept is None:
        return None
    if kept.digest != digest:
        return KEY_REUSED
    if kept.state is KeyState.DONE:
        return kept
    # RUNNING without a run that is alive: it was cut off, and that could not be written.
    return None if is_idempotent else OUTCOME_UNKNOWN


def state_after(outcome: Outcome, *, may_have_executed: bool) -> KeyState | None:
    """Return the state of a call that has ended; None where nothing was done and its key is free again.

    Args:
        outcome: its answer.
        may_have_executed: the handler failed without knowing what it had done.
    """
    if may_have_executed:
        return KeyState.CUT_OFF
    return None if outcome.status in _NOTHING_DONE else KeyState.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """Bounds of what is kept, and of what runs.

    Chosen here: a peer that makes one call with a key each second, for a day, stays below them.
    """

    max_keys_per_peer: int = 100_000
    max_keys: int = 400_000
    max_bytes_per_peer: int = 64 * 1024 * 1024
    """Of statuses and responses, with :data:`ROW_BYTES` a key. A call that runs has its method's largest response
    reserved."""
    max_bytes: int = 256 * 1024 * 1024
    max_running_per_peer: int = 128
    """Calls of a peer whose handlers are at work, also where it has left."""
    max_running: int = 2048


@dataclass(slots=True)
class _Share:
    keys: int = 0
    kept_bytes: int = 0
    running: int = 0


class KeyTally:
    """Counts what is kept, and what runs, against the limits. Bounded by the peers that have a key."""

    def __init__(self, limits: KeyLimits) -> None:
        self._limits = limits
        self._of_peer: dict[str, _Share] = {}
        self._all = _Share()

    @property
    def keys(self) -> int:
        """Keys of all peers."""
        return self._all.keys

    @property
    def kept_bytes(self) -> int:
        """Bytes of all peers, reserved ones included."""
        return self._all.kept_bytes

    def over(self, caller: str, *, keys: int, kept_bytes: int) -> Outcome | None:
        """Return the refusal of one more call that runs; None where there is room.

        Args:
            caller: whose call.
            keys: by which the kept ones would grow: 1, or 0 for a call that runs again.
            kept_bytes: likewise, with what is reserved for its end.
        """
        limits, own, every = self._limits, self._of_peer.get(caller, _Share()), self._all
        if own.running >= limits.max_running_per_peer or every.running >= limits.max_running:
            return BUSY
        if own.keys + keys > limits.max_keys_per_peer or every.keys + keys > limits.max_keys:
            return FULL
        for share, most_bytes in ((own, limits.max_bytes_per_peer), (every, limits.max_bytes)):
            if share.kept_bytes + kept_bytes > most_bytes:
                # What runs gives most of its reserve back.
                return BUSY if share.running else FULL
        return None

    def change(self, caller: str, *, keys: int = 0, kept_bytes: int = 0, running: int = 0) -> None:
        """Count so many more, or fewer."""
        own = self._of_peer.setdefault(caller, _Share())
        for share in (own, self._all):
            share.keys += keys
            share.kept_bytes += kept_bytes
            share.running += running
        if not own.keys and not own.running:
            del self._of_peer[caller]
