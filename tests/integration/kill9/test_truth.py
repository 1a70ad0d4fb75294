"""A server is killed at every phase of a call: the caller's error says truthfully whether the call may have run.

The truth is the server's journal, and which bytes can have left. What an error says is held to it in both directions:
where a handler has started, the call may have run; where the first byte of the call never left, it has not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tests.integration.kill9 import phases
from tests.integration.kill9.journal import ANSWERED, POINTS
from tests.integration.kill9.lives import StartServer
from tests.integration.kill9.phases import NOTHING_LEFT, PERHAPS_LEFT, RUN, SHAPES, Phase, Scene, Shape

from hostmesh.net.node import Node

pytestmark = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
ONE_ANSWER = (phases.unary, phases.client_stream)
"""The call has ended with the first answer."""


@pytest.fixture
def scene(client: Node, effects: Any, shape: Shape) -> partial[Scene]:
    """A scene that lacks its server."""
    return partial(Scene, node=client, effects=effects, shape=shape)


@pytest.mark.parametrize("point", POINTS)
async def test_the_server_ends_itself(start_server: StartServer, scene: partial[Scene], shape: Shape, point: str):
    """At a point of its own: what it had done is in the journal."""
    server = await start_server(die_at=point)
    on_stage = scene(server=server)
    await on_stage.connect()
    error = await on_stage.call(answer_bytes=1000)
    server.wait_dead()
    assert server.journal.points[-1] == point
    if error is None:
        # The answer was with our kernel before the server died.
        assert point == ANSWERED
        assert shape in ONE_ANSWER
    else:
        # The caller cannot tell whether a handler was started, for its bytes had arrived.
        assert error.may_have_executed
        assert not error.retry_safe


@pytest.mark.parametrize("phase", NOTHING_LEFT.values(), ids=NOTHING_LEFT.keys())
async def test_the_first_byte_never_left(start_server: StartServer, scene: partial[Scene], phase: Phase):
    server = await start_server()
    error = await phase(scene(server=server))
    assert server.journal.points == []
    assert error is not None
    assert not error.may_have_executed
    assert error.retry_safe


@pytest.mark.parametrize("phase", PERHAPS_LEFT.values(), ids=PERHAPS_LEFT.keys())
async def test_the_first_byte_may_have_left(start_server: StartServer, scene: partial[Scene], phase: Phase):
    server = await start_server()
    error = await phase(scene(server=server))
    assert server.journal.points == []
    assert error is not None
    assert error.may_have_executed
    assert not error.retry_safe


@pytest.mark.parametrize("phase", RUN.values(), ids=RUN.keys())
async def test_the_handler_has_run(start_server: StartServer, scene: partial[Scene], shape: Shape, phase: Phase):
    server = await start_server(is_silent=phase is phases.in_a_silent_wait)
    error = await phase(scene(server=server))
    assert server.journal.has_run
    assert (server.journal.effects("a") > 0) is (phase is not phases.in_a_silent_wait)
    if error is None:
        # What came before the end is read all the same.
        assert phase is phases.first_answer_heard
        assert shape in ONE_ANSWER
    else:
        assert (phase, shape) not in [(phases.first_answer_heard, each) for each in ONE_ANSWER]
        assert error.may_have_executed
        assert not error.retry_safe
