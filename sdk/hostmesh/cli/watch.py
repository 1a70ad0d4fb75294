"""``hostmesh find --watch``: who joins, changes and leaves, one line each, until Ctrl-C."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hostmesh.cli.boundary import print_json
from hostmesh.cli.show import choice_row
from hostmesh.cli.terminal import field

if TYPE_CHECKING:
    from hostmesh.discovery.criteria import HostCriteria
    from hostmesh.discovery.ranking import Strategy
    from hostmesh.discovery.roster import HostEvent
    from hostmesh.sdk import SDK


async def watch_hosts(sdk: SDK, criteria: HostCriteria, strategy: Strategy, *, timeout_s: float, as_json: bool) -> None:
    """Print events until cancelled.

    Args:
        sdk: its node runs.
        criteria: what hosts must meet.
        strategy: gives the scores.
        timeout_s: seconds for each search.
        as_json: one object a line.

    Raises:
        NodeNotRunningError: the node ended.
    """
    async with sdk.get_discovery_manager().watch_hosts(criteria, strategy=strategy, timeout_s=timeout_s) as hosts:
        async for event in hosts:
            if as_json:
                print_json(event.to_dict())
            else:
                print(event_line(event), flush=True)


def event_line(event: HostEvent) -> str:
    """Return one line for people, harmless to a terminal."""
    from hostmesh.discovery.roster import HostChanged, HostLeft

    clock = time.strftime("%H:%M:%S", time.localtime(event.at_unix_s))
    if isinstance(event, HostLeft):
        why = f"{event.reason.value}: {field(event.detail)}" if event.detail else event.reason.value
        return f"{clock}  left     {event.choice.peer_id}  {why}"
    cells = "  ".join(choice_row(event.choice))
    if isinstance(event, HostChanged):
        return f"{clock}  changed  {cells}  ({', '.join(event.changes)})"
    return f"{clock}  joined   {cells}"
