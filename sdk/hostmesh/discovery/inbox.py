"""Handlers of messages that outlive a node: each is taken over by the next one."""

from __future__ import annotations

from collections.abc import Callable

from hostmesh.discovery.collaborators import MessageHandler, Messenger


class Inbox:
    """The handlers that an application gave, and the messenger that calls them while there is one."""

    def __init__(self) -> None:
        self._messenger: Messenger | None = None
        self._handlers: dict[object, MessageHandler] = {}
        self._unsubscribe: dict[object, Callable[[], None]] = {}

    def attach(self, messenger: Messenger) -> None:
        """Hand all handlers to a messenger."""
        self._messenger = messenger
        for token, handler in self._handlers.items():
            self._unsubscribe[token] = messenger.on_message(handler)

    def detach(self) -> None:
        """Forget the messenger, which has ended."""
        self._messenger = None
        self._unsubscribe.clear()

    def on_message(self, handler: MessageHandler) -> Callable[[], None]:
        """Have every message given to a handler; return what ends that, once or more often."""
        token = object()
        self._handlers[token] = handler
        if self._messenger is not None:
            self._unsubscribe[token] = self._messenger.on_message(handler)

        def remove() -> None:
            self._handlers.pop(token, None)
            unsubscribe = self._unsubscribe.pop(token, None)
            if unsubscribe is not None:
                unsubscribe()

        return remove
