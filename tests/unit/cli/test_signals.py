"""Signals: the first cancels and cleans up, the second ends at once. Signals are raised in this process, no clock."""

from __future__ import annotations

import signal

import pytest
import trio

from hostmesh.cli.signals import Interrupted, Interrupts

BOTH = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


class Ended(BaseException):
    """Stands in for the end of the process."""


def end_now(code: int) -> None:
    raise Ended(code)


@BOTH
def test_the_first_signal_cancels_and_lets_clean_up(number: int, code: int) -> None:
    interrupts = Interrupts(end_now)
    cleaned = []

    async def program() -> None:
        try:
            signal.raise_signal(number)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            cleaned.append(True)

    with interrupts.handled(), pytest.raises(Interrupted) as caught:
        interrupts.run(program)
    assert caught.value.exit_code == code
    assert cleaned == [True]


@BOTH
def test_the_second_signal_ends_at_once(number: int, code: int) -> None:
    interrupts = Interrupts(end_now)

    async def program() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(number)

    with interrupts.handled(), pytest.raises(Ended) as caught:
        interrupts.run(program)
    assert caught.value.args == (code,)


@BOTH
def test_a_signal_outside_of_trio_ends_the_command(number: int, code: int) -> None:
    with Interrupts(end_now).handled(), pytest.raises(Interrupted) as caught:
        signal.raise_signal(number)
    assert caught.value.exit_code == code


def test_a_signal_while_trio_starts_is_not_lost() -> None:
    interrupts = Interrupts(end_now)
    interrupts._can_cancel = True

    async def program() -> None:
        await trio.sleep_forever()

    with interrupts.handled():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            interrupts.run(program)


def test_without_a_signal_nothing_changes_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupts = Interrupts(end_now)
    ran = []

    async def program() -> None:
        await trio.lowlevel.checkpoint()
        ran.append(True)

    with interrupts.handled():
        interrupts.run(program)
    assert ran == [True]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
