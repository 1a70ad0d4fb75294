"""Hosts choose the ids of sessions; a client keeps them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hostmesh.errors import SessionError
from hostmesh.sessions.authorization import terms_from_message
from hostmesh.sessions.grant import seal_grant

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any

NETWORK = "hostmesh-test"


@pytest.mark.parametrize("is_closed", [False, True])
async def test_an_id_that_another_session_has_is_no_session(world: World, is_closed: bool) -> None:
    """Hosts choose ids; two sessions of one id would share what is kept of them."""
    requests = []

    def before(method: Any, request: Any) -> None:
        if method.name == "Authorize":
            requests.append(request)

    def after(method: Any, response: Any) -> Any:
        if method.name == "Authorize":
            response.grant = seal_grant(
                world.host,
                terms_from_message(requests[-1].authorization),
                network=NETWORK,
                session_id=b"s" * 16,
                now=world.clock.system().unix_s(),
            )
        return response

    world.before, world.after = before, after
    manager = world.manager()
    first = await manager.start_session(world.choice, spending_limit_micros=1)
    if is_closed:
        await first.close()
    with pytest.raises(SessionError) as caught:
        await manager.start_session(world.choice, spending_limit_micros=1)
    assert caught.value.reason == "GRANT_REPEATED"
    assert [session.session_id for session in manager.resumable()] == ([] if is_closed else [first.session_id])
    # The same session, taken up again, keeps its id.
    if not is_closed:
        assert (await manager.resume(first.session_id)).session_id == first.session_id
