"""Receives direct messages: each is given once to every handler, and then acknowledged.

A delivery belongs to the inbox and not to the call that brought it: when the sender loses patience, its handlers go on,
and its next try under the same id waits for them instead of starting them again.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import AlreadyRunningError, RpcError, StatusCode
from hostmesh.messaging.body import Body, decode_body
from hostmesh.messaging.deliveries import Claim, DeliveryLimits, DeliveryTable, MessageKey
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.context import CallContext
from hostmesh.system import System
from hostmesh.v1 import message_pb2
from hostmesh.v1.message_hostmesh import MessageServiceBase

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.messaging")

_BUSY_RETRY_MS = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A direct message, as a handler gets it."""

    sender: PeerId
    """The peer that sent it, as the connection's handshake proved it."""
    message_id: bytes
    """16 bytes; the same in every try of the sender."""
    body: Body
    """Bytes or a JSON object, as it was sent. The handler's own copy."""


MessageHandler = Callable[[Message], Awaitable[None] | None]
"""Takes a message: a function or an async function."""


@dataclass(slots=True)
class _Delivery:
    """A delivery that is going on."""

    over: trio.Event = field(default_factory=trio.Event)
    acknowledged: bool = False


class Inbox(MessageServiceBase):
    """Handler of the message service.

    Args:
        system: its monotonic clock ages the ids of delivered messages.
        limits: of the ids that are remembered.
    """

    def __init__(self, system: System, limits: DeliveryLimits) -> None:
        self._system = system
        self._table = DeliveryTable(limits)
        self._handlers: dict[object, MessageHandler] = {}
        self._deliveries: dict[MessageKey, _Delivery] = {}
        self._nursery: trio.Nursery | None = None
        self.counters: Counter[str] = Counter()
        """``delivered``, ``repeated``, ``refused``, ``handler_failed``."""

    def on_message(self, handler: MessageHandler) -> Callable[[], None]:
        """Add a handler; return what removes it, which may be called more than once."""
        token = object()
        self._handlers[token] = handler

        def unsubscribe() -> None:
            self._handlers.pop(token, None)

        return unsubscribe

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver messages until cancelled; handlers are cancelled with it."""
        if self._nursery is not None:
            raise AlreadyRunningError("messages are being delivered already")
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def send(self, request: message_pb2.SendRequest, context: CallContext) -> message_pb2.SendResponse:
        """Take one message of a peer: the ``Send`` of the message service.

        Returns:
            The acknowledgement, once every handler has returned or failed.

        Raises:
            RpcError: UNAVAILABLE ``NO_HANDLER`` (nobody listens here; it was not delivered, and may come again),
                RESOURCE_EXHAUSTED ``BUSY``.
            MalformedMessageError: no body, or no JSON object.
        """
        decode_body(request)
        if self._nursery is None or not self._handlers:
            self.counters["refused"] += 1
            raise RpcError("nobody takes messages here", status=StatusCode.UNAVAILABLE, reason="NO_HANDLER")
        key = (context.peer_id, request.message_id)
        match self._table.claim(key, self._system.monotonic_s()):
            case Claim.FULL:
                self.counters["refused"] += 1
                raise RpcError(
                    "too many messages at once",
                    status=StatusCode.RESOURCE_EXHAUSTED,
                    reason="BUSY",
                    retry_after_ms=_BUSY_RETRY_MS,
                )
            case Claim.DELIVERED:
                self.counters["repeated"] += 1
            case Claim.IN_PROGRESS:
                self.counters["repeated"] += 1
                await self._acknowledged(self._deliveries[key])
            case Claim.NEW:
                delivery = self._deliveries[key] = _Delivery()
                self._nursery.start_soon(self._deliver, key, delivery, request)
                await self._acknowledged(delivery)
        return message_pb2.SendResponse()

    async def _acknowledged(self, delivery: _Delivery) -> None:
        await delivery.over.wait()
        if not delivery.acknowledged:
            raise RpcError("the node is stopping", status=StatusCode.UNAVAILABLE, reason="STOPPING")

    async def _deliver(self, key: MessageKey, delivery: _Delivery, request: message_pb2.SendRequest) -> None:
        sender, message_id = PeerId(key[0]), key[1]
        try:
            async with trio.open_nursery() as nursery:
                for handler in tuple(self._handlers.values()):
                    # Decoded for each, so that none sees what another does to it.
                    message = Message(sender=sender, message_id=message_id, body=decode_body(request))
                    nursery.start_soon(self._hand_over, handler, message)
            self._table.delivered(key, self._system.monotonic_s())
            self.counters["delivered"] += 1
            delivery.acknowledged = True
        finally:
            if not delivery.acknowledged:
                self._table.dropped(key)
            del self._deliveries[key]
            delivery.over.set()

    async def _hand_over(self, handler: MessageHandler, message: Message) -> None:
        try:
            result = handler(message)
            if inspect.isawaitable(result):
                await result
        except Exception:  # noqa: BLE001 - the boundary of a remote call's handler: it fails alone
            self.counters["handler_failed"] += 1
            _log.exception("a message handler failed", extra={"sender": message.sender})
