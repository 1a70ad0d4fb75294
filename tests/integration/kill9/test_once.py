"""A server is killed at every phase of a call with an idempotency key, and started anew: the effect happens once.

The method that is declared idempotent runs again after it was cut off, and looks into its journal first. The other
never does: where the journal alone knows whether it had its effect, the caller hears just that.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from tests.integration.kill9.journal import ANSWERED, ANSWERING, ARRIVED, EFFECT, HALF_ANSWERED, POINTS, READ, STARTED
from tests.integration.kill9.lives import StartServer, Supervisor
from tests.integration.kill9.phases import error_of
from tests.integration.kill9.watched import WatchedNode, caller

from hostmesh import RetryPolicy
from hostmesh.errors import HostmeshError, RpcError, StatusCode
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node

WITHIN_S = 30.0
KEY = b"a"
RETRY = RetryPolicy(max_attempts=10, first_backoff_s=0.05, max_backoff_s=0.1)
ANSWER_BYTES = 1000

DEATHS: dict[str, tuple[str, ...]] = {
    **{point: (point,) for point in POINTS},
    "again and again": (ARRIVED, READ, STARTED, EFFECT, ANSWERING, HALF_ANSWERED, ANSWERED),
    "at the effect, then before the handler": (EFFECT, READ),
    "at the effect, then when it starts again": (EFFECT, STARTED, STARTED),
    "when it starts, then at the effect": (STARTED, EFFECT, STARTED),
}
"""Where each life of the server ends but the last."""

OF_A_PLAIN_METHOD: dict[str, tuple[str, int]] = {
    ARRIVED: ("", 1),
    READ: ("", 1),
    STARTED: ("OUTCOME_UNKNOWN", 0),
    EFFECT: ("OUTCOME_UNKNOWN", 1),
    ANSWERING: ("", 1),
    HALF_ANSWERED: ("", 1),
    ANSWERED: ("", 1),
}
"""The reason of the error and the number of effects, by where the first life ended."""


class Caller:
    """Calls a server that dies and comes back."""

    def __init__(self, supervisor: Supervisor, node: Node, effects: Any) -> None:
        assert supervisor.server is not None
        self.journal = supervisor.server.journal
        node.add_addresses(supervisor.server.peer_id, [supervisor.server.address], AddressOrigin.CONFIGURED)
        # Only the time of a restart is spared; a death that nobody has noticed yet is met like any other.
        rpc = caller(WatchedNode(node, before_open=supervisor.wait_up))
        self._stub = effects.EffectServiceClient(rpc, supervisor.server.peer_id)
        self._request = effects.effects_pb2.Effect(id="a", answer_bytes=ANSWER_BYTES)

    async def call(self, method: str, *, key: bytes = KEY) -> HostmeshError | None:
        async def make() -> None:
            call = partial(getattr(self._stub, method), idempotency_key=key, timeout_s=WITHIN_S, retry=RETRY)
            assert len((await call(self._request)).padding) == ANSWER_BYTES

        return await error_of(make())


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS.keys())
async def test_an_idempotent_method_has_its_effect_once(
    nursery: trio.Nursery, start_server: StartServer, client: Node, effects: Any, deaths: tuple[str, ...]
) -> None:
    supervisor = Supervisor(start_server, deaths)
    await nursery.start(supervisor.run)
    calls = Caller(supervisor, client, effects)
    for _ in range(2):
        assert await calls.call("apply_once") is None
        assert calls.journal.effects("a") == 1


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS.keys())
async def test_any_other_method_has_its_effect_once_at_most(
    nursery: trio.Nursery, start_server: StartServer, client: Node, effects: Any, deaths: tuple[str, ...]
) -> None:
    supervisor = Supervisor(start_server, deaths)
    await nursery.start(supervisor.run)
    calls = Caller(supervisor, client, effects)
    for _ in range(2):
        error = await calls.call("apply")
        assert calls.journal.points.count(STARTED) == 1
        effect_count = calls.journal.effects("a")
        if error is None:
            assert effect_count == 1
        else:
            assert isinstance(error, RpcError)
            assert (error.status, error.reason) == (StatusCode.ABORTED, "OUTCOME_UNKNOWN")
            assert error.may_have_executed
            assert not error.retry_safe
        if len(deaths) == 1:
            assert ("" if error is None else error.reason, effect_count) == OF_A_PLAIN_METHOD[deaths[0]]


@pytest.mark.parametrize("point", POINTS)
async def test_without_a_key_a_call_that_may_have_run_is_not_made_again(
    nursery: trio.Nursery, start_server: StartServer, client: Node, effects: Any, point: str
) -> None:
    supervisor = Supervisor(start_server, (point,))
    await nursery.start(supervisor.run)
    calls = Caller(supervisor, client, effects)
    error = await calls.call("apply", key=b"")
    assert calls.journal.points.count(STARTED) <= 1
    if error is not None:
        assert error.may_have_executed
