"""Lets an async test run on the simulated network: the same seed gives the same run, and no real second passes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from hostmesh.testing import SimNetwork, SimOptions, run_sim

_Setup = Callable[[SimNetwork], AbstractAsyncContextManager[Any]]


def simulated(
    setup: _Setup | None = None, *, seed: int = 0, network: SimOptions | None = None
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Make an async test one that pytest calls, with fixtures and parameters as ever after its first argument.

    Args:
        setup: makes the first argument of the network; by default it is the network.
        seed: fixes everything.
        network: what the network is like.
    """

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        _, *rest = inspect.signature(test).parameters.values()

        @functools.wraps(test)
        def run(**given: Any) -> None:
            async def main(net: SimNetwork) -> None:
                if setup is None:
                    await test(net, **given)
                else:
                    async with setup(net) as made:
                        await test(made, **given)

            run_sim(main, seed=seed, network=network)

        run.__signature__ = inspect.Signature(rest)  # type: ignore[attr-defined]
        return run

    return decorate


async def eventually(holds: Callable[[], object], *, within_s: float = 60.0) -> None:
    """Wait in a simulation until something holds, which is looked at every 10 ms of its clock.

    Raises:
        trio.TooSlowError: it does not.
    """
    with trio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110 - the virtual clock's sleep costs nothing
            await trio.sleep(0.01)
