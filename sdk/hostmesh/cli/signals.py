"""Ctrl-C and SIGTERM: the first ends the command after its clean-up, the second at once.

The handlers are plain signal handlers and not trio's: they also work while the process imports, asks for a password, or
is busy outside of the event loop.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The command was ended by a signal, and has cleaned up."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """What a shell reports for this signal: 130 or 143."""
        return 128 + self.signal_number


class Interrupts:
    """The signals of this process while :meth:`handled` is open. Use it in the main thread."""

    def __init__(self, exit_now: Callable[[int], object] = os._exit) -> None:
        self._exit_now = exit_now
        self._received: int | None = None
        self._can_cancel = False
        self._cancel: Callable[[], object] | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Take both signals over, and give them back at the end."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run a trio program that the first signal cancels.

        Raises:
            Interrupted: a signal came; the program was cancelled and has ended.
        """
        import trio

        with self.cancelling() as hand_over:

            async def cancellable() -> None:
                token = trio.lowlevel.current_trio_token()
                with trio.CancelScope() as scope:
                    hand_over(lambda: token.run_sync_soon(scope.cancel))
                    await main()

            trio.run(cancellable, strict_exception_groups=True)

    @contextmanager
    def cancelling(self) -> Iterator[Callable[[Callable[[], object]], None]]:
        """Let the first signal not break into the block, but call what the block hands over to cancel itself.

        Yields:
            What to hand that function to, once; it is called in a signal handler, at once if a signal came before.

        Raises:
            Interrupted: at the end of the block, if a signal came.
        """
        self._can_cancel = True
        try:
            yield self._hand_over
        finally:
            self._can_cancel, self._cancel = False, None
        if self._received is not None:
            raise Interrupted(self._received)

    def _hand_over(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        if self._received is not None:  # it came while trio started
            cancel()

    def _on_signal(self, signal_number: int, frame: FrameType | None) -> None:
        del frame
        if self._received is not None:
            self._exit_now(128 + signal_number)
        self._received = signal_number
        if self._cancel is not None:
            self._cancel()
        elif not self._can_cancel:
            raise Interrupted(signal_number)
