"""A server is killed at every phase of a call with an idempotency key, and started anew: the effect happens once.

The method that is declared idempotent runs again after it was cut off, and looks into its journal first. The other
never does: where the journal alone knows whether it had its effect, the caller hears just that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from tests.integration.kill9 import phases
from tests.integration.kill9.journal import ANSWERED, ANSWERING, ARRIVED, EFFECT, HALF_ANSWERED, POINTS, READ, STARTED
from tests.integration.kill9.lives import StartServer, Supervisor
from tests.integration.kill9.phases import NOTHING_LEFT, PERHAPS_LEFT, RUN, Phase, Scene
from tests.integration.kill9.watched import WatchedNode

from hostmesh import RetryPolicy
from hostmesh.errors import HostmeshError, RpcError, StatusCode
from hostmesh.net.node import Node

RETRY = RetryPolicy(max_attempts=10, first_backoff_s=0.05, max_backoff_s=0.1)

PHASES = {**NOTHING_LEFT, **PERHAPS_LEFT, **RUN}

DEATHS: dict[str, tuple[str, ...]] = {
    **{point: (point,) for point in POINTS},
    "again and again": (ARRIVED, READ, STARTED, EFFECT, ANSWERING, HALF_ANSWERED, ANSWERED),
    "at the effect, then before the handler": (EFFECT, READ),
    "at the effect, then when it starts again": (EFFECT, STARTED, STARTED),
    "when it starts, then at the effect": (STARTED, EFFECT, STARTED),
}
"""Where each life of the server ends but the last."""

FIRST_DEATH: dict[str, tuple[str, int]] = {
    ARRIVED: ("", 1),
    READ: ("", 1),
    STARTED: ("OUTCOME_UNKNOWN", 0),
    EFFECT: ("OUTCOME_UNKNOWN", 1),
    ANSWERING: ("", 1),
    HALF_ANSWERED: ("", 1),
    ANSWERED: ("", 1),
}
"""How a call ends that may run once only, and how many effects it has had, by where the first life that dies ends."""


async def apply(key: bytes, client: Any, request: Any) -> None:
    """Call the method that is not declared idempotent."""
    await client.apply(request, timeout_s=phases.WITHIN_S, idempotency_key=key, retry=RETRY)


async def apply_once(client: Any, request: Any) -> None:
    """Call the one that is; its handler has the key under which it looks for the effect."""
    await client.apply_once(request, timeout_s=phases.WITHIN_S, idempotency_key=request.id.encode(), retry=RETRY)


Begin = Callable[..., Awaitable[Scene]]


@pytest.fixture
def begin(nursery: trio.Nursery, start_server: StartServer, client: Node, effects: Any) -> Begin:
    """Begin a scene with a supervised server.

    Only the time of a restart is spared the caller; a death that nobody has noticed is met like any other.
    """

    async def begin(shape: phases.Shape, *lives: dict[str, Any]) -> Scene:
        supervisor = Supervisor(start_server, *lives)
        server = await nursery.start(supervisor.run)
        scene = Scene(
            server=server, node=WatchedNode(client, before_open=supervisor.wait_up), effects=effects, shape=shape
        )
        scene.introduce()
        return scene

    return begin


def is_outcome_unknown(error: HostmeshError) -> bool:
    """Whether this is the answer that leaves it to the journal."""
    return (
        isinstance(error, RpcError)
        and (error.status, error.reason) == (StatusCode.ABORTED, "OUTCOME_UNKNOWN")
        and error.may_have_executed
        and not error.retry_safe
    )


# --- with a key ---


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS.keys())
async def test_an_idempotent_method_on_a_server_that_ends_itself(begin: Begin, deaths: tuple[str, ...]):
    scene = await begin(apply_once, *({"die_at": point} for point in deaths))
    for _ in range(2):
        assert await scene.call(answer_bytes=1000) is None
        assert scene.server.journal.effects("a") == 1


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS.keys())
async def test_any_other_method_on_a_server_that_ends_itself(begin: Begin, deaths: tuple[str, ...]):
    # What comes before the key is on disk may come as often as it likes.
    first = next(point for point in deaths if point not in (ARRIVED, READ) or len(deaths) == 1)
    reason, effects = FIRST_DEATH[first]
    scene = await begin(partial(apply, b"key"), *({"die_at": point} for point in deaths))
    for _ in range(2):
        error = await scene.call(answer_bytes=1000)
        assert is_outcome_unknown(error) if reason and error is not None else error is None and not reason
        assert scene.server.journal.points.count(STARTED) == 1
        assert scene.server.journal.effects("a") == effects


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES.keys())
async def test_an_idempotent_method_on_a_server_that_is_killed(begin: Begin, phase: Phase):
    scene = await begin(apply_once, {"is_silent": phase is phases.in_a_silent_wait})
    assert await phase(scene) is None
    assert scene.server.journal.effects("a") == 1


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES.keys())
async def test_any_other_method_on_a_server_that_is_killed(begin: Begin, phase: Phase):
    is_cut_off = phase is phases.in_a_silent_wait
    scene = await begin(partial(apply, b"key"), {"is_silent": is_cut_off})
    error = await phase(scene)
    assert (error is not None and is_outcome_unknown(error)) if is_cut_off else error is None
    assert scene.server.journal.points.count(STARTED) == 1
    assert scene.server.journal.effects("a") == (not is_cut_off)


# --- without one ---


@pytest.mark.parametrize("phase", NOTHING_LEFT.values(), ids=NOTHING_LEFT.keys())
async def test_without_a_key_a_call_that_never_left_is_made_again(begin: Begin, phase: Phase):
    scene = await begin(partial(apply, b""), {})
    assert await phase(scene) is None
    assert scene.server.journal.effects("a") == 1


@pytest.mark.parametrize("phase", [*PERHAPS_LEFT.values(), *RUN.values()], ids=[*PERHAPS_LEFT, *RUN])
async def test_without_a_key_a_call_that_may_have_run_is_not_made_again(begin: Begin, phase: Phase):
    scene = await begin(partial(apply, b""), {"is_silent": phase is phases.in_a_silent_wait})
    error = await phase(scene)
    assert error is None if phase is phases.first_answer_heard else error is not None and error.may_have_executed
    assert scene.server.journal.points.count(STARTED) == (phase in RUN.values())
