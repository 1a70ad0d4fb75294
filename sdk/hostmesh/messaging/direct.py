"""Direct messages: acknowledged, from an authenticated sender, delivered once however often they are sent again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    HostmeshError,
    RpcError,
    StatusCode,
    UsageError,
)
from hostmesh.messaging.body import JSON, encode_body
from hostmesh.messaging.deliveries import DeliveryLimits
from hostmesh.messaging.inbox import Inbox, Message, MessageHandler
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.client import RpcClient
from hostmesh.system import System
from hostmesh.v1.message_hostmesh import MessageServiceClient

if TYPE_CHECKING:
    from trio_typing import TaskStatus

__all__ = ["Ack", "DirectMessenger", "Message", "MessageHandler"]

_ID_BYTES = 16
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The receiver's word that every handler there has had the message."""

    message_id: bytes
    attempts: int
    """How often it was sent; it was delivered once."""


class DirectMessenger:
    """Sends messages to peers and receives theirs.

    Register ``messenger.inbox`` as the handler of the message service, and run :meth:`run` as long as messages are
    taken.

    Args:
        rpc: makes the calls.
        system: random ids, and the clocks.
        limits: of the ids that the receiving side remembers.
    """

    def __init__(self, rpc: RpcClient, system: System, *, limits: DeliveryLimits | None = None) -> None:
        self._rpc = rpc
        self._system = system
        self.inbox = Inbox(system, limits or DeliveryLimits())
        """Handler of the message service."""

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver messages to the handlers until cancelled."""
        await self.inbox.run(task_status=task_status)

    def on_message(self, handler: MessageHandler) -> Callable[[], None]:
        """Have every message from now on given to ``handler``.

        All handlers get each message, at the same time. One that fails is logged and does not stop the others. The
        sender waits until all have returned, so one that has much to do should hand it on.

        Args:
            handler: a function or async function of one :class:`~hostmesh.messaging.inbox.Message`, whose ``sender``
                the handshake proved.

        Returns:
            A function that removes the handler; calling it again does nothing.
        """
        return self.inbox.on_message(handler)

    async def send(
        self,
        peer_id: PeerId,
        body: bytes | Mapping[str, JSON],
        *,
        timeout_s: float = 30.0,
        retries: int = 3,
    ) -> Ack:
        """Send a message and wait for the acknowledgement.

        Every try carries the same random id, by which the receiver delivers it once.

        Args:
            peer_id: to whom; dialled if needed.
            body: bytes, or a mapping that JSON can carry; up to 256 KiB.
            timeout_s: seconds for all tries together; each gets an equal share of what is left.
            retries: further tries after the first, 0 or more.

        Returns:
            After every handler of the receiver has returned or failed.

        Raises:
            DialError: the peer was not reached.
            ConnectionLostError, DeadlineExceededError: the peer was lost or did not acknowledge in time.
            ProtocolNotSupportedError: the peer takes no messages; ``needed`` and ``offered`` say what it speaks. Not
                tried again.
            FrameTooLargeError: over 256 KiB; nothing was sent.
            UsageError: JSON cannot carry the body.
            RpcError: the peer refused: ``NO_HANDLER`` (nobody listens there), ``BUSY``, ``RATE_LIMITED``.

            Whichever comes after several tries, ``may_have_executed`` says whether one of them may have been delivered.

        Cancellation: safe; the message may have been delivered.

        Cost: one call a try.
        """
        if retries < 0:
            raise UsageError("retries must be 0 or more")
        message_id = self._system.random_bytes(_ID_BYTES)
        request = encode_body(message_id, body)
        client = MessageServiceClient(self._rpc, peer_id)
        deadline = trio.current_time() + timeout_s
        may_have_executed = False
        attempt = 0
        while True:
            attempt += 1
            share_s = (deadline - trio.current_time()) / (retries + 2 - attempt)
            try:
                # Without an idempotency key: the inbox knows the id, for minutes and not on disk for a day.
                await client.send(request, timeout_s=share_s)
                return Ack(message_id=message_id, attempts=attempt)
            except HostmeshError as error:
                may_have_executed = may_have_executed or error.may_have_executed
                pause_s = self._pause_s(attempt, error)
                out_of_time = trio.current_time() + pause_s >= deadline
                if attempt > retries or out_of_time or not _worth_another_try(error):
                    error.may_have_executed = may_have_executed
                    # Sent again by the caller, it would have another id.
                    error.retry_safe = error.retry_safe and not may_have_executed
                    raise
            await trio.sleep(pause_s)

    def _pause_s(self, attempt: int, error: HostmeshError) -> float:
        """Return the pause after a try: twice the last, between half and all of it, or as long as the peer asks."""
        longest = min(_FIRST_PAUSE_S * 2.0 ** (attempt - 1), _LONGEST_PAUSE_S)
        pause_s = longest * (0.5 + self._system.random_bytes(1)[0] / 510)
        asked_ms = error.retry_after_ms if isinstance(error, RpcError) else None
        return max(pause_s, (asked_ms or 0) / 1000)


def _worth_another_try(error: HostmeshError) -> bool:
    """Whether the same message may get through later; its id makes every retry safe."""
    if isinstance(error, RpcError):
        return error.status in (
            StatusCode.UNAVAILABLE,
            StatusCode.RESOURCE_EXHAUSTED,
            StatusCode.CANCELLED,
        )
    return isinstance(error, DialError | ConnectionLostError | DeadlineExceededError)
